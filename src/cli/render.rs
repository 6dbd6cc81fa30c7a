//! The only writer to stdout: tables, JSON and lines, plain or coloured.
//!
//! Invariants: text that comes from processes or other users passes [`text`], so
//! that it cannot drive the terminal; colours appear only on a terminal; every
//! write error reaches the caller.

pub(crate) mod change;
pub(crate) mod json;
pub(crate) mod process;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod time;

use std::{
    io::{self, Write},
    time::SystemTime,
};

use super::{args::OutputFormat, errors::CliError};
use json::Wire;
use style::Palette;
use table::Table;

/// Standard output and what is known about it.
pub(crate) struct Output<'a> {
    writer: &'a mut dyn Write,
    format: OutputFormat,
    terminal: bool,
    palette: Palette,
    now: &'a dyn Fn() -> SystemTime,
}

// === impl Output ===

impl<'a> Output<'a> {
    pub(crate) fn new(
        writer: &'a mut dyn Write,
        format: OutputFormat,
        terminal: bool,
        palette: Palette,
        now: &'a dyn Fn() -> SystemTime,
    ) -> Self {
        Self {
            writer,
            format,
            terminal,
            palette,
            now,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    pub(crate) fn is_wide(&self) -> bool {
        self.format == OutputFormat::Wide
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(crate) fn palette(&self) -> Palette {
        self.palette
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.now)()
    }

    /// One response as JSON: over several lines on a terminal, else on one.
    pub(crate) fn json(&mut self, message: &impl Wire) -> Result<(), CliError> {
        let text = json::to_json(message, self.terminal)?;
        self.line(&text)
    }

    /// One element of a stream as JSON, always on one line.
    pub(crate) fn json_line(&mut self, message: &impl Wire) -> Result<(), CliError> {
        let text = json::to_json(message, false)?;
        self.line(&text)
    }

    /// One line of text that is already safe.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.writer, "{text}")?;
        Ok(())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.writer.write_all(bytes)?;
        Ok(())
    }

    pub(crate) fn table(&mut self, table: &Table) -> Result<(), CliError> {
        let text = table.to_text(self.palette, None);
        self.writer.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Labels and values, aligned; labels are bare.
    pub(crate) fn fields(&mut self, fields: &[(String, String)]) -> Result<(), CliError> {
        let width = fields
            .iter()
            .map(|(label, _)| label.chars().count())
            .max()
            .unwrap_or_default();
        for (label, value) in fields {
            writeln!(self.writer, "{:<1$}{value}", format!("{label}:"), width + 3)?;
        }
        Ok(())
    }

    /// Hands everything to the reader now.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.writer.flush()?;
        Ok(())
    }
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// Writes a remark to stderr; there is nobody to tell when that fails.
pub(crate) fn remark(stderr: &mut dyn Write, text: &str) {
    let _: io::Result<()> = writeln!(stderr, "{text}");
}
