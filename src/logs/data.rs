//! Bytes of the data files, in blocks that entries share.

use std::{fs::File, io, path::Path};

use bytes::Bytes;
use nix::errno::Errno;

use super::{
    index::{self, found, read_at},
    limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN},
};
use crate::shim::segment::{Stream, data_name};

/// The data files that one read looks into. They are closed with it.
#[derive(Debug)]
pub(super) struct Data<'a> {
    dir: &'a Path,
    block_bytes: usize,
    streams: [Option<Open>; 2],
}

#[derive(Debug)]
struct Open {
    segment: u64,
    /// `None`: there is no such file.
    file: Option<File>,
    /// What was read last, and where it lies.
    block: Bytes,
    offset: u64,
}

/// What lies at some place of a data file.
#[derive(Debug)]
pub(super) enum Piece {
    /// At least one byte.
    Bytes(Bytes),
    /// Nothing, although a record says so.
    Missing,
    /// Nothing, because retention has removed the segment.
    Removed,
}

// === impl Data ===

impl<'a> Data<'a> {
    /// Reads blocks of about `budget` bytes, within bounds.
    pub(super) fn new(dir: &'a Path, budget: usize) -> Self {
        Self {
            dir,
            block_bytes: budget.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX),
            streams: [None, None],
        }
    }

    /// Up to `bytes` bytes at `offset`.
    pub(super) fn at(
        &mut self,
        segment: u64,
        stream: Stream,
        offset: u64,
        bytes: u64,
    ) -> io::Result<Piece> {
        let slot = &mut self.streams[stream.index()];
        let open = match slot.take().filter(|open| open.segment == segment) {
            Some(open) => slot.insert(open),
            None => slot.insert(Open {
                segment,
                file: found(File::open(self.dir.join(data_name(segment, stream))))?,
                block: Bytes::new(),
                offset: 0,
            }),
        };
        if open.slice(offset, bytes).is_none() {
            open.load(offset, self.block_bytes)?;
        }
        if let Some(slice) = open.slice(offset, bytes) {
            return Ok(Piece::Bytes(slice));
        }
        // Retention removes the index first.
        Ok(match index::exists(self.dir, segment)? {
            true => Piece::Missing,
            false => Piece::Removed,
        })
    }
}

// === impl Open ===

impl Open {
    fn slice(&self, offset: u64, bytes: u64) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let left = self
            .block
            .len()
            .checked_sub(start)
            .filter(|left| *left > 0)?;
        let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(left);
        Some(self.block.slice(start..start + count))
    }

    fn load(&mut self, offset: u64, count: usize) -> io::Result<()> {
        let mut block = vec![0; count];
        let read = match &self.file {
            Some(file) => match read_at(file, &mut block, offset) {
                // A bad place of the disk; what lies behind it is another matter.
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => 0,
                result => result?,
            },
            None => 0,
        };
        block.truncate(read);
        if read < count / 2 {
            // Few bytes may be kept for long; they must not hold a whole block.
            block.shrink_to_fit();
        }
        self.block = block.into();
        self.offset = offset;
        Ok(())
    }
}
