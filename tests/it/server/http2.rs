//! What stands before the service: caps, sizes, panics, health, reflection, the
//! watch's own limits.

use std::{io::Read, os::unix::net::UnixStream, time::Duration};

use procession::{
    domain::time::Timestamp,
    grpc::{
        proto::{self, watch_processes_response::Payload},
        server::{ConnectionLimits, REQUEST_BYTES_MAX, ServerConfig},
    },
    store::{Health, Reason, ReasonKind},
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb;

use super::support::{DRAIN_MAX, World, channel, eventually, principal, reason};

#[tokio::test]
async fn connections_above_the_cap_are_closed_and_later_ones_served() {
    let world = World::new();
    let limits = ConnectionLimits {
        total_max: 10,
        per_peer_max: 2,
    };
    let running = world
        .serve_with(ServerConfig {
            limits,
            ..world.config()
        })
        .unwrap();
    let mut first = world.client().await;
    let second = world.client().await;
    principal(&mut first).await.unwrap();
    let mut third = UnixStream::connect(world.path()).unwrap();
    // Closed without a word; a timeout would be an error.
    third
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(third.read(&mut [0; 1]).unwrap(), 0);
    drop(second);
    eventually("the second is gone", || running.connections() == 1).await;
    principal(&mut world.client().await).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_too_large_says_so() {
    let world = World::new();
    let _running = world.serve();
    let mut client = world.client().await;
    let request = proto::WriteStdinRequest {
        name: "x".into(),
        data: vec![0; REQUEST_BYTES_MAX].into(),
        ..Default::default()
    };
    let status = client.write_stdin(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason(&status), "MESSAGE_TOO_LARGE");
    principal(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_panic_is_internal_and_the_server_lives() {
    let world = World::new();
    let _running = world.serve();
    let mut client = world.client().await;
    let request = proto::GetProcessRequest::default();
    let status = client.get_process(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(reason(&status), "INTERNAL");
    principal(&mut client).await.unwrap();
}

#[tokio::test]
async fn health_is_reported_for_the_server_and_the_service() {
    let world = World::new();
    let running = world.serve();
    let mut health = HealthClient::new(channel(&world.path()).await);
    let request = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let mut watch = health.watch(request("")).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    for service in ["", "procession.v1.ProcessManager"] {
        let answer = health.check(request(service)).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    }
    let status = health.check(request("nope")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let mut unknown = health.watch(request("nope")).await.unwrap().into_inner();
    let answer = unknown.message().await.unwrap().unwrap();
    assert_eq!(answer.status(), ServingStatus::ServiceUnknown);

    running.announce_shutdown();
    let second = watch.message().await.unwrap().unwrap();
    assert_eq!(second.status(), ServingStatus::NotServing);
    // Calls are still served.
    principal(&mut world.client().await).await.unwrap();
    let drained = tokio::spawn(running.shutdown(DRAIN_MAX));
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    drop((health, watch, unknown));
    assert!(drained.await.unwrap());
}

#[tokio::test]
async fn a_read_only_store_is_told_and_the_server_still_serves() {
    let world = World::new();
    let running = world.serve();
    let mut health = HealthClient::new(channel(&world.path()).await);
    let request = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let store = request("procession.v1.ProcessManager/StoreWritable");
    let mut watch = health.watch(store.clone()).await.unwrap().into_inner();
    let mut next = async || watch.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::Serving);
    world.store.send_replace(Health::ReadOnly {
        reason: Reason {
            kind: ReasonKind::Full,
            detail: "no space".into(),
        },
        since: Timestamp(1),
    });
    assert_eq!(next().await, ServingStatus::NotServing);
    for (request, status) in [
        (store, ServingStatus::NotServing),
        (request(""), ServingStatus::Serving),
    ] {
        let answer = health.check(request).await.unwrap();
        assert_eq!(answer.get_ref().status(), status);
    }
    world.store.send_replace(Health::Writable);
    assert_eq!(next().await, ServingStatus::Serving);
    running.announce_shutdown();
    assert_eq!(next().await, ServingStatus::NotServing);
    drop((health, watch));
    assert!(running.shutdown(DRAIN_MAX).await);
}

#[tokio::test]
async fn reflection_knows_the_contract_and_health_in_both_versions() {
    let world = World::new();
    let _running = world.serve();
    let channel = channel(&world.path()).await;
    let mut names = Vec::new();

    let mut v1 = pb::v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let request = pb::v1::ServerReflectionRequest {
        message_request: Some(
            pb::v1::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
        ..Default::default()
    };
    let answer = v1
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let message = answer.into_inner().message().await.unwrap().unwrap();
    use pb::v1::server_reflection_response::MessageResponse as V1;
    if let Some(V1::ListServicesResponse(list)) = message.message_response {
        names.push(list.service.into_iter().map(|s| s.name).collect::<Vec<_>>());
    }

    let mut alpha = pb::v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let request = pb::v1alpha::ServerReflectionRequest {
        message_request: Some(
            pb::v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
        ..Default::default()
    };
    let answer = alpha
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let message = answer.into_inner().message().await.unwrap().unwrap();
    use pb::v1alpha::server_reflection_response::MessageResponse as Alpha;
    if let Some(Alpha::ListServicesResponse(list)) = message.message_response {
        names.push(list.service.into_iter().map(|s| s.name).collect());
    }

    assert_eq!(names.len(), 2);
    for list in names {
        for service in ["procession.v1.ProcessManager", "grpc.health.v1.Health"] {
            assert!(
                list.iter().any(|name| name == service),
                "{service}: {list:?}"
            );
        }
    }
}

#[tokio::test]
async fn watches_are_counted_until_they_are_dropped() {
    let world = World::new();
    let _running = world.serve();
    let mut client = world.client().await;
    let request = proto::WatchProcessesRequest::default;
    let mut first = client
        .watch_processes(request())
        .await
        .unwrap()
        .into_inner();
    let second = client.watch_processes(request()).await.unwrap();
    first.message().await.unwrap().unwrap();
    assert_eq!(world.streams.count(), 2);
    let status = client.watch_processes(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), "QUOTA_STREAMS");
    drop((first, second));
    eventually("the streams are gone", || world.streams.count() == 0).await;
    client.watch_processes(request()).await.unwrap();
}

#[tokio::test]
async fn a_watch_is_refused_before_its_first_header() {
    let world = World::new();
    let _running = world.serve();
    let mut client = world.client().await;
    let selector = |label_selector: &str| proto::WatchProcessesRequest {
        selector: Some(proto::ProcessSelector {
            label_selector: label_selector.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let token = |revision| proto::WatchProcessesRequest {
        resume_token: Some(proto::ResumeToken {
            epoch: "epoch".into(),
            revision,
            ..Default::default()
        }),
        reset_policy: proto::ResetPolicy::Fail.into(),
        ..Default::default()
    };
    let mut other_epoch = token(0);
    if let Some(token) = &mut other_epoch.resume_token {
        token.epoch = "before".into();
    }
    let cases = [
        (selector("a ~ b"), Code::InvalidArgument, "SELECTOR_INVALID"),
        (token(1), Code::InvalidArgument, "REVISION_IN_FUTURE"),
        (token(-1), Code::InvalidArgument, "REVISION_IN_FUTURE"),
        (other_epoch, Code::OutOfRange, "EPOCH_CHANGED"),
    ];
    for (request, code, expected) in cases {
        let status = client.watch_processes(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
    }
    assert_eq!(world.streams.count(), 0);
}

#[tokio::test]
async fn a_scope_can_be_resumed_and_another_is_reset() {
    let world = World::new();
    let _running = world.serve();
    let mut client = world.client().await;
    let of_names = |names: &[&str], resume_token| proto::WatchProcessesRequest {
        selector: Some(proto::ProcessSelector {
            names: names.iter().map(|name| (*name).into()).collect(),
            ..Default::default()
        }),
        resume_token,
        ..Default::default()
    };
    let answer = client.watch_processes(of_names(&["a", "b"], None)).await;
    let first = answer
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(Payload::Opened(opened)) = first.payload else {
        panic!("{first:?}");
    };
    assert_eq!((opened.epoch.as_str(), opened.resumed), ("epoch", false));
    assert_eq!(opened.mode(), proto::WatchMode::LatestState);
    let token = Some(proto::ResumeToken {
        epoch: opened.epoch,
        revision: 0,
        scope: opened.scope,
    });
    for (names, resumed) in [(["b", "a"], true), (["a", "c"], false)] {
        let answer = client
            .watch_processes(of_names(&names, token.clone()))
            .await;
        let mut stream = answer.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        let Some(Payload::Opened(opened)) = first.payload else {
            panic!("{first:?}");
        };
        assert_eq!(opened.resumed, resumed);
        if !resumed {
            let second = stream.message().await.unwrap().unwrap();
            let Some(Payload::Reset(reset)) = second.payload else {
                panic!("{second:?}");
            };
            assert_eq!(reset.reason(), proto::ResetReason::ScopeChanged);
        }
    }
}
