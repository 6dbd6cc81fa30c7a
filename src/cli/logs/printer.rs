//! Entries as lines: whose it is, when, and the bytes. A line that comes in pieces
//! is put together; where another process writes in between, it is broken.

use std::collections::HashMap;

use crate::{
    cli::{
        args::LogsArgs,
        errors::CliError,
        render::{style, text, time},
        session::Session,
    },
    grpc::proto::LogEntry,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Printer {
    /// Prefix per process; empty when there is only one.
    prefixes: HashMap<String, String>,
    width: usize,
    prefixed: bool,
    timestamps: bool,
    escaped: bool,
    /// The line that has no end yet.
    open: Option<OpenLine>,
}

#[derive(Debug, PartialEq, Eq)]
struct OpenLine {
    name: String,
    sequence: i64,
    next_offset: i64,
}

// === impl Printer ===

impl Printer {
    /// For the processes `names`; `single`: no prefix.
    pub(crate) fn new(
        args: &LogsArgs,
        names: &[String],
        single: bool,
        session: &Session<'_>,
    ) -> Self {
        let mut printer = Self {
            prefixes: HashMap::new(),
            width: names
                .iter()
                .map(|name| name.chars().count())
                .max()
                .unwrap_or_default(),
            prefixed: !single,
            timestamps: args.timestamps,
            escaped: session.out.is_terminal() && !args.raw,
            open: None,
        };
        for name in names {
            printer.prefix(name, session);
        }
        printer
    }

    /// Writes one entry.
    pub(crate) fn entry(
        &mut self,
        entry: &LogEntry,
        session: &mut Session<'_>,
    ) -> Result<(), CliError> {
        let continues = self.open.as_ref().is_some_and(|open| {
            open.name == entry.name
                && open.sequence == entry.sequence
                && open.next_offset == entry.line_offset
        });
        if !continues {
            self.finish(session)?;
            self.begin(entry, session)?;
        }
        match self.escaped {
            true => session.out.bytes(text::bytes(&entry.data).as_bytes())?,
            false => session.out.bytes(&entry.data)?,
        }
        let length = i64::try_from(entry.data.len()).unwrap_or(i64::MAX);
        self.open = Some(OpenLine {
            name: entry.name.clone(),
            sequence: entry.sequence,
            next_offset: entry.line_offset.saturating_add(length),
        });
        if entry.partial {
            Ok(())
        } else {
            self.finish(session)
        }
    }

    /// Ends the line that has no end yet.
    pub(crate) fn finish(&mut self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self.open.take() {
            Some(_) => session.out.bytes(b"\n"),
            None => Ok(()),
        }
    }

    fn begin(&mut self, entry: &LogEntry, session: &mut Session<'_>) -> Result<(), CliError> {
        let mut start = String::new();
        if self.timestamps {
            let mark = if entry.approximate_time { "~" } else { "" };
            let when = entry
                .log_time
                .as_ref()
                .map_or_else(|| "-".to_owned(), time::instant);
            start.push_str(&format!("{mark}{when} "));
        }
        if self.prefixed {
            start.push_str(&self.prefix(&entry.name, session));
        }
        session.out.bytes(start.as_bytes())
    }

    /// `web   | `, in the colour of the process.
    fn prefix(&mut self, name: &str, session: &Session<'_>) -> String {
        if let Some(prefix) = self.prefixes.get(name) {
            return prefix.clone();
        }
        let shown = text::line(name);
        let padding = " ".repeat(self.width.saturating_sub(shown.chars().count()));
        let mark = format!("{shown}{padding} |");
        let painted = session
            .out
            .palette()
            .paint(&mark, style::nth(self.prefixes.len()));
        let prefix = format!("{painted} ");
        self.prefixes.insert(name.to_owned(), prefix.clone());
        prefix
    }
}
