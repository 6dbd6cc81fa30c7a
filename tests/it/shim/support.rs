//! What the tests of runs share: a runner, a run with its events at hand, and
//! ways to look at processes from outside.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use procession::{
    domain::{
        id::{ProcessName, Uid},
        run::{Exit, Outcome, RunEvent, SignalScope, StopPlan},
    },
    runner::{Launch, Run, Runner, ShimRunner, Stdin},
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
    mark: String,
    output: File,
}

pub(crate) fn runner() -> ShimRunner {
    ShimRunner::with_program(Path::new(env!("CARGO_BIN_EXE_procession-shim"))).unwrap()
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

/// A launch of `argv`, and the read end of its output.
pub(crate) fn launch(argv: &[&str]) -> (Launch, File) {
    let (output, input) = std::io::pipe().unwrap();
    let stderr = input.try_clone().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let uid = Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes());
    let launch = Launch {
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
        stdout: input.into(),
        stderr: stderr.into(),
        stop: plan(SignalScope::Tree, Duration::from_millis(200)),
    };
    (launch, File::from(OwnedFd::from(output)))
}

pub(crate) fn begin(runner: &dyn Runner, (launch, output): (Launch, File)) -> Running {
    let (sender, events) = mpsc::channel(16);
    let mark = format!("{MARK}={}", launch.uid);
    Running {
        run: runner.launch(launch, sender),
        events,
        seen: Vec::new(),
        pid: 0,
        cgroup: None,
        mark,
        output,
    }
}

/// Begins `sh -c script`.
pub(crate) fn shell(runner: &dyn Runner, script: &str) -> Running {
    begin(runner, launch(&["sh", "-c", script]))
}

impl Running {
    /// The next event; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<RunEvent> {
        let event = timeout(PATIENCE, self.events.recv())
            .await
            .unwrap_or_else(|_| panic!("no event after {:?}", self.seen))?;
        if let RunEvent::Spawned { pid, cgroup_path } = &event {
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
        let at = |wanted: fn(&RunEvent) -> bool| self.seen.iter().position(wanted);
        let spawned = at(|event| matches!(event, RunEvent::Spawned { .. }));
        let started = at(|event| *event == RunEvent::Started);
        let exited = at(|event| matches!(event, RunEvent::Exited(_)));
        assert_eq!(exits.len(), 1, "{:?}", self.seen);
        assert!(spawned.is_none_or(|at| at == 0), "{:?}", self.seen);
        assert!(started.is_none_or(|at| at == 1), "{:?}", self.seen);
        assert!(started < exited, "{:?}", self.seen);
        assert_eq!(
            at(|event| *event == RunEvent::Empty),
            Some(self.seen.len() - 1),
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

    /// All it wrote, once nobody can write any more.
    pub(crate) fn output(&mut self) -> String {
        let mut text = Vec::new();
        self.output.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The next line it writes.
    pub(crate) async fn line(&mut self) -> String {
        let mut output = self.output.try_clone().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = Vec::new();
            let mut byte = [0];
            while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
                line.push(byte[0]);
            }
            String::from_utf8_lossy(&line).into_owned()
        });
        timeout(PATIENCE, reading).await.unwrap().unwrap()
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

    /// The shim that owns it.
    pub(crate) fn shim(&self) -> i32 {
        parent(self.pid).unwrap()
    }
}

/// Runs a script to its end, and gives its outcome and output.
pub(crate) async fn outcome(launch: (Launch, File)) -> (Outcome, String) {
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
