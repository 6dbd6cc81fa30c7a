//! Waits, pauses and signals.

use std::{path::Path, time::Duration};

use procession::grpc::proto::{
    self, ProcessState, Signal, SignalScope, WaitCondition, WaitOutcome,
    signal_process_request::TargetSignal,
};

use super::{Daemon, create, get, idle, start, state, status, until, wrote};
use crate::daemon::support::{Client, command, eventually, sh};

async fn wait(
    client: &mut Client,
    name: &str,
    condition: WaitCondition,
    timeout: Duration,
) -> proto::WaitProcessResponse {
    let request = proto::WaitProcessRequest {
        name: name.to_owned(),
        condition: condition.into(),
        timeout: Some(timeout.try_into().unwrap()),
        ..Default::default()
    };
    client.wait_process(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn every_condition_is_met_and_missed() {
    const LONG: Duration = Duration::from_secs(50);
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    create(&mut client, command("up", &["sleep", "1000"])).await;
    create(&mut client, command("job", &["true"])).await;
    let mut bad = command("bad", &["false"]);
    bad.spec.as_mut().unwrap().restart_policy = Some(proto::RestartPolicy {
        mode: proto::RestartMode::Never.into(),
        ..Default::default()
    });
    create(&mut client, bad).await;
    for (name, condition, outcome) in [
        ("up", WaitCondition::Running, WaitOutcome::Satisfied),
        ("up", WaitCondition::Ready, WaitOutcome::Satisfied),
        ("job", WaitCondition::Settled, WaitOutcome::Satisfied),
        ("bad", WaitCondition::Settled, WaitOutcome::Satisfied),
    ] {
        let answer = wait(&mut client, name, condition, LONG).await;
        assert_eq!(
            answer.outcome(),
            outcome,
            "{name} {condition:?}: {answer:?}"
        );
    }
    for (name, condition, outcome) in [
        ("job", WaitCondition::Exited, WaitOutcome::Satisfied),
        ("job", WaitCondition::Succeeded, WaitOutcome::Satisfied),
        ("bad", WaitCondition::Exited, WaitOutcome::Satisfied),
        ("bad", WaitCondition::Succeeded, WaitOutcome::Unsatisfiable),
        ("bad", WaitCondition::Running, WaitOutcome::Satisfied),
    ] {
        let request = proto::WaitProcessRequest {
            name: name.into(),
            condition: condition.into(),
            run_id: 1,
            min_revision: 1,
            timeout: Some(LONG.try_into().unwrap()),
            ..Default::default()
        };
        let answer = client.wait_process(request).await.unwrap().into_inner();
        assert_eq!(
            answer.outcome(),
            outcome,
            "{name} {condition:?}: {answer:?}"
        );
    }
    let short = Duration::from_millis(200);
    let answer = wait(&mut client, "up", WaitCondition::Exited, short).await;
    assert_eq!(answer.outcome(), WaitOutcome::TimedOut);
    let mut other = daemon.client().await;
    // By uid: it may be gone before the wait is there.
    let deleted = client.wait_process(proto::WaitProcessRequest {
        name: "up".into(),
        uid: answer.process.unwrap().uid,
        condition: WaitCondition::Deleted.into(),
        timeout: Some(LONG.try_into().unwrap()),
        ..Default::default()
    });
    let delete = async {
        let request = proto::DeleteProcessRequest {
            name: "up".into(),
            ..Default::default()
        };
        other.delete_process(request).await.unwrap()
    };
    let (deleted, _) = tokio::join!(deleted, delete);
    let deleted = deleted.unwrap().into_inner();
    assert_eq!(deleted.outcome(), WaitOutcome::Satisfied);
    daemon.ended().await;
}

/// CPU time of `pid` so far, in ticks.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_paused_process_gets_no_cpu() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    create(&mut client, sh("spin", "while :; do :; done")).await;
    let pid = status(&start(&mut client, "spin").await).pid;
    let first = ticks(pid);
    eventually("it spins", || (ticks(pid) > first).then_some(()));
    let pause = proto::PauseProcessRequest {
        name: "spin".into(),
        ..Default::default()
    };
    let paused = client
        .pause_process(pause)
        .await
        .unwrap()
        .into_inner()
        .process
        .unwrap();
    assert_eq!(state(&paused), ProcessState::Paused);
    create(&mut client, sh("rival", "while :; do :; done")).await;
    let rival = status(&start(&mut client, "rival").await).pid;
    let stopped = ticks(pid);
    let begun = ticks(rival);
    // Enough for one that can run to get some.
    eventually("its rival runs", || {
        (ticks(rival) > begun + 20).then_some(())
    });
    assert_eq!(ticks(pid), stopped);
    assert_eq!(
        state(&get(&mut client, "spin").await.process.unwrap()),
        ProcessState::Paused
    );
    let resume = proto::ResumeProcessRequest {
        name: "spin".into(),
        ..Default::default()
    };
    let resumed = client
        .resume_process(resume)
        .await
        .unwrap()
        .into_inner()
        .process
        .unwrap();
    assert_eq!(state(&resumed), ProcessState::Running);
    eventually("it spins again", || (ticks(pid) > stopped).then_some(()));
    daemon.ended().await;
}

#[tokio::test]
async fn a_paused_process_can_be_stopped() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    create(&mut client, command("web", &["sleep", "1000"])).await;
    let pid = status(&start(&mut client, "web").await).pid;
    let pause = proto::PauseProcessRequest {
        name: "web".into(),
        ..Default::default()
    };
    client.pause_process(pause).await.unwrap();
    let stop = proto::StopProcessRequest {
        name: "web".into(),
        wait: until(WaitCondition::Settled),
        ..Default::default()
    };
    let stopped = client.stop_process(stop).await.unwrap().into_inner();
    assert_eq!(stopped.wait_outcome(), WaitOutcome::Satisfied);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    daemon.ended().await;
}

