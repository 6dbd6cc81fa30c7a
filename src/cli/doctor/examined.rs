//! What lies around the store: the disk, directories of runs and of
//! output. Only looked at.

use std::{
    fmt,
    fs::{self, DirEntry},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use nix::sys::statvfs::statvfs;

/// Directories below `logs/` that are looked into: one per process and its files.
const DEPTH_MAX: u32 = 4;

/// A directory of a run.
pub(super) struct Run {
    pub(super) uid: String,
    pub(super) run_id: i64,
}

/// Bytes that the daemon's user can still write.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = statvfs(dir)?;
    Ok(found.blocks_available() * found.fragment_size())
}

/// The mode of the directory, if it lets others in.
pub(super) fn open_to_others(dir: &Path) -> Option<u32> {
    let mode = fs::metadata(dir).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Directories of runs, and names that are none.
pub(super) fn runs(dir: &Path) -> (Vec<Run>, Vec<String>) {
    let mut runs = Vec::new();
    let mut strange = Vec::new();
    for entry in entries(&dir.join("runs")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        match run(&name) {
            Some(run) => runs.push(run),
            None => strange.push(format!("runs/{name}")),
        }
    }
    (runs, strange)
}

/// Bytes of all output, and the uids that have some.
pub(super) fn logs(dir: &Path) -> (u64, Vec<String>) {
    let mut bytes = 0;
    let mut uids = Vec::new();
    for entry in entries(&dir.join("logs")) {
        bytes += size(&entry, DEPTH_MAX);
        uids.push(entry.file_name().to_string_lossy().into_owned());
    }
    (bytes, uids)
}

fn run(name: &str) -> Option<Run> {
    let (uid, run_id) = name.rsplit_once('.')?;
    uuid::Uuid::try_parse(uid).ok()?;
    Some(Run {
        uid: uid.to_owned(),
        run_id: run_id.parse().ok()?,
    })
}

/// Bytes of a file, or of all below a directory; links are not followed.
fn size(entry: &DirEntry, depth: u32) -> u64 {
    match entry.metadata() {
        Ok(found) if found.is_dir() && depth > 0 => entries(&entry.path())
            .map(|entry| size(&entry, depth - 1))
            .sum(),
        Ok(found) => found.len(),
        // It went meanwhile.
        Err(_) => 0,
    }
}

/// What is in `dir`; nothing where it is not there.
fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

// === impl Run ===

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runs/{}.{}", self.uid, self.run_id)
    }
}
