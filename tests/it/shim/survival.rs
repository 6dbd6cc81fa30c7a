//! What outlives a shim or its daemon that is killed: the run; and many at once.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use procession::{
    domain::run::{Outcome, RunEvent, SignalScope, UnknownReason},
    runner::ShimRunner,
};

use super::support::*;

const FAMILY: &str = "trap '' TERM; setsid sh -c 'echo ready; sleep 1000' & echo ready; \
    while :; do sleep 1000; done";

async fn family(runner: &ShimRunner) -> Running {
    let mut running = shell(runner, FAMILY);
    running.ready(2).await;
    running
}

/// The shim is killed, and there is another one.
async fn replace_shim(running: &Running) -> i32 {
    let before = running.owner().unwrap();
    kill(before, Signal::SIGKILL);
    let mut now = None;
    eventually("it has another shim", || {
        now = running.owner().filter(|pid| *pid != before);
        now.is_some()
    })
    .await;
    eventually("the first one is reaped", || state(before).is_none()).await;
    now.unwrap()
}

#[tokio::test]
async fn a_killed_shim_is_replaced_and_nobody_notices() {
    for runner in [runner(), runner().without_cgroups()] {
        let mut running = family(&runner).await;
        let (processes, seen) = (running.processes(), running.seen.clone());
        let shim = replace_shim(&running).await;
        running.run.signal(0, SignalScope::Main).await.unwrap().ok();
        let now = running.processes();
        assert!(processes.iter().all(|pid| now.contains(pid)), "{now:?}");
        running
            .run
            .stop(plan(SignalScope::Tree, Duration::from_millis(50)));
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
        assert_eq!(running.seen[..seen.len()], seen, "nothing is told twice");
        assert!(running.seen.contains(&RunEvent::Killing));
        eventually("its shim ends", || state(shim).is_none()).await;
        eventually("the main process is reaped", || {
            state(running.pid).is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn a_frozen_run_stays_frozen_when_its_shim_is_killed() {
    for runner in [runner(), runner().without_cgroups()] {
        let mut running = family(&runner).await;
        running.run.freeze().await.unwrap().unwrap();
        replace_shim(&running).await;
        assert_eq!(running.processes().len(), 4);
        running
            .run
            .stop(plan(SignalScope::Tree, Duration::from_millis(50)));
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
    }
}

#[tokio::test]
async fn a_stop_under_way_goes_on_when_its_shim_is_killed() {
    for runner in [runner(), runner().without_cgroups()] {
        let mut running = family(&runner).await;
        running
            .run
            .stop(plan(SignalScope::Tree, Duration::from_millis(500)));
        replace_shim(&running).await;
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
    }
}

#[tokio::test]
async fn the_real_exit_outlives_its_shim() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = "while [ ! -e \"$GO\" ]; do sleep 0.01; done; exit 41";
    let mut launch = launch(&["sh", "-c", script]);
    launch.env.push(("GO".into(), go.clone().into()));
    let mut running = begin(&runner(), launch);
    running.started().await;
    let (shim, main) = (running.shim(), running.pid);
    // A stopped shim reaps nothing, so the end is there before it is killed.
    kill(shim, Signal::SIGSTOP);
    std::fs::write(&go, "").unwrap();
    eventually("it ends", || state(main).as_deref() == Some("Z")).await;
    kill(shim, Signal::SIGKILL);
    assert_eq!(running.finish().await, Outcome::Code(41));
}

#[tokio::test]
async fn a_terminated_shim_stops_its_run_by_the_plan() {
    let mut running = family(&runner()).await;
    kill(running.shim(), Signal::SIGTERM);
    assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
    assert!(running.seen.contains(&RunEvent::Killing));
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_shim_that_dies_before_the_gate_leaves_no_exec() {
    for runner in [runner(), runner().without_cgroups()] {
        let runner = runner.with_shim_env(
            OsStr::new("PROCESSION_FAILPOINT"),
            OsStr::new("after_run_record"),
        );
        let dir = tempfile::tempdir().unwrap();
        let proof = dir.path().join("executed");
        let mut running = begin(&runner, launch(&["touch", proof.to_str().unwrap()]));
        let outcome = running.finish().await;
        assert_eq!(outcome, Outcome::Unknown(UnknownReason::Lost));
        assert!(!running.seen.contains(&RunEvent::Started));
        let pid = running.pid;
        assert_ne!(pid, 0);
        eventually("the held child is gone", || state(pid).is_none()).await;
        assert!(!proof.exists());
    }
}

/// Set for a test that is alone in its process.
const ALONE: &str = "TEST_ALONE";

/// A process that runs only the test `name`: a child of no runner's making.
pub(super) fn alone(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("shim::{name}"), "--nocapture"])
        .env(ALONE, "1");
    command
}

pub(super) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

#[tokio::test]
async fn runs_of_a_killed_daemon_go_on_and_are_taken_over() {
    let root = tempfile::tempdir().unwrap();
    let mut daemon = alone("survival::alone_as_a_daemon")
        .env(ROOT, root.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(daemon.stdout.take().unwrap());
    let line = output
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("runs "))
        .unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let dirs = dirs_in(root.path());
    let runner = runner_in(&dirs);
    let mut found = procession::runner::Runner::found(&runner);
    found.sort_by_key(|(uid, _)| uid.to_string());
    let mut runs = Vec::new();
    for text in line[5..].split(' ') {
        let (uid, pid) = text.split_once('=').unwrap();
        let uid = found
            .iter()
            .find(|(of, _)| of.to_string() == uid)
            .unwrap()
            .0;
        runs.push((uid, pid.parse::<i32>().unwrap()));
    }
    assert_eq!(found.len(), 2);
    for (uid, pid) in runs {
        let mut running = adopt(&dirs, &runner, uid, None);
        match running.next().await.unwrap() {
            RunEvent::Adopted {
                pid: now, started, ..
            } => assert_eq!((now, started), (pid, true)),
            other => panic!("{other:?}"),
        }
        assert_eq!(running.processes().len(), 4);
        let shim = running.owner().unwrap();
        // It is no child of the shim to come, nor of a daemon that waits for it.
        kill(shim, Signal::SIGKILL);
        eventually("it has another shim", || {
            running.owner().is_some_and(|pid| pid != shim)
        })
        .await;
        running
            .run
            .stop(plan(SignalScope::Tree, Duration::from_millis(50)));
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
        eventually("its shim ends", || !alive(shim)).await;
    }
}

/// Directory of the daemon above.
pub(super) const ROOT: &str = "TEST_ROOT";

#[tokio::test]
async fn alone_as_a_daemon() {
    if !is_alone() {
        return; // see above
    }
    let dirs = dirs_in(std::path::Path::new(&std::env::var_os(ROOT).unwrap()));
    let mut told: Vec<String> = Vec::new();
    let mut runs = Vec::new();
    for runner in [runner_in(&dirs), runner_in(&dirs).without_cgroups()] {
        let mut running = begin_in(&dirs, &runner, launch(&["sh", "-c", FAMILY]));
        running.ready(2).await;
        told.push(format!("{}={}", running.uid, running.pid));
        runs.push(running);
    }
    println!("runs {}", told.join(" "));
    std::future::pending::<()>().await;
}

/// Counting descriptors and children needs a process without other tests.
#[test]
fn two_hundred_at_once_leave_no_zombie_and_no_descriptor() {
    let output = alone("survival::alone_two_hundred_at_once")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn alone_two_hundred_at_once() {
    if !is_alone() {
        return; // see above
    }
    let runner = runner();
    begin(&runner, launch(&["true"])).finish().await;
    let none_left = || children().is_empty();
    eventually("the first shim is reaped", none_left).await;
    let before = descriptors();
    for _ in 0..2 {
        let mut runs: Vec<_> = (0..200u8)
            .map(|n| shell(&runner, &format!("exit {n}")))
            .collect();
        for (n, running) in runs.iter_mut().enumerate() {
            let code = u8::try_from(n).unwrap();
            assert_eq!(running.finish().await, Outcome::Code(code));
        }
        drop(runs);
        eventually("all shims are reaped", none_left).await;
        assert_eq!(descriptors(), before);
    }
    for _ in 0..10 {
        let mut running = shell(&runner, "while :; do sleep 1000; done");
        running.started().await;
        replace_shim(&running).await;
        running.run.stop(plan(SignalScope::Tree, Duration::ZERO));
        running.finish().await;
        drop(running);
        eventually("all are reaped", none_left).await;
        assert_eq!(descriptors(), before);
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn children() -> Vec<i32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().map(|n| n.parse::<i32>().unwrap()));
    }
    found
}
