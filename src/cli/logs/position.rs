//! Which lines were shown, so that a new connection goes on behind them. Pure.
//!
//! A line that is shown in part is asked for again whole (positions count lines),
//! and what comes again of it and of the lines behind it is left out.

use std::collections::BTreeMap;

use crate::grpc::proto::{LogEntry, LogGap, LogPosition};

/// What was shown of each process.
#[derive(Debug, Default)]
pub(crate) struct Positions(BTreeMap<String, Position>);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Position {
    uid: String,
    /// Highest number shown, or known to be lost.
    newest: i64,
    /// Lines up to here come again on this connection, if they come.
    again: i64,
    // BOUND: one per stream.
    /// Lines of which the rest is still to come.
    open: Vec<OpenLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OpenLine {
    stream: i32,
    sequence: i64,
    /// Bytes shown.
    shown: i64,
}

// === impl Positions ===

impl Positions {
    /// Whether `entry` has anything new; what was shown is cut off its data.
    pub(crate) fn accept(&mut self, entry: &mut LogEntry) -> bool {
        self.of(&entry.name, &entry.uid).accept(entry)
    }

    /// The lines of `gap` will not come; whether one was still to be shown. Those
    /// that were shown are cut off it.
    pub(crate) fn skip(&mut self, gap: &mut LogGap) -> bool {
        self.of(&gap.name, &gap.uid).skip(gap)
    }

    /// For the next request, after which some lines will come again.
    pub(crate) fn resume(&mut self) -> Vec<LogPosition> {
        let wire = |(name, position): (&String, &mut Position)| LogPosition {
            name: name.clone(),
            uid: position.uid.clone(),
            sequence: position.resume(),
        };
        self.0.iter_mut().map(wire).collect()
    }

    fn of(&mut self, name: &str, uid: &str) -> &mut Position {
        let position = self.0.entry(name.to_owned()).or_default();
        if position.uid != uid {
            *position = Position {
                uid: uid.to_owned(),
                ..Position::default()
            };
        }
        position
    }
}

// === impl Position ===

impl Position {
    fn accept(&mut self, entry: &mut LogEntry) -> bool {
        let length = i64::try_from(entry.data.len()).unwrap_or(i64::MAX);
        let end = entry.line_offset.saturating_add(length);
        let known = self
            .open
            .iter()
            .find(|open| open.sequence == entry.sequence)
            .map(|open| open.shown);
        match known {
            None if entry.sequence <= self.again => return false,
            None => {}
            Some(shown) if end <= shown && entry.partial => return false,
            Some(shown) => {
                let overlap = shown.saturating_sub(entry.line_offset).clamp(0, length);
                let overlap_bytes = usize::try_from(overlap).unwrap_or_default();
                entry.data = entry.data.slice(overlap_bytes..);
                entry.line_offset = entry.line_offset.saturating_add(overlap);
            }
        }
        self.newest = self.newest.max(entry.sequence);
        // A stream is in one line at a time.
        self.open.retain(|open| open.stream != entry.stream);
        if entry.partial {
            self.open.push(OpenLine {
                stream: entry.stream,
                sequence: entry.sequence,
                shown: end.max(known.unwrap_or_default()),
            });
        }
        true
    }

    fn skip(&mut self, gap: &mut LogGap) -> bool {
        let lost = gap.first_sequence..=gap.last_sequence;
        if !self.open.iter().any(|open| lost.contains(&open.sequence)) {
            gap.first_sequence = gap.first_sequence.max(self.again.saturating_add(1));
        }
        self.open.retain(|open| !lost.contains(&open.sequence));
        self.newest = self.newest.max(gap.last_sequence);
        gap.first_sequence <= gap.last_sequence
    }

