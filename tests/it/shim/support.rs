//! What the tests of runs share: a runner, a run with its events at hand, and
//! ways to look at processes from outside.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use procession::{
    domain::{
        id::{ProcessName, Uid},
        run::{Exit, Outcome, RunEvent, SignalScope, StopPlan},
    },
    runner::{Adopt, Dirs, Launch, LogPolicy, Run, Runner, ShimRunner, Stdin},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// Nothing here takes so long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// In the environment of every process of a run, wherever it goes.
const MARK: &str = "TEST_RUN";

/// A run under test.
pub(crate) struct Running {
    pub(crate) run: Box<dyn Run>,
    events: mpsc::Receiver<RunEvent>,
    pub(crate) seen: Vec<RunEvent>,
    pub(crate) pid: i32,
    pub(crate) cgroup: Option<String>,
    pub(crate) uid: Uid,
    mark: String,
    dirs: Dirs,
    /// Bytes of its output that were looked at line by line.
    read: usize,
}

/// Directories of this process, for tests that do not care.
pub(crate) fn dirs() -> Dirs {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Nothing is dropped at the end of a process, so the next one cleans up.
        for entry in std::fs::read_dir(all).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let of = name.strip_prefix("runs-").and_then(|pid| pid.parse().ok());
            if of.is_some_and(|pid: i32| stat(pid).is_none()) {
                let _ = std::fs::remove_dir_all(entry.path()); // another one does too
            }
        }
        let root = all.join(format!("runs-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        root
    });
    dirs_in(root)
}

pub(crate) fn dirs_in(root: &Path) -> Dirs {
    let root = root.canonicalize().unwrap();
    Dirs {
        runs: root.join("runs"),
        logs: root.join("logs"),
    }
}

pub(crate) fn runner() -> ShimRunner {
    static RUNNER: OnceLock<ShimRunner> = OnceLock::new();
    RUNNER.get_or_init(|| runner_in(&dirs())).clone()
}

pub(crate) fn runner_in(dirs: &Dirs) -> ShimRunner {
    let shim = Path::new(env!("CARGO_BIN_EXE_procession-shim"));
    ShimRunner::with_program(shim, dirs.clone()).unwrap()
}

pub(crate) fn plan(scope: SignalScope, grace: Duration) -> StopPlan {
    StopPlan {
        signal: libc::SIGTERM,
        scope,
        grace,
        kill_timeout: Duration::from_secs(5),
    }
}

pub(crate) fn os(texts: &[&str]) -> Vec<OsString> {
    texts.iter().map(OsString::from).collect()
}

/// A launch of `argv` whose two streams are one.
pub(crate) fn launch(argv: &[&str]) -> Launch {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let uid = Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes());
    Launch {
        uid,
        run_id: 1,
        name: ProcessName::new("test").unwrap(),
        argv: os(argv),
        env: vec![("PATH".into(), path), (MARK.into(), uid.to_string().into())],
        env_files: Vec::new(),
        env_overrides: Vec::new(),
        working_directory: None,
        identity: None,
        umask: None,
        nice: None,
        oom_score_adj: None,
        rlimits: Vec::new(),
        stdin: Stdin::Null,
        log_policy: LogPolicy {
            max_bytes: 1 << 30,
            segment_bytes: 0,
            max_segments: 0,
            max_age: Duration::ZERO,
            drop_when_full: false,
        },
        merge_stderr: true,
        stop: plan(SignalScope::Tree, Duration::from_millis(200)),
    }
}

pub(crate) fn begin(runner: &dyn Runner, launch: Launch) -> Running {
    begin_in(&dirs(), runner, launch)
}

pub(crate) fn begin_in(dirs: &Dirs, runner: &dyn Runner, launch: Launch) -> Running {
    let (sender, events) = mpsc::channel(16);
    let uid = launch.uid;
    Running::new(dirs, uid, runner.launch(launch, sender), events)
}

/// Takes over run 1 of `uid`, as a daemon that has just started.
pub(crate) fn adopt(
    dirs: &Dirs,
    runner: &dyn Runner,
    uid: Uid,
    log_policy: Option<LogPolicy>,
) -> Running {
    let (sender, events) = mpsc::channel(16);
    let adopt = Adopt {
        uid,
        run_id: 1,
        name: ProcessName::new("test").unwrap(),
        stop: plan(SignalScope::Tree, Duration::from_millis(200)),
        log_policy,
    };
    Running::new(dirs, uid, runner.adopt(adopt, sender), events)
}

/// Begins `sh -c script`.
pub(crate) fn shell(runner: &dyn Runner, script: &str) -> Running {
    begin(runner, launch(&["sh", "-c", script]))
}

impl Running {
    fn new(dirs: &Dirs, uid: Uid, run: Box<dyn Run>, events: mpsc::Receiver<RunEvent>) -> Self {
        Self {
            run,
            events,
            seen: Vec::new(),
            pid: 0,
            cgroup: None,
            uid,
            mark: format!("{MARK}={uid}"),
            dirs: dirs.clone(),
            read: 0,
        }
    }

