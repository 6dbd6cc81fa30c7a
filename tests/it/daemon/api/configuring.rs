//! Writes of configuration: what bounces and what does not.

use procession::grpc::proto::{
    self, ApplyOutcome, ChangeAction, ProcessState, RolloutMode, WaitCondition,
};
use tonic::Code;

use super::{Daemon, create, get, revision, start, state, status, until};
use crate::daemon::support::{Client, command, eventually, sh};

async fn applied(client: &mut Client, process: proto::Process) -> proto::ApplyProcessResponse {
    let request = proto::ApplyProcessRequest {
        process: Some(process),
        rollout: RolloutMode::RestartIfNeeded.into(),
        ..Default::default()
    };
    client.apply_process(request).await.unwrap().into_inner()
}

fn update(
    process: proto::Process,
    path: &str,
    rollout: RolloutMode,
) -> proto::UpdateProcessRequest {
    proto::UpdateProcessRequest {
        process: Some(process),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![path.to_owned()],
        }),
        rollout: rollout.into(),
        wait: until(WaitCondition::Running),
        ..Default::default()
    }
}

#[tokio::test]
async fn applying_the_same_again_and_again_bounces_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let process = command("web", &["sleep", "1000"]);
    let first = applied(&mut client, process.clone()).await;
    assert_eq!(first.outcome(), ApplyOutcome::Created);
    let running = start(&mut client, "web").await;
    let before = get(&mut client, "web").await;
    for _ in 0..100 {
        let again = applied(&mut client, process.clone()).await;
        assert_eq!(again.outcome(), ApplyOutcome::Unchanged);
    }
    let after = get(&mut client, "web").await;
    assert_eq!(after, before, "not even a version");
    assert_eq!(
        status(after.process.as_ref().unwrap()).pid,
        status(&running).pid
    );
    daemon.ended().await;
}

#[tokio::test]
async fn an_update_says_what_it_does_and_when() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    create(&mut client, command("web", &["sleep", "1000"])).await;
    let running = start(&mut client, "web").await;
    let (pid, mut changed) = (status(&running).pid, running.clone());
    changed.etag.clear();
    changed.spec.as_mut().unwrap().env = [("A".to_owned(), "1".to_owned())].into();

    let request = update(changed.clone(), "spec.env", RolloutMode::NextStart);
    let deferred = client.update_process(request).await.unwrap().into_inner();
    let plan = deferred.plan.unwrap();
    assert_eq!(plan.action(), ChangeAction::Restart);
    assert!(plan.deferred, "{plan:?}");
    assert_eq!(plan.changed_paths, ["spec.env"]);
    assert_eq!(plan.forcing_paths, ["spec.env"]);
    let now = get(&mut client, "web").await.process.unwrap();
    assert_eq!(
        (status(&now).pid, status(&now).run_id),
        (pid, 1),
        "nothing bounced"
    );
    assert_eq!((now.generation, status(&now).run_generation), (2, 1));

    changed.spec.as_mut().unwrap().env = [("A".to_owned(), "2".to_owned())].into();
    let request = update(changed.clone(), "spec.env", RolloutMode::RestartIfNeeded);
    let restarted = client.update_process(request).await.unwrap().into_inner();
    assert!(!restarted.plan.unwrap().deferred);
    let now = restarted.process.unwrap();
    assert_eq!((status(&now).run_id, status(&now).run_generation), (2, 3));
    assert_ne!(status(&now).pid, pid);
    let environment = std::fs::read(format!("/proc/{}/environ", status(&now).pid)).unwrap();
    assert!(environment.split(|&b| b == 0).any(|pair| pair == b"A=2"));

    changed.labels.insert("tier".into(), "front".into());
    let request = update(changed, "labels", RolloutMode::RestartIfNeeded);
    let relabelled = client.update_process(request).await.unwrap().into_inner();
    assert_eq!(relabelled.plan.unwrap().action(), ChangeAction::LiveUpdate);
    let now = get(&mut client, "web").await.process.unwrap();
    assert_eq!(status(&now).run_id, 2, "a label bounces nothing");
    daemon.ended().await;
}

