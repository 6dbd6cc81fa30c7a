//! JSON. The parser of serde tells no positions, so values are read one level at
//! a time as slices of the text, whose addresses are positions.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::config::{
    errors::Findings,
    tree::{DEPTH_MAX, Lines, Node, Value},
};

struct Reader<'a> {
    text: &'a str,
    lines: Lines,
}

/// The entries of one object, also where a key comes twice.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

struct EntriesVisitor;

/// Line and message.
type Refused = (u32, String);

pub(super) fn parse(text: &str, findings: &mut Findings) -> Option<Node> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let line = u32::try_from(error.line()).unwrap_or(u32::MAX).max(1);
        findings.add(line, "", message_of(&error));
        return None;
    }
    let reader = Reader {
        text,
        lines: Lines::new(text),
    };
    match reader.read(text.trim(), 1, DEPTH_MAX) {
        Ok(value) => Some(Node { line: 1, value }),
        Err((line, message)) => {
            findings.add(line, "", message);
            None
        }
    }
}

/// serde_json ends its messages with a position within what it was given.
fn message_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => format!("invalid JSON: {message}"),
        None => format!("invalid JSON: {text}"),
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn read(&self, slice: &'a str, line: u32, depth: usize) -> Result<Value, Refused> {
        let refused = |error: serde_json::Error| (line, message_of(&error));
        let below = || {
            depth
                .checked_sub(1)
                .ok_or_else(|| (line, super::too_deep()))
        };
        match slice.as_bytes().first() {
            Some(b'{') => {
                let Entries(entries) = serde_json::from_str(slice).map_err(refused)?;
                self.read_table(entries, below()?)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(slice).map_err(refused)?;
                let depth = below()?;
                let read = |item: &&'a RawValue| {
                    let line = self.lines.at(self.offset(item.get()));
                    let value = self.read(item.get(), line, depth)?;
                    Ok(Node { line, value })
                };
                items
                    .iter()
                    .map(read)
                    .collect::<Result<_, _>>()
                    .map(Value::List)
            }
            Some(b'"') => serde_json::from_str(slice)
                .map(Value::Text)
                .map_err(refused),
            Some(b't') => Ok(Value::Bool(true)),
            Some(b'f') => Ok(Value::Bool(false)),
            Some(b'n') | None => Ok(Value::Null),
            Some(_) => Ok(read_number(slice)),
        }
    }

    fn read_table(
        &self,
        entries: Vec<(String, &'a RawValue)>,
        depth: usize,
    ) -> Result<Value, Refused> {
        let mut seen = BTreeMap::new();
        let mut table = Vec::with_capacity(entries.len());
        for (key, raw) in entries {
            let line = self.key_line(raw.get());
            if let Some(first) = seen.insert(key.clone(), line) {
                return Err((
                    line,
                    format!("invalid JSON: duplicate key {key:?}; first on line {first}"),
                ));
            }
            let value = self.read(raw.get(), line, depth)?;
            table.push((key, Node { line, value }));
        }
        Ok(Value::Table(table))
    }

    /// Position of a slice of the text in the text.
    fn offset(&self, slice: &str) -> usize {
        (slice.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    /// Line of the key before a value; a key has no newline in it.
    fn key_line(&self, value: &str) -> u32 {
        let before = self.text.get(..self.offset(value)).unwrap_or_default();
        let key = before.trim_end().trim_end_matches(':').trim_end();
        self.lines.at(key.len().saturating_sub(1))
    }
}

fn read_number(slice: &str) -> Value {
    if let Ok(value) = slice.parse() {
        return Value::Integer(value);
    }
    match slice.parse::<f64>() {
        Ok(value) if value.is_finite() => Value::Float(value),
        _ => Value::Other("a number out of range"),
    }
}

// === impl Entries ===

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}
