//! Daemons that are killed, and what the next one finds.
//!
//! The number of kills is small here; `PROCESSION_KILLS=1000` (`make chaos`) makes
//! it large, and `PROCESSION_SEED=n` replays a run.

mod intents;
mod logs;
mod takeover;
mod ways_to_end;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use procession::grpc::proto::{
    self, Process, ProcessState as State, RestartMode, RestartPolicy, WaitCondition,
    exit_status::Outcome,
};

use super::{
    calls::{self, ended, state, status},
    proc,
    support::{Client, Daemon, command, eventually, sh},
};
use crate::chance::{Dice, rounds};

/// Writes `lines` numbered lines, about `pause` seconds apart, and ends with 41;
/// it is run once.
pub(super) fn writer(name: &str, lines: u32, pause: &str) -> Process {
    let script = format!(
        "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo $i; \
         [ $((i % 100)) -ne 0 ] || sleep {pause}; done; exit 41"
    );
    run_once(sh(name, &script))
}

/// `process`, not begun again whatever its end.
fn run_once(mut process: Process) -> Process {
    process.spec.as_mut().unwrap().restart_policy = Some(RestartPolicy {
        mode: RestartMode::Never.into(),
        ..Default::default()
    });
    process
}

/// Every line once and in order, with dense numbers.
pub(super) fn assert_complete(name: &str, entries: &[proto::LogEntry], lines: u32) {
    let got: Vec<String> = entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.data).into_owned())
        .collect();
    let wanted: Vec<String> = (1..=lines).map(|n| n.to_string()).collect();
    if got != wanted {
        let at = got.iter().zip(&wanted).position(|(got, want)| got != want);
        let at = at.unwrap_or(got.len().min(wanted.len()));
        panic!(
            "{name}: {} lines of {lines}; line {} is {:?}",
            got.len(),
            at + 1,
            got.get(at)
        );
    }
    let dense = entries.iter().zip(1..).all(|(e, n)| e.sequence == n);
    assert!(dense, "{name}: sequences are not dense");
}

async fn pids(client: &mut Client) -> BTreeMap<String, i32> {
    let request = proto::ListProcessesRequest::default();
    let listed = client.list_processes(request).await.unwrap().into_inner();
    let up = listed.processes.iter().filter(|p| status(p).pid != 0);
    up.map(|p| (p.name.clone(), status(p).pid)).collect()
}

#[tokio::test]
async fn a_killed_daemon_loses_no_child_no_code_and_no_line() {
    // So that they still write when the last kill comes.
    let (kills, lines) = (rounds(5, 1), 500 * u32::try_from(rounds(5, 1)).unwrap());
    let mut dice = Dice::new();
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let names: Vec<String> = (0..20).map(|n| format!("w{n}")).collect();
    let processes = names.iter().map(|name| writer(name, lines, "0.05"));
    calls::apply(&mut client, processes.collect()).await;
    eventually_up(&mut client, &names).await;
    let before = pids(&mut client).await;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.throw(150))).await;
        drop(client);
        daemon.replace();
        client = daemon.client().await;
        for (name, pid) in pids(&mut client).await {
            assert_eq!(before.get(&name), Some(&pid), "{name} is another");
        }
    }
    for name in &names {
        let process = calls::wait_for(&mut client, name, WaitCondition::Settled).await;
        let (exit, outcome) = ended(&process);
        assert_eq!(*outcome, Outcome::ExitCode(41), "{name}");
        assert_eq!((exit.run_id, status(&process).run_id), (1, 1));
        assert_eq!(status(&process).exit_history.len(), 1);
        let output = calls::output(&mut client, name).await;
        assert_complete(name, &output, lines);
    }
    println!(
        "{kills} kills, {} children with {lines} lines each",
        names.len()
    );
    drop(client);
    daemon.ended().await;
}

async fn eventually_up(client: &mut Client, names: &[String]) {
    for name in names {
        calls::wait_for(client, name, WaitCondition::Running).await;
    }
}

#[tokio::test]
async fn an_end_while_nobody_watched_is_told_once_with_its_time() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mark = daemon.directory().join("ended");
    let script = format!("sleep 0.3; date +%s%N > {}; exit 7", mark.display());
    let process = run_once(sh("one", &script));
    let name = calls::create(&mut client, process).await;
    calls::wait_for(&mut client, &name, WaitCondition::Running).await;
    drop(client);
    daemon.kill();
    let ended_at: i64 = eventually("it ends", || {
        let text = std::fs::read_to_string(&mark).ok()?;
        text.trim().parse().ok()
    });
    let waited = Instant::now();
    eventually("a while passes", || {
        (waited.elapsed() > Duration::from_secs(1)).then_some(())
    });
    daemon.restart();
    let mut client = daemon.client().await;
    let process = calls::wait_for(&mut client, &name, WaitCondition::Settled).await;
    let (exit, outcome) = ended(&process);
    assert_eq!(
        (state(&process), outcome),
        (State::Failed, &Outcome::ExitCode(7))
    );
    let told = exit.exit_time.unwrap();
    let told = told.seconds * 1_000_000_000 + i64::from(told.nanos);
    let off = Duration::from_nanos(told.abs_diff(ended_at));
    assert!(off < Duration::from_millis(500), "{off:?}");
    assert_eq!(status(&process).exit_history.len(), 1);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_stop_under_way_is_finished_without_the_daemon() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mark = daemon.directory().display().to_string();
    let mut process = sh("one", "trap '' TERM; echo up; while :; do sleep 0.1; done");
    let spec = process.spec.as_mut().unwrap();
    spec.env.insert(proc::MARK.to_owned(), mark.clone());
    spec.stop_policy = Some(proto::StopPolicy {
        grace_period: Some(calls::duration(Duration::from_millis(300))),
        ..Default::default()
    });
    let name = calls::create(&mut client, process).await;
    calls::wait_for(&mut client, &name, WaitCondition::Running).await;
    let request = proto::StopProcessRequest {
        name: name.clone(),
        ..Default::default()
    };
    client.stop_process(request).await.unwrap();
    drop(client);
    daemon.kill();
    eventually("the shim finishes it", || {
        proc::marked(&mark).is_empty().then_some(())
    });
    daemon.restart();
    let mut client = daemon.client().await;
    let process = calls::wait_for(&mut client, &name, WaitCondition::Settled).await;
    let (exit, outcome) = ended(&process);
    assert_eq!(
        (state(&process), outcome),
        (State::Stopped, &Outcome::SignalNumber(9))
    );
    assert!(exit.stop_requested);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_daemon_that_stood_still_harms_nobody() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let name = calls::create(&mut client, command("one", &["sleep", "1000"])).await;
    let before = calls::wait_for(&mut client, &name, WaitCondition::Running).await;
    let signal = |signal| {
        let pid = nix::unistd::Pid::from_raw(daemon.pid());
        nix::sys::signal::kill(pid, signal).unwrap();
    };
    signal(nix::sys::signal::Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(2)).await;
    signal(nix::sys::signal::Signal::SIGCONT);
    let after = calls::get(&mut client, &name).await;
    assert_eq!(status(&after).pid, status(&before).pid);
    assert_eq!(status(&after).restart_count, 0);
    drop(client);
    daemon.ended().await;
}
