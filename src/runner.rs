//! L2: how a run is carried out. A shim process per run owns the child; this is
//! the daemon's side of it.
//!
//! Invariants: nothing here blocks its caller; each run tells `Exited` once and
//! `Empty` once and last, whatever happens to its shim; a run outlives its daemon
//! and its shim, and is found again by its directory; the daemon needs three
//! descriptors per run and does nothing while nothing happens. Deliberately
//! absent: policy (when to start, restart, stop), log bytes.

mod client;
mod connection;
mod descriptors;
pub mod fake;
mod look;
mod recovery;
mod shim_runner;
mod spawner;

use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
};

use tokio::sync::{mpsc, oneshot};

use self::shim_runner::{Program, remove};
pub use self::shim_runner::{ShimRunner, cgroups_available};

use crate::domain::{
    id::{ProcessName, Uid},
    run::{RunEvent, SignalScope, StopPlan},
};
pub(crate) use crate::shim::rundir::read_boot_id;
pub use crate::shim::{
    definition::{Identity, Rlimit, Stdin},
    output::Policy as LogPolicy,
};

/// Requests of one run that may wait for their answer.
pub const REQUESTS_MAX: usize = 32;

/// Something that can carry out runs.
pub trait Runner: Send + Sync {
    /// Begins a run; never blocks and never fails: what goes wrong is told as an
    /// event. Events come on `events` (capacity 16 or more is enough to never
    /// hold the run up), `Empty` last. Must be called within a tokio runtime.
    ///
    /// Dropping the run does not end it; dropping the receiver of its events
    /// does not either, and if the daemon goes away it goes on, for the next daemon
    /// to [`Runner::adopt`] it.
    fn launch(&self, launch: Launch, events: mpsc::Sender<RunEvent>) -> Box<dyn Run>;

    /// Takes over a run that an earlier daemon began. Tells `Adopted` and then what
    /// [`Runner::launch`] tells; or at once `Exited` and `Empty`, if it ended
    /// meanwhile; or only `NotBegun`. Nothing is told while its shim does not
    /// answer. Like `launch` it never blocks, and is called within a tokio runtime.
    fn adopt(&self, adopt: Adopt, events: mpsc::Sender<RunEvent>) -> Box<dyn Run>;

    /// The runs of which there are directories: uid and run. Reads a directory.
    fn found(&self) -> Vec<(Uid, i64)>;

    /// The end of this run is durable, so its directory can go. Must be called
    /// within a tokio runtime; does nothing if it is gone.
    fn forget(&self, uid: Uid, run_id: i64);
}

/// A run that was begun. After its `Empty` every request is [`SignalError::Gone`].
pub trait Run: Send + Sync {
    /// Brings it to an end. A later stop replaces the plan under way, for
    /// instance with a shorter grace; SIGKILL once begun is not taken back.
    fn stop(&self, plan: StopPlan);

    /// Keeps its output like this from now on, whichever shim it has.
    fn keep_output(&self, policy: LogPolicy);

    /// Sends signal `number` to `scope`.
    fn signal(&self, number: i32, scope: SignalScope) -> Answer;

    /// Keeps all of it from running until [`Run::thaw`] or a stop.
    fn freeze(&self) -> Answer;

    /// Undoes [`Run::freeze`].
    fn thaw(&self) -> Answer;

    /// Tells the size of its terminal. `ENOTTY` without one.
    fn resize(&self, rows: u16, columns: u16) -> Answer;

    /// Writes to standard input what it takes now.
    fn write(&self, write: Write) -> WriteAnswer;
}

/// The answer to a request; if its sender is gone, so is the run.
pub type Answer = oneshot::Receiver<Result<(), SignalError>>;

/// The answer to [`Run::write`]; if its sender is gone, so is the run.
pub type WriteAnswer = oneshot::Receiver<Result<Written, SignalError>>;

/// Bytes of one [`Write`].
pub const WRITE_BYTES_MAX: usize = crate::shim::protocol::WRITE_BYTES_MAX;

/// Something to write to standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Bytes written before; else nothing is written. `None`: whatever was.
    pub offset: Option<u64>,
    /// At most [`WRITE_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// Whether it is closed, if all of them were written.
    pub close: bool,
}

