//! Cuts the bytes of one pipe into lines and pieces.
//!
//! Pure: bytes in, pieces out. How the bytes were chunked on their way changes
//! nothing, with one exception: [`Lines::flush`] hands on what is held, so that a
//! prompt without newline is seen.
//!
//! Invariant: at most [`PIECE_BYTES_MAX`] bytes are held, and a piece is only cut
//! off when a byte of the same line is known to follow it.

use bytes::Bytes;
use memchr::{memchr, memchr_iter, memrchr};

use super::limits::PIECE_BYTES_MAX;

/// A held buffer larger than this is given back once it is empty.
const KEEP_BYTES_MAX: usize = 4 * 1024;

/// Whether a piece ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The newline was seen, or the pipe is at its end.
    End,
    /// More of the line follows.
    More,
}

/// Takes pieces.
pub(super) type Out<'a> = &'a mut dyn FnMut(Bytes, Cut);

/// The unfinished line of one pipe.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    /// Pieces of the current line were handed on and its end was not.
    open: bool,
}

// === impl Lines ===

impl Lines {
    /// Whether bytes wait for their newline.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes the next bytes, at most [`PIECE_BYTES_MAX`].
    pub(super) fn feed(&mut self, chunk: &[u8], out: Out<'_>) {
        debug_assert!(chunk.len() <= PIECE_BYTES_MAX);
        let mut rest = chunk;
        if self.is_holding() {
            let Some(end) = memchr(b'\n', rest) else {
                self.hold(rest, out);
                return;
            };
            self.hold(&rest[..end], out);
            self.hand_on(Cut::End, out);
            rest = &rest[end + 1..];
        }
        if let Some(last) = memrchr(b'\n', rest) {
            // One allocation for all lines of the chunk.
            let block = Bytes::copy_from_slice(&rest[..last]);
            let mut start = 0;
            for end in memchr_iter(b'\n', &rest[..=last]) {
                out(block.slice(start..end), Cut::End);
                start = end + 1;
            }
            self.open = false;
            rest = &rest[last + 1..];
        }
        self.hold(rest, out);
    }

    /// Hands on what is held although its line goes on.
    pub(super) fn flush(&mut self, out: Out<'_>) {
        if self.is_holding() {
            self.hand_on(Cut::More, out);
        }
    }

    /// Ends the last line, if it has no newline.
    pub(super) fn finish(&mut self, out: Out<'_>) {
        if self.is_holding() || self.open {
            self.hand_on(Cut::End, out);
        }
    }

    fn hold(&mut self, bytes: &[u8], out: Out<'_>) {
        let room = PIECE_BYTES_MAX - self.held.len();
        if bytes.len() <= room {
            self.held.extend_from_slice(bytes);
            return;
        }
        self.held.extend_from_slice(&bytes[..room]);
        self.hand_on(Cut::More, out);
        self.held.extend_from_slice(&bytes[room..]);
    }

    fn hand_on(&mut self, cut: Cut, out: Out<'_>) {
        out(Bytes::copy_from_slice(&self.held), cut);
        self.open = cut == Cut::More;
        self.held.clear();
        self.held.shrink_to(KEEP_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `chunks`, ends the pipe and returns the pieces.
    fn pieces<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Vec<u8>, Cut)> {
        let mut got = Vec::new();
        let mut out = |data: Bytes, cut| got.push((data.to_vec(), cut));
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.feed(chunk, &mut out);
        }
        lines.finish(&mut out);
        got
    }

    #[test]
    fn chunking_changes_nothing() {
        let input = b"a\n\nb\r\xff\0c\n\xc3\xa9 last";
        let want =
            [&b"a"[..], b"", b"b\r\xff\0c", b"\xc3\xa9 last"].map(|line| (line.to_vec(), Cut::End));
        for size in 1..=input.len() {
            assert_eq!(pieces(input.chunks(size)), want, "chunks of {size}");
        }
    }

    #[test]
    fn a_long_line_is_cut_at_the_same_places_however_it_comes() {
        for len in [PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 3 * PIECE_BYTES_MAX] {
            let mut input = vec![b'x'; len];
            input.extend_from_slice(b"\nend\n");
            for size in [1000, 4096, 65_536] {
                let got = pieces(input.chunks(size));
                let (last, line) = got.split_last().unwrap();
                assert_eq!(*last, (b"end".to_vec(), Cut::End));
                let sizes: Vec<_> = line.iter().map(|(data, _)| data.len()).collect();
                let count = len.div_ceil(PIECE_BYTES_MAX);
                assert_eq!(sizes.len(), count, "{len} in chunks of {size}");
                assert_eq!(sizes.iter().sum::<usize>(), len);
                assert!(sizes[..count - 1].iter().all(|s| *s == PIECE_BYTES_MAX));
                let cuts: Vec<_> = line.iter().map(|(_, cut)| *cut).collect();
                assert!(cuts[..count - 1].iter().all(|cut| *cut == Cut::More));
                assert_eq!(cuts[count - 1], Cut::End);
            }
        }
    }

    #[test]
    fn a_flushed_line_is_ended_by_its_newline_or_by_the_end() {
        let mut got = Vec::new();
        let mut out = |data: Bytes, cut| got.push((data.to_vec(), cut));
        let mut lines = Lines::default();
        lines.flush(&mut out);
        lines.feed(b"login: ", &mut out);
        lines.flush(&mut out);
        lines.flush(&mut out);
        lines.feed(b"\nname", &mut out);
        lines.flush(&mut out);
        lines.finish(&mut out);
        lines.finish(&mut out);
        let want = [
            (b"login: ".to_vec(), Cut::More),
            (Vec::new(), Cut::End),
            (b"name".to_vec(), Cut::More),
            (Vec::new(), Cut::End),
        ];
        assert_eq!(got, want);
    }
}
