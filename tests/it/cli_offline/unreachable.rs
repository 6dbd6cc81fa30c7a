//! Nobody there, or not for this user; and command lines that make no sense.

use std::os::unix::fs::PermissionsExt as _;

use procession::cli::ExitCode;

use super::fake::{Setup, run_to};

fn run(setup: &Setup, args: &[&str]) -> (ExitCode, String, String) {
    let mut stdout = Vec::new();
    let (code, stderr) = run_to(setup, args, &mut stdout);
    (code, String::from_utf8(stdout).unwrap(), stderr)
}

#[test]
fn the_socket_that_was_tried_and_the_remedy_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none").display().to_string();
    let setup = Setup {
        env: vec![("PROCESSION_SOCKET", socket.clone())],
        ..Setup::default()
    };
    let (code, stdout, stderr) = run(&setup, &["ps"]);
    assert_eq!((code, stdout.as_str()), (ExitCode::Unreachable, ""));
    let expected = format!(
        "error: cannot reach the daemon on {socket}: No such file or directory (os error 2)\n\
         hint: start it with `procession serve`, or say where it is with --socket or \
         PROCESSION_SOCKET\n"
    );
    assert_eq!(stderr, expected);
}

#[test]
fn a_socket_nobody_listens_on_is_5_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (code, _, stderr) = run(
        &Setup::default(),
        &["--socket", path.to_str().unwrap(), "info"],
    );
    assert_eq!(code, ExitCode::Unreachable);
    assert!(stderr.contains("Connection refused"), "{stderr}");
}

#[test]
fn a_socket_of_another_user_has_its_own_remedy() {
    // Root may connect to anything.
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let (code, _, stderr) = run(
        &Setup::default(),
        &["--socket", path.to_str().unwrap(), "info"],
    );
    assert_eq!(code, ExitCode::Unreachable);
    assert!(stderr.contains("--socket-group"), "{stderr}");
    drop(listener);
}

#[test]
fn a_bad_command_line_is_2_and_help_is_0() {
    for args in [
        vec!["frobnicate"],
        vec![],
        vec!["scale", "web", "0"],
        vec!["signal", "web", "NOPE"],
        vec!["start", "web", "--timeout", "soon"],
        vec!["start", "web", "--no-wait", "--timeout", "5s"],
        vec!["serve", "--listen", "127.0.0.1:1"],
    ] {
        let (code, stdout, stderr) = run(&Setup::default(), &args);
        assert_eq!(
            (code, stdout.as_str()),
            (ExitCode::Usage, ""),
            "{args:?}: {stderr}"
        );
        assert!(!stderr.is_empty(), "{args:?}");
    }
    let (code, stdout, stderr) = run(&Setup::default(), &["--help"]);
    assert_eq!((code, stderr.as_str()), (ExitCode::Ok, ""));
    assert!(stdout.contains("Exit codes:"), "{stdout}");
}

#[test]
fn the_binary_answers_like_the_library() {
    let directory = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_procession"))
        .args(["ps", "--socket"])
        .arg(directory.path().join("none"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("procession serve"));
}

#[test]
fn a_closed_pipe_is_quiet() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_procession"))
        .arg("--help")
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
