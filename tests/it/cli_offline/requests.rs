//! What is asked of the daemon.

use procession::{
    cli::ExitCode,
    grpc::proto::{
        self, ControlAction, DesiredState, ProcessState, ShutdownMode, Signal, SignalScope,
        WaitCondition, WaitOutcome, signal_process_request::TargetSignal,
    },
};

use super::fake::{Fake, header, listed, process};

fn seconds(duration: Option<prost_types::Duration>) -> i64 {
    duration.map_or(-1, |duration| duration.seconds)
}

#[test]
fn one_name_is_one_call_that_waits() {
    let fake = Fake::start();
    fake.answer("start_process", &proto::StartProcessResponse::default());
    fake.answer("stop_process", &proto::StopProcessResponse::default());
    fake.answer("restart_process", &proto::RestartProcessResponse::default());
    fake.answer("start_process", &proto::StartProcessResponse::default());
    fake.run(&["start", "web", "--with-dependencies"]);
    fake.run(&[
        "stop",
        "web",
        "--signal",
        "int",
        "--grace",
        "30s",
        "--with-dependents",
    ]);
    fake.run(&["restart", "web", "--timeout", "7s"]);
    fake.run(&["start", "web", "--no-wait"]);

    let starts = fake.asked::<proto::StartProcessRequest>("start_process");
    let wait = starts[0].wait.unwrap();
    assert_eq!(
        (wait.condition(), seconds(wait.timeout)),
        (WaitCondition::Running, 120)
    );
    assert!(starts[0].with_dependencies && !starts[0].request_id.is_empty());
    assert_ne!(starts[0].request_id, starts[1].request_id);
    assert_eq!(starts[1].wait, None);
    let stop = &fake.asked::<proto::StopProcessRequest>("stop_process")[0];
    let policy = stop.stop_policy.unwrap();
    assert_eq!(
        (policy.signal(), seconds(policy.grace_period)),
        (Signal::Int, 30)
    );
    assert_eq!(stop.wait.unwrap().condition(), WaitCondition::Settled);
    assert!(stop.with_dependents);
    let restart = &fake.asked::<proto::RestartProcessRequest>("restart_process")[0];
    assert_eq!(seconds(restart.wait.unwrap().timeout), 7);
}

fn result(name: &str) -> proto::ControlItemResult {
    proto::ControlItemResult {
        name: name.into(),
        ..Default::default()
    }
}

#[test]
fn several_are_one_batch_with_a_result_each() {
    let fake = Fake::start();
    let mut failed = result("db");
    failed.status = Some(tonic_types::Status {
        code: tonic::Code::Unavailable.into(),
        message: "the store is read-only".into(),
        details: vec![],
    });
    let mut slow = result("web-1");
    slow.wait_outcome = WaitOutcome::TimedOut.into();
    fake.answer(
        "batch_control_processes",
        &proto::BatchControlProcessesResponse {
            header: header(4),
            results: vec![failed, result("web-0"), slow],
        },
    );
    let ran = fake.run(&["start", "db", "web-*", "--timeout", "3s"]);
    assert_eq!(ran.code, ExitCode::Failed);
    assert_eq!(ran.stdout, "web-0: started\n");
    assert_eq!(
        ran.stderr,
        "error: db: the store is read-only\n\
         error: web-1: the wait timed out after 3s\n\
         hint: `procession explain web-1` says why\n"
    );
    let asked = fake.asked::<proto::BatchControlProcessesRequest>("batch_control_processes");
    assert_eq!(asked[0].action(), ControlAction::Start);
    let selector = asked[0].selector.clone().unwrap();
    assert!(
        selector.names.is_empty(),
        "names and patterns would have to match both"
    );
    assert_eq!(selector.name_patterns, ["db", "web-*"]);
}

#[test]
fn a_name_that_no_result_covers_does_not_exist() {
    let fake = Fake::start();
    fake.answer(
        "batch_control_processes",
        &proto::BatchControlProcessesResponse {
            header: header(4),
            results: vec![result("web-0")],
        },
    );
    let ran = fake.run(&["stop", "nope", "web-*"]);
    assert_eq!(ran.code, ExitCode::NotFound);
    assert!(ran.stdout.contains("web-0: stopped"), "{ran:?}");
    assert!(ran.stderr.contains("no such process: nope"), "{ran:?}");
}