    fn resume(&mut self) -> i64 {
        self.again = self.newest;
        let open = self.open.iter().map(|open| open.sequence - 1);
        open.fold(self.newest, i64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: i64, offset: i64, data: &'static str, partial: bool) -> LogEntry {
        LogEntry {
            name: "web".into(),
            uid: "u".into(),
            sequence,
            line_offset: offset,
            data: data.as_bytes().into(),
            partial,
            ..LogEntry::default()
        }
    }

    /// What is shown of a sequence of entries.
    fn shown(positions: &mut Positions, entries: &[LogEntry]) -> String {
        let mut text = String::new();
        for mut entry in entries.iter().cloned() {
            if positions.accept(&mut entry) {
                text.push_str(std::str::from_utf8(&entry.data).unwrap());
                text.push_str(if entry.partial { "" } else { "\n" });
            }
        }
        text
    }

    #[test]
    fn lines_that_come_again_are_not_shown_again() {
        let mut positions = Positions::default();
        let lines = [entry(1, 0, "a", false), entry(2, 0, "b", false)];
        assert_eq!(shown(&mut positions, &lines), "a\nb\n");
        assert_eq!(positions.resume()[0].sequence, 2);
        assert_eq!(shown(&mut positions, &lines), "");
        assert_eq!(shown(&mut positions, &[entry(3, 0, "c", false)]), "c\n");
    }

    #[test]
    fn a_line_cut_by_the_connection_is_completed() {
        for second in [
            vec![entry(7, 0, "hello world", false)],
            vec![entry(7, 0, "hel", true), entry(7, 3, "lo world", false)],
            vec![entry(7, 5, " world", true), entry(7, 11, "", false)],
        ] {
            let mut positions = Positions::default();
            let mut text = shown(&mut positions, &[entry(7, 0, "hello", true)]);
            assert_eq!(positions.resume()[0].sequence, 6, "asked for again whole");
            text += &shown(&mut positions, &second);
            assert_eq!(text, "hello world\n");
            assert_eq!(positions.resume()[0].sequence, 7);
        }
    }

    #[test]
    fn a_new_incarnation_starts_anew() {
        let mut positions = Positions::default();
        shown(&mut positions, &[entry(9, 0, "old", false)]);
        let mut young = entry(1, 0, "new", false);
        young.uid = "v".into();
        assert_eq!(shown(&mut positions, &[young]), "new\n");
        assert_eq!(positions.resume()[0].uid, "v");
    }

    #[test]
    fn a_gap_moves_the_position() {
        let mut positions = Positions::default();
        let gap = |last_sequence| LogGap {
            name: "web".into(),
            uid: "u".into(),
            first_sequence: 5,
            last_sequence,
            ..LogGap::default()
        };
        assert!(positions.skip(&mut gap(20)));
        assert_eq!(positions.resume()[0].sequence, 20);
        assert!(!positions.skip(&mut gap(10)), "it was told");
        assert_eq!(positions.resume()[0].sequence, 20, "never back");
        assert_eq!(shown(&mut positions, &[entry(21, 0, "x", false)]), "x\n");
    }

    #[test]
    fn a_prompt_is_completed_behind_lines_of_the_other_stream() {
        let err = |sequence, data| LogEntry {
            stream: 2,
            ..entry(sequence, 0, data, false)
        };
        let mut positions = Positions::default();
        let first = [entry(1, 0, "name: ", true), err(2, "note")];
        assert_eq!(shown(&mut positions, &first), "name: note\n");
        assert_eq!(positions.resume()[0].sequence, 0);
        // All of it comes again, and more.
        let again = [
            entry(1, 0, "name: x", true),
            err(2, "note"),
            err(3, "more"),
            entry(1, 7, "y", false),
        ];
        assert_eq!(shown(&mut positions, &again), "xmore\ny\n");
        assert_eq!(positions.resume()[0].sequence, 3);
    }

    #[test]
    fn the_rest_of_a_line_that_began_before_is_shown() {
        let mut positions = Positions::default();
        let late = LogEntry {
            stream: 2,
            ..entry(3, 40, "rest", false)
        };
        let lines = [entry(9, 0, "nine", false), late];
        assert_eq!(shown(&mut positions, &lines), "nine\nrest\n");
    }
}