    /// The next event; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<RunEvent> {
        let event = timeout(PATIENCE, self.events.recv())
            .await
            .unwrap_or_else(|_| panic!("no event after {:?}", self.seen))?;
        if let RunEvent::Spawned { pid, cgroup_path }
        | RunEvent::Adopted {
            pid, cgroup_path, ..
        } = &event
        {
            self.pid = *pid;
            self.cgroup = cgroup_path.as_deref().map(str::to_owned);
        }
        self.seen.push(event.clone());
        Some(event)
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&RunEvent) -> bool) -> RunEvent {
        loop {
            let Some(event) = self.next().await else {
                panic!("it ended without: {:?}", self.seen);
            };
            if wanted(&event) {
                return event;
            }
        }
    }

    pub(crate) async fn started(&mut self) {
        self.until(|event| *event == RunEvent::Started).await;
    }

    pub(crate) async fn exited(&mut self) -> Exit {
        match self
            .until(|event| matches!(event, RunEvent::Exited(_)))
            .await
        {
            RunEvent::Exited(exit) => exit,
            _ => unreachable!(),
        }
    }

    /// Runs it to its last event, and checks the order of all of them.
    pub(crate) async fn finish(&mut self) -> Outcome {
        while self.next().await.is_some() {}
        let exits: Vec<_> = self
            .seen
            .iter()
            .filter_map(|event| match event {
                RunEvent::Exited(exit) => Some(exit.outcome.clone()),
                _ => None,
            })
            .collect();
        // What is told of its output may come anywhere.
        let steps = || {
            self.seen
                .iter()
                .filter(|e| !matches!(e, RunEvent::Output(_)))
        };
        let at = |wanted: fn(&RunEvent) -> bool| steps().position(wanted);
        let spawned = at(|event| matches!(event, RunEvent::Spawned { .. }));
        let started = at(|event| *event == RunEvent::Started);
        let exited = at(|event| matches!(event, RunEvent::Exited(_)));
        assert_eq!(exits.len(), 1, "{:?}", self.seen);
        assert!(spawned.is_none_or(|at| at == 0), "{:?}", self.seen);
        assert!(
            started.is_none_or(|at| at == 1 || spawned.is_none()),
            "{:?}",
            self.seen
        );
        assert!(started < exited, "{:?}", self.seen);
        assert_eq!(
            at(|event| *event == RunEvent::Empty),
            Some(steps().count() - 1),
            "{:?}",
            self.seen
        );
        assert_eq!(
            self.processes(),
            Vec::<i32>::new(),
            "left behind by {:?}",
            self.seen
        );
        exits.into_iter().next().unwrap()
    }

    /// All that is kept of what it wrote to standard output.
    pub(crate) fn output(&self) -> String {
        self.kept("out")
    }

    /// ... and to standard error.
    pub(crate) fn errors(&self) -> String {
        self.kept("err")
    }

    fn kept(&self, stream: &str) -> String {
        let dir = self.dirs.logs.join(self.uid.to_string());
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|ext| ext == stream));
        files.sort();
        let bytes: Vec<u8> = files
            .iter()
            .flat_map(|path| std::fs::read(path).unwrap())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next line it writes.
    pub(crate) async fn line(&mut self) -> String {
        let since = Instant::now();
        loop {
            let output = self.output();
            if let Some((line, _)) = output[self.read..].split_once('\n') {
                self.read += line.len() + 1;
                return line.to_owned();
            }
            assert!(since.elapsed() < PATIENCE, "no line after {output:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Its run directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.dirs.runs.join(format!("{}.1", self.uid))
    }

    /// Waits until it has started and said so `times` times.
    pub(crate) async fn ready(&mut self, times: usize) {
        self.started().await;
        for _ in 0..times {
            assert_eq!(self.line().await, "ready");
        }
    }

    /// Its live processes, found from outside.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let marked = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.split(|b| *b == 0).any(|v| v == self.mark.as_bytes()))
        };
        let of_main = |pid: &i32| {
            self.pid != 0
                && stat(*pid).is_some_and(|(state, [_, _, of])| of == self.pid && state != "Z")
        };
        pids().filter(|pid| of_main(pid) || marked(pid)).collect()
    }

    /// The shim that owns it now, whoever its parent is.
    pub(crate) fn owner(&self) -> Option<i32> {
        let directory = self.directory();
        let holds = |pid: &i32| {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
            let mut fds = fds.into_iter().flatten().flatten();
            fds.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == directory))
        };
        let shim = |pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_procession-shim")))
        };
        // Its child is a copy of it until it executes.
        let mut owners = pids().filter(|pid| shim(pid) && *pid != self.pid && holds(pid));
        owners.next()
    }

    /// The shim that began it.
    pub(crate) fn shim(&self) -> i32 {
        parent(self.pid).unwrap()
    }
}

/// Runs a script to its end, and gives its outcome and output.
pub(crate) async fn outcome(launch: Launch) -> (Outcome, String) {
    let mut running = begin(&runner(), launch);
    let outcome = running.finish().await;
    (outcome, running.output())
}

/// Waits for `condition`, which nobody announces.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// State, parent, group and session of a process.
fn stat(pid: i32) -> Option<(String, [i32; 3])> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields[at].parse().unwrap();
    Some((fields[0].to_owned(), [number(1), number(2), number(3)]))
}

pub(crate) fn state(pid: i32) -> Option<String> {
    stat(pid).map(|(state, _)| state)
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    stat(pid).map(|(_, [parent, ..])| parent)
}

pub(crate) fn group_and_session(pid: i32) -> Option<(i32, i32)> {
    stat(pid).map(|(_, [_, group, session])| (group, session))
}

pub(crate) fn alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != "Z" && state != "X")
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

pub(crate) fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    assert!(pid > 1, "not the pid of a process of ours: {pid}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Where the cgroup with this path is.
pub(crate) fn cgroup_dir(path: &str) -> std::path::PathBuf {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
        .and_then(|line| line.split(' ').nth(1))
        .unwrap();
    std::path::PathBuf::from(format!("{mount}{path}"))
}
