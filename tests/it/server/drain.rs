//! The end: streams are told, calls may finish, nothing lasts longer than the cap.

use std::time::{Duration, Instant};

use procession::grpc::proto::{self, watch_processes_response::Payload};
use tonic::Code;
use tonic_types::StatusExt;

use super::support::{DRAIN_MAX, World, reason, try_channel};

#[tokio::test]
async fn streams_are_told_before_they_end() {
    let world = World::new();
    let running = world.serve();
    let mut client = world.client().await;
    let request = proto::WatchProcessesRequest::default();
    let mut watch = client.watch_processes(request).await.unwrap().into_inner();
    loop {
        let message = watch.message().await.unwrap().unwrap();
        if matches!(message.payload, Some(Payload::Synced(_))) {
            break;
        }
    }
    let drained = tokio::spawn(running.shutdown(DRAIN_MAX));
    let message = watch.message().await.unwrap().unwrap();
    let Some(Payload::Closing(closing)) = message.payload else {
        panic!("{message:?}");
    };
    assert_eq!(closing.reason(), proto::CloseReason::Shutdown);
    let status = watch.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), "SHUTTING_DOWN");
    assert!(status.get_error_details().retry_info().is_some());
    drop(client);
    assert!(drained.await.unwrap(), "nothing had to be cut off");
    assert!(try_channel(&world.path()).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_at_the_cap() {
    let world = World::new();
    let drain_max = Duration::from_millis(300);
    let running = world.serve();
    let mut client = world.client().await;
    let mut waiting = client.clone();
    let endless = tokio::spawn(async move {
        waiting
            .list_processes(proto::ListProcessesRequest::default())
            .await
    });
    // Once this is answered, so has the other call arrived: same connection.
    super::support::principal(&mut client).await.unwrap();
    let begun = Instant::now();
    assert!(!running.shutdown(drain_max).await);
    assert!(begun.elapsed() >= drain_max);
    assert!(endless.await.unwrap().is_err());
}

#[tokio::test]
async fn a_dropped_server_is_gone_at_once() {
    let world = World::new();
    let running = world.serve();
    let mut client = world.client().await;
    let request = proto::WatchProcessesRequest::default();
    let mut watch = client.watch_processes(request).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    drop(running);
    assert!(!world.path().exists());
    assert_eq!(world.streams.count(), 0);
    // Told or cut off, but ended.
    while let Ok(Some(_)) = watch.message().await {}
}