/// What became of a [`Write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes written to this run in all, by whomever.
    pub total: u64,
    /// Why not all was written.
    pub stopped: Option<Stopped>,
}

/// Why a [`Write`] was not done, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// There is no room now; a part of it may have been written.
    NoRoom,
    /// The offset is not the total; nothing was written.
    Offset,
    /// Standard input is not open.
    NotOpen,
    /// The kernel refused, with this errno; `EPIPE`: the run has closed it.
    Refused(i32),
}

/// Why a signal was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// The main process is gone (`ESRCH`), or the whole run.
    #[error("the process of this run is gone")]
    Gone,
    /// There is no cgroup to signal; use scope TREE.
    #[error("the run has no cgroup; use another scope")]
    NoCgroup,
    /// More than [`REQUESTS_MAX`] requests wait.
    #[error("more than {REQUESTS_MAX} requests wait for an answer; try again")]
    Busy,
    /// The kernel refused, with this errno.
    #[error("the kernel refused it: {}", nix::errno::Errno::from_raw(*.0).desc())]
    Refused(i32),
}

/// All that is needed to carry out one run. Its debug form shows neither
/// arguments nor environment: they may hold secrets.
pub struct Launch {
    /// The process, for names on the machine.
    pub uid: Uid,
    /// The run, for names on the machine.
    pub run_id: i64,
    /// The process, for people.
    pub name: ProcessName,
    /// The program (looked up in the `PATH` of the run) and its arguments.
    pub argv: Vec<OsString>,
    /// Complete but for the two below; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Files of `KEY=VALUE` lines, read at the start; later ones win.
    pub env_files: Vec<PathBuf>,
    /// Win over `env_files`.
    pub env_overrides: Vec<(OsString, OsString)>,
    /// Default: the daemon's.
    pub working_directory: Option<PathBuf>,
    /// Default: the daemon's.
    pub identity: Option<Identity>,
    /// Default: the daemon's.
    pub umask: Option<u32>,
    /// -20 to 19. Default: the daemon's.
    pub nice: Option<i32>,
    /// -1000 to 1000. Default: the daemon's.
    pub oom_score_adj: Option<i32>,
    /// The others stay as the daemon was given them.
    pub rlimits: Vec<Rlimit>,
    /// Standard input.
    pub stdin: Stdin,
    /// How its output is kept.
    pub log_policy: LogPolicy,
    /// Whether standard error goes where standard output goes.
    pub merge_stderr: bool,
    /// For what is left when the main process ends by itself.
    pub stop: StopPlan,
}

/// A run to take over.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// The process.
    pub uid: Uid,
    /// The run.
    pub run_id: i64,
    /// The process, for people.
    pub name: ProcessName,
    /// For what is left, where no record tells.
    pub stop: StopPlan,
    /// How its output is kept from now on. Default: as before.
    pub log_policy: Option<LogPolicy>,
}

/// Where runs leave what outlives the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// A directory per run.
    pub runs: PathBuf,
    /// A directory of captured output per process.
    pub logs: PathBuf,
}

/// Why no run can be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The thread that starts and reaps could not be set up.
    #[error("cannot set up the thread that starts processes: {0}")]
    Spawner(String),
    /// A directory cannot be made.
    #[error("cannot make the directory {}: {error}", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

// === impl Dirs ===

impl Dirs {
    /// Where they are in the state directory of a daemon.
    #[must_use]
    pub fn below(state: &Path) -> Self {
        Self {
            runs: state.join("runs"),
            logs: state.join("logs"),
        }
    }
}

// === impl Stopped ===

impl Stopped {
    /// As a shim tells it; `None`: it was done.
    fn from_errno(errno: i32) -> Option<Self> {
        Some(match errno {
            0 => return None,
            libc::EAGAIN => Self::NoRoom,
            libc::ERANGE => Self::Offset,
            libc::EBADF => Self::NotOpen,
            errno => Self::Refused(errno),
        })
    }
}

// === impl Launch ===

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("uid", &self.uid)
            .field("run_id", &self.run_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
