//! Stops of real processes: what is already ending, what has not begun, and what
//! does not want to go.

use std::{path::Path, time::Duration};

use procession::grpc::proto::{
    self, ControlAction, DesiredState, Process, ProcessState as State, WaitCondition,
    exit_status::Outcome,
};

use super::{
    calls::{self, duration, ended, state, status},
    history::History,
    proc,
    support::{Daemon, command, eventually, sh},
};

/// With the mark that is found in whatever it starts.
fn marked(mut process: Process, daemon: &Daemon) -> Process {
    let mark = daemon.directory().display().to_string();
    let spec = process.spec.as_mut().unwrap();
    spec.env.insert(proc::MARK.to_owned(), mark);
    process
}

fn left(daemon: &Daemon) -> Vec<i32> {
    proc::marked(&daemon.directory().display().to_string())
}

#[tokio::test]
async fn a_process_that_ends_as_it_is_stopped_is_stopped() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    // Each ends a little later than the one before, around the time of the stop.
    for round in 0..40 {
        let name = format!("p{round}");
        let script = format!("sleep 0.0{:02}", round / 2);
        let created = calls::create(&mut client, sh(&name, &script)).await;
        history
            .all_in(&[created], &[State::Running, State::Succeeded])
            .await;
        let stopped = calls::stop(&mut client, &name).await;
        history.up_to(stopped.revision).await;
        // Who had succeeded before the stop has succeeded; whoever else is stopped.
        if state(&stopped) == State::Succeeded {
            let before = &history.entered[&name];
            assert_eq!(before.desired_state(), DesiredState::Running, "{stopped:?}");
            assert!(!ended(&stopped).0.stop_requested, "{stopped:?}");
        } else {
            assert_eq!(state(&stopped), State::Stopped, "{stopped:?}");
        }
        assert_eq!(status(&stopped).exit_history.len(), 1, "{stopped:?}");
    }
    daemon.ended().await;
}

#[tokio::test]
async fn a_stop_of_what_waits_is_immediate_and_nothing_comes_later() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let told = daemon.directory().join("told");
    let script = format!("echo ran >> {}", told.display());

    // Held by what never becomes ready, as it was never started.
    let mut never = sh("never", "sleep 1000");
    never.spec.as_mut().unwrap().autostart = false;
    calls::create(&mut client, never).await;
    let mut held = sh("held", &script);
    held.spec.as_mut().unwrap().dependencies = vec![proto::Dependency {
        name: "never".to_owned(),
        ..Default::default()
    }];
    calls::create(&mut client, held).await;
    history.all_in(&["held"], &[State::Pending]).await;
    assert_eq!(
        state(&calls::stop(&mut client, "held").await),
        State::Stopped
    );

    // Between two runs; the next one would be in an hour.
    let mut failing = sh("failing", "exit 3");
    failing.spec.as_mut().unwrap().restart_policy = Some(proto::RestartPolicy {
        initial_backoff: Some(duration(Duration::from_secs(3600))),
        max_backoff: Some(duration(Duration::from_secs(3600))),
        ..Default::default()
    });
    calls::create(&mut client, failing).await;
    history.all_in(&["failing"], &[State::Backoff]).await;
    let stopped = calls::stop(&mut client, "failing").await;
    assert_eq!(state(&stopped), State::Stopped);
    assert_eq!(*ended(&stopped).1, Outcome::ExitCode(3));

    // What held the first one comes up; nobody follows.
    calls::start(&mut client, "never", WaitCondition::Running).await;
    calls::stop(&mut client, "never").await;
    let head = calls::head(&mut client).await;
    history.up_to(head).await;
    assert_eq!(history.status("held").run_id, 0);
    assert_eq!(history.status("failing").run_id, 1);
    assert!(!told.exists());
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}

#[tokio::test]
async fn the_end_of_the_daemon_takes_everything_along_in_order() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    // Outlives the daemon.
    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("told");
    let mut processes = Vec::new();
    for n in 0..6 {
        let name = format!("p{n}");
        let script = format!(
            "trap 'echo {name} >> {}; exit 0' TERM; while :; do sleep 0.01; done",
            told.display()
        );
        let mut process = marked(sh(&name, &script), &daemon);
        if n > 0 {
            process.spec.as_mut().unwrap().dependencies = vec![proto::Dependency {
                name: format!("p{}", n - 1),
                ..Default::default()
            }];
        }
        processes.push(process);
    }
    // Two that are not running: held, and between two runs.
    let mut failing = marked(sh("failing", "exit 1"), &daemon);
    failing.spec.as_mut().unwrap().restart_policy = Some(proto::RestartPolicy {
        initial_backoff: Some(duration(Duration::from_millis(1))),
        max_backoff: Some(duration(Duration::from_millis(20))),
        ..Default::default()
    });
    processes.push(failing);
    calls::apply(&mut client, processes).await;
    calls::wait_for(&mut client, "p5", WaitCondition::Running).await;
    // The traps are set once the loops run.
    eventually("all sleep", || {
        let sleeping = proc::below(daemon.pid())
            .into_iter()
            .filter(|p| p.name == "sleep");
        (sleeping.count() >= 6).then_some(())
    });
    let mark = daemon.directory().display().to_string();
    let status = tokio::task::spawn_blocking(|| daemon.terminate());
    assert!(status.await.unwrap().success());
    assert_eq!(proc::marked(&mark), Vec::<i32>::new());
    let order = std::fs::read_to_string(&told).unwrap();
    assert_eq!(order, "p5\np4\np3\np2\np1\np0\n");
}

