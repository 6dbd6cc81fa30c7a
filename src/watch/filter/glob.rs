//! Globs over names: `*` is any text, `?` one character; nothing else is special.
//!
//! Matching takes at most pattern length x name length steps, whatever the
//! pattern.

use std::fmt;

/// Characters of a pattern: room for a `*` around every character of a name.
const GLOB_CHARS_MAX: usize = 127;

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(Box<str>);

/// Why a text is no pattern for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It has no characters.
    #[error("is empty; use * for every name")]
    Empty,
    /// It is longer than any name can need.
    #[error("has {0} characters; at most {GLOB_CHARS_MAX} are allowed")]
    TooLong(usize),
    /// No name contains this.
    #[error("contains {0:?}; allowed are * ? and the characters of names: A-Z a-z 0-9 . _ -")]
    BadCharacter(char),
}

// === impl Glob ===

impl Glob {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`GlobError`] says which rule is broken.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '?');
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(GlobError::BadCharacter(c));
        }
        if text.len() > GLOB_CHARS_MAX {
            return Err(GlobError::TooLong(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// Whether `name` fits as a whole.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to try again: just after the latest `*`, with one more byte of the
        // name given to it.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((after_star, from)) => {
                        retry = Some((after_star, from + 1));
                        p = after_star;
                        n = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
