//! The command line against a daemon: what it prints, and its exit codes.

mod control;
mod sockets;
mod tcp;

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::support::{Daemon, eventually};

/// Exit code, stdout and stderr.
type Ran = (i32, String, String);

const FILE: &str = r#"
[processes.db]
command = ["sh", "-c", "echo db up; exec sleep 1000"]
labels = { tier = "back" }

[processes.web-0]
command = ["sleep", "1000"]
dependencies = [{ name = "db", condition = "running" }]
labels = { tier = "front" }

[processes.job]
command = ["sh", "-c", "exit 3"]
restart_policy = { mode = "never" }
"#;

/// A command that goes on; dropping it ends it.
struct Going {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

// === impl Going ===

impl Going {
    fn start(daemon: &Daemon, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_procession"))
            .args(args)
            .env("PROCESSION_SOCKET", daemon.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The first line that `is` it.
    fn until(&mut self, is: impl Fn(&str) -> bool) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find(|line| is(line)).expect("the line")
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(daemon: &Daemon, command: &str) -> Ran {
    let output = daemon.cli(command.split_whitespace());
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn fine(daemon: &Daemon, command: &str) -> String {
    let (code, stdout, stderr) = run(daemon, command);
    assert_eq!((code, stderr.as_str()), (0, ""), "{command}: {stdout}");
    stdout
}

fn file(daemon: &Daemon, content: &str) -> PathBuf {
    let path = daemon.directory().join("procession.toml");
    std::fs::write(&path, content).unwrap();
    path
}

/// What `ps` says of `name`, column by column.
fn ps(daemon: &Daemon, name: &str) -> Vec<String> {
    let (_, table, _) = run(daemon, "ps");
    let line = table
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {table}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn apply_and_diff_say_what_changes() {
    let daemon = Daemon::start();
    let path = file(&daemon, FILE);
    let path = path.to_str().unwrap();
    let (code, stdout, _) = run(&daemon, &format!("diff {path}"));
    assert_eq!(
        (code, stdout.as_str()),
        (1, "+ db  create\n+ job  create\n+ web-0  create\n")
    );
    let dry = fine(&daemon, &format!("apply {path} --dry-run"));
    assert_eq!(
        dry,
        "db: would be created\njob: would be created\nweb-0: would be created\n"
    );
    assert_eq!(
        fine(&daemon, &format!("apply {path} --wait")),
        "db: created\njob: created\nweb-0: created\n"
    );
    assert_eq!(
        fine(&daemon, &format!("diff {path}")),
        "",
        "no difference, exit code 0"
    );
    let same = fine(&daemon, &format!("apply {path}"));
    assert_eq!(same, "db: unchanged\njob: unchanged\nweb-0: unchanged\n");

    let pid = ps(&daemon, "web-0")[3].clone();
    file(
        &daemon,
        &FILE
            .replace("\"sleep\", \"1000\"", "\"sleep\", \"2000\"")
            .replace("processes.job", "processes.task"),
    );
    let (code, stdout, _) = run(&daemon, &format!("diff {path} --prune"));
    assert_eq!(code, 1);
    assert_eq!(
        stdout,
        "+ task  create\n~ web-0  restart  spec.command (forces it)\n- job  delete\n"
    );
    assert_eq!(ps(&daemon, "web-0")[3], pid, "diff does nothing");
    let applied = fine(
        &daemon,
        &format!("apply {path} --prune --wait --rollout restart-if-needed"),
    );
    assert!(applied.contains("job: deleted\n"), "{applied}");
    assert!(applied.contains("web-0: updated"), "{applied}");
    assert_ne!(ps(&daemon, "web-0")[3], pid);
}

#[test]
fn what_could_not_start_is_told_by_apply() {
    let daemon = Daemon::start();
    let path = file(
        &daemon,
        "[processes.bad]\ncommand = \"/no/such/program\"\n[processes.ok]\ncommand = \"sleep 1000\"\n",
    );
    let (code, stdout, stderr) = run(&daemon, &format!("apply {} --wait", path.display()));
    assert_eq!((code, stdout.as_str()), (1, "bad: created\nok: created\n"));
    assert_eq!(
        stderr,
        "error: bad: what was waited for can no longer happen\n\
         hint: `procession explain bad` says why\n"
    );
    let explained = fine(&daemon, "explain bad");
    let why = "exec \"/no/such/program\": No such file or directory";
    assert!(
        explained.starts_with(&format!("bad is FAILED: {why}; nothing happens next")),
        "{explained}"
    );
    let newest = explained
        .lines()
        .find(|line| line.contains("-> FAILED"))
        .unwrap();
    assert_eq!(newest.matches(why).count(), 1, "once: {newest}");
    let (code, _, stderr) = run(&daemon, "wait bad --for running --timeout 100ms");
    assert_eq!(code, 124, "{stderr}");
    assert_eq!(stderr.matches(why).count(), 1, "once: {stderr}");
}

#[test]
fn processes_are_started_stopped_and_waited_for() {
    let daemon = Daemon::start();
    let path = file(&daemon, FILE);
    fine(&daemon, &format!("apply {} --wait", path.display()));
    eventually("the job ends", || {
        (ps(&daemon, "job")[1] == "FAILED").then_some(())
    });
    for (command, code) in [
        ("ps", 0),
        ("ps db web-0", 0),
        ("ps db job", 3),
        ("ps nobody", 4),
        ("ps -l tier=front", 0),
        ("ps -l tier=none", 4),
        ("wait db", 0),
        ("wait db --for exited --timeout 100ms", 124),
        ("wait job --for settled", 0),
        ("wait nobody", 4),
        ("wait nobody --for deleted", 0),
        ("wait nobody --for deleted -o json", 0),
        ("signal db USR1 --scope nowhere", 2),
        ("signal job HUP", 1),
        ("stop", 2),
        ("reload db", 1),
        ("delete db web-0 nobody", 4),
    ] {
        let ran = run(&daemon, command);
        assert_eq!(ran.0, code, "{command}: {ran:?}");
        if code != 0 && command != "ps db job" {
            assert!(ran.2.starts_with("error: "), "{command}: {}", ran.2);
        }
    }
}

#[test]
fn control_goes_along_the_dependencies() {
    let daemon = Daemon::start();
    let path = file(&daemon, FILE);
    fine(&daemon, &format!("apply {} --wait", path.display()));
    assert_eq!(
        fine(&daemon, "stop db --with-dependents"),
        "db: STOPPED (signal 15)\n"
    );
    assert_eq!(ps(&daemon, "web-0")[1], "STOPPED");
    let (code, _, stderr) = run(&daemon, "start web-0 --timeout 200ms");
    assert_eq!(code, 124);
    assert_eq!(
        stderr,
        "error: web-0: PENDING: DEPENDENCY: waiting for db, and the wait timed out after 200ms\n\
         hint: `procession explain web-0` says why\n"
    );
    let started = fine(&daemon, "start web-0 --with-dependencies");
    assert!(started.starts_with("web-0: RUNNING (pid "), "{started}");
    let pid = ps(&daemon, "db")[3].clone();
    let restarted = fine(&daemon, "restart db");
    assert!(restarted.starts_with("db: RUNNING (pid "), "{restarted}");
    assert_ne!(ps(&daemon, "db")[3], pid);
    let several = fine(&daemon, "stop db web-0");
    assert_eq!(several.lines().count(), 2, "{several}");
    let (code, _, stderr) = run(&daemon, "signal job HUP");
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "error: job: no run is up (the process is FAILED)\n\
         hint: start it first: `procession start NAME`\n"
    );
}

#[test]
fn scaling_copies_the_first_and_removes_the_last() {
    let daemon = Daemon::start();
    let path = file(&daemon, FILE);
    fine(&daemon, &format!("apply {} --wait", path.display()));
    fine(&daemon, "scale web 3");
    fine(&daemon, "ps web-0 web-1 web-2");
    fine(&daemon, "scale web 1");
    assert_eq!(run(&daemon, "ps web-1").0, 4);
    fine(&daemon, "ps web-0");
    let (code, _, stderr) = run(&daemon, "scale nobody 2");
    assert_eq!(code, 1);
    assert!(stderr.contains("there is no nobody-0 to copy"), "{stderr}");
}

#[test]
fn output_and_changes_are_followed() {
    let daemon = Daemon::start();
    let path = file(&daemon, FILE);
    fine(&daemon, &format!("apply {} --wait", path.display()));
    let mut logs = Going::start(&daemon, &["logs", "-f", "db", "web-0"]);
    assert_eq!(logs.until(|_| true), "db    | db up");
    let mut watch = Going::start(&daemon, &["watch", "db", "--every-change", "-o", "json"]);
    watch.until(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        message["synced"]["processCount"] == 1
    });
    fine(&daemon, "restart db");
    assert_eq!(logs.until(|_| true), "db    | db up", "the next run");
    watch.until(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        let events = message["events"]["events"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut states = events.iter().map(|event| &event["process"]["status"]);
        states.any(|s| s["state"] == "PROCESS_STATE_RUNNING" && s["runId"] == "2")
    });
    let mut lines = Going::start(&daemon, &["watch", "db"]);
    assert!(lines.until(|_| true).contains("  db  RUNNING"));
    assert_eq!(fine(&daemon, "logs db"), "db up\ndb up\n");
    assert_eq!(fine(&daemon, "logs db -n 1"), "db up\n");
}

#[test]
fn down_stops_everything_and_says_so() {
    let daemon = Daemon::start();
    let path = file(&daemon, FILE);
    fine(&daemon, &format!("apply {} --wait", path.display()));
    let pid = ps(&daemon, "db")[3].clone();
    assert_eq!(
        fine(&daemon, "down"),
        "every process is stopped and the daemon has ended\n"
    );
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    let (code, _, stderr) = run(&daemon, "ps");
    assert_eq!(code, 5);
    assert!(
        stderr.starts_with("error: cannot reach the daemon on "),
        "{stderr}"
    );
    assert!(
        stderr.contains("hint: start it with `procession serve`"),
        "{stderr}"
    );
    assert_eq!(daemon.terminate().code(), Some(0));
}
