//! The commands of the README, as they stand there.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
};

use super::Up;
use crate::daemon::support::eventually;

const README: &str = include_str!("../../../../README.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_procession");

/// The shell blocks, without comments.
fn blocks() -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    let mut open = false;
    for line in README.lines() {
        match (line, open) {
            ("```sh", _) => {
                open = true;
                blocks.push(Vec::new());
            }
            ("```", true) => open = false,
            (line, true) => {
                let command = line.split(" # ").next().unwrap_or_default().trim();
                blocks.last_mut().unwrap().push(command.to_owned());
            }
            _ => {}
        }
    }
    blocks
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// `command` in a shell, with the program of this build.
fn shell(command: &str, socket: &Path) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = [
        Path::new(PROGRAM).parent().unwrap().to_owned(),
        root.join(".tools/bin"),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .current_dir(root)
        .env("PATH", path)
        .env("PROCESSION_SOCKET", socket)
        .stdin(Stdio::null());
    shell
}

fn output(command: &str, socket: &Path) -> Output {
    let output = shell(command, socket).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
    output
}

/// The first line of a command that goes on; then it is ended.
fn first_line(command: &str, socket: &Path) -> String {
    // exec: the shell must not be between us and what we end.
    let mut child = shell(&format!("exec {command}"), socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!line.is_empty(), "{command}: no output");
    line
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

#[test]
fn the_commands_work_as_typed() {
    let [first, second, third, ..] = &blocks()[..] else {
        panic!("the README has other blocks");
    };
    let [up] = &first[..] else {
        panic!("{first:?}");
    };
    let file = up.strip_prefix("cargo run --release -- up ").unwrap();
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    let mut command = Command::new(PROGRAM);
    command
        .args(["up", file])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PORT", port.to_string());
    let socket = directory.path().join("socket");
    let mut up = Up::run(command, directory);
    for name in ["flaky", "web", "worker"] {
        up.sees(&[&format!("  {name}  STARTING -> RUNNING")]);
    }
    for command in second {
        match command.as_str() {
            "curl http://127.0.0.1:8080/" => {
                let page = eventually("the page", || get(port));
                assert!(page.contains("It runs"), "{page}");
            }
            "alias procession=\"$PWD/target/release/procession\"" => {}
            "procession watch" | "procession logs -f" => {
                first_line(command, &socket);
            }
            command => {
                assert!(command.starts_with("procession "), "{command}");
                let printed = output(command, &socket).stdout;
                assert!(!printed.is_empty(), "{command}");
            }
        }
    }
    grpcurl(third, &socket);
    up.interrupt();
    assert_eq!(up.ends().code(), Some(0));
}

fn grpcurl(commands: &[String], socket: &Path) {
    let [find, list, watch] = commands else {
        panic!("{commands:?}");
    };
    let found = output(&format!("{find}; echo \"$SOCKET\""), socket).stdout;
    assert_eq!(
        String::from_utf8(found).unwrap().trim(),
        socket.to_str().unwrap()
    );
    if shell("command -v grpcurl", socket)
        .output()
        .unwrap()
        .status
        .success()
    {
        let listed = output(&format!("{find}; {list}"), socket).stdout;
        assert!(
            String::from_utf8(listed)
                .unwrap()
                .contains("\"totalSize\": 3")
        );
        let watch = watch.replace("$SOCKET", socket.to_str().unwrap());
        first_line(&watch, socket);
    } else {
        eprintln!("not tested: there is no grpcurl");
    }
}
