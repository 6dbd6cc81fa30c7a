//! Label selectors in the grammar known from Kubernetes.
//!
//! ```text
//! selector    = [ requirement { "," requirement } ]
//! requirement = "!" key | key
//!             | key ( "=" | "==" | "!=" ) [ value ]
//!             | key ( "in" | "notin" ) "(" [ value ] { "," [ value ] } ")"
//! ```
//!
//! All requirements must hold. `!=` and `notin` also hold where the key is absent.
//! Deliberately absent: `<` and `>`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::domain::{label, limits::LABEL_CHARS_MAX};

/// Bytes of a selector's text.
const SELECTOR_BYTES_MAX: usize = 16 * 1024;
/// Requirements on labels; the default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(BTreeSet<Requirement>);

/// Why a text is no label selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at offset {offset}: {problem}")]
pub struct LabelError {
    /// Byte position in the text.
    pub offset: usize,
    /// What is wrong, and what is allowed instead.
    pub problem: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Requirement {
    key: Box<str>,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<Box<str>>),
    NotIn(BTreeSet<Box<str>>),
}

/// Reads a text from left to right.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Parses `text`; blank text has no requirements.
    ///
    /// # Errors
    /// [`LabelError`] with the place and the problem.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let mut parser = Parser { text, at: 0 };
        if text.len() > SELECTOR_BYTES_MAX {
            return parser.fail(format!(
                "the selector has {} bytes; at most {SELECTOR_BYTES_MAX} are allowed",
                text.len()
            ));
        }
        let mut requirements = BTreeSet::new();
        parser.skip_blank();
        while parser.at < text.len() || !requirements.is_empty() {
            requirements.insert(parser.requirement()?);
            parser.skip_blank();
            if parser.at == text.len() {
                break;
            }
            parser.expect(",", "\",\"")?;
        }
        Ok(Self(requirements))
    }

    /// Whether `labels` meet all requirements.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&*requirement.key);
            match &requirement.test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(values) => value.is_some_and(|v| values.contains(v.as_str())),
                Test::NotIn(values) => value.is_none_or(|v| !values.contains(v.as_str())),
            }
        })
    }
}

/// The canonical text; it parses to the same selector.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Requirement { key, test }) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match test {
                Test::Exists => write!(f, "{comma}{key}")?,
                Test::Absent => write!(f, "{comma}!{key}")?,
                Test::In(values) => write!(f, "{comma}{key} in ({})", Joined(values))?,
                Test::NotIn(values) => write!(f, "{comma}{key} notin ({})", Joined(values))?,
            }
        }
        Ok(())
    }
}

struct Joined<'a>(&'a BTreeSet<Box<str>>);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{value}")?;
        }
        Ok(())
    }
}

// === impl Parser ===

impl<'a> Parser<'a> {
    fn requirement(&mut self) -> Result<Requirement, LabelError> {
        self.skip_blank();
        let absent = self.take("!");
        let key = self.key()?.into();
        let test = if absent { Test::Absent } else { self.test()? };
        Ok(Requirement { key, test })
    }

    fn test(&mut self) -> Result<Test, LabelError> {
        self.skip_blank();
        if self.at == self.text.len() || self.rest().starts_with(',') {
            return Ok(Test::Exists);
        }
        if self.take("!=") {
            return Ok(Test::NotIn(BTreeSet::from([self.value()?])));
        }
        if self.take("==") || self.take("=") {
            return Ok(Test::In(BTreeSet::from([self.value()?])));
        }
        let start = self.at;
        match self.word() {
            "in" => Ok(Test::In(self.values()?)),
            "notin" => Ok(Test::NotIn(self.values()?)),
            _ => {
                self.at = start;
                self.fail("expected = == != in notin or a comma after the key")
            }
        }
    }

    fn values(&mut self) -> Result<BTreeSet<Box<str>>, LabelError> {
        self.skip_blank();
        self.expect("(", "\"(\"")?;
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value()?);
            self.skip_blank();
            if self.take(")") {
                return Ok(values);
            }
            self.expect(",", "\",\" or \")\"")?;
        }
    }

    fn key(&mut self) -> Result<&'a str, LabelError> {
        self.skip_blank();
        let start = self.at;
        let key = self.word();
        if label::is_key(key) {
            return Ok(key);
        }
        self.at = start;
        self.fail(format!(
            "expected a key: [dns.prefix/]name with 1 to {LABEL_CHARS_MAX} of A-Z a-z 0-9 . _ - and a letter or digit at both ends"
        ))
    }

    /// May be empty.
    fn value(&mut self) -> Result<Box<str>, LabelError> {
        self.skip_blank();
        let start = self.at;
        let value = self.word();
        if label::is_value(value) {
            return Ok(value.into());
        }
        self.at = start;
        self.fail(format!(
            "a value has at most {LABEL_CHARS_MAX} of A-Z a-z 0-9 . _ - and a letter or digit at both ends"
        ))
    }

    /// Takes what keys, values and operators in letters are made of.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-' | '/'))
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Takes `symbol`; `wanted` is all that could stand here.
    fn expect(&mut self, symbol: &str, wanted: &str) -> Result<(), LabelError> {
        if self.take(symbol) {
            return Ok(());
        }
        match self.rest().chars().next() {
            Some(c) => self.fail(format!("expected {wanted}, found {c:?}")),
            None => self.fail(format!("expected {wanted}, found the end")),
        }
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn skip_blank(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, LabelError> {
        Err(LabelError {
            offset: self.at,
            problem: problem.into(),
        })
    }
}
