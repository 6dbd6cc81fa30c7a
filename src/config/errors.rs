//! Errors of a configuration file: all of them, each with the line and the key.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Most errors kept of one file; the rest is only counted.
const ERRORS_MAX: usize = 100;

/// Everything that is wrong with one file, in the order of its lines; never
/// empty. Prints one error per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    path: PathBuf,
    errors: Vec<ConfigError>,
    left_out: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Line, from 1; 0 where it is about the file as a whole.
    pub line: u32,
    /// Key such as `processes.web.command`; empty where none is known.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Collects what is wrong while a file is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<ConfigError>,
    left_out: usize,
}

// === impl ConfigErrors ===

impl ConfigErrors {
    /// The file, as the caller named it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The errors in the order of their lines; at most 100.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// One error about the file as a whole.
    pub(super) fn whole(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            errors: vec![ConfigError {
                line: 0,
                key: String::new(),
                message: message.into(),
            }],
            left_out: 0,
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{error}", self.path.display())?;
        }
        if self.left_out > 0 {
            write!(
                f,
                "\n{}: {} more errors",
                self.path.display(),
                self.left_out
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// `LINE: KEY: MESSAGE`, without what is not known.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

// === impl Findings ===

impl Findings {
    pub(super) fn add(&mut self, line: u32, key: impl fmt::Display, message: impl Into<String>) {
        if self.errors.len() == ERRORS_MAX {
            self.left_out += 1;
            return;
        }
        self.errors.push(ConfigError {
            line,
            key: key.to_string(),
            message: message.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// `value` if nothing was found.
    pub(super) fn or<T>(mut self, path: &Path, value: T) -> Result<T, ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors.sort_by_key(|error| error.line);
        Err(ConfigErrors {
            path: path.to_owned(),
            errors: self.errors,
            left_out: self.left_out,
        })
    }
}
