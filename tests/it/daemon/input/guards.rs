//! Preconditions, etags and request ids.

use procession::grpc::proto::{self, Precondition};
use tonic::Code;
use uuid::Uuid;

use super::{Refusal, paths, registry};
use crate::daemon::support::{Client, Daemon, command};

async fn create(client: &mut Client, name: &str, id: &str) -> proto::CreateProcessResponse {
    let mut process = command(name, &["sleep", "1000"]);
    process.spec.as_mut().unwrap().autostart = false;
    let request = proto::CreateProcessRequest {
        process: Some(process),
        request_id: id.to_owned(),
        ..Default::default()
    };
    client.create_process(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_guard_that_does_not_hold_is_told_with_the_current_value() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let process = create(&mut client, "web", "").await.process.unwrap();
    let other = Uuid::new_v4().to_string();
    let guards = [
        (
            "uid",
            process.uid.clone(),
            Precondition {
                uid: other.clone(),
                ..Default::default()
            },
        ),
        (
            "version",
            "1".into(),
            Precondition {
                version: Some(7),
                ..Default::default()
            },
        ),
        (
            "generation",
            "1".into(),
            Precondition {
                generation: Some(7),
                ..Default::default()
            },
        ),
        (
            "run_id",
            "0".into(),
            Precondition {
                run_id: Some(7),
                ..Default::default()
            },
        ),
        (
            "epoch",
            epoch(&mut client).await,
            Precondition {
                epoch: other,
                ..Default::default()
            },
        ),
    ];
    let before = registry(&mut client).await;
    for (field, now, guard) in guards {
        let name = "web".to_owned();
        let precondition = Some(guard);
        let start = proto::StartProcessRequest {
            name,
            precondition,
            ..Default::default()
        };
        let refusal = Refusal::of(&client.start_process(start).await.unwrap_err());
        refusal.is(Code::Aborted, "PRECONDITION_MISMATCH", &[]);
        assert_eq!(refusal.metadata.get(field), Some(&now), "{refusal:?}");
        assert!(refusal.message.contains(field), "{refusal:?}");
        assert_eq!(registry(&mut client).await, before);
    }
    let delete = proto::DeleteProcessRequest {
        name: "web".into(),
        etag: "stale".into(),
        ..Default::default()
    };
    let refusal = Refusal::of(&client.delete_process(delete).await.unwrap_err());
    refusal.is(Code::InvalidArgument, "FIELD_INVALID", &["etag"]);
    assert_eq!(registry(&mut client).await, before);
    daemon.ended().await;
}

async fn epoch(client: &mut Client) -> String {
    let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
    info.unwrap().into_inner().header.unwrap().epoch
}

#[tokio::test]
async fn an_etag_of_an_earlier_configuration_is_refused() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let process = create(&mut client, "web", "").await.process.unwrap();
    let relabel = |value: &str| proto::UpdateProcessRequest {
        process: Some(proto::Process {
            name: "web".into(),
            etag: process.etag.clone(),
            labels: [("a".to_owned(), value.to_owned())].into(),
            ..Default::default()
        }),
        update_mask: paths(&["labels"]),
        ..Default::default()
    };
    client.update_process(relabel("1")).await.unwrap();
    let before = registry(&mut client).await;
    let refusal = Refusal::of(&client.update_process(relabel("2")).await.unwrap_err());
    refusal.is(Code::Aborted, "PRECONDITION_MISMATCH", &[]);
    assert_eq!(registry(&mut client).await, before);
    daemon.ended().await;
}

#[tokio::test]
async fn a_request_is_carried_out_once() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let id = Uuid::new_v4().to_string();
    let first = create(&mut client, "web", &id).await;
    let again = create(&mut client, "web", &id).await;
    assert_eq!(first, again, "the first outcome");
    let start = |id: &str| proto::StartProcessRequest {
        name: "web".into(),
        request_id: id.to_owned(),
        wait: Some(proto::WaitOptions {
            condition: proto::WaitCondition::Running.into(),
            timeout: None,
        }),
        ..Default::default()
    };
    client.start_process(start("")).await.unwrap();
    let restart = proto::RestartProcessRequest {
        name: "web".into(),
        request_id: Uuid::new_v4().to_string(),
        wait: start("").wait,
        ..Default::default()
    };
    let one = client
        .restart_process(restart.clone())
        .await
        .unwrap()
        .into_inner();
    let two = client.restart_process(restart).await.unwrap().into_inner();
    let run = |answer: &proto::RestartProcessResponse| {
        answer
            .process
            .as_ref()
            .unwrap()
            .status
            .as_ref()
            .unwrap()
            .run_id
    };
    assert_eq!((run(&one), run(&two)), (2, 2), "restarted once");
    daemon.ended().await;
}

#[tokio::test]
async fn an_id_is_for_one_content() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let id = Uuid::new_v4().to_string();
    let first = create(&mut client, "web", &id)
        .await
        .header
        .unwrap()
        .revision;
    let request = |name: &str, id: &str| proto::CreateProcessRequest {
        process: Some(command(name, &["true"])),
        request_id: id.to_owned(),
        ..Default::default()
    };
    let refusal = Refusal::of(&client.create_process(request("db", &id)).await.unwrap_err());
    refusal.is(Code::InvalidArgument, "REQUEST_ID_REUSED", &["request_id"]);
    assert_eq!(refusal.metadata["first_revision"], first.to_string());
    let refusal = Refusal::of(&client.create_process(request("db", "7")).await.unwrap_err());
    refusal.is(Code::InvalidArgument, "FIELD_INVALID", &["request_id"]);
    assert_eq!(registry(&mut client).await, (first, vec!["web".to_owned()]));
    // What was refused does not use the id up.
    let id = Uuid::new_v4().to_string();
    client
        .create_process(request("web", &id))
        .await
        .unwrap_err();
    client.create_process(request("web2", &id)).await.unwrap();
    daemon.ended().await;
}
