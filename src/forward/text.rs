//! Output as text that a line-based receiver can take.

/// UTF-8 without control characters: what is neither, byte by byte as `\xHH`; a tab
/// stays. A backslash is not escaped, so this is for reading, not for undoing.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() && char != '\t' {
                let mut buffer = [0; 4];
                escape(&mut text, char.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(char);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// Pieces of at most `bytes_max` bytes, cut between characters; at least one.
/// `bytes_max` has room for a character.
pub(super) fn pieces(text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, after) = text.split_at(text.floor_char_boundary(bytes_max.max(4)));
        rest = (!after.is_empty()).then_some(after);
        Some(piece)
    })
}

fn escape(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let digits = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
        text.push_str("\\x");
        text.extend(digits.map(char::from));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_text_is_escaped() {
        for (bytes, text) in [
            (&b"plain\ttab \\ back"[..], "plain\ttab \\ back"),
            (b"\x1b[31mred\r\n\0\x7f", "\\x1b[31mred\\x0d\\x0a\\x00\\x7f"),
            ("gr\u{fc}n \u{1f980}".as_bytes(), "gr\u{fc}n \u{1f980}"),
            (b"\xff\xfe a \xc3", "\\xff\\xfe a \\xc3"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
            (b"", ""),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_controls_remains(bytes: Vec<u8>) {
            let text = printable(&bytes);
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\t'));
        }

        #[test]
        fn pieces_are_the_text(text: String, bytes_max in 4..50_usize) {
            let cut: Vec<_> = pieces(&text, bytes_max).collect();
            prop_assert_eq!(cut.concat(), text.as_str());
            prop_assert!(cut.iter().all(|piece| piece.len() <= bytes_max));
        }
    }
}
