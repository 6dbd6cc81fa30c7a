//! The keys that end an attachment, found in what is typed.

/// Keys one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// Finds them in a stream of bytes.
#[derive(Debug)]
pub(super) struct Watcher {
    keys: DetachKeys,
    /// How many of them were the last bytes; these are not passed on yet.
    matched: usize,
}

/// What a stretch of typed bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    /// To be passed on.
    pub(super) bytes: Vec<u8>,
    /// The keys came after that.
    pub(super) detach: bool,
}

/// Parses `ctrl-p,ctrl-q`: single characters or `ctrl-` with one; empty for none.
pub(crate) fn parse(text: &str) -> Result<DetachKeys, String> {
    let parts = text.split(',').filter(|_| !text.is_empty());
    let keys: Option<Vec<u8>> = parts.map(key).collect();
    keys.map(DetachKeys).ok_or_else(|| {
        "must be keys with commas between, each a character or ctrl-CHARACTER".to_owned()
    })
}

fn key(text: &str) -> Option<u8> {
    match text.strip_prefix("ctrl-").unwrap_or("").as_bytes() {
        [key @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => Some(key & 0x1f),
        [] => match text.as_bytes() {
            [key] if key.is_ascii_graphic() => Some(*key),
            _ => None,
        },
        _ => None,
    }
}

// === impl Watcher ===

impl Watcher {
    pub(super) fn new(keys: DetachKeys) -> Self {
        Self { keys, matched: 0 }
    }

    /// A beginning of the keys is held back until it is known what it is.
    pub(super) fn pass(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len());
        for &byte in typed {
            let keys = &self.keys.0;
            while self.matched > 0 && keys.get(self.matched) != Some(&byte) {
                // The longest beginning that may still become the keys.
                let held = &keys[..self.matched];
                let next = (0..self.matched)
                    .rev()
                    .find(|n| held.ends_with(&keys[..*n]))
                    .unwrap_or(0);
                bytes.extend_from_slice(&held[..self.matched - next]);
                self.matched = next;
            }
            if keys.get(self.matched) != Some(&byte) {
                bytes.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == keys.len() {
                return Typed {
                    bytes,
                    detach: true,
                };
            }
        }
        Typed {
            bytes,
            detach: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(text: &str) -> Watcher {
        Watcher::new(parse(text).unwrap())
    }

    #[test]
    fn keys_are_found_across_reads_and_what_is_none_is_passed_on() {
        let mut watcher = watcher("ctrl-p,ctrl-q");
        let typed = |bytes: &[u8], detach| Typed {
            bytes: bytes.to_vec(),
            detach,
        };
        assert_eq!(watcher.pass(b"ab\x10"), typed(b"ab", false));
        assert_eq!(watcher.pass(b"c"), typed(b"\x10c", false));
        assert_eq!(watcher.pass(b"\x10\x10"), typed(b"\x10", false));
        assert_eq!(watcher.pass(b"\x11d"), typed(b"", true));
    }

    #[test]
    fn a_beginning_within_a_beginning_is_found() {
        let mut watcher = watcher("a,a,b");
        let typed = watcher.pass(b"aaab");
        assert_eq!((typed.bytes.as_slice(), typed.detach), (&b"a"[..], true));
    }

    #[test]
    fn no_keys_are_never_found() {
        let typed = watcher("").pass(b"\x10\x11");
        assert_eq!(typed.bytes, b"\x10\x11");
        assert!(!typed.detach);
    }

    #[test]
    fn what_are_no_keys_is_refused() {
        for text in [",", "ctrl-", "ctrl-1", "ab", "ctrl-p,"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