#[test]
fn options_the_batch_cannot_say_are_one_call_each() {
    let fake = Fake::start();
    let (a, b) = (
        process("a", ProcessState::Running),
        process("b", ProcessState::Running),
    );
    fake.answer("list_processes", &listed(vec![a.clone(), b.clone()]));
    for stopped in [a, b] {
        fake.answer(
            "stop_process",
            &proto::StopProcessResponse {
                process: Some(process(&stopped.name, ProcessState::Stopped)),
                ..Default::default()
            },
        );
    }
    let ran = fake.run(&["stop", "--all", "--grace", "1s"]);
    assert_eq!(
        (ran.code, ran.stdout.lines().count()),
        (ExitCode::Ok, 2),
        "{ran:?}"
    );
    let mut names: Vec<String> = fake
        .asked::<proto::StopProcessRequest>("stop_process")
        .into_iter()
        .map(|stop| stop.name)
        .collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn control_verbs_want_a_target() {
    let fake = Fake::start();
    for verb in ["start", "stop", "restart", "pause", "delete"] {
        let ran = fake.run(&[verb]);
        assert_eq!(ran.code, ExitCode::Usage, "{verb}");
        assert!(ran.stderr.contains("--all"), "{verb}: {}", ran.stderr);
    }
    assert!(fake.methods().is_empty());
}

#[test]
fn group_globs_are_resolved_and_never_mean_everything() {
    let group = |name: &str, process_count| proto::GroupStatus {
        group: Some(proto::ProcessGroup {
            name: name.into(),
            restart_budget: None,
        }),
        process_count,
        ..Default::default()
    };
    let fake = Fake::start();
    let groups = vec![group("front", 2), group("empty", 0), group("back", 1)];
    fake.answer(
        "list_groups",
        &proto::ListGroupsResponse {
            header: header(1),
            groups,
        },
    );
    fake.answer(
        "batch_control_processes",
        &proto::BatchControlProcessesResponse {
            results: vec![result("x")],
            ..Default::default()
        },
    );
    assert_eq!(fake.run(&["restart", "group:*"]).code, ExitCode::Ok);
    let asked = fake.asked::<proto::BatchControlProcessesRequest>("batch_control_processes");
    assert_eq!(asked[0].selector.clone().unwrap().groups, ["front", "back"]);

    fake.answer("list_groups", &proto::ListGroupsResponse::default());
    let ran = fake.run(&["stop", "group:x*"]);
    assert_eq!(ran.code, ExitCode::NotFound, "{ran:?}");
    assert_eq!(
        fake.methods().last(),
        Some(&"list_groups"),
        "nothing was stopped"
    );
}

#[test]
fn signals_by_name_and_number() {
    let fake = Fake::start();
    for run_id in [3, 4] {
        let answer = proto::SignalProcessResponse {
            header: header(1),
            run_id,
        };
        fake.answer("signal_process", &answer);
    }
    assert_eq!(
        fake.run(&["signal", "web", "SIGHUP"]).stdout,
        "web: run 3 signalled\n"
    );
    fake.run(&["signal", "web", "34", "--scope", "tree"]);
    let asked = fake.asked::<proto::SignalProcessRequest>("signal_process");
    assert_eq!(
        asked[0].target_signal,
        Some(TargetSignal::Signal(Signal::Hup.into()))
    );
    assert_eq!(asked[1].target_signal, Some(TargetSignal::SignalNumber(34)));
    assert_eq!(asked[1].scope(), SignalScope::Tree);
}

fn replica(name: &str) -> proto::Process {
    let mut replica = process(name, ProcessState::Running);
    replica.group = "g".into();
    replica.spec = Some(proto::ProcessSpec {
        command: vec!["x".into()],
        ..Default::default()
    });
    replica.status.as_mut().unwrap().desired_state = DesiredState::Running.into();
    replica
}

#[test]
fn scaling_up_copies_the_first_and_leaves_the_others_alone() {
    let fake = Fake::start();
    fake.answer(
        "list_processes",
        &listed(vec![replica("w-0"), replica("w-1"), replica("w-x")]),
    );
    for name in ["w-2", "w-3"] {
        fake.answer("create_process", &proto::CreateProcessResponse::default());
        fake.answer(
            "start_process",
            &proto::StartProcessResponse {
                process: Some(process(name, ProcessState::Running)),
                wait_outcome: WaitOutcome::Satisfied.into(),
                ..Default::default()
            },
        );
    }
    let ran = fake.run(&["scale", "w", "4"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (ExitCode::Ok, "w-2: RUNNING\nw-3: RUNNING\n")
    );
    assert_eq!(
        fake.methods(),
        [
            "list_processes",
            "create_process",
            "start_process",
            "create_process",
            "start_process"
        ]
    );
    let created = fake.asked::<proto::CreateProcessRequest>("create_process");
    let copy = created[0].process.clone().unwrap();
    assert_eq!(copy.name, "w-2");
    assert_eq!(
        (copy.spec, copy.group),
        (replica("w-0").spec, "g".to_owned())
    );
    assert!(copy.uid.is_empty() && copy.status.is_none());
}

#[test]
fn scaling_down_deletes_the_highest_first() {
    let fake = Fake::start();
    fake.answer(
        "list_processes",
        &listed(vec![replica("w-0"), replica("w-10"), replica("w-2")]),
    );
    for _ in 0..2 {
        fake.answer("delete_process", &proto::DeleteProcessResponse::default());
    }
    let ran = fake.run(&["scale", "w", "1"]);
    assert_eq!(ran.stdout, "w-10: deleted\nw-2: deleted\n");
    let deleted = fake.asked::<proto::DeleteProcessRequest>("delete_process");
    assert_eq!(deleted[0].wait.unwrap().condition(), WaitCondition::Deleted);
}

#[test]
fn scaling_what_has_no_replica_is_refused() {
    let fake = Fake::start();
    fake.answer("list_processes", &listed(vec![]));
    let ran = fake.run(&["scale", "w", "2"]);
    assert_eq!(ran.code, ExitCode::Failed);
    assert!(ran.stderr.contains("there is no w-0 to copy"), "{ran:?}");
}

#[test]
fn wait_without_a_timeout_goes_on_from_the_revision_judged_last() {
    let fake = Fake::start();
    let mut web = process("web", ProcessState::Running);
    web.uid = "u1".into();
    for (revision, outcome) in [(5, WaitOutcome::TimedOut), (9, WaitOutcome::Satisfied)] {
        fake.answer(
            "wait_process",
            &proto::WaitProcessResponse {
                header: header(revision),
                outcome: outcome.into(),
                process: Some(web.clone()),
            },
        );
    }
    let ran = fake.run(&["wait", "web", "--for", "ready"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (ExitCode::Ok, "web: RUNNING\n")
    );
    let asked = fake.asked::<proto::WaitProcessRequest>("wait_process");
    assert_eq!((asked[0].min_revision, asked[0].uid.as_str()), (0, ""));
    assert_eq!((asked[1].min_revision, asked[1].uid.as_str()), (5, "u1"));
    assert_eq!(asked[1].condition(), WaitCondition::Ready);
}

#[test]
fn wait_with_a_timeout_is_124() {
    let fake = Fake::start();
    fake.answer(
        "wait_process",
        &proto::WaitProcessResponse {
            header: header(5),
            outcome: WaitOutcome::TimedOut.into(),
            process: Some(process("web", ProcessState::Pending)),
        },
    );
    let ran = fake.run(&["wait", "web", "--timeout", "1s"]);
    assert_eq!((ran.code.code(), ran.stdout.as_str()), (124, ""));
    assert!(
        ran.stderr
            .starts_with("error: web: PENDING, and the wait timed out after 1s\n")
    );
}

#[test]
fn delete_waits_unless_told_not_to() {
    let fake = Fake::start();
    let gone = proto::DeleteProcessResponse {
        process: Some(process("web", ProcessState::Stopped)),
        ..Default::default()
    };
    fake.answer("delete_process", &gone);
    fake.answer("delete_process", &gone);
    fake.answer("delete_process", &proto::DeleteProcessResponse::default());
    assert_eq!(fake.run(&["delete", "web"]).stdout, "web: deleted\n");
    assert_eq!(
        fake.run(&["delete", "web", "--no-wait"]).stdout,
        "web: being deleted\n"
    );
    assert_eq!(
        fake.run(&["delete", "web", "--allow-missing"]).stdout,
        "web: did not exist\n"
    );
    let asked = fake.asked::<proto::DeleteProcessRequest>("delete_process");
    assert_eq!(asked[0].wait.unwrap().condition(), WaitCondition::Deleted);
    assert_eq!(
        asked[1].wait.unwrap(),
        proto::WaitOptions::default(),
        "present, UNSPECIFIED"
    );
    assert!(asked[2].allow_missing);
}

#[test]
fn down_waits_until_nobody_listens() {
    let fake = Fake::start();
    for _ in 0..3 {
        let answer = proto::ShutdownServerResponse { header: header(1) };
        fake.answer("shutdown_server", &answer);
    }
    let ran = fake.run(&["down", "--timeout", "0s"]);
    assert_eq!(ran.code, ExitCode::TimedOut, "it still listens: {ran:?}");
    fake.end_on_shutdown();
    let ran = fake.run(&["down", "--keep-processes"]);
    assert_eq!(ran.code, ExitCode::Ok, "{ran:?}");
    assert_eq!(
        ran.stdout,
        "the daemon has ended; its processes are left running\n"
    );
    let asked = fake.asked::<proto::ShutdownServerRequest>("shutdown_server");
    assert_eq!(asked[0].mode(), ShutdownMode::StopProcesses);
    assert_eq!(asked[1].mode(), ShutdownMode::KeepProcesses);
}

#[test]
fn batch_json_keeps_known_details_only() {
    let fake = Fake::start();
    let detail = tonic_types::pb::ErrorInfo {
        reason: "NOPE".into(),
        ..Default::default()
    };
    let mut failed = result("db");
    failed.status = Some(tonic_types::Status {
        code: 14,
        message: "m".into(),
        details: vec![
            prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
                value: prost::Message::encode_to_vec(&detail),
            },
            prost_types::Any {
                type_url: "x/of.the.Future".into(),
                value: vec![1],
            },
        ],
    });
    fake.answer(
        "batch_control_processes",
        &proto::BatchControlProcessesResponse {
            header: header(4),
            results: vec![failed],
        },
    );
    let ran = fake.run(&["start", "d*", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        json["results"][0]["status"],
        serde_json::json!({
            "code": 14,
            "message": "m",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NOPE"}],
        })
    );
}
