//! Commands on one process, and what the daemon says about itself.

use super::*;
use crate::{grpc::auth::Principal, runner::fake::Asked};

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_its_own_run() {
    let world = world();
    world.create(process("web")).await;
    let first = world.start("web").await;
    assert_eq!(first.wait_outcome(), WaitOutcome::Satisfied);
    let status = first.process.unwrap().status.unwrap();
    assert_eq!(
        (status.state(), status.run_id),
        (proto::ProcessState::Running, 1)
    );

    let restart = proto::RestartProcessRequest {
        name: "web".into(),
        precondition: Some(proto::Precondition {
            run_id: Some(1),
            ..Default::default()
        }),
        wait: wait(WaitCondition::Running),
        ..Default::default()
    };
    let second = call!(world, restart_process, restart.clone()).unwrap();
    assert_eq!(second.process.unwrap().status.unwrap().run_id, 2);
    let status = call!(world, restart_process, restart).unwrap_err();
    assert_eq!(reason(&status), "PRECONDITION_MISMATCH");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_is_a_result_but_the_caller_s_deadline_is_an_error() {
    let world = world();
    world.create(process("web")).await;
    world.start("web").await;
    let message = proto::WaitProcessRequest {
        name: "web".into(),
        condition: WaitCondition::Exited.into(),
        timeout: Some(prost_types::Duration {
            seconds: 5,
            nanos: 0,
        }),
        ..Default::default()
    };
    let answer = call!(world, wait_process, message.clone()).unwrap();
    assert_eq!(answer.outcome(), WaitOutcome::TimedOut);
    assert_eq!(answer.process.unwrap().name, "web");
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(1));
    let status = world.service.wait_process(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_wait_says_what_is_wrong_with_it() {
    let world = world();
    let message = proto::WaitProcessRequest {
        name: "-".into(),
        uid: "x".into(),
        run_id: -1,
        timeout: Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
        ..Default::default()
    };
    let status = call!(world, wait_process, message).unwrap_err();
    assert_eq!(
        faulty(&status),
        ["name", "condition", "uid", "timeout", "run_id"]
    );
    let future = proto::WaitProcessRequest {
        name: "web".into(),
        condition: WaitCondition::Running.into(),
        min_revision: 1000,
        ..Default::default()
    };
    world.create(process("web")).await;
    let status = call!(world, wait_process, future).unwrap_err();
    assert_eq!(reason(&status), "REVISION_IN_FUTURE");
}

#[tokio::test(start_paused = true)]
async fn a_signal_reaches_the_run_by_its_kernel_number() {
    let world = world();
    world.create(process("web")).await;
    let request = |target| proto::SignalProcessRequest {
        name: "web".into(),
        target_signal: target,
        ..Default::default()
    };
    let named = Some(proto::signal_process_request::TargetSignal::Signal(
        proto::Signal::Usr1.into(),
    ));
    let status = call!(world, signal_process, request(named)).unwrap_err();
    assert_eq!(reason(&status), "NOT_RUNNING");
    world.start("web").await;
    let sent = call!(world, signal_process, request(named)).unwrap();
    assert_eq!(sent.run_id, 1);
    let asked = world.runner.run(0).await.asked();
    let scope = crate::domain::run::SignalScope::Main;
    assert_eq!(asked, [Asked::Signal(nix::libc::SIGUSR1, scope)]);
    for wrong in [
        None,
        Some(proto::signal_process_request::TargetSignal::Signal(0)),
        Some(proto::signal_process_request::TargetSignal::Signal(99)),
    ] {
        let status = call!(world, signal_process, request(wrong)).unwrap_err();
        assert_eq!(faulty(&status), ["signal"]);
    }
    let wrong = Some(proto::signal_process_request::TargetSignal::SignalNumber(
        65,
    ));
    let status = call!(world, signal_process, request(wrong)).unwrap_err();
    assert_eq!(faulty(&status), ["signal_number"]);
}

#[tokio::test(start_paused = true)]
async fn pause_resume_stop_and_reset_answer_with_the_state() {
    let world = world();
    world.create(process("web")).await;
    world.start("web").await;
    let paused = proto::PauseProcessRequest {
        name: "web".into(),
        ..Default::default()
    };
    let state = |process: Option<proto::Process>| process.unwrap().status.unwrap().state();
    let answer = call!(world, pause_process, paused).unwrap();
    assert_eq!(state(answer.process), proto::ProcessState::Paused);
    let resumed = proto::ResumeProcessRequest {
        name: "web".into(),
        ..Default::default()
    };
    let answer = call!(world, resume_process, resumed).unwrap();
    assert_eq!(state(answer.process), proto::ProcessState::Running);
    let stopped = proto::StopProcessRequest {
        name: "web".into(),
        wait: wait(WaitCondition::Settled),
        ..Default::default()
    };
    let answer = call!(world, stop_process, stopped).unwrap();
    assert_eq!(answer.wait_outcome(), WaitOutcome::Satisfied);
    assert_eq!(state(answer.process), proto::ProcessState::Stopped);
    let reset = proto::ResetProcessRequest {
        name: "web".into(),
        ..Default::default()
    };
    let answer = call!(world, reset_process, reset).unwrap();
    assert_eq!(state(answer.process), proto::ProcessState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_change_names_its_caller_and_an_explanation_tells_it() {
    let world = world();
    world.create(process("web")).await;
    let mut request = Request::new(proto::StartProcessRequest {
        name: "web".into(),
        request_id: ID.into(),
        wait: wait(WaitCondition::Running),
        ..Default::default()
    });
    request.extensions_mut().insert(Principal("uid:7".into()));
    world.service.start_process(request).await.unwrap();
    let explain = proto::ExplainProcessRequest {
        name: "web".into(),
        max_events: 100,
    };
    let answer = call!(world, explain_process, explain).unwrap();
    assert!(
        answer.summary.starts_with("web is RUNNING"),
        "{}",
        answer.summary
    );
    let revisions: Vec<_> = answer.events.iter().map(|event| event.revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a > b), "{revisions:?}");
    let asked = answer
        .events
        .iter()
        .filter_map(|event| event.cause.as_ref());
    assert!(
        asked
            .clone()
            .any(|c| c.principal == "uid:7" && c.request_id == ID)
    );
    assert_eq!(answer.blockers, []);
}

#[tokio::test(start_paused = true)]
async fn an_explanation_follows_what_is_waited_for() {
    let world = world();
    for (name, on) in [("db", None), ("api", Some("db")), ("web", Some("api"))] {
        let mut process = process(name);
        let dependencies = on.map(|on| proto::Dependency {
            name: on.into(),
            ..Default::default()
        });
        process
            .spec
            .as_mut()
            .unwrap()
            .dependencies
            .extend(dependencies);
        world.create(process).await;
    }
    for name in ["api", "web"] {
        let request = proto::StartProcessRequest {
            name: name.into(),
            ..Default::default()
        };
        call!(world, start_process, request).unwrap();
    }
    let explain = proto::ExplainProcessRequest {
        name: "web".into(),
        ..Default::default()
    };
    let answer = call!(world, explain_process, explain).unwrap();
    let names: Vec<_> = answer.blockers.iter().map(|b| &*b.name).collect();
    assert_eq!(names, ["api", "db"]);
    assert!(
        answer.blockers[1].message.contains("not wanted"),
        "{answer:?}"
    );
    assert!(
        answer.next_action.contains("start run 1 once api"),
        "{answer:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_daemon_says_who_it_is_and_what_it_lacks() {
    let world = world();
    let mut request = Request::new(proto::GetServerInfoRequest {});
    request.extensions_mut().insert(Principal("uid:7".into()));
    let info = world
        .service
        .get_server_info(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(&*info.principal, "uid:7");
    assert_eq!(info.header.unwrap().epoch, EPOCH);
    assert_eq!(info.limits["processes_max"], 20_000);
    assert_eq!(info.limits["other_max"], 5);
    assert_eq!(info.capabilities, ["test"]);
    let status = call!(
        world,
        reload_process,
        proto::ReloadProcessRequest::default()
    )
    .unwrap_err();
    assert_eq!(reason(&status), "CAPABILITY_MISSING");
}

#[tokio::test(start_paused = true)]
async fn the_way_the_daemon_ends_is_passed_on() {
    let world = world();
    for (mode, how) in [
        (0, Shutdown::Stop),
        (1, Shutdown::Stop),
        (2, Shutdown::Keep),
        (3, Shutdown::Reexec),
    ] {
        let request = proto::ShutdownServerRequest { mode };
        call!(world, shutdown_server, request).unwrap();
        assert_eq!(world.shutdown.lock().unwrap().take(), Some(how));
    }
    let request = proto::ShutdownServerRequest { mode: 9 };
    let status = call!(world, shutdown_server, request).unwrap_err();
    assert_eq!(reason(&status), "FIELD_INVALID");
    assert_eq!(*world.shutdown.lock().unwrap(), None);
}
