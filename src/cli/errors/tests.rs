//! Exit codes, and what is an answer and what is none. How errors read is tested
//! with a daemon in `tests/it/cli_offline`.

use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

fn text(error: &CliError) -> String {
    let mut to = Vec::new();
    render(error, Path::new("/s"), &mut to).unwrap();
    String::from_utf8(to).unwrap()
}

#[test]
fn every_error_has_its_code() {
    let cases = [
        (CliError::Usage("u".into()), ExitCode::Usage),
        (CliError::Config("f:1: c".into()), ExitCode::Usage),
        (CliError::NotFound(vec!["a".into()]), ExitCode::NotFound),
        (CliError::NoMatch("x*".into()), ExitCode::NotFound),
        (
            CliError::Unreachable(io::Error::other("x")),
            ExitCode::Unreachable,
        ),
        (Status::not_found("n").into(), ExitCode::NotFound),
        (Status::unavailable("n").into(), ExitCode::Failed),
        (CliError::Refused("r".into()), ExitCode::Failed),
        (CliError::Json("j".into()), ExitCode::Failed),
        (
            io::Error::from(io::ErrorKind::StorageFull).into(),
            ExitCode::Failed,
        ),
        (
            io::Error::from(io::ErrorKind::BrokenPipe).into(),
            ExitCode::Ok,
        ),
    ];
    for (error, code) in cases {
        assert_eq!(error.exit_code(), code, "{error:?}");
    }
}

#[test]
fn each_problem_of_a_file_is_a_line() {
    let error = CliError::Config("f.yaml:3: web.command: is empty\nf.yaml:9: \x1b[2J".into());
    assert_eq!(
        text(&error),
        "error: f.yaml:3: web.command: is empty\nerror: f.yaml:9: \\x1b[2J\n"
    );
}

#[test]
fn the_daemon_cannot_drive_the_terminal() {
    let details = ErrorDetails::with_bad_request_violation("f\x1b[1m", "d\r\nerror: forged");
    let status = Status::with_error_details(Code::InvalidArgument, "m\x07", details);
    assert_eq!(
        text(&status.into()),
        "error: m\\x07\n  f\\x1b[1m: d\\r\\nerror: forged\n"
    );
}

#[test]
fn without_a_message_the_reason_or_the_code_is_told() {
    let mut details = ErrorDetails::new();
    details.set_error_info("OVERLOADED", "procession.v1", []);
    let status = Status::with_error_details(Code::Unavailable, "", details);
    assert_eq!(text(&status.into()), "error: OVERLOADED\n");
    assert!(
        text(&Status::unimplemented("").into())
            .ends_with("hint: this daemon is too old for that; see `procession info`\n")
    );
}

#[test]
fn a_nested_status_keeps_its_details() {
    let mut details = ErrorDetails::new();
    details.set_error_info("NOT_RUNNING", "procession.v1", []);
    let outer = Status::with_error_details(Code::FailedPrecondition, "m", details);
    let nested = tonic_types::Status::decode(outer.details()).unwrap();
    let mut to = Vec::new();
    render_item("web", &status(&nested).into(), &mut to).unwrap();
    assert_eq!(
        String::from_utf8(to).unwrap(),
        "error: web: m\nhint: start it first: `procession start NAME`\n"
    );
}
