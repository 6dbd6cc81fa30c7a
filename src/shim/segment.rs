//! Captured output on disk: what a shim writes and a daemon reads.
//!
//! ```text
//! logs/<uid>/0000000007.idx   header, then one record per thing that happened
//!            0000000007.out   bytes of standard output as written, newlines too
//!            0000000007.err   bytes of standard error; only if there are any
//! ```
//!
//! Bytes go from the pipe into a data file by `splice`, and a record of the index
//! then says when, where and of which line they are. Bytes beyond the last record
//! were moved by a shim that died before it could say so; whoever takes the log
//! over writes one record for them, marked approximate.
//!
//! Lines are numbered from 1, densely per uid over both streams, all runs and all
//! segments, in the order in which their first byte was recorded; a newline alone
//! is a line. A stretch of dropped bytes takes one number. A line that was not
//! ended goes on in the next segment of the same run; the end of a run ends it.
//!
//! Invariants: a file has one writer, the shim of the live run, which holds a lock
//! on the index (`F_OFD_SETLK`); files only grow; a record is written with one
//! `pwrite` at a multiple of its size, so a reader that finds a short or broken
//! last record waits for the rest; decoding never panics. Numbers of segments rise
//! by one; retention removes whole segments, oldest first, never the newest.
//!
//! Deliberately absent: moving bytes (`output`), retention, reading (`logs`).

use std::{fmt, path::PathBuf};

use super::codec::{DecodeError, Reader, Writer, crc32};
use crate::domain::time::Timestamp;

/// Bytes of the header of an index.
pub(crate) const HEADER_BYTES: usize = 96;
/// Bytes of one record.
pub(crate) const RECORD_BYTES: usize = 80;

const MAGIC: &[u8; 8] = b"PRSNLOG\0";
const FORMAT: u16 = 1;
const CRC_BYTES: usize = 4;

/// A standard stream. Both streams of a run that merges them count as `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Where a line that was not ended stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenLine {
    /// Its number.
    pub(crate) sequence: i64,
    /// Bytes of it so far.
    pub(crate) bytes: i64,
}

/// Start of an index: what a reader needs that begins here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Number of the segment, from 1.
    pub(crate) segment: u64,
    /// Number that the next new line gets.
    pub(crate) next_sequence: i64,
    /// The run that was up when it was made.
    pub(crate) run_id: i64,
    /// When it was made.
    pub(crate) time: Timestamp,
    /// The unended line of each stream.
    pub(crate) open: [Option<OpenLine>; 2],
}

/// What one record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `bytes` bytes of `stream` lie at `offset` of its data file.
    Data,
    /// A run begins; lines left open by the one before are ended.
    RunBegan,
    /// `bytes` bytes of `stream` were read and not kept; they have number
    /// `sequence`. A line that was open is ended.
    Dropped,
    /// The run ended and nothing writes any more: open lines are ended.
    RunEnded,
    /// The segment is complete; there is, or will be, a next one.
    Closed,
}

/// One record of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// What it tells.
    pub(crate) kind: Kind,
    /// Of `Data` and `Dropped`.
    pub(crate) stream: Stream,
    /// `time` is when the bytes were found, not when they came.
    pub(crate) approximate: bool,
    /// When.
    pub(crate) time: Timestamp,
    /// The run.
    pub(crate) run_id: i64,
    /// Position in the data file.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) bytes: u64,
    /// Number of the line that the first byte belongs to.
    pub(crate) sequence: i64,
    /// Position of the first byte in that line.
    pub(crate) line_offset: i64,
    /// Number of the first line that begins within these bytes but not with
    /// their first one; others follow it densely.
    pub(crate) following: i64,
    /// Number that the next new line gets after this record.
    pub(crate) next_sequence: i64,
}

// === impl Stream ===

impl Stream {
    pub(crate) const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// 0 or 1.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Stdout => "out",
            Self::Stderr => "err",
        }
    }

    fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Stdout),
            1 => Ok(Self::Stderr),
            _ => Err(DecodeError::Value("stream")),
        }
    }
}

// === impl Header ===

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut w = Writer::default();
        w.0.extend_from_slice(MAGIC);
        w.u16(FORMAT);
        w.u64(self.segment);
        w.i64(self.next_sequence);
        w.i64(self.run_id);
        w.i64(self.time.0);
        for open in self.open {
            w.i64(open.map_or(0, |line| line.sequence));
            w.i64(open.map_or(0, |line| line.bytes));
        }
        sealed(w)
    }

    /// # Errors
    /// [`DecodeError`] if the bytes are not a whole header of this format.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = unsealed::<HEADER_BYTES>(bytes)?;
        if r.take(MAGIC.len())? != MAGIC {
            return Err(DecodeError::Magic);
        }
        match r.u16()? {
            FORMAT => {}
            other => return Err(DecodeError::Version(other)),
        }
        Ok(Self {
            segment: r.u64()?,
            next_sequence: r.i64()?,
            run_id: r.i64()?,
            time: Timestamp(r.i64()?),
            open: [read_open(&mut r)?, read_open(&mut r)?],
        })
    }
}

// === impl Record ===

