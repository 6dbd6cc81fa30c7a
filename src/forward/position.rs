//! How far a target has got a log. Pure.
//!
//! Lines are numbered in the order in which they began, but a line may be handed on
//! in pieces, the later ones behind other lines. So a position is the newest line of
//! which something was sent, and the lines that are not sent to their end: one per
//! stream, because within a stream lines end in order.
//!
//! Invariant: what a position has seen it never lets through again, so that a log
//! can be read anew from [`Position::resume_after`].

use crate::logs::{Entry, Gap, OutputStream};

/// First line of the file that a position is kept in.
const HEADER: &str = "procession forward 1";

/// A place in a log, by numbers of lines, that is good whatever daemon reads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Newest line that is sent, in part at least; 0: none.
    newest: i64,
    /// The line of each stream that goes on.
    open: [Option<Open>; 2],
}

/// A line of which `bytes` are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    sequence: i64,
    bytes: i64,
}

// === impl Position ===

impl Position {
    /// Behind all lines up to `sequence`, also those that go on.
    pub(super) fn behind(sequence: i64) -> Self {
        Self {
            newest: sequence.max(0),
            open: [None; 2],
        }
    }

    /// Everything up to this line need not be read again.
    pub(super) fn resume_after(&self) -> i64 {
        let open = self.open.iter().flatten().map(|open| open.sequence - 1);
        open.fold(self.newest, i64::min)
    }

    /// Moves behind `entry`; what of it was not seen before, if anything.
    pub(super) fn take(&mut self, mut entry: Entry) -> Option<Entry> {
        let open = &mut self.open[entry.stream.index()];
        let bytes = i64::try_from(entry.data.len()).unwrap_or(i64::MAX);
        let end = entry.line_offset.saturating_add(bytes);
        let seen = match *open {
            Some(Open { sequence, bytes }) if sequence == entry.sequence => bytes,
            _ if entry.sequence > self.newest => {
                self.newest = entry.sequence;
                0
            }
            // It was sent to its end.
            _ => return None,
        };
        let has_more = end > seen;
        *open = entry.partial.then_some(Open {
            sequence: entry.sequence,
            bytes: end.max(seen),
        });
        if !has_more && seen > 0 {
            return None; // only now is it known that it ended there
        }
        let skipped = usize::try_from(seen.saturating_sub(entry.line_offset)).unwrap_or(0);
        if skipped > 0 {
            entry.data = entry.data.slice(skipped.min(entry.data.len())..);
            entry.line_offset = seen;
        }
        // An empty piece that only ends a line of which something was sent.
        (entry.line_offset == 0 || !entry.data.is_empty()).then_some(entry)
    }

    /// Moves behind `gap`; what of it was not seen before, if anything.
    pub(super) fn take_gap(&mut self, gap: Gap) -> Option<Gap> {
        let lines = gap.first_sequence..=gap.last_sequence;
        let open = self.open.iter().flatten().map(|open| open.sequence);
        let unseen = open
            .filter(|sequence| lines.contains(sequence))
            .fold(self.newest + 1, i64::min);
        let first_sequence = gap.first_sequence.max(unseen);
        self.newest = self.newest.max(gap.last_sequence);
        (first_sequence <= gap.last_sequence).then_some(Gap {
            first_sequence,
            ..gap
        })
    }

    /// As text, for the target that `key` names.
    pub(super) fn encode(&self, key: &str) -> String {
        let mut text = format!("{HEADER}\ntarget {key}\nnewest {}\n", self.newest);
        for stream in OutputStream::ALL {
            if let Some(Open { sequence, bytes }) = self.open[stream.index()] {
                text += &format!("{} {sequence} {bytes}\n", stream.name());
            }
        }
        // Nobody writes half of it, but a disk may lose the rest.
        text + "end\n"
    }

