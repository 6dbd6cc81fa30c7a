//! Files: exit code 2, the file and the line, and nothing begun.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::registry;
use crate::daemon::support::Daemon;

/// File name, content, and what each line of stderr has.
const BAD: &[(&str, &str, &[&str])] = &[
    ("a.toml", "[processes.x\n", &["a.toml:1: invalid TOML"]),
    (
        "b.toml",
        "[processes.ok]\ncommand = \"true\"\n[processes.x]\ncomand = \"true\"\n",
        &[
            "b.toml:3: processes.x.command: is missing",
            "b.toml:4: processes.x.comand: unknown key; did you mean \"command\"?",
        ],
    ),
    (
        "c.toml",
        "[processes.x]\ncommand = \"true\"\nnice = \"low\"\n[processes.-y]\ncommand = \"true\"\n",
        &[
            "c.toml:3: processes.x.nice: must be an integer",
            "c.toml:4: processes.-y: the name",
        ],
    ),
    (
        "d.yaml",
        "processes:\n  x: [\n",
        &["d.yaml:2: invalid YAML"],
    ),
    (
        "e.yaml",
        "processes:\n  x:\n    command: true-ish\n    autostrt: true\n",
        &["e.yaml:4: processes.x.autostrt: unknown key; did you mean \"autostart\"?"],
    ),
    (
        "f.json",
        "{\"processes\": {\n  \"x\": {\"command\": \"true\",}}}",
        &["f.json:2: invalid JSON"],
    ),
    (
        "g.json",
        "{\"processes\": {\"x\": {\"command\": \"true\",\n \"restart\": \"always\"}}}",
        &["g.json:2: processes.x.restart: unknown key"],
    ),
    (
        "h.toml",
        "[processes.a]\ncommand = \"true\"\ndependencies = [{name = \"b\"}]\n\
         [processes.b]\ncommand = \"true\"\ndependencies = [{name = \"a\"}]\n",
        &["is part of a cycle: a -> b -> a"],
    ),
    (
        "i.toml",
        "[processes.a]\ncommand = \"true\"\ndependencies = [{name = \"a\"}]\n",
        &["i.toml:3: processes.a.dependencies[0]: is part of a cycle: a -> a"],
    ),
];

fn run(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_procession"))
        .args(args)
        .current_dir(directory)
        .env_remove("PROCESSION_SOCKET")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn complains(output: &Output, lines: &[&str], what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
    assert!(output.stdout.is_empty(), "{what}");
    assert_eq!(stderr.lines().count(), lines.len(), "{what}: {stderr}");
    for (line, part) in stderr.lines().zip(lines) {
        assert!(line.starts_with("error: "), "{what}: {line}");
        assert!(line.contains(part), "{what}: {part:?} in {line:?}");
    }
}

#[tokio::test]
async fn a_bad_file_is_told_by_line_and_applied_by_nobody() {
    let daemon = Daemon::start();
    let directory = tempfile::tempdir().unwrap();
    let (socket, other) = (daemon.socket(), directory.path().join("socket"));
    let (socket, other) = (socket.to_str().unwrap(), other.to_str().unwrap());
    let state = directory.path().join("state");
    let state = state.to_str().unwrap();
    for (file, content, lines) in BAD {
        std::fs::write(directory.path().join(file), content).unwrap();
        for args in [
            &["apply", file, "--socket", socket][..],
            &["diff", file, "--socket", socket],
            &["up", file, "--socket", other, "--state-dir", state],
            &[
                "serve",
                "--config",
                file,
                "--socket",
                other,
                "--state-dir",
                state,
            ],
        ] {
            complains(&run(directory.path(), args), lines, &args.join(" "));
        }
        assert!(!PathBuf::from(other).exists(), "{file}: no daemon began");
    }
    let mut client = daemon.client().await;
    assert_eq!(registry(&mut client).await, (0, vec![]));
    daemon.ended().await;
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["up", "none.toml"]);
    complains(
        &output,
        &["none.toml: cannot be read: No such file or directory"],
        "up",
    );
}

/// What only the daemon can judge.
#[tokio::test]
async fn what_the_daemon_refuses_is_told_by_name() {
    let daemon = Daemon::start();
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        (
            "[processes.ok]\ncommand = \"true\"\n[processes.web]\ncommand = \"true\"\n\
             readiness_probe = {tcp = {address = \"127.0.0.1:1\"}}\n",
            "error: web: spec.readiness_probe needs \"probes\", which this daemon does not have",
        ),
        (
            "[processes.ok]\ncommand = \"true\"\n[processes.web]\ncommand = \"true\"\n\
             dependencies = [{name = \"ghost\"}]\n",
            "error: web depends on ghost, which does not exist",
        ),
    ];
    for (content, says) in cases {
        let file = directory.path().join("procession.toml");
        std::fs::write(&file, content).unwrap();
        let output = daemon.cli(["apply", file.to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with(says), "{stderr}");
        let other = directory.path().join("socket");
        let state = directory.path().join("state");
        let (other, state) = (other.to_str().unwrap(), state.to_str().unwrap());
        let up = run(
            directory.path(),
            &["up", "--socket", other, "--state-dir", state],
        );
        let stderr = String::from_utf8_lossy(&up.stderr);
        assert_eq!(up.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    let mut client = daemon.client().await;
    assert_eq!(registry(&mut client).await, (0, vec![]));
    daemon.ended().await;
}