impl Record {
    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut w = Writer::default();
        w.u8(match self.kind {
            Kind::Data => 1,
            Kind::RunBegan => 2,
            Kind::Dropped => 3,
            Kind::RunEnded => 4,
            Kind::Closed => 5,
        });
        w.u8(match self.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        });
        w.bool(self.approximate);
        w.i64(self.time.0);
        w.i64(self.run_id);
        w.u64(self.offset);
        w.u64(self.bytes);
        w.i64(self.sequence);
        w.i64(self.line_offset);
        w.i64(self.following);
        w.i64(self.next_sequence);
        sealed(w)
    }

    /// # Errors
    /// [`DecodeError`] if the bytes are not a whole record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = unsealed::<RECORD_BYTES>(bytes)?;
        Ok(Self {
            kind: match r.u8()? {
                1 => Kind::Data,
                2 => Kind::RunBegan,
                3 => Kind::Dropped,
                4 => Kind::RunEnded,
                5 => Kind::Closed,
                other => return Err(DecodeError::Type(other.into())),
            },
            stream: Stream::from_number(r.u8()?)?,
            approximate: r.bool()?,
            time: Timestamp(r.i64()?),
            run_id: r.i64()?,
            offset: r.u64()?,
            bytes: r.u64()?,
            sequence: r.i64()?,
            line_offset: r.i64()?,
            following: r.i64()?,
            next_sequence: r.i64()?,
        })
    }
}

/// Name of the index of a segment.
pub(crate) fn index_name(segment: u64) -> PathBuf {
    PathBuf::from(format!("{segment:010}.idx"))
}

/// Name of the data file of a stream in a segment.
pub(crate) fn data_name(segment: u64, stream: Stream) -> PathBuf {
    PathBuf::from(format!("{segment:010}.{}", stream.extension()))
}

/// The segment that an index of this file name belongs to.
pub(crate) fn segment_of_index(name: &str) -> Option<u64> {
    number(name.strip_suffix(".idx")?)
}

/// The segment and the stream that a data file of this name belongs to.
pub(crate) fn segment_of_data(name: &str) -> Option<(u64, Stream)> {
    let (stem, extension) = name.split_once('.')?;
    let stream = Stream::ALL
        .into_iter()
        .find(|stream| stream.extension() == extension)?;
    Some((number(stem)?, stream))
}

fn number(number: &str) -> Option<u64> {
    let digits = number.len() == 10 && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| number.parse().ok())?
}

fn read_open(r: &mut Reader<'_>) -> Result<Option<OpenLine>, DecodeError> {
    let (sequence, bytes) = (r.i64()?, r.i64()?);
    Ok((sequence > 0).then_some(OpenLine { sequence, bytes }))
}

/// Pads with zeroes and appends the checksum.
fn sealed<const N: usize>(w: Writer) -> [u8; N] {
    let mut bytes = [0; N];
    let len = w.0.len().min(N - CRC_BYTES);
    bytes[..len].copy_from_slice(&w.0[..len]);
    let crc = crc32(&[&bytes[..N - CRC_BYTES]]);
    bytes[N - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn unsealed<const N: usize>(bytes: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let (body, crc) = bytes
        .get(..N)
        .and_then(|whole| whole.split_at_checked(N - CRC_BYTES))
        .ok_or(DecodeError::Truncated)?;
    if crc32(&[body]).to_le_bytes() != crc {
        return Err(DecodeError::Checksum);
    }
    Ok(Reader(body))
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        Record {
            kind: Kind::Data,
            stream: Stream::Stderr,
            approximate: true,
            time: Timestamp(5),
            run_id: 3,
            offset: 1 << 40,
            bytes: 100,
            sequence: 7,
            line_offset: 9,
            following: 11,
            next_sequence: 13,
        }
    }

    fn header() -> Header {
        Header {
            segment: 7,
            next_sequence: 5,
            run_id: 2,
            time: Timestamp(99),
            open: [
                None,
                Some(OpenLine {
                    sequence: 4,
                    bytes: 10,
                }),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_noticed() {
        let bytes = record().encode();
        assert_eq!(Record::decode(&bytes), Ok(record()));
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
        for bit in 0..RECORD_BYTES * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&broken), Err(DecodeError::Checksum));
        }
        for short in 0..RECORD_BYTES {
            assert_eq!(Record::decode(&bytes[..short]), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn file_names_are_told_apart() {
        assert_eq!(index_name(7), PathBuf::from("0000000007.idx"));
        assert_eq!(
            data_name(7, Stream::Stderr),
            PathBuf::from("0000000007.err")
        );
        assert_eq!(segment_of_index("0000000007.idx"), Some(7));
        for other in ["0000000007.out", "7.idx", "000000000x.idx", ".idx", "lock"] {
            assert_eq!(segment_of_index(other), None, "{other}");
        }
        assert_eq!(segment_of_data("0000000007.err"), Some((7, Stream::Stderr)));
        for other in ["0000000007.idx", "7.out", "0000000007.out.tmp", ".out"] {
            assert_eq!(segment_of_data(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
            let _ = Header::decode(&bytes);
        }
    }
}