    /// Reads what [`Position::encode`] wrote; `None` if it is not whole, or for
    /// another target.
    pub(super) fn decode(text: &str, key: &str) -> Option<Self> {
        let mut lines = text.strip_suffix("end\n")?.lines();
        if lines.next()? != HEADER || lines.next()?.strip_prefix("target ")? != key {
            return None;
        }
        let newest = lines.next()?.strip_prefix("newest ")?.parse().ok()?;
        let mut position = Self::behind(newest);
        for line in lines {
            let mut words = line.split(' ');
            let name = words.next()?;
            let stream = OutputStream::ALL.into_iter().find(|s| s.name() == name)?;
            position.open[stream.index()] = Some(Open {
                sequence: words.next()?.parse().ok()?,
                bytes: words.next()?.parse().ok()?,
            });
        }
        Some(position)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{domain::time::Timestamp, logs::GapReason};

    fn entry(sequence: i64, line_offset: i64, data: &str, partial: bool) -> Entry {
        Entry {
            sequence,
            line_offset,
            run_id: 1,
            time: Timestamp(0),
            approximate_time: false,
            stream: OutputStream::Stdout,
            partial,
            data: Bytes::copy_from_slice(data.as_bytes()),
        }
    }

    fn err(mut entry: Entry) -> Entry {
        entry.stream = OutputStream::Stderr;
        entry
    }

    fn gap(first_sequence: i64, last_sequence: i64) -> Gap {
        Gap {
            first_sequence,
            last_sequence,
            lost_bytes: 0,
            reason: GapReason::Trimmed,
        }
    }

    fn text(entry: Option<Entry>) -> Option<String> {
        entry.map(|entry| String::from_utf8(entry.data.to_vec()).unwrap())
    }

    #[test]
    fn what_was_seen_is_not_seen_again() {
        let mut position = Position::default();
        let entries = [
            entry(1, 0, "one", false),
            entry(2, 0, "ab", true),
            err(entry(3, 0, "err", false)),
            entry(2, 2, "cd", true),
        ];
        for entry in &entries {
            assert_eq!(position.take(entry.clone()), Some(entry.clone()));
        }
        assert_eq!(position.resume_after(), 1, "line 2 goes on");
        let kept = Position::decode(&position.encode("k"), "k").unwrap();
        assert_eq!(kept, position);
        let mut again = kept;
        for entry in entries {
            assert_eq!(again.take(entry), None);
        }
        // Put together anew, it has its end.
        let mut whole = kept;
        assert_eq!(
            text(whole.take(entry(2, 0, "abcdef", false))),
            Some("ef".into())
        );
        assert_eq!(whole.resume_after(), 3);
        let mut ended = kept;
        assert_eq!(
            ended.take(entry(2, 4, "", false)),
            None,
            "nothing was added"
        );
        assert_eq!(ended.resume_after(), 3);
        assert_eq!(
            text(ended.take(entry(4, 0, "", false))),
            Some(String::new())
        );
    }

    #[test]
    fn gaps_tell_only_what_was_not_sent() {
        let mut position = Position::behind(5);
        assert_eq!(position.take_gap(gap(2, 5)), None);
        assert_eq!(position.take_gap(gap(3, 8)), Some(gap(6, 8)));
        assert!(position.take(entry(9, 0, "a", true)).is_some());
        assert!(position.take(err(entry(10, 0, "b", false))).is_some());
        assert_eq!(position.take_gap(gap(9, 10)), Some(gap(9, 10)), "9 goes on");
    }

    #[test]
    fn what_cannot_be_read_is_no_position() {
        let text = Position::behind(7).encode("a");
        assert_eq!(Position::decode(&text, "a"), Some(Position::behind(7)));
        assert_eq!(Position::decode(&text, "b"), None);
        for cut in 0..text.len() {
            assert_eq!(Position::decode(&text[..cut], "a"), None, "{cut}");
        }
    }

    proptest! {
        /// Pieces of lines of both streams, stopped and resumed at any of them.
        #[test]
        fn a_log_read_anew_gives_each_byte_once(
            lines in prop::collection::vec((any::<bool>(), 0..6_usize), 1..20),
            stop in 0..60_usize,
        ) {
            let mut pieces = Vec::new();
            for (at, (is_err, length)) in lines.iter().enumerate() {
                let sequence = i64::try_from(at).unwrap() + 1;
                for offset in 0..*length {
                    let piece = entry(sequence, i64::try_from(offset).unwrap(), "x", true);
                    pieces.push(if *is_err { err(piece) } else { piece });
                }
                let last = entry(sequence, i64::try_from(*length).unwrap(), "", false);
                pieces.push(if *is_err { err(last) } else { last });
            }
            let stop = stop.min(pieces.len());
            let mut position = Position::default();
            let sent = |position: &mut Position, pieces: &[Entry]| -> usize {
                let sent = pieces.iter().filter_map(|piece| position.take(piece.clone()));
                sent.map(|entry| entry.data.len()).sum()
            };
            let mut bytes = sent(&mut position, &pieces[..stop]);
            let mut position = Position::decode(&position.encode("k"), "k").unwrap();
            let after = position.resume_after();
            let anew: Vec<_> = pieces.into_iter().filter(|p| p.sequence > after).collect();
            bytes += sent(&mut position, &anew);
            prop_assert_eq!(bytes, lines.iter().map(|line| line.1).sum::<usize>());
        }
    }
}
