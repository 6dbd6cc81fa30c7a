//! What a log policy asks for, seen from outside.

use std::{path::PathBuf, time::Instant};

use procession::grpc::proto;

use super::create;
use crate::daemon::{
    calls,
    support::{Client, Daemon, PATIENCE, eventually, sh},
};

const KIB: i64 = 1024;

/// `process` with `policy`.
pub(super) fn keeping(mut process: proto::Process, policy: proto::LogPolicy) -> proto::Process {
    let stdio = proto::Stdio {
        log_policy: Some(policy),
        ..Default::default()
    };
    process.spec.get_or_insert_default().stdio = Some(stdio);
    process
}

async fn got(client: &mut Client) -> proto::Process {
    let request = proto::GetProcessRequest {
        name: "web".to_owned(),
        ..Default::default()
    };
    let got = client.get_process(request).await.unwrap();
    got.into_inner().process.unwrap()
}

/// Where its output is kept.
async fn directory(daemon: &Daemon, client: &mut Client) -> PathBuf {
    let uid = got(client).await.uid;
    daemon.directory().join("state/logs").join(uid)
}

/// Bytes of each stretch of standard output that is kept.
fn segments(directory: &std::path::Path) -> Vec<u64> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let outputs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "out"));
    outputs
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .collect()
}

#[tokio::test]
async fn segments_are_as_many_and_as_large_as_was_asked_for() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let policy = proto::LogPolicy {
        max_bytes: 1024 * KIB,
        segment_bytes: 16 * KIB,
        max_segments: 3,
        max_age: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
        full_action: proto::LogFullAction::Block.into(),
    };
    let script = "seq 1 100000; echo end; exec sleep 1000";
    create(&mut client, keeping(sh("web", script), policy)).await;
    eventually("the end", || {
        let lines = super::shown(&daemon, &["web", "-n", "1"]);
        lines.iter().any(|line| line["text"] == "end").then_some(())
    });
    let kept = segments(&directory(&daemon, &mut client).await);
    assert_eq!(kept.len(), 3, "of some forty: {kept:?}");
    assert!(kept.iter().all(|bytes| *bytes <= 16 * 1024), "{kept:?}");

    let process = got(&mut client).await;
    let stdio = process.spec.unwrap().stdio.unwrap();
    assert_eq!(stdio.log_policy, Some(policy), "as it was written");
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_kept_is_refused_by_its_field() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let policy = proto::LogPolicy {
        max_bytes: 64 * KIB,
        segment_bytes: 65 * KIB,
        ..Default::default()
    };
    let request = proto::CreateProcessRequest {
        process: Some(keeping(sh("web", "true"), policy)),
        ..Default::default()
    };
    let refused = client.create_process(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let field = "spec.stdio.log_policy.segment_bytes";
    assert!(refused.message().contains(field), "{refused:?}");
    drop(client);
    daemon.ended().await;
}

/// Whether `LogsIntact` holds, with its reason and message.
async fn logs_intact(client: &mut Client) -> Option<(bool, String, String)> {
    let status = got(client).await.status.unwrap_or_default();
    let is_it = |condition: &proto::Condition| condition.r#type == "LogsIntact";
    let condition = status.conditions.into_iter().find(is_it)?;
    let holds = condition.status() == proto::ConditionStatus::True;
    Some((holds, condition.reason, condition.message))
}

/// Waits until `LogsIntact` has this reason; then whether it holds, with its message.
async fn until_told(client: &mut Client, reason: &str) -> (bool, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match logs_intact(client).await {
            Some((holds, now, message)) if now == reason => return (holds, message),
            other => assert!(Instant::now() < deadline, "never {reason}: {other:?}"),
        }
        tokio::task::yield_now().await;
    }
}

/// `script` with `full_action`, started where its output has no place.
async fn start_without_a_place(
    daemon: &Daemon,
    client: &mut Client,
    script: &str,
    full_action: proto::LogFullAction,
) -> PathBuf {
    let policy = proto::LogPolicy {
        full_action: full_action.into(),
        ..Default::default()
    };
    let mut process = keeping(sh("web", script), policy);
    process.spec.get_or_insert_default().autostart = false;
    create(client, process).await;
    let place = directory(daemon, client).await;
    std::fs::write(&place, "in the way").unwrap();
    start(client).await;
    place
}

