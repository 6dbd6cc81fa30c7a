//! Carrying out runs by shims: which program, which directories, which cgroup.
//!
//! Deliberately absent: what is said to a shim (`client`), how one is started
//! (`spawner`).

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Adopt, Answer, Dirs, Launch, LogPolicy, REQUESTS_MAX, Rlimit, Run, Runner, RunnerError,
    SignalError, Write, WriteAnswer, client, descriptors, spawner,
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
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: &'static [&'static str],
}

/// The client's end of one run.
#[derive(Debug)]
struct ShimRun {
    requests: mpsc::Sender<client::Request>,
    stop: watch::Sender<Option<StopPlan>>,
    log_policy: watch::Sender<Option<LogPolicy>>,
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
pub(super) fn remove(path: &Path) {
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
