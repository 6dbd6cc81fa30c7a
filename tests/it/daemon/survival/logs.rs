//! Streams of output and of changes, resumed at another daemon.

use procession::grpc::proto::{
    self, WaitCondition, tail_logs_response::Payload as Tail,
    watch_processes_response::Payload as Watched,
};

use super::{
    super::{
        calls::{self, status},
        support::{Client, Daemon, command},
    },
    writer,
};

/// Sequences of entries after `after`, following, until `last`.
async fn follow(client: &mut Client, name: &str, after: i64, last: i64) -> Vec<i64> {
    let request = proto::TailLogsRequest {
        selector: Some(proto::ProcessSelector {
            names: vec![name.to_owned()],
            ..Default::default()
        }),
        after_sequences: [(name.to_owned(), after)].into(),
        follow: true,
        ..Default::default()
    };
    let mut stream = client.tail_logs(request).await.unwrap().into_inner();
    let mut got = Vec::new();
    while got.last().is_none_or(|sequence| *sequence < last) {
        match stream.message().await.unwrap().unwrap().payload.unwrap() {
            Tail::Entries(more) => got.extend(more.entries.iter().map(|e| e.sequence)),
            Tail::Synced(_) | Tail::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    got
}

#[tokio::test]
async fn output_is_followed_across_daemons_by_sequence() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let name = calls::create(&mut client, writer("one", 500, "0.2")).await;
    calls::wait_for(&mut client, &name, WaitCondition::Running).await;
    let mut seen = follow(&mut client, &name, 0, 50).await;
    assert_eq!(seen.first(), Some(&1));
    drop(client);
    daemon.replace();
    let mut client = daemon.client().await;
    let from = *seen.last().unwrap();
    seen.extend(follow(&mut client, &name, from, 500).await);
    assert_eq!(seen, (1..=500).collect::<Vec<i64>>());
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_watch_of_latest_state_goes_on_at_the_next_daemon() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    for name in ["a", "b"] {
        calls::create(&mut client, command(name, &["sleep", "1000"])).await;
        calls::wait_for(&mut client, name, WaitCondition::Running).await;
    }
    let head = durable(&mut client).await;
    let epoch = epoch(&mut client).await;
    drop(client);
    daemon.replace();
    let mut client = daemon.client().await;
    calls::stop(&mut client, "a").await;
    let request = proto::WatchProcessesRequest {
        resume_token: Some(proto::ResumeToken {
            epoch,
            revision: head,
            ..Default::default()
        }),
        reset_policy: proto::ResetPolicy::Fail.into(),
        ..Default::default()
    };
    let mut stream = client.watch_processes(request).await.unwrap().into_inner();
    let mut last = None;
    while last != Some(proto::ProcessState::Stopped) {
        let message = stream.message().await.unwrap().unwrap();
        match message.payload.unwrap() {
            Watched::Opened(_) | Watched::Synced(_) | Watched::Progress(_) => {}
            Watched::Events(events) => {
                for event in events.events {
                    let process = event.process.unwrap();
                    if process.name == "a" {
                        last = Some(status(&process).state());
                    }
                }
            }
            other => panic!("a reset or a snapshot: {other:?}"),
        }
    }
    drop((stream, client));
    daemon.ended().await;
}

async fn epoch(client: &mut Client) -> String {
    let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
    info.unwrap().into_inner().header.unwrap().epoch
}

/// The head, once it is durable.
async fn durable(client: &mut Client) -> i64 {
    loop {
        let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
        let info = info.unwrap().into_inner();
        let head = info.header.unwrap().revision;
        if info.durable_revision >= head {
            return head;
        }
        tokio::task::yield_now().await;
    }
}
