//! Create, update, apply, delete.

use super::*;

fn update(process: proto::Process, paths: &[&str]) -> proto::UpdateProcessRequest {
    proto::UpdateProcessRequest {
        process: Some(process),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_created_is_read_back_at_its_revision() {
    let world = world();
    let created = world.create(process("web")).await;
    let header = created.header.unwrap();
    let web = created.process.unwrap();
    assert_eq!((&*header.epoch, header.revision), (EPOCH, web.revision));
    assert_eq!((web.version, web.generation), (1, 1));
    assert_eq!(
        web.status.as_ref().unwrap().state(),
        proto::ProcessState::Stopped
    );
    let read = world.get("web").await.unwrap();
    assert_eq!(read.process, Some(web));
    assert!(read.header.unwrap().revision >= header.revision);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_once_and_a_missing_one_is_not_found() {
    let world = world();
    world.create(process("web")).await;
    let again = proto::CreateProcessRequest {
        process: Some(process("web")),
        ..Default::default()
    };
    let status = call!(world, create_process, again).unwrap_err();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::AlreadyExists, "PROCESS_EXISTS")
    );
    let status = world.get("db").await.unwrap_err();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::NotFound, "PROCESS_NOT_FOUND")
    );
    assert_eq!(faulty(&world.get("-").await.unwrap_err()), ["name"]);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_creation_is_answered_and_not_carried_out_again() {
    let world = world();
    let request = |nice| {
        let mut process = process("web");
        process.spec.as_mut().unwrap().nice = nice;
        proto::CreateProcessRequest {
            process: Some(process),
            request_id: ID.into(),
            validate_only: false,
        }
    };
    let first = call!(world, create_process, request(1)).unwrap();
    let second = call!(world, create_process, request(1)).unwrap();
    assert_eq!(first, second);
    let status = call!(world, create_process, request(2)).unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    let mut broken = request(1);
    broken.request_id = "one".into();
    let status = call!(world, create_process, broken).unwrap_err();
    assert_eq!(faulty(&status), ["request_id"]);
}

#[tokio::test(start_paused = true)]
async fn a_validated_creation_shows_the_process_and_leaves_none() {
    let world = world();
    let request = proto::CreateProcessRequest {
        process: Some(process("web")),
        validate_only: true,
        ..Default::default()
    };
    let answer = call!(world, create_process, request).unwrap();
    assert_eq!(answer.process.unwrap().name, "web");
    assert_eq!(world.get("web").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_update_changes_what_is_masked_and_bumps_the_generation() {
    let world = world();
    let mut web = process("web");
    web.labels.insert("app".into(), "web".into());
    world.create(web).await;
    let mut change = process("web");
    change.spec.as_mut().unwrap().nice = 5;
    let answer = call!(world, update_process, update(change, &["spec.nice"])).unwrap();
    let web = answer.process.unwrap();
    assert_eq!((web.generation, web.labels.len()), (2, 1));
    assert_eq!(web.spec.unwrap().nice, 5);
    let plan = answer.plan.unwrap();
    assert_eq!(plan.action(), proto::ChangeAction::LiveUpdate);
    assert_eq!(plan.changed_paths, ["spec.nice"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_of_a_live_run_says_that_it_waits_for_a_restart() {
    let world = world();
    world.create(process("web")).await;
    world.start("web").await;
    let mut change = process("web");
    change.spec.as_mut().unwrap().nice = 5;
    let answer = call!(world, update_process, update(change, &["spec.nice"])).unwrap();
    let plan = answer.plan.unwrap();
    assert_eq!(plan.action(), proto::ChangeAction::Restart);
    assert_eq!((plan.forcing_paths.len(), plan.deferred), (1, true));
}

#[tokio::test(start_paused = true)]
async fn an_old_etag_another_epoch_and_a_bad_edit_are_refused() {
    let world = world();
    let old = world.create(process("web")).await.process.unwrap();
    let mut change = process("web");
    change.spec.as_mut().unwrap().nice = 5;
    change.etag = old.etag;
    let request = update(change.clone(), &["spec.nice"]);
    call!(world, update_process, request.clone()).unwrap();
    let status = call!(world, update_process, request).unwrap_err();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::Aborted, "PRECONDITION_MISMATCH")
    );

    let mut request = update(process("web"), &["spec.nice"]);
    request.precondition = Some(proto::Precondition {
        epoch: "another".into(),
        ..Default::default()
    });
    let status = call!(world, update_process, request).unwrap_err();
    assert_eq!(reason(&status), "PRECONDITION_MISMATCH");

    let mut change = process("web");
    change.spec.as_mut().unwrap().command.clear();
    let status = call!(world, update_process, update(change, &["spec.command"])).unwrap_err();
    assert_eq!(faulty(&status), ["spec.command"]);
    let status = call!(world, update_process, update(process("web"), &[])).unwrap_err();
    assert_eq!(faulty(&status), ["update_mask"]);
}

#[tokio::test(start_paused = true)]
async fn an_apply_creates_then_changes_nothing() {
    let world = world();
    let request = || proto::ApplyProcessRequest {
        process: Some(process("web")),
        ..Default::default()
    };
    let first = call!(world, apply_process, request()).unwrap();
    assert_eq!(first.outcome(), proto::ApplyOutcome::Created);
    let second = call!(world, apply_process, request()).unwrap();
    assert_eq!(second.outcome(), proto::ApplyOutcome::Unchanged);
    assert_eq!(
        first.process.unwrap().version,
        second.process.unwrap().version
    );
}

#[tokio::test(start_paused = true)]
async fn a_deletion_answers_when_the_process_is_gone() {
    let world = world();
    world.create(process("web")).await;
    world.start("web").await;
    let request = |name: &str| proto::DeleteProcessRequest {
        name: name.into(),
        ..Default::default()
    };
    let kept = proto::DeleteProcessRequest {
        only_if_stopped: true,
        ..request("web")
    };
    let status = call!(world, delete_process, kept).unwrap_err();
    assert_eq!(reason(&status), "STILL_RUNNING");
    let checked = proto::DeleteProcessRequest {
        validate_only: true,
        ..request("web")
    };
    call!(world, delete_process, checked).unwrap();
    let answer = call!(world, delete_process, request("web")).unwrap();
    assert_eq!(answer.wait_outcome(), WaitOutcome::Satisfied);
    assert_eq!(answer.process.unwrap().name, "web");
    assert_eq!(world.get("web").await.unwrap_err().code(), Code::NotFound);
    let status = call!(world, delete_process, request("web")).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let missing = proto::DeleteProcessRequest {
        allow_missing: true,
        ..request("web")
    };
    assert_eq!(call!(world, delete_process, missing).unwrap().process, None);
}
