//! Foreign text made safe for a terminal: control characters are shown, not sent.

use std::fmt::Write as _;

/// `text` as one line: every control character is escaped.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(c, &mut out);
    }
    out
}

/// Bytes of a process as one line: control characters are escaped except tabs, and
/// what is not UTF-8 is shown as `\xNN`.
pub(crate) fn bytes(data: &[u8]) -> String {
    let mut out = String::with_capacity(data.len());
    for chunk in data.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => out.push(c),
                c => push_escaped(c, &mut out),
            }
        }
        for byte in chunk.invalid() {
            push_byte(*byte, &mut out);
        }
    }
    out
}

fn push_escaped(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c.is_ascii_control() => push_byte(c as u8, out),
        // C1 controls drive terminals too; the others reorder what is read.
        c if c.is_control() || is_bidi_control(c) => {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                push_byte(byte, out);
            }
        }
        c => out.push(c),
    }
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_byte(byte: u8, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(line("plain é ✓"), "plain é ✓");
        assert_eq!(
            line("a\x1b[31mb\x07\r\n\tc\x7f"),
            "a\\x1b[31mb\\x07\\r\\n\\tc\\x7f"
        );
        assert_eq!(line("\u{9b}31m"), "\\xc2\\x9b31m", "one-character CSI");
        assert_eq!(line("\u{202e}gpj"), "\\xe2\\x80\\xaegpj");
    }

    #[test]
    fn bytes_keep_tabs_and_show_what_is_not_utf8() {
        assert_eq!(
            bytes(b"a\tb\xff\xc3(\x1b]0;x\x07"),
            "a\tb\\xff\\xc3(\\x1b]0;x\\x07"
        );
        assert_eq!(bytes("ü".as_bytes()), "ü");
    }
}
