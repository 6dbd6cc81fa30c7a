//! How runs end by themselves, and how they fail to begin.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use procession::{
    domain::run::{Outcome, RunEvent, SpawnError},
    runner::{Identity, Launch, Rlimit, ShimRunner, Stdin},
};

use super::support::*;

#[tokio::test]
async fn exit_codes_are_told() {
    for code in [0, 3, 255] {
        let (outcome, _) = outcome(launch(&["sh", "-c", &format!("exit {code}")])).await;
        assert_eq!(outcome, Outcome::Code(code));
    }
}

#[tokio::test]
async fn death_by_a_signal_is_no_exit_code() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGRTMIN() + 3] {
        let (outcome, _) = outcome(launch(&["sh", "-c", &format!("kill -{signal} $$")])).await;
        assert_eq!(outcome, Outcome::Signal(signal));
    }
}

#[tokio::test]
async fn an_exit_tells_what_it_used() {
    let script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
    let mut running = shell(&runner(), script);
    let exit = running.exited().await;
    assert!(exit.cpu_time > Duration::ZERO);
    assert!(exit.max_rss_bytes > 100 * 1024, "{}", exit.max_rss_bytes);
    assert!(exit.at.0 > 0 && !exit.core_dumped && !exit.oom_killed);
    running.finish().await;
}

/// Runs what cannot be run.
async fn refusal(launch: Launch) -> SpawnError {
    let mut running = begin(&runner(), launch);
    let outcome = running.finish().await;
    assert!(!running.seen.contains(&RunEvent::Started));
    match outcome {
        Outcome::SpawnError(error) => error,
        other => panic!("{other:?}"),
    }
}

/// Written by another process: a descriptor of this one may be copied by a
/// start elsewhere, and a file somebody can write to is not executed.
fn write(path: &Path, text: &str, mode: u32) -> String {
    let path = path.to_str().unwrap();
    let script = "printf %s \"$2\" > \"$1\" && chmod \"$3\" \"$1\"";
    let status = Command::new("sh")
        .args(["-c", script, "sh", path, text, &format!("{mode:o}")])
        .status()
        .unwrap();
    assert!(status.success());
    path.to_owned()
}

#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let data = write(&dir.path().join("data"), "#!/bin/sh\n", 0o644);
    let text = write(&dir.path().join("text"), "echo hello\n", 0o755);
    let orphan = write(&dir.path().join("orphan"), "#!/no/such\n", 0o755);
    let folder = dir.path().to_str().unwrap().to_owned();
    let long = "x".repeat(200 * 1024);
    for (argv, errno, message) in [
        (
            vec!["/no/such"],
            libc::ENOENT,
            "exec \"/no/such\": No such file or directory".to_owned(),
        ),
        (
            vec!["no-such"],
            libc::ENOENT,
            "exec \"no-such\": No such file or directory".to_owned(),
        ),
        (
            vec![&data],
            libc::EACCES,
            format!("exec {data:?}: Permission denied"),
        ),
        (
            vec![&folder],
            libc::EACCES,
            format!("exec {folder:?}: Permission denied"),
        ),
        (
            vec![&text],
            libc::ENOEXEC,
            format!("exec {text:?}: Exec format error"),
        ),
        (
            vec![&orphan],
            libc::ENOENT,
            format!("exec {orphan:?}: No such file or directory (its interpreter is missing)"),
        ),
        (
            vec!["/bin/true", &long],
            libc::E2BIG,
            "exec \"/bin/true\": Argument list too long".to_owned(),
        ),
        (
            vec![],
            libc::EINVAL,
            "command: is empty; name a program".to_owned(),
        ),
    ] {
        let error = refusal(launch(&argv)).await;
        assert_eq!((error.errno, &*error.message), (errno, &*message));
    }
}

#[tokio::test]
async fn a_file_that_may_not_be_executed_in_path_is_denied_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("tool"), "", 0o644);
    let mut launch = launch(&["tool"]);
    let path = format!("/no/such:{}:/bin", dir.path().display());
    launch.env = vec![("PATH".into(), path.into())];
    assert_eq!(refusal(launch).await.errno, libc::EACCES);
}

