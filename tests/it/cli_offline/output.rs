//! What is printed, and the exit code.

use procession::{
    cli::ExitCode,
    grpc::proto::{self, ProcessState, Readiness, WaitOutcome, exit_status::Outcome},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::fake::{Fake, Setup, ago, header, listed, process, run_to};

/// web runs, db has failed.
fn two() -> Vec<proto::Process> {
    let mut web = process("web", ProcessState::Running);
    web.group = "front".into();
    web.labels.insert("tier".into(), "front".into());
    web.spec = Some(proto::ProcessSpec {
        command: vec!["/bin/web".into(), "--name".into(), "two words".into()],
        ..Default::default()
    });
    let status = web.status.as_mut().unwrap();
    status.readiness = Readiness::Ready.into();
    (status.pid, status.run_id, status.restart_count) = (4242, 3, 2);
    status.start_time = ago(192);
    let mut db = process("db", ProcessState::Failed);
    let status = db.status.as_mut().unwrap();
    status.run_id = 1;
    status.reason = "EXIT_CODE".into();
    status.message = "gave up \x1b[2J".into();
    status.last_exit = Some(proto::ExitStatus {
        outcome: Some(Outcome::ExitCode(1)),
        ..Default::default()
    });
    vec![db, web]
}

#[test]
fn ps_prints_aligned_columns() {
    let fake = Fake::start();
    fake.answer("list_processes", &listed(two()));
    let ran = fake.run(&["ps"]);
    let expected = "\
NAME  STATE    READY  PID   RESTARTS  AGE
db    FAILED   -      -     0         1m0s
web   RUNNING  yes    4242  2         3m12s
";
    assert_eq!(ran.stdout, expected);
    assert_eq!((ran.code, ran.stderr.as_str()), (ExitCode::Ok, ""));
}

#[test]
fn ps_wide_has_every_column_and_no_control_characters() {
    let fake = Fake::start();
    fake.answer("list_processes", &listed(two()));
    let ran = fake.run(&["ps", "-o", "wide"]);
    let expected = "\
NAME  STATE    READY  PID   RESTARTS  AGE    RUN  GROUP  LABELS      LAST-EXIT  MESSAGE                        COMMAND
db    FAILED   -      -     0         1m0s   1    -      -           exit 1     EXIT_CODE: gave up \\x1b[2J  -
web   RUNNING  yes    4242  2         3m12s  3    front  tier=front  -          -                              /bin/web --name 'two words'
";
    // The escape makes the message 28 characters wide.
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&ran.stdout), squeeze(expected));
    assert!(!ran.stdout.contains('\x1b'), "{}", ran.stdout);
}

#[test]
fn colours_are_for_terminals_without_no_color() {
    let cases = [
        (true, None, true),
        (true, Some("1"), false),
        (false, None, false),
    ];
    for (terminal, no_color, coloured) in cases {
        let fake = Fake::start();
        fake.answer("list_processes", &listed(two()));
        let env = no_color
            .map(|value| ("NO_COLOR", value.to_owned()))
            .into_iter()
            .collect();
        let ran = fake.run_in(&Setup { terminal, env }, &["ps"]);
        assert_eq!(
            ran.stdout.contains("\x1b[32mRUNNING\x1b[0m"),
            coloured,
            "{terminal} {no_color:?}"
        );
    }
}

#[test]
fn ps_of_something_that_does_not_run_is_3_and_of_nothing_is_4() {
    let all = two();
    let web = || vec![two().remove(1)];
    let cases: [(&[&str], Vec<proto::Process>, ExitCode, &str); 7] = [
        (&["ps"], all.clone(), ExitCode::Ok, ""),
        (&["ps", "web"], web(), ExitCode::Ok, ""),
        (&["ps", "web", "db"], all.clone(), ExitCode::NotRunning, ""),
        (&["ps", "*"], all, ExitCode::NotRunning, ""),
        (
            &["ps", "web", "nope"],
            web(),
            ExitCode::NotFound,
            "error: no such process: nope\n",
        ),
        (
            &["ps", "x*"],
            vec![],
            ExitCode::NotFound,
            "error: nothing matches x*\n",
        ),
        (&["ps"], vec![], ExitCode::Ok, "there are no processes"),
    ];
    for (args, processes, code, stderr) in cases {
        let fake = Fake::start();
        fake.answer("list_processes", &listed(processes));
        let ran = fake.run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.starts_with(stderr), "{args:?}: {ran:?}");
    }
}

#[test]
fn ps_json_is_one_response_over_all_pages() {
    let fake = Fake::start();
    let mut pages = two().into_iter();
    let mut first = listed(vec![pages.next().unwrap()]);
    first.next_page_token = "more".into();
    first.total_size = 2;
    fake.answer("list_processes", &first);
    let mut second = listed(vec![pages.next().unwrap()]);
    second.total_size = 2;
    fake.answer("list_processes", &second);
    let ran = fake.run(&["ps", "-o", "json"]);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        json["header"],
        serde_json::json!({"epoch": "e1", "revision": "7"})
    );
    assert_eq!(json["totalSize"], 2);
    assert_eq!(json["processes"][0]["name"], "db");
    assert_eq!(
        json["processes"][1]["status"]["state"],
        "PROCESS_STATE_RUNNING"
    );
    assert_eq!(
        json["processes"][1]["status"]["startTime"],
        "2026-11-25T07:56:48Z"
    );
    assert_eq!(json["processes"][1]["status"]["runId"], "3");
    assert!(json.get("nextPageToken").is_none());
    let asked = fake.asked::<proto::ListProcessesRequest>("list_processes");
    assert_eq!(asked[1].page_token, "more");
}

