//! The directory of all logs: names, removal, and the total over all processes.
//!
//! Invariants: a segment is removed index first, oldest first, and never the
//! newest of a process, which a shim may be writing to; only directories named by
//! a uid are ever touched.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::index::found;
use crate::{
    domain::id::Uid,
    shim::segment::{Stream, data_name, index_name, segment_of_data, segment_of_index},
};

/// What is added to the name of the directory of a deleted process.
const ASIDE: &str = ".removed";

#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// The files of one segment.
#[derive(Debug)]
struct Segment {
    dir: PathBuf,
    number: u64,
    bytes: u64,
    /// When the index last changed, or one before it, whichever is later.
    changed: SystemTime,
}

// === impl Store ===

impl Store {
    /// Makes the directory, for this user alone.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the log of `uid` lies.
    pub(super) fn dir(&self, uid: Uid) -> PathBuf {
        self.root.join(uid.to_string())
    }

    /// Renames the log of a deleted process; where it lies now.
    pub(super) fn set_aside(&self, uid: Uid) -> Option<PathBuf> {
        let dir = self.dir(uid);
        let aside = self.root.join(format!("{uid}{ASIDE}"));
        match found(fs::rename(&dir, &aside)) {
            Ok(renamed) => renamed.map(|()| aside),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "cannot set a log aside");
                None
            }
        }
    }

    /// Directories of processes that are not in `kept`.
    pub(super) fn orphans(&self, kept: &[Uid]) -> io::Result<Vec<PathBuf>> {
        let kept: HashSet<String> = kept.iter().map(Uid::to_string).collect();
        let mut orphans = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            if name
                .to_str()
                .is_some_and(|name| is_log(name) && !kept.contains(name))
            {
                orphans.push(entry.path());
            }
        }
        Ok(orphans)
    }

    pub(super) fn delete(&self, dir: &Path) {
        if let Err(error) = found(fs::remove_dir_all(dir)) {
            tracing::warn!(dir = %dir.display(), %error, "cannot remove a log");
        }
    }

    /// Bytes on disk over all processes, in as far as they can be looked at.
    pub(super) fn used(&self) -> u64 {
        self.sum(|_| {})
    }

    /// Removes the oldest closed segments until the total is kept.
    pub(super) fn keep_total(&self, total_bytes: u64) {
        let mut used = self.used();
        if used <= total_bytes {
            return;
        }
        let mut closed = Vec::new();
        used = self.sum(|segments| {
            segments.pop();
            closed.append(segments);
        });
        closed.sort_by_key(|segment| (segment.changed, segment.number));
        for segment in closed {
            if used <= total_bytes {
                return;
            }
            match segment.remove() {
                Ok(()) => used = used.saturating_sub(segment.bytes),
                Err(error) => {
                    let (dir, segment) = (segment.dir.display(), segment.number);
                    tracing::warn!(%dir, segment, %error, "cannot remove output past the total");
                }
            }
        }
        tracing::warn!(
            used,
            total_bytes,
            "captured output takes more than it may, with one segment per process left"
        );
    }

    /// Shows the segments of each process, in order, and adds up their bytes.
    fn sum(&self, mut see: impl FnMut(&mut Vec<Segment>)) -> u64 {
        let mut bytes = 0u64;
        let logs = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for log in logs.filter(|log| log.file_name().to_str().is_some_and(is_log)) {
            let Ok(mut segments) = segments(&log.path()) else {
                continue;
            };
            bytes += segments.iter().map(|segment| segment.bytes).sum::<u64>();
            see(&mut segments);
        }
        bytes
    }
}

// === impl Segment ===

impl Segment {
    fn remove(&self) -> io::Result<()> {
        let data = Stream::ALL.map(|stream| data_name(self.number, stream));
        for name in [index_name(self.number)].iter().chain(&data) {
            found(fs::remove_file(self.dir.join(name)))?;
        }
        Ok(())
    }
}

fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments: BTreeMap<u64, Segment> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let is_index = segment_of_index(name);
        let Some(number) = is_index.or_else(|| segment_of_data(name).map(|(number, _)| number))
        else {
            continue;
        };
        let Some(metadata) = found(entry.metadata())? else {
            continue;
        };
        let segment = segments.entry(number).or_insert_with(|| Segment {
            dir: dir.to_owned(),
            number,
            bytes: 0,
            changed: SystemTime::UNIX_EPOCH,
        });
        segment.bytes += metadata.len();
        if is_index.is_some() {
            segment.changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        }
    }
    let mut latest = SystemTime::UNIX_EPOCH;
    let mut ordered: Vec<Segment> = segments.into_values().collect();
    for segment in &mut ordered {
        latest = latest.max(segment.changed);
        segment.changed = latest;
    }
    Ok(ordered)
}

/// Whether a directory of this name is of a process, deleted or not.
fn is_log(name: &str) -> bool {
    Uid::parse(name.strip_suffix(ASIDE).unwrap_or(name)).is_some()
}
