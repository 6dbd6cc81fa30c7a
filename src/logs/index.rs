//! Index files of one process: which there are, and what stands in them.
//!
//! Invariant: nothing found in a file is trusted before its checksum is.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use crate::shim::segment::{
    HEADER_BYTES, Header, RECORD_BYTES, Record, index_name, segment_of_index,
};

/// An open index, and its length of when it was looked at last.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) segment: u64,
    file: File,
    len: u64,
}

// === impl Index ===

impl Index {
    /// `None`: there is no such segment, or not any more.
    pub(super) fn open(dir: &Path, segment: u64) -> io::Result<Option<Self>> {
        let Some(file) = found(File::open(dir.join(index_name(segment))))? else {
            return Ok(None);
        };
        let mut index = Self {
            segment,
            file,
            len: 0,
        };
        index.refresh()?;
        Ok(Some(index))
    }

    /// Looks at the length again.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.len = self.file.metadata()?.len();
        Ok(())
    }

    /// Whether its header is all there.
    pub(super) fn has_header(&self) -> bool {
        self.len >= HEADER_BYTES as u64
    }

    /// Whole records, readable or not.
    pub(super) fn records(&self) -> u64 {
        self.len.saturating_sub(HEADER_BYTES as u64) / RECORD_BYTES as u64
    }

    /// Whether part of a record follows the whole ones.
    pub(super) fn is_torn(&self) -> bool {
        self.len > self.records() * RECORD_BYTES as u64 + HEADER_BYTES as u64
    }

    /// `None`: unreadable.
    pub(super) fn header(&self) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        let count = read_at(&self.file, &mut bytes, 0)?;
        Ok(Header::decode(&bytes[..count]).ok())
    }

    /// `None`: unreadable.
    pub(super) fn record(&self, at: u64) -> io::Result<Option<Record>> {
        Ok(self.load(at, 1)?.pop().flatten())
    }

    /// Up to `count` records from the one of this number on; unreadable ones are
    /// `None`.
    pub(super) fn load(&self, at: u64, count: usize) -> io::Result<Vec<Option<Record>>> {
        let mut bytes = vec![0; count * RECORD_BYTES];
        let offset = at
            .saturating_mul(RECORD_BYTES as u64)
            .saturating_add(HEADER_BYTES as u64);
        let read = read_at(&self.file, &mut bytes, offset)?;
        let whole = bytes[..read].chunks_exact(RECORD_BYTES);
        Ok(whole.map(|record| Record::decode(record).ok()).collect())
    }
}

/// Numbers of all segments, in order; none if there is no directory.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let Some(entries) = found(fs::read_dir(dir))? else {
        return Ok(Vec::new());
    };
    let mut segments = Vec::new();
    for entry in entries {
        segments.extend(entry?.file_name().to_str().and_then(segment_of_index));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Whether a segment is there.
pub(super) fn exists(dir: &Path, segment: u64) -> io::Result<bool> {
    dir.join(index_name(segment)).try_exists()
}

/// Turns "there is none" into `None`.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads as much of `bytes` as there is.
pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read_at(&mut bytes[count..], offset.saturating_add(count as u64)) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
