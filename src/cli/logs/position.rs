//! Which lines were shown, so that a new connection goes on behind them. Pure.
//!
//! A line that is shown in part is asked for again whole (positions count lines),
//! and the part already shown is cut off.

use std::collections::BTreeMap;

use crate::grpc::proto::{LogEntry, LogGap, LogPosition};

/// The last line shown of each process.
#[derive(Debug, Default)]
pub(crate) struct Positions(BTreeMap<String, Position>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    uid: String,
    sequence: i64,
    /// Bytes shown of that line.
    shown: i64,
    /// The rest of the line is still to come.
    partial: bool,
}

// === impl Positions ===

impl Positions {
    /// Whether `entry` has anything new; what was shown is cut off its data.
    pub(crate) fn accept(&mut self, entry: &mut LogEntry) -> bool {
        let length = i64::try_from(entry.data.len()).unwrap_or(i64::MAX);
        let end = entry.line_offset.saturating_add(length);
        let known = self
            .0
            .get(&entry.name)
            .filter(|known| known.uid == entry.uid);
        if let Some(known) = known {
            if entry.sequence < known.sequence {
                return false;
            }
            if entry.sequence == known.sequence {
                let is_old = end <= known.shown;
                if !known.partial || (is_old && entry.partial) {
                    return false;
                }
                let overlap = known
                    .shown
                    .saturating_sub(entry.line_offset)
                    .clamp(0, length);
                let overlap_bytes = usize::try_from(overlap).unwrap_or_default();
                entry.data = entry.data.slice(overlap_bytes..);
                entry.line_offset = entry.line_offset.saturating_add(overlap);
            }
        }
        self.0.insert(
            entry.name.clone(),
            Position {
                uid: entry.uid.clone(),
                sequence: entry.sequence,
                shown: end,
                partial: entry.partial,
            },
        );
        true
    }

    /// The lines of `gap` will not come.
    pub(crate) fn skip(&mut self, gap: &LogGap) {
        let is_ahead = self
            .0
            .get(&gap.name)
            .is_none_or(|known| known.uid != gap.uid || known.sequence < gap.last_sequence);
        if is_ahead {
            self.0.insert(
                gap.name.clone(),
                Position {
                    uid: gap.uid.clone(),
                    sequence: gap.last_sequence,
                    shown: 0,
                    partial: false,
                },
            );
        }
    }

    /// For the next request.
    pub(crate) fn to_wire(&self) -> Vec<LogPosition> {
        let wire = |(name, position): (&String, &Position)| LogPosition {
            name: name.clone(),
            uid: position.uid.clone(),
            sequence: position.sequence - i64::from(position.partial),
        };
        self.0.iter().map(wire).collect()
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
        assert_eq!(positions.to_wire()[0].sequence, 2);
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
            assert_eq!(positions.to_wire()[0].sequence, 6, "asked for again whole");
            text += &shown(&mut positions, &second);
            assert_eq!(text, "hello world\n");
            assert_eq!(positions.to_wire()[0].sequence, 7);
        }
    }

    #[test]
    fn a_new_incarnation_starts_anew() {
        let mut positions = Positions::default();
        shown(&mut positions, &[entry(9, 0, "old", false)]);
        let mut young = entry(1, 0, "new", false);
        young.uid = "v".into();
        assert_eq!(shown(&mut positions, &[young]), "new\n");
        assert_eq!(positions.to_wire()[0].uid, "v");
    }

    #[test]
    fn a_gap_moves_the_position() {
        let mut positions = Positions::default();
        let gap = |last_sequence| LogGap {
            name: "web".into(),
            uid: "u".into(),
            last_sequence,
            ..LogGap::default()
        };
        positions.skip(&gap(20));
        assert_eq!(positions.to_wire()[0].sequence, 20);
        positions.skip(&gap(10));
        assert_eq!(positions.to_wire()[0].sequence, 20, "never back");
        assert_eq!(shown(&mut positions, &[entry(21, 0, "x", false)]), "x\n");
    }
}
