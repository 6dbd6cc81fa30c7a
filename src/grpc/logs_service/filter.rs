//! Which entries a call wants.

use regex::bytes::Regex;

use crate::{
    domain::time::Timestamp,
    logs::{Entry, OutputStream},
};

/// All parts must hold.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) streams: Streams,
    pub(super) run_id: Option<i64>,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) pattern: Option<Regex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Streams {
    #[default]
    Both,
    Only(OutputStream),
}

/// The lines of one process of which a piece matched and more is to come.
#[derive(Debug, Default)]
pub(super) struct Continued {
    stdout: Option<i64>,
    stderr: Option<i64>,
}

// === impl Filter ===

impl Filter {
    /// Whether every entry is wanted.
    pub(super) fn is_open(&self) -> bool {
        self.streams == Streams::Both
            && self.run_id.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.pattern.is_none()
    }

    pub(super) fn admits(&self, entry: &Entry, continued: &mut Continued) -> bool {
        let wanted = match self.streams {
            Streams::Both => true,
            Streams::Only(stream) => entry.stream == stream,
        } && self.run_id.is_none_or(|run_id| entry.run_id == run_id)
            && self.since.is_none_or(|since| entry.time >= since)
            && !self.is_past(entry.time);
        wanted && self.matches(entry, continued)
    }

    /// Whether `time` is at or after the end that was asked for.
    pub(super) fn is_past(&self, time: Timestamp) -> bool {
        self.until.is_some_and(|until| time >= until)
    }

    fn matches(&self, entry: &Entry, continued: &mut Continued) -> bool {
        let Some(pattern) = &self.pattern else {
            return true;
        };
        let line = match entry.stream {
            OutputStream::Stdout => &mut continued.stdout,
            OutputStream::Stderr => &mut continued.stderr,
        };
        let matches = *line == Some(entry.sequence) || pattern.is_match(&entry.data);
        *line = (matches && entry.partial).then_some(entry.sequence);
        matches
    }
}
