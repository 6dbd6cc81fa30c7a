//! What a log policy asks for, seen from outside.

use std::path::PathBuf;

use procession::grpc::proto;

use super::create;
use crate::daemon::support::{Client, Daemon, eventually, sh};

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