#[test]
fn a_list_that_expires_between_pages_is_begun_again() {
    let fake = Fake::start();
    let mut first = listed(two());
    first.next_page_token = "more".into();
    fake.answer("list_processes", &first);
    fake.fail("list_processes", Status::aborted("the list expired"));
    fake.answer("list_processes", &listed(two()));
    let ran = fake.run(&["ps"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (ExitCode::Ok, 3));
}

#[test]
fn get_shows_one_process() {
    let fake = Fake::start();
    let web = two().remove(1);
    fake.answer(
        "get_process",
        &proto::GetProcessResponse {
            header: header(7),
            process: Some(web),
        },
    );
    let ran = fake.run(&["get", "web"]);
    let expected = "\
Name:           web
Group:          front
Labels:         tier=front
State:          RUNNING
Wanted:         -
Ready:          yes
Age:            3m12s
Pid:            4242
Run:            3
Restarts:       2
Command:        /bin/web --name 'two words'
Configuration:  generation 0, version 1
Uid:            uid-web
";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn a_wait_that_fails_says_so_and_has_its_code() {
    let cases = [
        (
            WaitOutcome::Satisfied,
            ExitCode::Ok,
            "web: RUNNING (pid 4242, run 3)\n",
            "",
        ),
        (
            WaitOutcome::TimedOut,
            ExitCode::TimedOut,
            "",
            "error: web: RUNNING (pid 4242, run 3), and the wait timed out after 5s\n\
             hint: `procession explain web` says why\n",
        ),
        (
            WaitOutcome::Unsatisfiable,
            ExitCode::Failed,
            "",
            "error: web: RUNNING (pid 4242, run 3), and what was waited for can no longer happen\n\
             hint: `procession explain web` says why\n",
        ),
    ];
    for (outcome, code, stdout, stderr) in cases {
        let fake = Fake::start();
        fake.answer(
            "start_process",
            &proto::StartProcessResponse {
                header: header(8),
                process: Some(two().remove(1)),
                wait_outcome: outcome.into(),
            },
        );
        let ran = fake.run(&["start", "web", "--timeout", "5s"]);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (code, stdout, stderr)
        );
    }
}

#[test]
fn errors_are_told_field_by_field_with_the_remedy() {
    let mut details = ErrorDetails::with_bad_request_violation("spec.command", "is empty");
    details.add_bad_request_violation("spec.nice", "is 99; use -20 to 19");
    details.set_error_info(
        "FIELD_INVALID",
        "procession.v1",
        [("limit".into(), "19".into())],
    );
    let bad =
        Status::with_error_details(Code::InvalidArgument, "the process is not valid", details);
    let mut details =
        ErrorDetails::with_precondition_failure_violation("RUN_ID", "web", "is run 4");
    details.set_error_info("PRECONDITION_MISMATCH", "procession.v1", []);
    let mismatch = Status::with_error_details(Code::Aborted, "it changed", details);
    let mut details = ErrorDetails::with_retry_info(Some(std::time::Duration::from_secs(2)));
    details.set_error_info("STARTING", "procession.v1", []);
    let starting = Status::with_error_details(Code::Unavailable, "starting up", details);
    let mut details = ErrorDetails::with_resource_info("process", "web", "", "");
    details.set_error_info("PROCESS_NOT_FOUND", "procession.v1", []);
    let missing = Status::with_error_details(Code::NotFound, "no process web", details);
    let cases = [
        (
            bad,
            ExitCode::Failed,
            "error: the process is not valid\n  spec.command: is empty\n  \
             spec.nice: is 99; use -20 to 19\n  limit = 19\n",
        ),
        (
            mismatch,
            ExitCode::Failed,
            "error: it changed\n  web: is run 4 (RUN_ID)\n\
             hint: it changed meanwhile: look again, then repeat\n",
        ),
        (
            starting,
            ExitCode::Failed,
            "error: starting up\nhint: try again in 2s\n",
        ),
        (
            missing,
            ExitCode::NotFound,
            "error: no process web\nhint: `procession ps` lists the processes\n",
        ),
    ];
    for (status, code, stderr) in cases {
        let fake = Fake::start();
        fake.fail("reset_process", status);
        let ran = fake.run(&["reset", "web"]);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (code, "", stderr)
        );
    }
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let fake = Fake::start();
    fake.answer("list_processes", &listed(two()));
    let setup = Setup::default();
    let socket = fake.socket().display().to_string();
    let (code, stderr) = run_to(&setup, &["--socket", &socket, "ps"], &mut Closed);
    assert_eq!((code, stderr.as_str()), (ExitCode::Ok, ""));
}

#[test]
fn explain_tells_the_chain() {
    let fake = Fake::start();
    let db = two().remove(0);
    fake.answer(
        "explain_process",
        &proto::ExplainProcessResponse {
            header: header(9),
            summary: "db ended with exit code 1 and waits for its next attempt.".into(),
            blockers: vec![proto::Blocker {
                reason: "DEPENDENCY".into(),
                name: "disk".into(),
                message: "is STOPPED".into(),
            }],
            next_action: "start run 2".into(),
            next_action_time: ago(-90),
            events: vec![proto::ProcessEvent {
                revision: 9,
                process: Some(db),
                event_time: ago(60),
                cause: Some(proto::EventCause {
                    origin: "KERNEL".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }],
        },
    );
    let ran = fake.run(&["explain", "db"]);
    let expected = "\
db ended with exit code 1 and waits for its next attempt.
blocked by DEPENDENCY: disk: is STOPPED
next: start run 2 in 1m30s (2026-11-25T08:01:30.000Z)

Newest first:
2026-11-25T07:59:00.000Z  r9  db  FAILED  run 1  exit 1  EXIT_CODE: gave up \\x1b[2J  (KERNEL)
";
    assert_eq!(ran.stdout, expected);
}
