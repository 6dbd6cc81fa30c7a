//! One message as RFC 5424, section 6, has it. Pure.
//!
//! ```text
//! <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID - [meta sequenceId="N"] MSG
//! ```
//!
//! PRI: facility of the target; severity 6 (informational) for stdout, 3 (error) for
//! stderr, 4 (warning) where lines were lost. TIMESTAMP: when the line was captured,
//! UTC, microseconds. PROCID: number of the run. `sequenceId` (section 7.3.1): number
//! of the line modulo 2^31 - 1, counted from 1. MSG: see `text`; with a byte order
//! mark in front if, and only if, there is anything beyond ASCII (MSG-UTF8).

use super::CUT;
use crate::{
    domain::limits::FORWARD_TAG_CHARS_MAX,
    forward::{
        queue::{Content, lost_text},
        text,
    },
};

/// Largest `sequenceId`.
const SEQUENCE_MAX: i64 = 2_147_483_647;

/// Says that MSG is UTF-8.
const BOM: &str = "\u{feff}";

/// Characters of HOSTNAME.
const HOST_CHARS_MAX: usize = 255;

/// What is the same in all messages of one forward.
#[derive(Debug)]
pub(super) struct Format {
    facility: u8,
    host: String,
    tag: String,
}

// === impl Format ===

impl Format {
    /// `tag` is valid; a `host` that is not is told as unknown.
    pub(super) fn new(facility: u8, host: &str, tag: &str) -> Self {
        let is_valid = !host.is_empty()
            && host.len() <= HOST_CHARS_MAX
            && host.bytes().all(|byte| byte.is_ascii_graphic());
        // A name of a process may be longer than APP-NAME.
        let tag = tag
            .get(..tag.len().min(FORWARD_TAG_CHARS_MAX))
            .unwrap_or("-");
        Self {
            facility,
            host: if is_valid { host } else { "-" }.to_owned(),
            tag: tag.to_owned(),
        }
    }

    /// One message of at most `bytes_max`; the end of a longer one is cut off.
    pub(super) fn cut(&self, content: &Content, bytes_max: usize) -> String {
        let text = text_of(content);
        let header = self.header(content);
        let room = bytes_max.saturating_sub(header.len() + BOM.len());
        if text.len() <= room {
            return header + mark(&text) + &text;
        }
        let kept = &text[..text.floor_char_boundary(room.saturating_sub(CUT.len()))];
        header + mark(kept) + kept + CUT
    }

    /// As many messages as it takes if each has at most `text_bytes_max` of text.
    pub(super) fn split(&self, content: &Content, text_bytes_max: usize) -> Vec<String> {
        let text = text_of(content);
        let header = self.header(content);
        text::pieces(&text, text_bytes_max)
            .map(|piece| [&header, mark(piece), piece].concat())
            .collect()
    }

    fn header(&self, content: &Content) -> String {
        let run = match content {
            Content::Line(entry) => entry.run_id.to_string(),
            Content::Lost(..) => "-".to_owned(),
        };
        format!(
            "<{}>1 {} {} {} {run} - [meta sequenceId=\"{}\"] ",
            self.facility * 8 + content.severity(),
            content.timestamp().as_deref().unwrap_or("-"),
            self.host,
            self.tag,
            (content.sequence() - 1).rem_euclid(SEQUENCE_MAX) + 1,
        )
    }
}

fn text_of(content: &Content) -> String {
    match content {
        Content::Line(entry) => text::printable(&entry.data),
        Content::Lost(gap, _) => lost_text(gap),
    }
}

fn mark(text: &str) -> &'static str {
    if text.is_ascii() { "" } else { BOM }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        forward::tests::{line, lost},
        logs::OutputStream,
    };

    fn format() -> Format {
        Format::new(3, "host", "web")
    }

    #[test]
    fn messages_are_as_the_rfc_has_them() {
        let head = |pri: u8, run: &str| {
            format!("<{pri}>1 1970-01-01T00:00:01.000002Z host web {run} - [meta sequenceId=")
        };
        let (out, err) = (OutputStream::Stdout, OutputStream::Stderr);
        for (content, message) in [
            (line(7, out, b"hello"), head(30, "1") + "\"7\"] hello"),
            (line(7, err, b""), head(27, "1") + "\"7\"] "),
            (
                line(8, out, b"a\x1b\xff"),
                head(30, "1") + "\"8\"] a\\x1b\\xff",
            ),
            (
                line(9, out, "\u{fc}".as_bytes()),
                head(30, "1") + "\"9\"] \u{feff}\u{fc}",
            ),
            (
                lost(4, 6),
                head(28, "-") + "\"4\"] 3 lines lost (trimmed): sequences 4 to 6",
            ),
            (
                line(SEQUENCE_MAX, out, b""),
                head(30, "1") + "\"2147483647\"] ",
            ),
            (line(SEQUENCE_MAX + 1, out, b""), head(30, "1") + "\"1\"] "),
        ] {
            assert_eq!(format().cut(&content, 2048), message);
            assert_eq!(format().split(&content, 2048), [message]);
        }
    }

    #[test]
    fn what_is_not_known_or_not_allowed_is_told_as_unknown() {
        let message = |host: &str, tag: &str| {
            Format::new(23, host, tag).cut(&line(1, OutputStream::Stdout, b""), 999)
        };
        for host in ["", "a b", "h\u{f6}st", &"x".repeat(256)] {
            assert!(message(host, "t").contains("Z - t 1"), "{host}");
        }
        assert!(message("h", &"t".repeat(63)).contains(&format!(" h {} 1", "t".repeat(48))));
        assert!(message("h", "t").starts_with("<190>1 "));
    }

    #[test]
    fn long_lines_are_cut_or_split() {
        let text = "\u{fc}".repeat(3000);
        let content = line(1, OutputStream::Stdout, text.as_bytes());
        let cut = format().cut(&content, 2048);
        assert!((2040..=2048).contains(&cut.len()), "{}", cut.len());
        assert!(cut.ends_with("\u{fc}...[cut]"));
        let split = format().split(&content, 2500);
        assert_eq!(split.len(), 3);
        let texts = split
            .iter()
            .map(|message| message.split_once(BOM).unwrap().1);
        assert_eq!(texts.collect::<String>(), text);
    }

    proptest! {
        #[test]
        fn a_message_is_one_line_of_text_within_its_bound(
            data: Vec<u8>, bytes_max in 200..3000_usize,
        ) {
            let content = line(1, OutputStream::Stderr, &data);
            let cut = format().cut(&content, bytes_max);
            prop_assert!(cut.len() <= bytes_max);
            let split = format().split(&content, bytes_max);
            prop_assert!(split.iter().all(|message| message.starts_with("<27>1 ")));
            for message in split.iter().chain([&cut]) {
                prop_assert!(!message.contains(|c: char| c.is_control() && c != '\t'));
            }
        }
    }
}