/// Starts `script`, waits for `count` lines in its file, stops it, and finds nothing.
async fn leaves_nothing(name: &str, script: impl Fn(&Path) -> String, count: usize) {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let file = daemon.directory().join("told");
    let mut process = marked(sh(name, &script(&file)), &daemon);
    process.spec.as_mut().unwrap().stop_policy = Some(proto::StopPolicy {
        grace_period: Some(duration(Duration::from_millis(300))),
        ..Default::default()
    });
    calls::create(&mut client, process).await;
    eventually("all of it runs", || {
        let told = std::fs::read_to_string(&file).unwrap_or_default();
        (told.lines().count() >= count).then_some(())
    });
    let stopped = calls::stop(&mut client, name).await;
    assert_eq!(state(&stopped), State::Stopped, "{stopped:?}");
    assert_eq!(left(&daemon), Vec::<i32>::new());
    proc::nothing_below(daemon.pid());
    assert_eq!(status(&stopped).exit_history.len(), 1);
    daemon.ended().await;
}

#[tokio::test]
async fn a_session_of_its_own_is_stopped() {
    let script = |told: &Path| {
        let told = told.display();
        format!("setsid sh -c 'echo a >> {told}; sleep 1000' & echo b >> {told}; wait; sleep 1000")
    };
    leaves_nothing("setsid", script, 2).await;
}

#[tokio::test]
async fn who_forked_twice_is_stopped() {
    let script = |told: &Path| {
        let told = told.display();
        format!(
            "(setsid sh -c '(echo a >> {told}; exec sleep 1000) &' &); echo b >> {told}; sleep 1000"
        )
    };
    leaves_nothing("daemonized", script, 2).await;
}

#[tokio::test]
async fn nohup_is_no_excuse() {
    let script = |told: &Path| {
        let told = told.display();
        format!("nohup sh -c 'echo a >> {told}; sleep 1000' & echo b >> {told}; sleep 1000")
    };
    leaves_nothing("nohup", script, 2).await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_with_its_tree() {
    let script = |told: &Path| {
        let told = told.display();
        format!(
            "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo a >> {told}; while :; do sleep 1; done' &
             echo b >> {told}; while :; do sleep 1; done"
        )
    };
    leaves_nothing("stubborn", script, 2).await;
}

#[tokio::test]
async fn who_is_born_while_the_tree_is_killed_is_killed() {
    // Each child starts the next one when it is told to end.
    let script = |told: &Path| {
        let told = told.display();
        format!(
            "echo 'trap \"setsid sh $0 &\" TERM; echo a >> {told}; while :; do sleep 0.01; done' > {told}.sh
             setsid sh {told}.sh & setsid sh {told}.sh & sh {told}.sh"
        )
    };
    leaves_nothing("hydra", script, 3).await;
}

#[tokio::test]
async fn a_second_stop_hurries_the_first() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let stubborn = sh(
        "stubborn",
        "trap '' TERM; echo ready; while :; do sleep 1; done",
    );
    let mut stubborn = marked(stubborn, &daemon);
    stubborn.spec.as_mut().unwrap().stop_policy = Some(proto::StopPolicy {
        grace_period: Some(duration(Duration::from_secs(3600))),
        ..Default::default()
    });
    calls::create(&mut client, stubborn).await;
    while calls::output(&mut client, "stubborn").await.is_empty() {}
    let patient = proto::StopProcessRequest {
        name: "stubborn".to_owned(),
        ..Default::default()
    };
    let stopping = client
        .stop_process(patient.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(state(&stopping.process.unwrap()), State::Stopping);
    let now = proto::StopProcessRequest {
        stop_policy: Some(proto::StopPolicy {
            grace_period: Some(duration(Duration::ZERO)),
            ..Default::default()
        }),
        wait: calls::wait(WaitCondition::Settled),
        ..patient
    };
    let stopped = client.stop_process(now).await.unwrap().into_inner();
    assert_eq!(state(&stopped.process.unwrap()), State::Stopped);
    assert_eq!(left(&daemon), Vec::<i32>::new());
    daemon.ended().await;
}

#[tokio::test]
async fn a_batch_stop_leaves_nothing_of_a_hundred_trees() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let tree = |n| {
        let script = "setsid sleep 1000 & sleep 1000 & wait; sleep 1000";
        marked(sh(&format!("p{n}"), script), &daemon)
    };
    let mut processes: Vec<Process> = (0..100).map(tree).collect();
    processes.push(marked(command("single", &["sleep", "1000"]), &daemon));
    let names: Vec<String> = processes.iter().map(|p| p.name.clone()).collect();
    calls::apply(&mut client, processes).await;
    history.all_in(&names, &[State::Running]).await;
    calls::control_all(&mut client, ControlAction::Stop).await;
    history.all_in(&names, &[State::Stopped]).await;
    assert_eq!(left(&daemon), Vec::<i32>::new());
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}
