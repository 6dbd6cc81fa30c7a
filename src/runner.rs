//! L2: how a run is carried out. A shim process per run owns the child; this is
//! the daemon's side of it.
//!
//! Invariants: nothing here blocks its caller; each run tells `Exited` once and
//! `Empty` once and last, whatever happens to its shim; the daemon needs one
//! descriptor per run and does nothing while nothing happens. Deliberately
//! absent: policy (when to start, restart, stop), log bytes, adoption.

mod client;
mod connection;
mod descriptors;
pub mod fake;
mod recovery;
mod spawner;

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot, watch};

pub use crate::shim::definition::{Identity, Rlimit, Stdin};
use crate::{
    domain::{
        id::{ProcessName, Uid},
        run::{RunEvent, SignalScope, StopPlan},
    },
    shim::{cgroup::Cgroup, definition::Definition},
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
    /// does not either. If the daemon goes away, the run is stopped by
    /// `launch.stop`.
    fn launch(&self, launch: Launch, events: mpsc::Sender<RunEvent>) -> Box<dyn Run>;
}

/// A run that was begun. After its `Empty` every request is [`SignalError::Gone`].
pub trait Run: Send + Sync {
    /// Brings it to an end. A later stop replaces the plan under way, for
    /// instance with a shorter grace; SIGKILL once begun is not taken back.
    fn stop(&self, plan: StopPlan);

    /// Sends signal `number` to `scope`.
    fn signal(&self, number: i32, scope: SignalScope) -> Answer;

    /// Keeps all of it from running until [`Run::thaw`] or a stop.
    fn freeze(&self) -> Answer;

    /// Undoes [`Run::freeze`].
    fn thaw(&self) -> Answer;
}

/// The answer to a request; if its sender is gone, so is the run.
pub type Answer = oneshot::Receiver<Result<(), SignalError>>;

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
    /// Standard output; only passed on.
    pub stdout: OwnedFd,
    /// Standard error; only passed on.
    pub stderr: OwnedFd,
    /// For what is left when the main process ends by itself, and for when the
    /// daemon goes away.
    pub stop: StopPlan,
}

/// Why no run can be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The thread that starts and reaps could not be set up.
    #[error("cannot set up the thread that starts processes: {0}")]
    Spawner(String),
}

/// Carries out runs by shims.
#[derive(Debug, Clone)]
pub struct ShimRunner {
    spawner: &'static spawner::Spawner,
    program: Arc<Program>,
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
    /// descriptors as far as it may; runs get the one that it had.
    ///
    /// # Errors
    /// [`RunnerError`] if a thread, a pipe or a handler is not to be had.
    pub fn new() -> Result<Self, RunnerError> {
        let mut runner = Self::from_program(Program::installed())?;
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
    pub fn with_program(path: &Path) -> Result<Self, RunnerError> {
        Self::from_program(Program {
            path: path.to_owned(),
            args: &[],
        })
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

    fn from_program(program: Program) -> Result<Self, RunnerError> {
        Ok(Self {
            spawner: spawner::Spawner::of_this_process()?,
            program: Arc::new(program),
            use_cgroup: true,
            shim_env: Vec::new(),
            rlimits: Vec::new(),
        })
    }
}

impl Runner for ShimRunner {
    fn launch(&self, launch: Launch, events: mpsc::Sender<RunEvent>) -> Box<dyn Run> {
        let (requests, waiting_requests) = mpsc::channel(REQUESTS_MAX);
        let (stop, stops) = watch::channel(None);
        let Launch {
            stdout,
            stderr,
            uid,
            run_id,
            name,
            ..
        } = launch;
        let definition = Definition {
            label: format!("{uid}.{run_id}"),
            daemon_pid: std::process::id().cast_signed(),
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
            stop: launch.stop,
        };
        let start = client::Start {
            spawner: self.spawner,
            program: Arc::clone(&self.program),
            shim_env: self.shim_env.clone(),
            name,
            definition,
            stdout,
            stderr,
        };
        tokio::spawn(client::drive(start, waiting_requests, stops, events));
        Box::new(ShimRun { requests, stop })
    }
}

/// Whether runs get a cgroup of their own here, which the scope CGROUP needs.
#[must_use]
pub fn cgroups_available() -> bool {
    let probe = Cgroup::create(std::process::id().cast_signed(), "probe");
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
        if let Err(refused) = self.requests.try_send(client::Request { ask, answer }) {
            let (error, request) = match refused {
                mpsc::error::TrySendError::Full(request) => (SignalError::Busy, request),
                mpsc::error::TrySendError::Closed(request) => (SignalError::Gone, request),
            };
            // The receiver is held here, so this cannot fail.
            let _ = request.answer.send(Err(error));
        }
        receiver
    }
}

impl Run for ShimRun {
    fn stop(&self, plan: StopPlan) {
        self.stop.send_replace(Some(plan));
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
}
