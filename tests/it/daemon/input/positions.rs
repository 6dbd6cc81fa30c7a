//! Positions that this daemon does not have: resume tokens and page tokens.

use procession::grpc::proto::{
    self, ResetPolicy, ResetReason, ResumeToken, watch_processes_response::Payload,
};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use super::Refusal;
use crate::daemon::support::{Client, Daemon, command};

async fn watch(
    client: &mut Client,
    epoch: &str,
    revision: i64,
    policy: ResetPolicy,
) -> Result<Streaming<proto::WatchProcessesResponse>, Status> {
    let request = proto::WatchProcessesRequest {
        resume_token: Some(ResumeToken {
            epoch: epoch.to_owned(),
            revision,
            scope: String::new(),
        }),
        reset_policy: policy.into(),
        ..Default::default()
    };
    client
        .watch_processes(request)
        .await
        .map(|r| r.into_inner())
}

async fn head(client: &mut Client) -> proto::ResponseHeader {
    let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
    info.unwrap().into_inner().header.unwrap()
}

#[tokio::test]
async fn the_future_is_refused() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let now = head(&mut client).await;
    for revision in [now.revision + 1, i64::MAX, -1] {
        let opened = watch(&mut client, &now.epoch, revision, ResetPolicy::Resnapshot).await;
        let refusal = Refusal::of(&opened.unwrap_err());
        refusal.is(Code::InvalidArgument, "REVISION_IN_FUTURE", &[]);
        assert_eq!(refusal.metadata["head_revision"], now.revision.to_string());
    }
    daemon.ended().await;
}

#[tokio::test]
async fn a_token_of_another_epoch_is_reset_or_refused() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let process = Some(command("web", &["sleep", "1000"]));
    let request = proto::CreateProcessRequest {
        process,
        ..Default::default()
    };
    client.create_process(request).await.unwrap();
    let other = Uuid::new_v4().to_string();
    let refused = watch(&mut client, &other, 1, ResetPolicy::Fail).await;
    let refusal = Refusal::of(&refused.unwrap_err());
    refusal.is(Code::OutOfRange, "EPOCH_CHANGED", &[]);
    let now = head(&mut client).await;
    assert_eq!(refusal.metadata["epoch"], now.epoch);

    let mut stream = watch(&mut client, &other, 1, ResetPolicy::Resnapshot)
        .await
        .unwrap();
    let mut payloads = Vec::new();
    while !matches!(payloads.last(), Some(Payload::Synced(_))) {
        payloads.push(stream.message().await.unwrap().unwrap().payload.unwrap());
    }
    let [
        Payload::Opened(opened),
        Payload::Reset(reset),
        Payload::Snapshot(part),
        Payload::Synced(_),
    ] = &payloads[..]
    else {
        panic!("{payloads:?}");
    };
    assert!(!opened.resumed || opened.epoch == now.epoch, "{opened:?}");
    assert_eq!(reset.reason(), ResetReason::EpochChanged);
    assert_eq!(reset.epoch, now.epoch);
    assert_eq!(part.processes[0].name, "web");
    daemon.ended().await;
}

#[tokio::test]
async fn a_page_token_is_for_the_same_question() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let processes = (0..3)
        .map(|i| command(&format!("p{i}"), &["sleep", "1000"]))
        .collect();
    let request = proto::BatchApplyProcessesRequest {
        processes,
        ..Default::default()
    };
    client.batch_apply_processes(request).await.unwrap();
    let list = |page_token: &str, names: &[&str]| proto::ListProcessesRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
        selector: Some(proto::ProcessSelector {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let first = client
        .list_processes(list("", &[]))
        .await
        .unwrap()
        .into_inner();
    let token = first.next_page_token;
    let cut = &token[..token.len() - 2];
    for (token, names) in [(token.as_str(), &["p1"][..]), (cut, &[]), ("AAAA", &[])] {
        let refusal = Refusal::of(&client.list_processes(list(token, names)).await.unwrap_err());
        refusal.is(Code::InvalidArgument, "PAGE_TOKEN_INVALID", &["page_token"]);
    }
    let second = client
        .list_processes(list(&token, &[]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(second.processes[0].name, "p1");
    // Another daemon does not know the list.
    let other = Daemon::start();
    let mut stranger = other.client().await;
    let asked = stranger.list_processes(list(&token, &[])).await;
    let refusal = Refusal::of(&asked.unwrap_err());
    refusal.is(Code::Aborted, "LIST_EXPIRED", &[]);
    other.ended().await;
    daemon.ended().await;
}