#[tokio::test]
async fn a_signal_goes_to_its_scope() {
    const SCRIPT: &str = "trap 'echo main' USR1; \
        sh -c \"trap 'echo group' USR1; echo up; while :; do sleep 0.05; done\" & \
        setsid sh -c \"trap 'echo tree' USR1; echo up; while :; do sleep 0.05; done\" & \
        echo up; while :; do sleep 0.05; done";
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    create(&mut client, sh("family", SCRIPT)).await;
    start(&mut client, "family").await;
    wrote(&mut client, "family", "up", 3).await;
    let mut counts = [0, 0, 0];
    for (scope, reached) in [
        (SignalScope::Unspecified, [1, 0, 0]),
        (SignalScope::MainProcess, [1, 0, 0]),
        (SignalScope::ProcessGroup, [1, 1, 0]),
        (SignalScope::Tree, [1, 1, 1]),
    ] {
        let request = proto::SignalProcessRequest {
            name: "family".into(),
            target_signal: Some(TargetSignal::Signal(Signal::Usr1.into())),
            scope: scope.into(),
            ..Default::default()
        };
        let sent = client.signal_process(request).await.unwrap().into_inner();
        assert_eq!(sent.run_id, 1);
        for (count, reached) in counts.iter_mut().zip(reached) {
            *count += reached;
        }
        for (who, count) in ["main", "group", "tree"].into_iter().zip(counts) {
            wrote(&mut client, "family", who, count).await;
        }
    }
    // Everything told so far was told once; nobody else was reached.
    let lines = super::output(&mut client, "family").await;
    for (who, count) in ["main", "group", "tree"].into_iter().zip(counts) {
        assert_eq!(
            lines.iter().filter(|line| *line == who).count(),
            count,
            "{lines:?}"
        );
    }
    daemon.ended().await;
}

#[tokio::test]
async fn starting_what_runs_and_stopping_what_is_stopped_changes_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    create(&mut client, idle(command("web", &["sleep", "1000"]))).await;
    let stop = proto::StopProcessRequest {
        name: "web".into(),
        ..Default::default()
    };
    let before = get(&mut client, "web").await;
    client.stop_process(stop).await.unwrap();
    assert_eq!(get(&mut client, "web").await, before);
    start(&mut client, "web").await;
    let before = get(&mut client, "web").await;
    start(&mut client, "web").await;
    assert_eq!(get(&mut client, "web").await, before);
    daemon.ended().await;
}
