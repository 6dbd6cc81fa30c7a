//! What was acknowledged holds after a kill, whatever the instant.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use procession::grpc::proto::{self, DesiredState as Desired};
use tokio::sync::Mutex;

use super::super::{
    calls::{self, status},
    support::{Client, Daemon, command},
};
use crate::{
    chance::{Dice, rounds},
    known::{Answer, Known, desired},
};

/// Asks until the daemon is gone.
async fn ask_on(mut client: Client, name: String, seed: u64, known: Arc<Mutex<Known>>) {
    let (mut dice, process) = (Dice(seed), command(&name, &["sleep", "1000"]));
    loop {
        let mut known = known.lock().await;
        match known.ask(&mut client, &process, &mut dice).await {
            Answer::Kept | Answer::Refused => {}
            Answer::NotKept => panic!("{name}: its disk is well"),
            Answer::Gone => return,
        }
    }
}

#[tokio::test]
async fn acknowledged_intents_outlive_kills_at_any_instant() {
    let mut dice = Dice::new();
    let mut daemon = Daemon::start();
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    let known: BTreeMap<String, Arc<Mutex<Known>>> = names
        .iter()
        .map(|name| (name.clone(), Arc::default()))
        .collect();
    for round in 0..rounds(10, 1) {
        let mut askers = Vec::new();
        for name in &names {
            let client = daemon.client().await;
            let seed = dice.throw(u64::MAX);
            let known = Arc::clone(&known[name]);
            askers.push(tokio::spawn(ask_on(client, name.clone(), seed, known)));
        }
        tokio::time::sleep(Duration::from_millis(dice.throw(100))).await;
        daemon.kill();
        for asker in askers {
            asker.await.unwrap();
        }
        daemon.restart();
        let mut client = daemon.client().await;
        let there = desired(&mut client).await;
        for name in &names {
            let found = there.get(name).copied();
            let what = format!("round {round}: {name}");
            known[name].lock().await.check(found, &what);
        }
    }
    daemon.ended().await;
}

#[tokio::test]
async fn manual_stops_and_starts_are_remembered() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    for name in ["stays", "stopped", "gone"] {
        calls::create(&mut client, command(name, &["sleep", "1000"])).await;
        calls::wait_for(&mut client, name, proto::WaitCondition::Running).await;
    }
    let before = status(&calls::get(&mut client, "stays").await).pid;
    calls::stop(&mut client, "stopped").await;
    let request = proto::DeleteProcessRequest {
        name: "gone".to_owned(),
        ..Default::default()
    };
    client.delete_process(request).await.unwrap();
    drop(client);
    daemon.replace();
    let mut client = daemon.client().await;
    let found = desired(&mut client).await;
    let expected = [
        ("stays".to_owned(), Desired::Running),
        ("stopped".to_owned(), Desired::Stopped),
    ];
    assert_eq!(found, BTreeMap::from(expected));
    let stays = calls::get(&mut client, "stays").await;
    assert_eq!(status(&stays).pid, before);
    let adopted = status(&stays)
        .conditions
        .iter()
        .find(|c| c.r#type == "Adopted");
    assert_eq!(
        adopted.map(proto::Condition::status),
        Some(proto::ConditionStatus::True)
    );
    let stopped = calls::get(&mut client, "stopped").await;
    assert_eq!(calls::state(&stopped), proto::ProcessState::Stopped);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_request_is_carried_out_once_also_across_daemons() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    calls::create(&mut client, command("one", &["sleep", "1000"])).await;
    calls::wait_for(&mut client, "one", proto::WaitCondition::Running).await;
    let restart = proto::RestartProcessRequest {
        name: "one".to_owned(),
        request_id: "22222222-2222-4222-8222-222222222222".to_owned(),
        wait: calls::wait(proto::WaitCondition::Running),
        ..Default::default()
    };
    let first = client.restart_process(restart.clone()).await.unwrap();
    let first = first.into_inner().process.unwrap();
    assert_eq!(status(&first).run_id, 2);
    drop(client);
    daemon.replace();
    let mut client = daemon.client().await;
    let again = client.restart_process(restart.clone()).await.unwrap();
    let again = again.into_inner().process.unwrap();
    assert_eq!(status(&again).run_id, 2, "it was repeated, not done again");
    assert_eq!(status(&again).pid, status(&first).pid);
    let other = proto::RestartProcessRequest {
        wait: None,
        ..restart
    };
    let refused = client.restart_process(other).await.unwrap_err();
    assert!(refused.message().contains("request"), "{refused:?}");
    drop(client);
    daemon.ended().await;
}

/// A batch with an id, which must not be drawn twice.
fn restarts() -> proto::BatchControlProcessesRequest {
    proto::BatchControlProcessesRequest {
        selector: Some(proto::ProcessSelector::default()),
        action: proto::ControlAction::Restart.into(),
        request_id: "33333333-3333-4333-8333-333333333333".to_owned(),
        wait: calls::wait(proto::WaitCondition::Running),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_batch_is_carried_out_once_also_across_daemons() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let apply = proto::BatchApplyProcessesRequest {
        processes: ["one", "two"]
            .map(|n| command(n, &["sleep", "1000"]))
            .into(),
        request_id: "44444444-4444-4444-8444-444444444444".to_owned(),
        wait: calls::wait(proto::WaitCondition::Running),
        ..Default::default()
    };
    client.batch_apply_processes(apply.clone()).await.unwrap();
    client.batch_control_processes(restarts()).await.unwrap();
    // Later than the batch, which is to leave it alone.
    calls::create(&mut client, command("three", &["sleep", "1000"])).await;
    calls::wait_for(&mut client, "three", proto::WaitCondition::Running).await;
    // Somebody else wants another configuration since.
    calls::apply(&mut client, vec![command("two", &["sleep", "2000"])]).await;
    drop(client);
    daemon.replace();
    let mut client = daemon.client().await;
    let applied = client.batch_apply_processes(apply).await.unwrap();
    assert_eq!(applied.into_inner().results.len(), 2);
    let restarted = client.batch_control_processes(restarts()).await.unwrap();
    let mut names: Vec<_> = restarted.into_inner().results;
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = names.iter().map(|item| &*item.name).collect();
    assert_eq!(names, ["one", "two"]);
    for (name, run_id, last) in [("one", 2, "1000"), ("two", 3, "2000"), ("three", 1, "1000")] {
        let process = calls::wait_for(&mut client, name, proto::WaitCondition::Running).await;
        assert_eq!(status(&process).run_id, run_id, "{name}");
        assert_eq!(process.spec.unwrap().command[1], last, "{name}");
    }
    drop(client);
    daemon.ended().await;
}
