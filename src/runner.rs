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
mod spawner;

use std::{
    ffi::{OsStr, OsString},
    fmt, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use crate::shim::rundir::read_boot_id;
pub use crate::shim::{
    definition::{Identity, Rlimit, Stdin},
    output::Policy as LogPolicy,
};
use crate::{
    domain::{
        id::{ProcessName, Uid},
        run::{RunEvent, SignalScope, StopPlan},
    },
    shim::{
        cgroup::Cgroup,
        codec::crc32,
        definition::Definition,
        rundir::{self, RunDir},
    },
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

/// Carries out runs by shims.
#[derive(Debug, Clone)]
pub struct ShimRunner {
    spawner: &'static spawner::Spawner,
    program: Arc<Program>,
    dirs: Arc<Dirs>,
    /// Names the cgroup that all runs are under.
    group: Arc<str>,
    use_cgroup: bool,
    shim_env: Vec<(OsString, OsString)>,
    /// What runs get unless they ask for others.
    rlimits: Vec<Rlimit>,
}

/// What a shim is executed from.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    args: &'static [&'static str],
}

/// The client's end of one run.
#[derive(Debug)]
struct ShimRun {
    requests: mpsc::Sender<client::Request>,
    stop: watch::Sender<Option<StopPlan>>,
    log_policy: watch::Sender<Option<LogPolicy>>,
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

// === impl ShimRunner ===

impl ShimRunner {
    /// The runner of a daemon: `procession-shim` beside the current executable,
    /// else the current executable with the first argument `shim`.
    ///
    /// Makes this process a child subreaper that reaps whatever ends below it:
    /// it must have no children of its own making. Raises its limit of open
    /// descriptors as far as it may; runs get the one that it had. Makes the
    /// directories if they are missing, and removes empty cgroups of earlier runs.
    ///
    /// # Errors
    /// [`RunnerError`] if a thread, a pipe, a handler or a directory is not to be
    /// had.
    pub fn new(dirs: Dirs) -> Result<Self, RunnerError> {
        let mut runner = Self::from_program(Program::installed(), dirs)?;
        runner.spawner.claim_all();
        runner.rlimits.extend(descriptors::raise_limit());
        Ok(runner)
    }

    /// A runner for programs that have children of their own: executes the shim
    /// at `path` without arguments, and reaps only shims and what left this
    /// process's session.
    ///
    /// # Errors
    /// As [`ShimRunner::new`].
    pub fn with_program(path: &Path, dirs: Dirs) -> Result<Self, RunnerError> {
        let program = Program {
            path: path.to_owned(),
            args: &[],
        };
        Self::from_program(program, dirs)
    }

    /// Runs as on a machine without cgroup v2.
    #[must_use]
    pub fn without_cgroups(mut self) -> Self {
        self.use_cgroup = false;
        self
    }

    /// Sets a variable for the shim itself (not for the program it runs), for
    /// the failpoints of its debug build.
    #[must_use]
    pub fn with_shim_env(mut self, name: &OsStr, value: &OsStr) -> Self {
        self.shim_env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn from_program(program: Program, dirs: Dirs) -> Result<Self, RunnerError> {
        let dirs = Dirs {
            runs: made(&dirs.runs)?,
            logs: made(&dirs.logs)?,
        };
        let group = group_of(&dirs.runs);
        Cgroup::sweep(&group, |label| dirs.runs.join(label).exists());
        Ok(Self {
            spawner: spawner::Spawner::of_this_process()?,
            program: Arc::new(program),
            dirs: Arc::new(dirs),
            group: group.into(),
            use_cgroup: true,
            shim_env: Vec::new(),
            rlimits: Vec::new(),
        })
    }
}

impl ShimRunner {
    fn directory(&self, uid: Uid, run_id: i64) -> PathBuf {
        self.dirs.runs.join(rundir::label(uid, run_id))
    }

    fn drive(
        &self,
        uid: Uid,
        run_id: i64,
        name: ProcessName,
        origin: client::Origin,
        events: mpsc::Sender<RunEvent>,
    ) -> Box<dyn Run> {
        let (requests, waiting_requests) = mpsc::channel(REQUESTS_MAX);
        let (stop, stops) = watch::channel(None);
        let known = match &origin {
            client::Origin::Launch(_) => None, // it is in the definition
            client::Origin::Adopt(_, policy) => *policy,
        };
        let (log_policy, log_policies) = watch::channel(known);
        let wishes = client::Wishes {
            stops,
            log_policies,
        };
        let means = client::Means {
            spawner: self.spawner,
            program: Arc::clone(&self.program),
            shim_env: self.shim_env.clone(),
            name,
            path: self.directory(uid, run_id),
        };
        tokio::spawn(client::drive(
            means,
            origin,
            waiting_requests,
            wishes,
            events,
        ));
        Box::new(ShimRun {
            requests,
            stop,
            log_policy,
        })
    }
}

impl Runner for ShimRunner {
    fn launch(&self, launch: Launch, events: mpsc::Sender<RunEvent>) -> Box<dyn Run> {
        let Launch {
            uid, run_id, name, ..
        } = launch;
        let definition = Definition {
            label: rundir::label(uid, run_id),
            run_id,
            name: name.as_str().to_owned(),
            group: self.group.as_ref().to_owned(),
            use_cgroup: self.use_cgroup,
            argv: launch.argv,
            env: launch.env,
            env_files: launch.env_files,
            env_overrides: launch.env_overrides,
            working_directory: launch.working_directory,
            identity: launch.identity,
            umask: launch.umask,
            nice: launch.nice,
            oom_score_adj: launch.oom_score_adj,
            // In order, so that what is asked for comes last.
            rlimits: self.rlimits.iter().cloned().chain(launch.rlimits).collect(),
            stdin: launch.stdin,
            log_dir: self.dirs.logs.join(uid.to_string()),
            log_policy: launch.log_policy,
            merge_stderr: launch.merge_stderr,
            stop: launch.stop,
        };
        let origin = client::Origin::Launch(Box::new(definition));
        self.drive(uid, run_id, name, origin, events)
    }

    fn adopt(&self, adopt: Adopt, events: mpsc::Sender<RunEvent>) -> Box<dyn Run> {
        let origin = client::Origin::Adopt(adopt.stop, adopt.log_policy);
        self.drive(adopt.uid, adopt.run_id, adopt.name, origin, events)
    }

    fn found(&self) -> Vec<(Uid, i64)> {
        let entries = match fs::read_dir(&self.dirs.runs) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%error, "the runs of earlier daemons cannot be listed");
                return Vec::new();
            }
        };
        entries
            .flatten()
            .filter_map(|entry| rundir::parse_label(entry.file_name().to_str()?))
            .collect()
    }

    fn forget(&self, uid: Uid, run_id: i64) {
        let path = self.directory(uid, run_id);
        let group = Arc::clone(&self.group);
        tokio::task::spawn_blocking(move || {
            Cgroup::discard(&group, &rundir::label(uid, run_id));
            remove(&path);
        });
    }
}

