//! Going on where another shim was stopped, at whatever point that was.
//!
//! What is believed: valid records, and the sizes of the data files. Invariants:
//! bytes that no record tells of are found by size; nothing that was read before
//! is numbered anew; no content makes it fail or panic. A segment that is not
//! what its records say (a power cut, a bad disk) is left as it is and the next
//! one begun.

use std::{fs::File, path::Path};

use nix::errno::Errno;

use super::{
    directory, kernel,
    lines::{Lines, Stretch},
};
use crate::shim::segment::{
    HEADER_BYTES, Header, Kind, RECORD_BYTES, Record, Stream, data_name, index_name,
};

/// A data file.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// `None` if there is none yet.
    pub(super) file: Option<File>,
    /// Bytes that records tell of.
    pub(super) recorded: u64,
    /// Bytes in the file.
    pub(super) len: u64,
}

/// What was found in a segment.
#[derive(Debug)]
pub(super) struct Found {
    /// `None` if it cannot be read.
    pub(super) header: Option<Header>,
    /// Where the next record goes.
    pub(super) index_end: u64,
    /// The run of the last record, or of the header.
    pub(super) run_id: Option<i64>,
    /// Whether anything tells of that run but the header of the first segment.
    pub(super) begun: bool,
    /// `None` if nothing readable tells of a number.
    pub(super) lines: Option<Lines>,
    pub(super) data: [Data; 2],
    /// Whether the last record says so.
    pub(super) closed: bool,
    /// Not as its records say: nothing more is to be written to it.
    pub(super) damaged: bool,
}

/// What a pass over the records finds.
struct Scan {
    end: u64,
    last: Option<Record>,
    lines: Option<Lines>,
    /// Bytes told of.
    recorded: [u64; 2],
    /// The last record of bytes of a stream, if its line may still be open.
    open: [Option<Record>; 2],
}

/// Reads segment `segment`, whose index is `index`.
///
/// # Errors
/// Only what may pass: a file that cannot be opened or read now.
pub(super) fn read(
    dir: &Path,
    segment: u64,
    index: &File,
    buffer: &mut [u8],
) -> nix::Result<Found> {
    let header = read_header(index, segment)?;
    let scan = scan(index, header, buffer)?;
    let mut found = Found {
        header,
        index_end: scan.end,
        run_id: scan
            .last
            .map(|record| record.run_id)
            .or(header.map(|header| header.run_id)),
        begun: scan.last.is_some() || header.is_some_and(|header| header.next_sequence > 1),
        lines: scan.lines,
        data: Default::default(),
        closed: scan.last.is_some_and(|record| record.kind == Kind::Closed),
        damaged: header.is_none(),
    };
    for stream in Stream::ALL {
        let data = open_data(dir, segment, stream, scan.recorded[stream.index()])?;
        found.damaged |= data.len < data.recorded;
        if let (Some(record), Some(file)) = (scan.open[stream.index()], &data.file) {
            match stretch(file, record.offset, record.bytes, buffer) {
                Ok(stretch) => found.reopen(&record, stretch),
                Err(Errno::ENODATA) => found.damaged = true,
                Err(errno) => return Err(errno),
            }
        }
        found.begun |= data.len > 0;
        found.data[stream.index()] = data;
    }
    Ok(found)
}

/// A number that no line has, if the newest segment does not tell: every line
/// took a byte or a record.
pub(super) fn safe_sequence(dir: &Path, buffer: &mut [u8]) -> nix::Result<Option<i64>> {
    let mut lines_max = 0i64;
    for (segment, files) in directory::list(dir)?.into_iter().rev() {
        if files.has_index {
            let index = kernel::open(&dir.join(index_name(segment)), false)?;
            let header = read_header(&index, segment)?;
            if let Some(lines) = scan(&index, header, buffer)?.lines {
                return Ok(Some(lines.next.saturating_add(lines_max)));
            }
        }
        lines_max = lines_max.saturating_add(i64::try_from(files.bytes).unwrap_or(i64::MAX));
    }
    Ok((lines_max > 0).then(|| lines_max.saturating_add(1)))
}

/// Counts the newlines in `bytes` bytes from `offset` on.
///
/// # Errors
/// `ENODATA` if the file is shorter.
pub(super) fn stretch(
    file: &File,
    mut offset: u64,
    bytes: u64,
    buffer: &mut [u8],
) -> nix::Result<Stretch> {
    let mut stretch = Stretch::default();
    while stretch.bytes < bytes {
        let left = bytes - stretch.bytes;
        let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = kernel::read_at(file, &mut buffer[..want], offset)?;
        if read == 0 {
            return Err(Errno::ENODATA);
        }
        stretch.count(&buffer[..read]);
        offset += read as u64;
    }
    Ok(stretch)
}

// === impl Found ===

impl Found {
    fn reopen(&mut self, record: &Record, stretch: Stretch) {
        if let Some(lines) = &mut self.lines {
            lines.reopen(record, stretch);
        }
    }
}

// === impl Scan ===

impl Scan {
    fn see(&mut self, record: Record) {
        let lines = self.lines.get_or_insert(Lines {
            next: record.next_sequence,
            open: [None; 2],
        });
        lines.follow(&record);
        let at = record.stream.index();
        match record.kind {
            Kind::Data => {
                self.recorded[at] = record.offset.saturating_add(record.bytes);
                self.open[at] = Some(record);
            }
            Kind::Dropped => self.open[at] = None,
            Kind::RunBegan | Kind::RunEnded => self.open = [None; 2],
            Kind::Closed => {}
        }
        self.last = Some(record);
    }
}

fn read_header(index: &File, segment: u64) -> nix::Result<Option<Header>> {
    let mut bytes = [0; HEADER_BYTES];
    let read = kernel::read_at(index, &mut bytes, 0)?;
    let header = Header::decode(&bytes[..read]).ok();
    Ok(header.filter(|header| header.segment == segment))
}

/// Invalid records are passed over: what comes after them is as true.
fn scan(index: &File, header: Option<Header>, buffer: &mut [u8]) -> nix::Result<Scan> {
    let mut scan = Scan {
        end: HEADER_BYTES as u64,
        last: None,
        lines: header.map(|header| Lines {
            next: header.next_sequence,
            open: header.open,
        }),
        recorded: [0; 2],
        open: [None; 2],
    };
    let mut offset = HEADER_BYTES as u64;
    loop {
        let read = read_full(index, buffer, offset)?;
        let records = buffer[..read].chunks_exact(RECORD_BYTES);
        if records.len() == 0 {
            return Ok(scan);
        }
        for bytes in records {
            offset += RECORD_BYTES as u64;
            if let Ok(record) = Record::decode(bytes) {
                scan.see(record);
                scan.end = offset;
            }
        }
    }
}

/// As many whole records as the buffer holds, if the file has them.
fn read_full(index: &File, buffer: &mut [u8], offset: u64) -> nix::Result<usize> {
    let whole = buffer.len() - buffer.len() % RECORD_BYTES;
    let mut filled = 0;
    while filled < whole {
        match kernel::read_at(index, &mut buffer[filled..whole], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn open_data(dir: &Path, segment: u64, stream: Stream, recorded: u64) -> nix::Result<Data> {
    let file = match kernel::open(&dir.join(data_name(segment, stream)), false) {
        Err(Errno::ENOENT) => None,
        result => Some(result?),
    };
    let len = file.as_ref().map_or(Ok(0), kernel::len)?;
    Ok(Data {
        file,
        recorded,
        len,
    })
}
