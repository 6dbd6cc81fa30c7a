//! Identities: names people choose and positions the daemon assigns.

use std::{fmt, sync::Arc};

use super::limits::NAME_CHARS_MAX;

/// Name of a process, chosen by the user and immutable.
///
/// Grammar: `[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?`. Cloning is one
/// reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessName(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no characters.
    #[error("is empty; use 1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -")]
    Empty,
    /// It has more than [`NAME_CHARS_MAX`] characters.
    #[error("has {0} characters; at most {NAME_CHARS_MAX} are allowed")]
    TooLong(usize),
    /// It contains a character outside the grammar.
    #[error("contains {0:?}; allowed are A-Z a-z 0-9 . _ -")]
    BadCharacter(char),
    /// It starts or ends with one of `.`, `_` and `-`.
    #[error("must start and end with a letter or a digit")]
    BadEdge,
}

/// UUID of one incarnation of a name; a re-created name gets a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid([u8; 16]);

/// Position in the change log: dense, from 1; 0 is "before everything".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(i64);

// === impl ProcessName ===

impl ProcessName {
    /// Checks `text` against the grammar.
    ///
    /// # Errors
    /// [`NameError`] says which rule is broken.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(c) = text.chars().find(|c| !inner(*c)) {
            return Err(NameError::BadCharacter(c));
        }
        if text.len() > NAME_CHARS_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if !edge(text.chars().next()) || !edge(text.chars().next_back()) {
            return Err(NameError::BadEdge);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for ProcessName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// === impl Uid ===

impl Uid {
    /// Takes the bytes of a UUID.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads what `Display` writes, and no other form of a UUID.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().filter(|byte| *byte != b'-');
        let digits = digits.collect::<Vec<u8>>();
        if digits.len() != 32 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        let uid = Self(bytes);
        (uid.to_string() == text).then_some(uid)
    }

    /// The bytes of the UUID.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// RFC 9562 text form, lower case.
impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Revision ===

impl Revision {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// Takes a number as it stands on the wire.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "7", "web", "web-1", "a.b_c-d", &"x".repeat(63)] {
            assert!(ProcessName::new(good).is_ok(), "{good}");
        }
        let bad = [
            ("", NameError::Empty),
            ("-a", NameError::BadEdge),
            ("a.", NameError::BadEdge),
            ("../x", NameError::BadCharacter('/')),
            ("a b", NameError::BadCharacter(' ')),
            ("a\0", NameError::BadCharacter('\0')),
            ("\u{e9}", NameError::BadCharacter('\u{e9}')),
        ];
        for (text, error) in bad {
            assert_eq!(ProcessName::new(text), Err(error), "{text:?}");
        }
        assert_eq!(
            ProcessName::new(&"x".repeat(64)),
            Err(NameError::TooLong(64))
        );
    }

    #[test]
    fn uid_prints_as_uuid() {
        let uid = Uid::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(uid.to_string(), "00010203-0405-0607-0809-0a0b0c0d0eff");
    }

    #[test]
    fn uid_is_read_in_the_form_it_is_printed_in() {
        let text = "00010203-0405-0607-0809-0a0b0c0d0eff";
        assert_eq!(Uid::parse(text).map(|uid| uid.to_string()).unwrap(), text);
        let others = [
            "",
            "00010203-0405-0607-0809-0a0b0c0d0eFF",
            "000102030405060708090a0b0c0d0eff",
            "0001020-30405-0607-0809-0a0b0c0d0eff",
            "00010203-0405-0607-0809-0a0b0c0d0e",
            "00010203-0405-0607-0809-0a0b0c0d0eff0",
            "+0010203-0405-0607-0809-0a0b0c0d0eff",
            "g0010203-0405-0607-0809-0a0b0c0d0eff",
            "\u{e9}010203-0405-0607-0809-0a0b0c0d0eff",
        ];
        for other in others {
            assert_eq!(Uid::parse(other), None, "{other:?}");
        }
    }
}
