//! Shims that are killed, and daemons that are.

use std::{collections::BTreeSet, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procession::grpc::proto::{
    ControlAction, Process, ProcessState as State, RestartPolicy, exit_status::Outcome,
};

use super::{
    calls::{self, duration, ended, status},
    history::History,
    proc,
    support::{Daemon, eventually, sh},
};

fn tree(name: &str, daemon: &Daemon) -> Process {
    let mut process = sh(
        name,
        "setsid sleep 1000 & sleep 1000 & echo up; wait; sleep 1000",
    );
    let spec = process.spec.as_mut().unwrap();
    let mark = daemon.directory().display().to_string();
    spec.env.insert(proc::MARK.to_owned(), mark);
    spec.restart_policy = Some(RestartPolicy {
        initial_backoff: Some(duration(Duration::from_millis(10))),
        max_backoff: Some(duration(Duration::from_millis(10))),
        ..Default::default()
    });
    process
}

/// Children of the daemon: one per live run.
fn shims(daemon: &Daemon) -> Vec<i32> {
    let children = proc::below(daemon.pid()).into_iter();
    let of_daemon = children.filter(|process| process.parent == daemon.pid());
    of_daemon.map(|process| process.pid).collect()
}

fn sigkill(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_run_whose_shim_is_killed_is_cleared_and_restarted() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let mark = daemon.directory().display().to_string();
    let name = calls::create(&mut client, tree("one", &daemon)).await;
    for run in 1..=10 {
        history
            .until("the run is up", |held| {
                let up =
                    |p: &Process| status(p).run_id == run && status(p).state() == State::Running;
                held.get(&name).is_some_and(up)
            })
            .await;
        let before: BTreeSet<i32> = proc::marked(&mark).into_iter().collect();
        let shims = shims(&daemon);
        assert_eq!(shims.len(), 1, "run {run}");
        sigkill(shims[0]);
        history
            .until("the next run", |held| status(&held[&name]).run_id > run)
            .await;
        let left: Vec<&i32> = before.iter().filter(|pid| proc::alive(**pid)).collect();
        assert!(left.is_empty(), "run {run}: {left:?}");
        let end = &history.status(&name).exit_history[0];
        assert_eq!(end.run_id, run);
        let outcome = end.outcome.as_ref().unwrap();
        let killed = *outcome == Outcome::SignalNumber(9);
        let lost = *outcome == Outcome::UnknownReason("LOST".to_owned());
        assert!(killed || lost, "{outcome:?}");
    }
    calls::stop(&mut client, &name).await;
    assert_eq!(proc::marked(&mark), Vec::<i32>::new());
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}

#[tokio::test]
async fn many_shims_killed_at_once_lose_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let mark = daemon.directory().display().to_string();
    let processes: Vec<Process> = (0..30).map(|n| tree(&format!("p{n}"), &daemon)).collect();
    let names: Vec<String> = processes.iter().map(|p| p.name.clone()).collect();
    calls::apply(&mut client, processes).await;
    history.all_in(&names, &[State::Running]).await;
    let before = proc::marked(&mark);
    shims(&daemon).into_iter().for_each(sigkill);
    history
        .until("all run again", |held| {
            let again = |p: &Process| status(p).run_id == 2 && status(p).state() == State::Running;
            names.iter().all(|name| held.get(name).is_some_and(again))
        })
        .await;
    let left: Vec<&i32> = before.iter().filter(|pid| proc::alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    calls::control_all(&mut client, ControlAction::Stop).await;
    history.all_in(&names, &[State::Stopped]).await;
    assert_eq!(proc::marked(&mark), Vec::<i32>::new());
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}

#[tokio::test]
async fn a_main_process_that_is_killed_from_outside_is_told_so() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let name = calls::create(&mut client, tree("one", &daemon)).await;
    history.all_in(&[&name], &[State::Running]).await;
    sigkill(history.status(&name).pid);
    history
        .until("the next run", |held| status(&held[&name]).run_id == 2)
        .await;
    let (exit, outcome) = ended(&history.held[&name]);
    assert_eq!(*outcome, Outcome::SignalNumber(9));
    assert!(!exit.stop_requested);
    daemon.ended().await;
}

#[tokio::test]
async fn nothing_outlives_a_daemon_that_is_killed() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let mark = daemon.directory().display().to_string();
    let mut processes: Vec<Process> = (0..20).map(|n| tree(&format!("p{n}"), &daemon)).collect();
    let mut stubborn = tree("stubborn", &daemon);
    let spec = stubborn.spec.as_mut().unwrap();
    spec.command[2] = "trap '' TERM; while :; do sleep 1; done".to_owned();
    spec.stop_policy = Some(procession::grpc::proto::StopPolicy {
        grace_period: Some(duration(Duration::from_millis(200))),
        ..Default::default()
    });
    processes.push(stubborn);
    let names: Vec<String> = processes.iter().map(|p| p.name.clone()).collect();
    calls::apply(&mut client, processes).await;
    history.all_in(&names, &[State::Running]).await;
    assert!(proc::marked(&mark).len() > names.len());
    let shims = shims(&daemon);
    sigkill(daemon.pid());
    eventually("nothing of its processes lives", || {
        proc::marked(&mark).is_empty().then_some(())
    });
    eventually("no shim lives", || {
        (!shims.iter().any(|shim| proc::alive(*shim))).then_some(())
    });
    daemon.ended().await;
}
