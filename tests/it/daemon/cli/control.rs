//! `pause`, `resume`, `reset` and `get`: what they do, print and exit with.

use std::path::Path;

use super::{FILE, file, fine, ps, run};
use crate::daemon::support::{Daemon, eventually};

/// A daemon in which db and web-0 run and the job has failed.
fn running() -> Daemon {
    let daemon = Daemon::start();
    let path = file(&daemon, FILE);
    fine(&daemon, &format!("apply {} --wait", path.display()));
    eventually("the job fails", || {
        (ps(&daemon, "job")[1] == "FAILED").then_some(())
    });
    daemon
}

/// What `get` says after `label`.
fn got(shown: &str, label: &str) -> String {
    let mut lines = shown.lines();
    let value = lines.find_map(|line| line.strip_prefix(label));
    let value = value.unwrap_or_else(|| panic!("no {label} in {shown}"));
    value.trim().to_owned()
}

#[test]
fn what_is_paused_is_the_same_run_once_resumed() {
    let daemon = running();
    let pid = ps(&daemon, "db")[3].clone();
    for _ in 0..2 {
        assert_eq!(
            fine(&daemon, "pause db"),
            format!("db: PAUSED (pid {pid}, run 1)\n")
        );
        assert_eq!(ps(&daemon, "db")[1], "PAUSED");
    }
    for _ in 0..2 {
        assert_eq!(
            fine(&daemon, "resume db"),
            format!("db: RUNNING (pid {pid}, run 1)\n")
        );
        assert_eq!(ps(&daemon, "db")[1], "RUNNING");
    }
    let several = fine(&daemon, "pause -l tier");
    assert_eq!(several, "db: paused\nweb-0: paused\n");
    assert_eq!(ps(&daemon, "web-0")[1], "PAUSED");
    // What is frozen can be stopped all the same.
    assert_eq!(fine(&daemon, "stop db"), "db: STOPPED (signal 15)\n");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    for command in ["pause job", "resume job"] {
        let (code, stdout, stderr) = run(&daemon, command);
        assert_eq!((code, stdout.as_str()), (1, ""), "{command}");
        assert_eq!(
            stderr,
            "error: job: no run is up (the process is FAILED)\n\
             hint: start it first: `procession start NAME`\n",
            "{command}"
        );
    }
}

#[test]
fn a_reset_makes_what_failed_stopped_and_leaves_what_runs() {
    let daemon = running();
    let pid = ps(&daemon, "db")[3].clone();
    assert_eq!(fine(&daemon, "reset db job"), "db: reset\njob: reset\n");
    assert_eq!(ps(&daemon, "job")[1], "STOPPED");
    assert_eq!(ps(&daemon, "db")[3], pid);
    assert_eq!(
        fine(&daemon, "reset job"),
        "job: STOPPED (exit 3)\n",
        "again"
    );
    let (code, _, stderr) = run(&daemon, "reset nobody");
    assert_eq!(code, 4);
    assert!(
        stderr.starts_with("error: no such process: nobody\n"),
        "{stderr}"
    );
}

#[test]
fn one_process_is_shown_in_full() {
    let daemon = running();
    let pid = ps(&daemon, "web-0")[3].clone();
    let web = fine(&daemon, "get web-0");
    for (label, value) in [
        ("Name:", "web-0"),
        ("State:", "RUNNING"),
        ("Wanted:", "RUNNING"),
        ("Pid:", pid.as_str()),
        ("Run:", "1"),
        ("Command:", "sleep 1000"),
    ] {
        assert_eq!(got(&web, label), value, "{web}");
    }
    let job = fine(&daemon, "get job");
    assert!(got(&job, "State:").starts_with("FAILED"), "{job}");
    let json = fine(&daemon, "get web-0 -o json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let process = &json["process"];
    assert_eq!(process["status"]["pid"].to_string(), pid);
    assert_eq!(process["spec"]["dependencies"][0]["name"], "db");
    for (command, code) in [("get nobody", 4), ("get", 2), ("get web-0 job", 2)] {
        let ran = run(&daemon, command);
        assert_eq!((ran.0, ran.1.as_str()), (code, ""), "{command}");
        assert!(ran.2.starts_with("error: "), "{command}: {}", ran.2);
    }
}
