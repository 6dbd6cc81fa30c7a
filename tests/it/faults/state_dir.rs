//! A state directory that goes away under a running daemon.

use std::{fs, path::Path, time::Duration};

use procession::grpc::proto::{self, ConditionStatus, ProcessState as State, WaitCondition};

use super::support::{Rig, intent_durable, pass, until, until_writable};
use crate::{
    daemon::{
        calls::{self, state, status},
        proc,
    },
    known::read_only,
};

#[tokio::test]
async fn processes_can_be_controlled_after_their_state_directory_was_moved_away() {
    let mut rig = Rig::new();
    let (from, to) = (rig.state(), rig.disk().join("away"));
    check(&mut rig, |_| fs::rename(&from, &to).unwrap()).await;
    // It is found again, and so is what was not kept meanwhile.
    fs::rename(&to, &from).unwrap();
    let mut client = rig.client().await;
    until_writable(&mut client, true).await;
    until("the stop is kept", async || {
        (intent_durable(&mut client, "a").await == Some(ConditionStatus::True)).then_some(())
    })
    .await;
    rig.end(client).await;
}

#[tokio::test]
async fn processes_can_be_controlled_after_their_state_directory_was_removed() {
    let mut rig = Rig::new();
    check(&mut rig, |state| {
        // Runs and logs are written to meanwhile.
        while state.exists() {
            let _ = fs::remove_dir_all(state);
        }
    })
    .await;
    let client = rig.client().await;
    rig.end(client).await;
}

/// Two processes, of which one is stopped without the directory and the other runs
/// on until it is stopped too.
async fn check(rig: &mut Rig, takes_away: impl FnOnce(&Path)) {
    rig.start();
    let mut client = rig.client().await;
    for name in ["a", "b"] {
        let process = rig.process(name, "while :; do echo line; sleep 0.05; done");
        calls::create(&mut client, process).await;
        calls::wait_for(&mut client, name, WaitCondition::Running).await;
    }
    let pid = status(&calls::get(&mut client, "b").await).pid;
    takes_away(&rig.state());
    let request = proto::CreateProcessRequest {
        process: Some(rig.process("late", "sleep 1000")),
        ..Default::default()
    };
    let refused = client.create_process(request).await.unwrap_err();
    assert!(read_only(&refused), "{refused:?}");
    until_writable(&mut client, false).await;
    calls::stop(&mut client, "a").await;
    let process = calls::get(&mut client, "a").await;
    assert_eq!(state(&process), State::Stopped);
    let durable = intent_durable(&mut client, "a").await;
    assert_eq!(durable, Some(ConditionStatus::False));
    // Long enough for whatever would be done about it by itself.
    pass(Duration::from_millis(500)).await;
    assert!(proc::alive(pid));
    let process = calls::get(&mut client, "b").await;
    let now = (state(&process), status(&process).pid);
    assert_eq!(now, (State::Running, pid));
    calls::stop(&mut client, "b").await;
    until("both are gone", async || {
        rig.children().is_empty().then_some(())
    })
    .await;
}