#[tokio::test]
async fn what_cannot_be_set_up_names_the_step_and_its_object() {
    let dir = tempfile::tempdir().unwrap();
    let bad = write(&dir.path().join("env"), "A=1\n\noops\n", 0o644);
    type Change<'a> = Box<dyn Fn(&mut Launch) + 'a>;
    let changes: [(Change<'_>, i32, String); 9] = [
        (
            Box::new(|l| l.working_directory = Some("/no/dir".into())),
            libc::ENOENT,
            "working directory \"/no/dir\": No such file or directory".to_owned(),
        ),
        (
            Box::new(|l| l.identity = Some(user("nobody-here"))),
            0,
            "user \"nobody-here\": no such user".to_owned(),
        ),
        (
            Box::new(|l| l.env_files = vec![bad.clone().into()]),
            0,
            format!("env file {bad:?}, line 3: has no '='; write KEY=VALUE"),
        ),
        (
            Box::new(|l| l.env_files = vec!["/no/env".into()]),
            libc::ENOENT,
            "env file \"/no/env\": No such file or directory".to_owned(),
        ),
        (
            Box::new(|l| l.stdin = Stdin::File("/no/stdin".into())),
            libc::ENOENT,
            "stdin \"/no/stdin\": No such file or directory".to_owned(),
        ),
        (
            Box::new(|l| l.rlimits = vec![rlimit("bananas", 1, 1)]),
            libc::EINVAL,
            "rlimit \"bananas\": no such resource".to_owned(),
        ),
        (
            Box::new(|l| l.rlimits = vec![rlimit("core", 0, 0), rlimit("nofile", 2, 1)]),
            libc::EINVAL,
            "rlimit \"nofile\": Invalid argument".to_owned(),
        ),
        (
            Box::new(|l| l.oom_score_adj = Some(5000)),
            libc::EINVAL,
            "oom_score_adj 5000: Invalid argument".to_owned(),
        ),
        (
            Box::new(|l| l.argv.push("a\0b".into())),
            libc::EINVAL,
            "command[1]: contains a NUL byte".to_owned(),
        ),
    ];
    for (change, errno, message) in changes {
        let mut launch = launch(&["true"]);
        change(&mut launch);
        let error = refusal(launch).await;
        assert_eq!((error.errno, &*error.message), (errno, &*message));
    }
}

fn user(name: &str) -> Identity {
    Identity {
        user: Some(name.to_owned()),
        group: None,
        supplementary_groups: Vec::new(),
    }
}

fn rlimit(resource: &str, soft: u64, hard: u64) -> Rlimit {
    Rlimit {
        resource: resource.to_owned(),
        soft,
        hard,
    }
}

#[tokio::test]
async fn a_shim_that_cannot_be_started_is_a_spawn_error() {
    let runner = ShimRunner::with_program(Path::new("/no/shim"), dirs()).unwrap();
    let mut running = begin(&runner, launch(&["true"]));
    match running.finish().await {
        Outcome::SpawnError(error) => {
            assert_eq!(error.errno, libc::ENOENT);
            assert_eq!(
                &*error.message,
                "shim \"/no/shim\": No such file or directory"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_program_that_is_no_shim_is_a_spawn_error() {
    let runner = ShimRunner::with_program(Path::new("/bin/true"), dirs()).unwrap();
    let outcome = begin(&runner, launch(&["true"])).finish().await;
    assert!(matches!(outcome, Outcome::SpawnError(_)), "{outcome:?}");
}

#[tokio::test]
async fn an_exit_is_told_while_a_grandchild_holds_the_output() {
    let mut running = shell(&runner(), "trap '' TERM; sleep 1000 & exit 3");
    let since = Instant::now();
    assert_eq!(running.exited().await.outcome, Outcome::Code(3));
    assert!(!running.processes().is_empty(), "it was told after them");
    running.finish().await;
    assert!(since.elapsed() < Duration::from_secs(5));
    assert_eq!(running.output(), "");
}
