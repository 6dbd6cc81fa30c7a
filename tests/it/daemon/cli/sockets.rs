//! The socket and the state directory: one daemon each, for one user.

use std::{
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::daemon::support::{Daemon, eventually};

fn command(socket: &Path, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command
        .args(["serve", "--socket"])
        .arg(socket)
        .arg("--state-dir")
        .arg(state)
        .stdin(Stdio::null());
    command
}

fn serve(socket: &Path, state: &Path) -> Output {
    command(socket, state).output().unwrap()
}

fn refused(output: &Output, says: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in says {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[test]
fn the_socket_is_for_its_user_only() {
    let daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let socket = daemon.socket();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let daemon = Daemon::start();
    let other = tempfile::tempdir().unwrap();
    let same_socket = serve(&daemon.socket(), &other.path().join("state"));
    refused(
        &same_socket,
        &["error: another daemon serves ", "choose another socket"],
    );
    let same_state = serve(
        &other.path().join("socket"),
        &daemon.directory().join("state"),
    );
    let pid = format!("(pid {})", daemon.pid());
    refused(
        &same_state,
        &["error: another daemon ", &pid, "choose another --state-dir"],
    );
    assert!(!other.path().join("socket").exists());
    assert_eq!(daemon.cli(["info"]).status.code(), Some(0));
}

#[test]
fn a_socket_that_nobody_serves_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "stale");
    let mut child = command(&socket, &directory.path().join("state"))
        .spawn()
        .unwrap();
    eventually("it is served", || UnixStream::connect(&socket).ok());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    std::fs::write(&socket, "precious").unwrap();
    let output = serve(&socket, &directory.path().join("state"));
    refused(&output, &["error: ", socket.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}
