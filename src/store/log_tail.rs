//! Whether SQLite's log goes on where it breaks off.
//!
//! SQLite reads its log up to the first frame that is not sound, and takes the rest
//! for a write that was cut off. After a kill there is no rest. So frames of the same
//! log beyond that place say that a byte in the middle has changed (or, after a power
//! cut, that what was never synced reached the disk in another order), and that
//! something that was recorded is gone. Deliberately absent: any repair.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use super::Damage;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// In the first bytes; its lowest bit: checksums are over big-endian words.
const MAGIC: u32 = 0x377f_0682;
/// Larger ones do not exist.
const PAGE_MAX: u32 = 65_536;

/// The running checksum of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum {
    big_endian: bool,
    low: u32,
    high: u32,
}

/// What lies beyond the place where the log at `path` breaks off; `None`: nothing,
/// or it does not break off.
///
/// # Errors
/// The log cannot be read; a missing one is sound.
pub(super) fn beyond_the_break(path: &Path) -> io::Result<Option<Damage>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::new(file);
    let mut header = [0; HEADER];
    if !filled(&mut file, &mut header)? {
        return Ok(None);
    }
    let big_endian = word(&header, 0) & 1 == 1;
    let mut sum = Sum {
        big_endian,
        low: 0,
        high: 0,
    };
    sum.add(&header[..24]);
    let page = word(&header, 8);
    let sound = word(&header, 0) & !1 == MAGIC && page <= PAGE_MAX && sum.is_at(&header, 24);
    let mut frame = vec![0; FRAME_HEADER + usize::try_from(page.min(PAGE_MAX)).unwrap_or(0)];
    if !sound {
        let rest = filled(&mut file, &mut frame)?;
        return Ok(rest.then(|| damage("its head is damaged: none of it can be used".into())));
    }
    let salts = &header[16..24];
    let (mut number, mut broken, mut beyond) = (0_u64, None, 0_u64);
    while filled(&mut file, &mut frame)? {
        number += 1;
        let same_log = frame[8..16] == *salts;
        if broken.is_some() {
            beyond += u64::from(same_log);
            continue;
        }
        sum.add(&frame[..8]);
        sum.add(&frame[FRAME_HEADER..]);
        if !same_log || !sum.is_at(&frame, 16) {
            broken = Some(number);
        }
    }
    let broken = broken.filter(|_| beyond > 0);
    Ok(broken.map(|at| damage(format!("it breaks off at page {at}, {beyond} more follow"))))
}

fn damage(problem: String) -> Damage {
    Damage {
        place: "the log of the database".into(),
        problem,
    }
}

/// Fills `buffer`; `false` at the end, also in the middle of it.
fn filled(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A number of a header; they are big-endian.
fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

// === impl Sum ===

impl Sum {
    /// `bytes` are a multiple of eight.
    fn add(&mut self, bytes: &[u8]) {
        let number = |four: &[u8; 4]| match self.big_endian {
            true => u32::from_be_bytes(*four),
            false => u32::from_le_bytes(*four),
        };
        let (words, _) = bytes.as_chunks::<4>();
        let (mut low, mut high) = (self.low, self.high);
        for pair in words.chunks_exact(2) {
            low = low.wrapping_add(number(&pair[0])).wrapping_add(high);
            high = high.wrapping_add(number(&pair[1])).wrapping_add(low);
        }
        (self.low, self.high) = (low, high);
    }

    fn is_at(self, bytes: &[u8], at: usize) -> bool {
        word(bytes, at) == self.low && word(bytes, at + 4) == self.high
    }
}
