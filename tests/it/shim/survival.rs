//! What is left when a shim or its daemon is killed: nothing; and many at once.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use procession::{
    domain::run::{Outcome, RunEvent, UnknownReason},
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

#[tokio::test]
async fn a_killed_shim_leaves_nothing_and_the_end_is_told() {
    for runner in [runner(), runner().without_cgroups()] {
        let mut running = family(&runner).await;
        let shim = running.shim();
        kill(shim, Signal::SIGKILL);
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
        eventually("the shim is reaped", || state(shim).is_none()).await;
        eventually("the main process is reaped", || {
            state(running.pid).is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn a_frozen_run_whose_shim_is_killed_leaves_nothing() {
    for runner in [runner(), runner().without_cgroups()] {
        let mut running = family(&runner).await;
        running.run.freeze().await.unwrap().unwrap();
        kill(running.shim(), Signal::SIGKILL);
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
    }
}

#[tokio::test]
async fn the_real_exit_outlives_its_shim() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = "while [ ! -e \"$GO\" ]; do sleep 0.01; done; exit 41";
    let (mut launch, output) = launch(&["sh", "-c", script]);
    launch.env.push(("GO".into(), go.clone().into()));
    let mut running = begin(&runner(), (launch, output));
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

#[test]
fn runs_whose_daemon_is_gone_are_stopped() {
    for shims in [runner(), runner().without_cgroups()] {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (running, shim) = tokio.block_on(async {
            let running = family(&shims).await;
            let shim = running.shim();
            (running, shim)
        });
        assert!(running.processes().len() >= 2);
        drop(tokio); // and with it the daemon's end of the socket
        let since = Instant::now();
        while !running.processes().is_empty() || state(shim).is_some() {
            assert!(
                since.elapsed() < PATIENCE,
                "left: {:?}",
                running.processes()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_shim_that_dies_before_the_gate_leaves_no_exec() {
    for runner in [runner(), runner().without_cgroups()] {
        let runner = runner.with_shim_env(
            OsStr::new("PROCESSION_SHIM_FAILPOINT"),
            OsStr::new("before_gate"),
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
fn alone(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("shim::survival::{name}"), "--nocapture"])
        .env(ALONE, "1");
    command
}

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

#[test]
fn a_killed_daemon_leaves_nothing() {
    let mut daemon = alone("alone_as_a_daemon")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(daemon.stdout.take().unwrap());
    let line = output
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("pids "))
        .unwrap();
    let pids: Vec<i32> = line[5..].split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(
        pids.len() >= 8,
        "two shims with three processes each: {line}"
    );
    assert!(pids.iter().all(|pid| state(*pid).is_some()));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let since = Instant::now();
    while pids.iter().any(|pid| alive(*pid)) {
        assert!(since.elapsed() < PATIENCE, "left of {pids:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn alone_as_a_daemon() {
    if !is_alone() {
        return; // see above
    }
    let mut pids = Vec::new();
    let mut runs = Vec::new();
    for runner in [runner(), runner().without_cgroups()] {
        let running = family(&runner).await;
        pids.push(running.shim());
        pids.extend(running.processes());
        runs.push(running);
    }
    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
    println!("pids {}", pids.join(" "));
    std::future::pending::<()>().await;
}

/// Counting descriptors and children needs a process without other tests.
#[test]
fn two_hundred_at_once_leave_no_zombie_and_no_descriptor() {
    let output = alone("alone_two_hundred_at_once").output().unwrap();
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
