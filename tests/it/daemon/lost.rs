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

/// Shims of the daemon: one per live run. What a dead shim leaves is a child of the
/// daemon too.
fn shims(daemon: &Daemon) -> Vec<i32> {
    let children = proc::below(daemon.pid()).into_iter();
    let of_daemon = children
        .filter(|process| process.parent == daemon.pid() && process.name.starts_with("procession"));
    of_daemon.map(|process| process.pid).collect()
}

/// Processes of each [`tree`].
const TREE: usize = 3;

/// All of `trees` trees with this mark. A run is RUNNING before it has forked.
fn grown(mark: &str, trees: usize) -> BTreeSet<i32> {
    eventually("all has forked", || {
        let all: BTreeSet<i32> = proc::marked(mark).into_iter().collect();
        (all.len() == trees * TREE).then_some(all)
    })
}

fn sigkill(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// A new shim for each run whose shim was killed.
fn until_adopted(daemon: &Daemon, count: usize, before: &[i32]) {
    eventually("new shims", || {
        let now = shims(daemon);
        let new = now.iter().filter(|pid| !before.contains(pid)).count();
        (new == count).then_some(())
    });
}

#[tokio::test]
async fn a_run_whose_shim_is_killed_goes_on_under_another() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let mark = daemon.directory().display().to_string();
    let name = calls::create(&mut client, tree("one", &daemon)).await;
    history.all_in(&[&name], &[State::Running]).await;
    let before = grown(&mark, 1);
    for _ in 0..3 {
        let killed = shims(&daemon);
        sigkill(killed[0]);
        until_adopted(&daemon, 1, &killed);
    }
    let after: BTreeSet<i32> = proc::marked(&mark).into_iter().collect();
    assert_eq!(after, before, "nobody was killed and nobody came");
    let process = calls::get(&mut client, &name).await;
    assert_eq!(
        (status(&process).run_id, status(&process).restart_count),
        (1, 0)
    );
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
    let before = grown(&mark, names.len());
    let killed = shims(&daemon);
    killed.iter().copied().for_each(sigkill);
    until_adopted(&daemon, names.len(), &killed);
    let after: BTreeSet<i32> = proc::marked(&mark).into_iter().collect();
    assert_eq!(after, before);
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