/// Removes the directory of a run, if it is there.
fn remove(path: &Path) {
    if let Ok(dir) = RunDir::open(path)
        && let Err(error) = dir.remove(path)
    {
        tracing::warn!(path = %path.display(), %error, "the directory of a run stays");
    }
}

/// An absolute path to a directory that is ours alone, made if it is missing.
fn made(path: &Path) -> Result<PathBuf, RunnerError> {
    let failed = |error| RunnerError::Directory {
        path: path.to_owned(),
        error,
    };
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    path.canonicalize().map_err(failed)
}

/// The same for each daemon on this state directory, and for no other.
fn group_of(runs: &Path) -> String {
    let bytes = runs.as_os_str().as_encoded_bytes();
    let (first, second) = (crc32(&[bytes]), crc32(&[b"procession", bytes]));
    format!("procession-{first:08x}{second:08x}")
}

/// Whether runs get a cgroup of their own here, which the scope CGROUP needs.
#[must_use]
pub fn cgroups_available() -> bool {
    let group = format!("procession-probe-{}", std::process::id());
    let probe = Cgroup::create(&group, "probe");
    probe.is_some_and(|cgroup| {
        cgroup.remove();
        true
    })
}

// === impl Program ===

impl Program {
    fn installed() -> Self {
        let beside = std::env::current_exe()
            .ok()
            .map(|exe| exe.with_file_name("procession-shim"));
        match beside {
            Some(path) if path.is_file() => Self { path, args: &[] },
            _ => Self {
                path: PathBuf::from("/proc/self/exe"),
                args: &["shim"],
            },
        }
    }
}

// === impl ShimRun ===

impl ShimRun {
    fn request(&self, ask: client::Ask) -> Answer {
        let (answer, receiver) = oneshot::channel();
        self.send(client::Request::Act { ask, answer });
        receiver
    }

    fn send(&self, request: client::Request) {
        if let Err(refused) = self.requests.try_send(request) {
            let (error, request) = match refused {
                mpsc::error::TrySendError::Full(request) => (SignalError::Busy, request),
                mpsc::error::TrySendError::Closed(request) => (SignalError::Gone, request),
            };
            request.refuse(error);
        }
    }
}

impl Run for ShimRun {
    fn stop(&self, plan: StopPlan) {
        self.stop.send_replace(Some(plan));
    }

    fn keep_output(&self, policy: LogPolicy) {
        self.log_policy.send_replace(Some(policy));
    }

    fn signal(&self, number: i32, scope: SignalScope) -> Answer {
        self.request(client::Ask::Signal { number, scope })
    }

    fn freeze(&self) -> Answer {
        self.request(client::Ask::Freeze)
    }

    fn thaw(&self) -> Answer {
        self.request(client::Ask::Thaw)
    }

    fn resize(&self, rows: u16, columns: u16) -> Answer {
        self.request(client::Ask::Resize { rows, columns })
    }

    fn write(&self, write: Write) -> WriteAnswer {
        let (answer, receiver) = oneshot::channel();
        self.send(client::Request::Write { write, answer });
        receiver
    }
}
