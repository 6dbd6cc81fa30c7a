//! TOML. The parser goes on after an error, so all syntax errors come at once.

use toml::de::{DeTable, DeValue};

use crate::config::{
    errors::Findings,
    tree::{DEPTH_MAX, Lines, Node, Value},
};

pub(super) fn parse(text: &str, findings: &mut Findings) -> Option<Node> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = lines.at(error.span().map_or(0, |span| span.start));
        findings.add(line, "", message_of(error, text));
    }
    if !errors.is_empty() {
        return None;
    }
    match convert_table(table.into_inner(), &lines, DEPTH_MAX) {
        Ok(value) => Some(Node { line: 1, value }),
        Err(line) => {
            findings.add(line, "", super::too_deep());
            None
        }
    }
}

/// What is wrong; the parser does not name a key that is there twice.
fn message_of(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let place = error.span().and_then(|span| text.get(span));
    match place {
        Some(key) if message == "duplicate key" => {
            format!("invalid TOML: duplicate key {key:?}")
        }
        _ => format!("invalid TOML: {message}"),
    }
}

/// Fails with the line that is nested too deeply.
fn convert_table(table: DeTable<'_>, lines: &Lines, depth: usize) -> Result<Value, u32> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let line = lines.at(key.span().start);
        let depth = depth.checked_sub(1).ok_or(line)?;
        let value = convert(value.into_inner(), lines, depth)?;
        entries.push((key.into_inner().into_owned(), Node { line, value }));
    }
    entries.sort_by_key(|(_, node)| node.line);
    Ok(Value::Table(entries))
}

fn convert(value: DeValue<'_>, lines: &Lines, depth: usize) -> Result<Value, u32> {
    Ok(match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(value) => match i128::from_str_radix(value.as_str(), value.radix()) {
            Ok(value) => Value::Integer(value),
            Err(_) => Value::Other("an integer out of range"),
        },
        DeValue::Float(value) => value
            .as_str()
            .parse()
            .map_or(Value::Other("a number out of range"), Value::Float),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let line = lines.at(item.span().start);
                let depth = depth.checked_sub(1).ok_or(line)?;
                let value = convert(item.into_inner(), lines, depth)?;
                list.push(Node { line, value });
            }
            Value::List(list)
        }
        DeValue::Table(table) => convert_table(table, lines, depth)?,
    })
}