async fn start(client: &mut Client) {
    let request = proto::StartProcessRequest {
        name: "web".to_owned(),
        ..Default::default()
    };
    client.start_process(request).await.unwrap();
}

#[tokio::test]
async fn a_run_whose_output_has_no_place_waits_and_loses_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let script = "seq 1 50000; echo end; exec sleep 1000";
    let block = proto::LogFullAction::Block;
    let place = start_without_a_place(&daemon, &mut client, script, block).await;
    let (holds, message) = until_told(&mut client, "BLOCKED").await;
    assert!(!holds && message.contains("the run waits"), "{message}");
    std::fs::remove_file(&place).unwrap();
    assert_eq!(
        until_told(&mut client, "INTACT").await,
        (true, String::new())
    );
    let lines = eventually("the end", || {
        let lines = super::shown(&daemon, &["web", "-n", "100000"]);
        (lines.last()?["text"] == "end").then_some(lines)
    });
    assert_eq!(lines.len(), 50_001, "none is missing");
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_run_whose_output_may_be_dropped_goes_on_and_is_told_of_until_the_next() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mark = daemon.directory().join("mark");
    let script = format!("seq 1 200000; touch {mark:?}; exec sleep 1000");
    let action = proto::LogFullAction::Drop;
    let place = start_without_a_place(&daemon, &mut client, &script, action).await;
    eventually("it has written all of it", || mark.exists().then_some(()));
    let (holds, message) = until_told(&mut client, "DROPPED").await;
    assert!(!holds && message.starts_with("at least "), "{message}");
    std::fs::remove_file(&place).unwrap();
    let request = proto::StopProcessRequest {
        name: "web".to_owned(),
        wait: Some(proto::WaitOptions {
            condition: proto::WaitCondition::Settled.into(),
            timeout: None,
        }),
        ..Default::default()
    };
    client.stop_process(request).await.unwrap();
    assert!(logs_intact(&mut client).await.is_some(), "of the last run");
    start(&mut client).await;
    assert_eq!(logs_intact(&mut client).await, None, "of a new one");
    drop(client);
    daemon.ended().await;
}

/// Which run it is at, and with which process.
fn run(process: &proto::Process) -> (i32, i64) {
    let status = calls::status(process);
    (status.pid, status.run_id)
}

/// The same process with another policy; it must go on as it is.
async fn change(client: &mut Client, policy: proto::LogPolicy) {
    let before = got(client).await;
    let same = proto::Process {
        name: before.name.clone(),
        spec: before.spec.clone(),
        ..Default::default()
    };
    calls::apply(client, vec![keeping(same, policy)]).await;
    let after = got(client).await;
    assert_eq!(run(&after), run(&before), "it went on");
}

#[tokio::test]
async fn a_run_that_waits_goes_on_when_its_output_may_be_dropped() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mark = daemon.directory().join("mark");
    let script = format!("seq 1 200000; touch {mark:?}; exec sleep 1000");
    let block = proto::LogFullAction::Block;
    start_without_a_place(&daemon, &mut client, &script, block).await;
    until_told(&mut client, "BLOCKED").await;
    assert!(!mark.exists());
    let drops = proto::LogPolicy {
        full_action: proto::LogFullAction::Drop.into(),
        ..Default::default()
    };
    change(&mut client, drops).await;
    eventually("it has written all of it", || mark.exists().then_some(()));
    until_told(&mut client, "DROPPED").await;
    drop(client);
    daemon.replace();
    let mut client = daemon.client().await;
    until_told(&mut client, "DROPPED").await;
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_log_that_may_be_smaller_is_cut_at_once() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let policy = |max_segments| proto::LogPolicy {
        max_bytes: 1024 * KIB,
        segment_bytes: 16 * KIB,
        max_segments,
        ..Default::default()
    };
    let script = "seq 1 100000; echo end; exec sleep 1000";
    create(&mut client, keeping(sh("web", script), policy(0))).await;
    eventually("the end", || {
        let lines = super::shown(&daemon, &["web", "-n", "1"]);
        lines.iter().any(|line| line["text"] == "end").then_some(())
    });
    let directory = directory(&daemon, &mut client).await;
    assert!(segments(&directory).len() > 10);
    change(&mut client, policy(2)).await;
    eventually("two are left", || {
        (segments(&directory).len() == 2).then_some(())
    });
    drop(client);
    daemon.ended().await;
}