/// Each name and what was done to it, by name.
fn outcomes(answer: proto::BatchApplyProcessesResponse) -> Vec<(String, ApplyOutcome)> {
    let results = answer.results.into_iter();
    let mut outcomes: Vec<_> = results
        .map(|result| (result.name.clone(), result.outcome()))
        .collect();
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    outcomes
}

#[tokio::test]
async fn a_batch_prunes_what_it_does_not_name_and_only_then() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    for name in ["keep", "drop", "other"] {
        let mut process = command(name, &["sleep", "1000"]);
        process.labels.insert(
            "team".into(),
            if name == "other" { "b" } else { "a" }.into(),
        );
        create(&mut client, process).await;
        start(&mut client, name).await;
    }
    let keep = get(&mut client, "keep").await.process.unwrap();
    let mut new = command("new", &["sleep", "1000"]);
    new.labels.insert("team".into(), "a".into());
    let mut request = proto::BatchApplyProcessesRequest {
        processes: vec![
            new,
            proto::Process {
                etag: String::new(),
                status: None,
                ..keep.clone()
            },
        ],
        prune_selector: Some(proto::ProcessSelector {
            label_selector: "team=a".into(),
            ..Default::default()
        }),
        validate_only: true,
        wait: until(WaitCondition::Running),
        ..Default::default()
    };
    let expected = [
        ("drop".to_owned(), ApplyOutcome::Pruned),
        ("keep".to_owned(), ApplyOutcome::Unchanged),
        ("new".to_owned(), ApplyOutcome::Created),
    ];
    let list = proto::ListProcessesRequest::default;
    let before = client.list_processes(list()).await.unwrap().into_inner();
    let checked = client
        .batch_apply_processes(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(outcomes(checked), expected);
    let after = client.list_processes(list()).await.unwrap().into_inner();
    assert_eq!(before, after, "only checked");

    request.validate_only = false;
    let done = client
        .batch_apply_processes(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(outcomes(done), expected);
    let names: Vec<_> = client
        .list_processes(list())
        .await
        .unwrap()
        .into_inner()
        .processes
        .into_iter()
        .map(|process| process.name)
        .collect();
    assert_eq!(names, ["keep", "new", "other"]);
    assert_eq!(get(&mut client, "keep").await.process.unwrap(), keep);
    daemon.ended().await;
}

#[tokio::test]
async fn a_deletion_answers_when_everything_is_gone() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut process = sh(
        "web",
        "trap '' TERM; sleep 1000 & while :; do sleep 0.1; done",
    );
    process.spec.as_mut().unwrap().stop_policy = Some(proto::StopPolicy {
        grace_period: Some(prost_types::Duration {
            seconds: 0,
            nanos: 200_000_000,
        }),
        ..Default::default()
    });
    create(&mut client, process).await;
    let pid = status(&start(&mut client, "web").await).pid;
    let children = format!("/proc/{pid}/task/{pid}/children");
    let child: i32 = eventually("it has a child", || {
        let text = std::fs::read_to_string(&children).ok()?;
        text.split_whitespace().next()?.parse().ok()
    });
    let guarded = |only_if_stopped| proto::DeleteProcessRequest {
        name: "web".into(),
        only_if_stopped,
        ..Default::default()
    };
    let refused = client.delete_process(guarded(true)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        state(&get(&mut client, "web").await.process.unwrap()),
        ProcessState::Running
    );
    let deleted = client
        .delete_process(guarded(false))
        .await
        .unwrap()
        .into_inner();
    for pid in [pid, child] {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} lives"
        );
    }
    let gone = proto::GetProcessRequest {
        name: "web".into(),
        read_mask: None,
    };
    assert_eq!(
        client.get_process(gone).await.unwrap_err().code(),
        Code::NotFound
    );
    assert!(revision(deleted.header.as_ref()) > 0);
    let again = proto::DeleteProcessRequest {
        allow_missing: true,
        ..guarded(false)
    };
    let again = client.delete_process(again).await.unwrap().into_inner();
    assert_eq!(again.process, None);
    let reborn = create(&mut client, command("web", &["sleep", "1000"])).await;
    assert_ne!(reborn.uid, deleted.process.unwrap().uid);
    daemon.ended().await;
}
