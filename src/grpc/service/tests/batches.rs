//! Sets of processes.

use super::*;

fn codes(results: &[proto::ControlItemResult]) -> Vec<(&str, i32)> {
    let code = |result: &proto::ControlItemResult| result.status.as_ref().unwrap().code;
    results.iter().map(|r| (r.name.as_str(), code(r))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_set_is_applied_and_what_is_not_in_it_is_pruned() {
    let world = world();
    world.create(process("old")).await;
    let request = || proto::BatchApplyProcessesRequest {
        processes: vec![process("a"), process("b")],
        prune_selector: Some(proto::ProcessSelector::default()),
        wait: wait(WaitCondition::Settled),
        ..Default::default()
    };
    let answer = call!(world, batch_apply_processes, request()).unwrap();
    let outcomes: Vec<_> = answer
        .results
        .iter()
        .map(|r| (&*r.name, r.outcome()))
        .collect();
    let expected = [
        ("a", proto::ApplyOutcome::Created),
        ("b", proto::ApplyOutcome::Created),
        ("old", proto::ApplyOutcome::Pruned),
    ];
    assert_eq!(outcomes, expected);
    let outcomes = answer.results.iter().map(|r| r.wait_outcome());
    assert!(outcomes.into_iter().all(|o| o == WaitOutcome::Satisfied));
    assert_eq!(world.get("old").await.unwrap_err().code(), Code::NotFound);
    let again = call!(world, batch_apply_processes, request()).unwrap();
    for result in again.results {
        assert_eq!(
            (result.outcome(), result.revision),
            (proto::ApplyOutcome::Unchanged, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_faulty_set_is_refused_whole_with_every_fault() {
    let world = world();
    let mut broken = process("b");
    broken.spec.as_mut().unwrap().nice = 99;
    let request = proto::BatchApplyProcessesRequest {
        processes: vec![process("a"), broken, process("a")],
        ..Default::default()
    };
    let status = call!(world, batch_apply_processes, request).unwrap_err();
    assert_eq!(
        faulty(&status),
        ["processes[1].spec.nice", "processes[2].name"]
    );
    let groups = proto::BatchApplyProcessesRequest {
        groups: vec![proto::ProcessGroup::default()],
        ..Default::default()
    };
    let status = call!(world, batch_apply_processes, groups).unwrap_err();
    assert_eq!(reason(&status), "CAPABILITY_MISSING");
    let selector = proto::BatchApplyProcessesRequest {
        prune_selector: Some(proto::ProcessSelector {
            names: vec!["-".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = call!(world, batch_apply_processes, selector).unwrap_err();
    assert_eq!(faulty(&status), ["prune_selector.names[0]"]);
    assert_eq!(world.get("a").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn one_action_on_many_answers_per_item() {
    let world = world();
    for name in ["a", "b", "c"] {
        world.create(process(name)).await;
    }
    let request =
        |action: proto::ControlAction, names: &[&str]| proto::BatchControlProcessesRequest {
            selector: Some(proto::ProcessSelector {
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                ..Default::default()
            }),
            action: action.into(),
            wait: wait(WaitCondition::Running),
            ..Default::default()
        };
    let start = request(proto::ControlAction::Start, &["a", "b", "x"]);
    let answer = call!(world, batch_control_processes, start).unwrap();
    let not_found = i32::from(Code::NotFound);
    assert_eq!(
        codes(&answer.results),
        [("a", 0), ("b", 0), ("x", not_found)]
    );
    assert_eq!(answer.results[0].wait_outcome(), WaitOutcome::Satisfied);
    assert!(answer.header.unwrap().revision >= answer.results[1].revision);
    let state = world
        .get("c")
        .await
        .unwrap()
        .process
        .unwrap()
        .status
        .unwrap()
        .state();
    assert_eq!(state, proto::ProcessState::Stopped);

    let reload = request(proto::ControlAction::Reload, &[]);
    let status = call!(world, batch_control_processes, reload).unwrap_err();
    assert_eq!(reason(&status), "CAPABILITY_MISSING");
    let mut nothing = request(proto::ControlAction::Unspecified, &[]);
    nothing.selector = None;
    let status = call!(world, batch_control_processes, nothing).unwrap_err();
    assert_eq!(faulty(&status), ["selector", "action"]);
}

/// The service of a next daemon, which knows what was done under `ID` to `names`.
fn successor(
    world: &World,
    message: &proto::BatchControlProcessesRequest,
    names: &[&str],
) -> World {
    let mut setup = world.service.setup().clone();
    let registry = setup.supervisor.registry();
    let request = |name: &&str| {
        let node = registry.get(name).unwrap();
        store::Request {
            principal: "".into(),
            method: "BatchControlProcesses".into(),
            id: *uuid::Uuid::try_parse(ID).unwrap().as_bytes(),
            fingerprint: crate::grpc::schema::digest(
                ".procession.v1.BatchControlProcessesRequest",
                message,
            ),
            uid: node.uid(),
            name: node.body().name().clone(),
            run_id: node.body().status.run_id,
            revision: node.revision(),
            time: setup.clock.now().wall,
        }
    };
    setup.remembered = names.iter().map(request).collect();
    World {
        service: ProcessManagerService::new(setup),
        runner: world.runner.clone(),
        shutdown: Arc::clone(&world.shutdown),
        _logs: tempfile::tempdir().unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_an_earlier_daemon_is_finished_and_not_repeated() {
    let world = world();
    for name in ["done", "left"] {
        world.create(process(name)).await;
    }
    let starts = proto::BatchControlProcessesRequest {
        selector: Some(proto::ProcessSelector::default()),
        action: proto::ControlAction::Start.into(),
        request_id: ID.into(),
        ..Default::default()
    };
    let later = successor(&world, &starts, &["done"]);
    tokio::time::advance(Duration::from_secs(1)).await;
    later.create(process("new")).await;
    let answer = call!(later, batch_control_processes, starts.clone()).unwrap();
    let names: Vec<_> = answer.results.iter().map(|item| &*item.name).collect();
    assert_eq!(names, ["left", "done"], "not what came later");
    let run_id = |name| {
        later
            .service
            .supervisor()
            .registry()
            .get(name)
            .unwrap()
            .body()
            .status
            .run_id
    };
    assert_eq!((run_id("done"), run_id("left"), run_id("new")), (0, 1, 0));
    let again = call!(later, batch_control_processes, starts.clone()).unwrap();
    assert_eq!(again.results.len(), 2);
    assert_eq!(run_id("left"), 1);

    let other = proto::BatchControlProcessesRequest {
        unordered: true,
        ..starts.clone()
    };
    let later = successor(&world, &other, &["done"]);
    let status = call!(later, batch_control_processes, starts).unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
}
