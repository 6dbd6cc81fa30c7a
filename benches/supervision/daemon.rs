//! A daemon of the built program in a directory of its own. Whatever becomes of a
//! case, dropping it ends the daemon and all that it left, by pid.

use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use tempfile::TempDir;

use super::{client::Session, proc};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

pub(crate) struct Daemon {
    child: Option<Child>,
    directory: TempDir,
}

/// What is measured: `procession`, with the shim beside it, in the directory that
/// `PROCESSION_BIN_DIR` names, else as it was built with the bench.
pub(crate) fn program() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_procession"));
    let named = |dir| PathBuf::from(dir).join("procession");
    std::env::var_os("PROCESSION_BIN_DIR").map_or_else(built, named)
}

// === impl Daemon ===

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_in(&std::env::temp_dir())
    }

    /// With its directory below this one.
    pub(crate) fn start_in(above: &Path) -> Self {
        let directory = tempfile::tempdir_in(above).expect("a directory");
        let mut daemon = Self {
            child: None,
            directory,
        };
        daemon.restart();
        daemon
    }

    /// Starts the program on its directories and waits until it listens. Returns
    /// the moment just before its exec.
    pub(crate) fn restart(&mut self) -> Instant {
        assert!(self.child.is_none(), "it is still there");
        let log = File::options().create(true).append(true).open(self.log());
        let mut command = Command::new(program());
        command
            .arg("serve")
            .arg("--socket")
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.path().join("state"))
            .env(proc::MARK, self.mark())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"));
        let since = Instant::now();
        self.child = Some(command.spawn().expect("a daemon"));
        eventually("the daemon listens", || self.listens());
        since
    }

    /// Whether the socket is this daemon's: that of a killed one may be open still.
    fn listens(&mut self) -> bool {
        let child = self.child.as_mut().expect("a daemon");
        if let Ok(Some(status)) = child.try_wait() {
            self.child = None;
            panic!("the daemon ended: {status}");
        }
        let pid = child.id().cast_signed();
        UnixStream::connect(self.socket())
            .and_then(|stream| Ok(getsockopt(&stream, PeerCredentials)?))
            .is_ok_and(|listener| listener.pid() == pid)
    }

    pub(crate) fn session(&self) -> Session {
        Session::open(&self.socket())
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("socket")
    }

    fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    fn mark(&self) -> String {
        self.path().display().to_string()
    }

    pub(crate) fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("a daemon");
        child.id().cast_signed()
    }

    /// SIGKILL. Its processes run on.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("a daemon");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    /// SIGTERM, and how long it took until it was gone; clients are to be gone
    /// before, for their connections are waited for.
    pub(crate) fn terminate(&mut self) -> Option<Duration> {
        let mut child = self.child.take()?;
        let since = Instant::now();
        let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        while since.elapsed() < PATIENCE {
            if let Ok(Some(_)) = child.try_wait() {
                return Some(since.elapsed());
            }
            thread::sleep(LOOK);
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// What still runs of all that was started here.
    pub(crate) fn left(&self) -> Vec<i32> {
        proc::marked(&self.mark())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            eprintln!("the daemon's log:\n{log}");
        }
        self.terminate();
        // A shim ends with its process. More than once: one may be being started.
        for _ in 0..10 {
            let left = self.left();
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where the directories of daemons can be, by name: the temporary directory, and a
/// file system in memory where there is one. On ext4 the making of a file is slow
/// for minutes after others were deleted, which a bench cannot but do.
pub(crate) fn places() -> Vec<(&'static str, PathBuf)> {
    let memory = Path::new("/dev/shm");
    let mut places = vec![("disk", std::env::temp_dir())];
    if memory.is_dir() {
        places.push(("memory", memory.to_owned()));
    }
    places
}

/// Looks until it is so.
pub(crate) fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(LOOK);
    }
}
