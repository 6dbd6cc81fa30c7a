//! A file of any format as one tree that knows its lines.

use std::fmt;

use serde_json as json;

/// Deepest nesting of tables and lists.
pub(super) const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Line, from 1: of the key in a table, of the value in a list.
    pub(super) line: u32,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, as in `key:` of YAML. The same as no key.
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; keys are unique.
    Table(Vec<(String, Node)>),
    /// What no key takes, by name.
    Other(&'static str),
}

/// Where a node is, for people: `processes.web.dependencies[0]`.
#[derive(Debug, Default)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// Byte offsets to lines.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

// === impl Node ===

impl Node {
    /// The value under `key`, where this is a table that has one.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let found = self.entries().iter().find(|(name, _)| name == key)?;
        Some(&found.1)
    }

    /// What is in this table; nothing where it is no table.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The tree without its lines. `None` for a number JSON has not.
    pub(super) fn into_json(self) -> Option<json::Value> {
        Some(match self.value {
            Value::Null => json::Value::Null,
            Value::Bool(value) => value.into(),
            Value::Integer(value) => i64::try_from(value).ok()?.into(),
            Value::Float(value) => json::Number::from_f64(value)?.into(),
            Value::Text(value) => value.into(),
            Value::List(items) => {
                let items = items.into_iter().map(Self::into_json);
                items.collect::<Option<Vec<_>>>()?.into()
            }
            Value::Table(entries) => {
                let entries = entries.into_iter().map(|(k, v)| Some((k, v.into_json()?)));
                entries.collect::<Option<json::Map<_, _>>>()?.into()
            }
            Value::Other(_) => return None,
        })
    }
}

/// As it is named in an error: `the integer 5`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the boolean {value}"),
            Self::Integer(value) => write!(f, "the integer {value}"),
            Self::Float(value) => write!(f, "the number {value:?}"),
            Self::Text(value) => write!(f, "the string {value:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a table"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

// === impl KeyPath ===

impl KeyPath {
    pub(super) fn push_key(&mut self, key: &str) {
        self.0.push(Step::Key(key.to_owned()));
    }

    pub(super) fn push_index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$');
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if i == 0 { "" } else { "." };
                    if !key.is_empty() && key.chars().all(bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

// === impl Lines ===

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// Line of the byte at `offset`, from 1.
    pub(super) fn at(&self, offset: usize) -> u32 {
        let before = self.0.partition_point(|newline| *newline < offset);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }
}
