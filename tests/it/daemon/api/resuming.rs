//! A watch that is cut goes on where it was.

use procession::grpc::proto::{
    self, ProcessState, ResumeToken, WatchMode, watch_processes_response::Payload,
};
use tonic::Streaming;

use super::{Daemon, create, start, state};
use crate::daemon::support::{Client, command};

/// A client's position, as the contract asks clients to keep it.
#[derive(Default)]
struct Position {
    token: Option<ResumeToken>,
    states: Vec<(i64, ProcessState)>,
}

// === impl Position ===

impl Position {
    async fn watch(&self, client: &mut Client) -> Streaming<proto::WatchProcessesResponse> {
        let request = proto::WatchProcessesRequest {
            mode: WatchMode::EveryChange.into(),
            resume_token: self.token.clone(),
            ..Default::default()
        };
        client.watch_processes(request).await.unwrap().into_inner()
    }

    /// Takes one message; checks that no revision is left out.
    fn take(&mut self, message: proto::WatchProcessesResponse) {
        let expected = self.token.as_ref().map_or(0, |token| token.revision);
        assert_eq!(message.from_revision, expected, "a gap before {message:?}");
        match message.payload.unwrap() {
            Payload::Opened(opened) => {
                assert_eq!(opened.resumed, self.token.is_some());
                let revision = message.to_revision;
                let (epoch, scope) = (opened.epoch, opened.scope);
                self.token = Some(ResumeToken {
                    epoch,
                    revision,
                    scope,
                });
            }
            Payload::Events(events) => {
                let told = events.events.iter();
                self.states.extend(
                    told.map(|event| (event.revision, state(event.process.as_ref().unwrap()))),
                );
            }
            Payload::Reset(reset) => panic!("{reset:?}"),
            _ => {}
        }
        self.token.as_mut().unwrap().revision = message.to_revision;
    }

    fn has(&self, state: ProcessState) -> bool {
        self.states.iter().any(|(_, seen)| *seen == state)
    }
}

#[tokio::test]
async fn nothing_is_missed_across_a_cut() {
    let daemon = Daemon::start();
    let mut position = Position::default();
    {
        let mut client = daemon.client().await;
        let mut stream = position.watch(&mut client).await;
        while !matches!(&position.token, Some(token) if token.revision > 0) {
            position.take(stream.message().await.unwrap().unwrap());
            if position.token.as_ref().unwrap().revision == 0 && position.states.is_empty() {
                create(
                    &mut daemon.client().await,
                    command("seen", &["sleep", "1000"]),
                )
                .await;
                break;
            }
        }
        while !position.has(ProcessState::Running) {
            position.take(stream.message().await.unwrap().unwrap());
        }
    }
    // Nobody listens.
    let mut client = daemon.client().await;
    create(&mut client, command("unseen", &["true"])).await;
    let request = proto::WaitProcessRequest {
        name: "unseen".into(),
        condition: proto::WaitCondition::Settled.into(),
        ..Default::default()
    };
    client.wait_process(request).await.unwrap();
    create(&mut client, command("later", &["sleep", "1000"])).await;
    start(&mut client, "later").await;
    let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
    let head = info.unwrap().into_inner().header.unwrap().revision;
    let mut stream = position.watch(&mut client).await;
    while position.token.as_ref().unwrap().revision < head {
        position.take(stream.message().await.unwrap().unwrap());
    }
    assert!(
        position.has(ProcessState::Succeeded),
        "{:?}",
        position.states
    );
    let revisions: Vec<i64> = position
        .states
        .iter()
        .map(|(revision, _)| *revision)
        .collect();
    let every: Vec<i64> = (revisions[0]..=head).collect();
    assert_eq!(revisions, every, "each revision once, in order");
    drop(stream);
    daemon.ended().await;
}
