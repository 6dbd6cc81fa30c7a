//! The directory of segments: which there are, who writes, which go.
//!
//! Invariants: whoever holds the lock on the newest index is the writer, and it
//! holds the lock on the next index before that has a name; an index has its
//! header when it gets its name; no name is ever given twice.
//!
//! A segment is removed index first. So data without an index is what a removal
//! left that was cut short, swept up by the next one, and a reader that has an
//! index and finds no data sees that the name of the index is gone too: removed,
//! not damaged.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use super::{OutputError, kernel, policy::Policy};
use crate::{
    domain::time::Timestamp,
    shim::segment::{
        HEADER_BYTES, Header, Kind, RECORD_BYTES, Record, Stream, data_name, index_name,
        segment_of_data, segment_of_index,
    },
};

/// Opening the newest segment while somebody rotates is tried so often.
const TRIES: u32 = 4;

/// The files of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Files {
    pub(super) has_index: bool,
    /// Bytes of all.
    pub(super) bytes: u64,
}

/// All files there are, by segment.
pub(super) fn list(dir: &Path) -> nix::Result<BTreeMap<u64, Files>> {
    let mut segments: BTreeMap<u64, Files> = BTreeMap::new();
    for (name, bytes) in kernel::list(dir)? {
        let index = segment_of_index(&name);
        let data = segment_of_data(&name).map(|(segment, _)| segment);
        if let Some(segment) = index.or(data) {
            let files = segments.entry(segment).or_default();
            files.has_index |= index.is_some();
            files.bytes += bytes;
        }
    }
    Ok(segments)
}

/// Opens and locks the newest index; `None` if there is none.
///
/// # Errors
/// [`OutputError::Held`] if another shim writes here.
pub(super) fn open_newest(dir: &Path) -> Result<Option<(u64, File)>, OutputError> {
    for _ in 0..TRIES {
        let Some(segment) = newest(dir)? else {
            return Ok(None);
        };
        let path = dir.join(index_name(segment));
        let index = match kernel::open(&path, false) {
            Err(Errno::ENOENT) => continue, // has just gone
            result => result?,
        };
        if !kernel::lock(&index)? {
            return Err(OutputError::Held);
        }
        // Its writer may have made the next one and let go of this one.
        if newest(dir)? == Some(segment) && kernel::is_named(&index, &path)? {
            return Ok(Some((segment, index)));
        }
    }
    Err(OutputError::Held)
}

/// Makes and locks an index, and the directory if need be. To be called only by the writer of the one before.
///
/// # Errors
/// [`OutputError::Held`] if another shim was faster.
pub(super) fn create_index(dir: &Path, header: &Header) -> Result<File, OutputError> {
    kernel::create_dir(dir)?;
    for stream in Stream::ALL {
        // Nothing can tell what bytes mean that lie there already.
        kernel::remove(&dir.join(data_name(header.segment, stream)))?;
    }
    let (name, temporary) = (
        index_name(header.segment),
        temporary_name(dir, header.segment),
    );
    let index = kernel::open(&temporary, true)?;
    if !kernel::lock(&index)? || !kernel::is_named(&index, &temporary)? {
        return Err(OutputError::Held);
    }
    kernel::write_at(&index, &header.encode(), 0)?;
    match kernel::rename_new(&temporary, &dir.join(name)) {
        Err(Errno::EEXIST) => Err(OutputError::Held),
        result => Ok(result.map(|()| index)?),
    }
}

/// Removes the oldest segments until `policy` holds with a full segment
/// `newest`, and what earlier removals left. The newest stays.
pub(super) fn retain(
    dir: &Path,
    policy: &Policy,
    newest: u64,
    now: Timestamp,
) -> Result<(), Errno> {
    kernel::remove(&temporary_name(dir, newest))?;
    let mut segments = list(dir)?;
    segments.retain(|segment, _| *segment < newest);
    let mut bytes: u64 = segments.values().map(|files| files.bytes).sum();
    let mut count = segments.values().filter(|files| files.has_index).count();
    let bytes_max = policy.total_limit().saturating_sub(policy.segment_limit());
    let count_max = match policy.max_segments {
        0 => usize::MAX,
        max => usize::try_from(max - 1).unwrap_or(usize::MAX),
    };
    for (segment, files) in segments {
        if files.has_index {
            let goes = bytes > bytes_max
                || count > count_max
                || newest_time(dir, segment).is_some_and(|time| policy.is_expired(time, now));
            if !goes {
                break;
            }
            kernel::remove(&dir.join(index_name(segment)))?;
            count -= 1;
        }
        for stream in Stream::ALL {
            kernel::remove(&dir.join(data_name(segment, stream)))?;
        }
        bytes -= files.bytes;
    }
    Ok(())
}

fn newest(dir: &Path) -> nix::Result<Option<u64>> {
    let segments = list(dir)?;
    let mut indexed = segments.iter().filter(|(_, files)| files.has_index);
    Ok(indexed.next_back().map(|(segment, _)| *segment))
}

/// When something last happened in a segment; `None` if it cannot be read. It may
/// have been closed long after that.
fn newest_time(dir: &Path, segment: u64) -> Option<Timestamp> {
    let index = kernel::open(&dir.join(index_name(segment)), false).ok()?;
    let records = kernel::len(&index).ok()?.checked_sub(HEADER_BYTES as u64)? / RECORD_BYTES as u64;
    for at in (records.saturating_sub(2)..records).rev() {
        let mut bytes = [0; RECORD_BYTES];
        let offset = HEADER_BYTES as u64 + at * RECORD_BYTES as u64;
        let read = kernel::read_at(&index, &mut bytes, offset).ok()?;
        let record = Record::decode(&bytes[..read]).ok()?;
        if record.kind != Kind::Closed {
            return Some(record.time);
        }
    }
    let mut bytes = [0; HEADER_BYTES];
    let read = kernel::read_at(&index, &mut bytes, 0).ok()?;
    Some(Header::decode(&bytes[..read]).ok()?.time)
}

/// What an index is called until it has its header.
fn temporary_name(dir: &Path, segment: u64) -> PathBuf {
    let mut name = dir.join(index_name(segment)).into_os_string();
    name.push(".new");
    name.into()
}
