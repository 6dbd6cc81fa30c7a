//! A cgroup v2 directory per run, where cgroup2 is mounted and writable.
//!
//! `<own cgroup>/<group>/<label>`, where the group is named by the state directory
//! of the daemon, so that the next daemon finds it. No controller is needed: what
//! counts is that no process leaves it by forking, `cgroup.kill`, `cgroup.freeze`
//! and `populated`. A directory above the runs is removed with the last of them.
//! Deliberately absent: resource limits, cgroup v1.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use super::pidfd;

/// The cgroup of one run.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dir: PathBuf,
    path: String,
}

/// Tries to make a directory whose parent others may be removing.
const CREATE_TRIES: u32 = 64;
/// A cgroup is busy for a moment after its last process ended.
const REMOVE_TRIES: u32 = 20;
const FREEZE_TRIES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(2);

// === impl Cgroup ===

impl Cgroup {
    /// Makes the cgroup of run `label`. `None` where cgroups are not to be had.
    pub(crate) fn create(group: &str, label: &str) -> Option<Self> {
        let cgroup = Self::locate(group, label)?;
        let parent = cgroup.dir.parent()?;
        for _ in 0..CREATE_TRIES {
            match fs::create_dir(parent) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
                _ => {}
            }
            match fs::create_dir(&cgroup.dir) {
                Ok(()) => return Some(cgroup),
                // The last run of others has just removed the parent.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// The cgroup that an earlier shim made, by its path below the hierarchy.
    /// `None` if it is not there any more.
    pub(crate) fn find(path: &str) -> Option<Self> {
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let found = Self {
            dir: directory_of(&mounts, path)?,
            path: path.to_owned(),
        };
        found.exists().then_some(found)
    }

    /// Removes what runs of `group` have left, but of those that are to be kept:
    /// they may be about to begin. The group itself goes if it is empty then.
    pub(crate) fn sweep(group: &str, keeps: impl Fn(&str) -> bool) {
        let Some(dir) = Self::locate(group, "x").and_then(|c| c.dir.parent().map(Path::to_owned))
        else {
            return;
        };
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_str().is_none_or(|n| !keeps(n))) {
            // The kernel refuses to remove what has a process in it or below.
            for below in directories(&entry.path()).iter().rev() {
                let _ = fs::remove_dir(below);
            }
        }
        let _ = fs::remove_dir(dir);
    }

    /// Removes the cgroup of run `label`, which is over: its shim may have died
    /// between making it and writing down where it is.
    pub(crate) fn discard(group: &str, label: &str) {
        if let Some(cgroup) = Self::locate(group, label)
            && cgroup.exists()
        {
            cgroup.remove();
        }
    }

    /// Where the cgroup of run `label` is, if it is.
    fn locate(group: &str, label: &str) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let base = directory_of(&mounts, own)?;
        Some(Self {
            dir: base.join(group).join(label),
            path: format!("{}/{group}/{label}", own.trim_end_matches('/')),
        })
    }

    /// Whether it has been made, and not removed.
    fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Its path below the hierarchy.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its directory, for a process to begin in.
    pub(crate) fn open(&self) -> io::Result<fs::File> {
        fs::File::open(&self.dir)
    }

    /// Moves a process into it.
    pub(crate) fn place(&self, pid: i32) -> io::Result<()> {
        write(&self.dir.join("cgroup.procs"), &pid.to_string())
    }

    /// Processes in it and below.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in directories(&self.dir) {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            // 0 stands for a process of another pid namespace.
            pids.extend(
                text.lines()
                    .filter_map(|l| l.parse::<i32>().ok())
                    .filter(|pid| *pid > 0),
            );
        }
        pids
    }

    /// Sends a signal to each process in it and below.
    pub(crate) fn signal(&self, number: i32) {
        for pid in self.pids() {
            let _ = pidfd::kill_if(pid, number, || self.contains(pid)); // gone meanwhile
        }
    }

    /// Whether this process is in it or below.
    pub(crate) fn contains(&self, pid: i32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.strip_prefix("0::"))
                .any(|path| Path::new(path).starts_with(&self.path))
        })
    }

    /// Whether any process is in it or below.
    pub(crate) fn populated(&self) -> bool {
        self.event("populated")
    }

    /// The file that becomes readable by priority when `populated` changes.
    pub(crate) fn events(&self) -> io::Result<fs::File> {
        fs::File::open(self.dir.join("cgroup.events"))
    }

    /// SIGKILL to all of it at once. `false` before Linux 5.14.
    pub(crate) fn kill(&self) -> bool {
        write(&self.dir.join("cgroup.kill"), "1").is_ok()
    }

    /// Freezes it, and returns when it is frozen.
    ///
    /// # Errors
    /// `TimedOut` if it does not freeze within half a second; then it is thawed again.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        write(&self.dir.join("cgroup.freeze"), "1")?;
        for _ in 0..FREEZE_TRIES {
            if self.event("frozen") {
                return Ok(());
            }
            sleep(PAUSE);
        }
        self.thaw()?;
        Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
    }

    pub(crate) fn thaw(&self) -> io::Result<()> {
        write(&self.dir.join("cgroup.freeze"), "0")
    }

    /// Whether the kernel killed something in it for lack of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        fs::read_to_string(self.dir.join("memory.events")).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.strip_prefix("oom_kill "))
                .any(|count| count != "0")
        })
    }

    /// Removes it, what was made below it, and its parent if it was the last.
    pub(crate) fn remove(&self) {
        for _ in 0..REMOVE_TRIES {
            // Children before their parents.
            for dir in directories(&self.dir).iter().rev() {
                let _ = fs::remove_dir(dir);
            }
            if !self.dir.exists() {
                break;
            }
            sleep(PAUSE);
        }
        if let Some(parent) = self.dir.parent() {
            let _ = fs::remove_dir(parent); // refused while another run is in it
        }
    }

    fn event(&self, name: &str) -> bool {
        fs::read_to_string(self.dir.join("cgroup.events")).is_ok_and(|text| {
            text.lines()
                .any(|line| line.strip_prefix(name).is_some_and(|v| v == " 1"))
        })
    }
}

/// `root` and the directories below it, parents before their children.
fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next) {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let below: Vec<_> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(below);
        next += 1;
    }
    found
}

/// cgroup files take a value in one write, and are never created.
fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// Where cgroup `own` is in the file system, by the lines of `mountinfo`.
fn directory_of(mountinfo: &[u8], own: &str) -> Option<PathBuf> {
    mountinfo.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let root = unescape(fields.by_ref().nth(3)?);
        let point = unescape(fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        if kind != b"cgroup2" {
            return None;
        }
        // A mount may show a part of the hierarchy only.
        let below = Path::new(own).strip_prefix(&root).ok()?;
        Some(PathBuf::from(point).join(below))
    })
}

/// Spaces and the like are written as `\040`.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match code {
            Some(byte) => {
                bytes.push(byte);
                &tail[3..]
            }
            None => {
                bytes.push(*first);
                tail
            }
        };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_where_it_is() {
        let text = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(
            directory_of(text, "/a/b"),
            Some(PathBuf::from("/sys/fs/cgroup/uni fied/a/b"))
        );
        assert_eq!(directory_of(b"", "/"), None);
        assert_eq!(directory_of(b"1 2 3\n\\0 \\", "/"), None);
    }

    #[test]
    fn a_partial_mount_counts_for_what_it_shows() {
        let text = b"41 31 0:38 /slice/x /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            directory_of(text, "/slice/x/y"),
            Some(PathBuf::from("/cg/y"))
        );
        assert_eq!(directory_of(text, "/other"), None);
    }
}
