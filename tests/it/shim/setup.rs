//! What a program finds when it starts.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use procession::{
    domain::run::Outcome,
    runner::{Identity, Rlimit, Stdin},
};

use super::support::*;

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

#[tokio::test]
async fn the_environment_is_what_it_was_told_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    fs::write(&one, "# comment\nexport A=file\nB='file one'\nC=file\n").unwrap();
    fs::write(&two, "B=\"file two\"\n").unwrap();
    let mut launch = launch(&["/usr/bin/env"]);
    launch.env = vec![("A".into(), "env".into()), ("Z".into(), "env".into())];
    launch.env_files = vec![one, two];
    launch.env_overrides = vec![("C".into(), "override".into())];
    let (outcome, text) = outcome(launch).await;
    assert_eq!(outcome, Outcome::Code(0));
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=file", "B=file two", "C=override", "Z=env"]);
}

#[tokio::test]
async fn mask_niceness_limits_and_directory_are_set() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        "umask; nice; ulimit -Sn; ulimit -Hn; ulimit -c; pwd -P; cat /proc/self/oom_score_adj";
    let mut launch = launch(&["sh", "-c", script]);
    launch.umask = Some(0o027);
    launch.nice = Some(5);
    launch.oom_score_adj = Some(123);
    launch.rlimits = [("nofile", 77, 88), ("core", 0, u64::MAX)]
        .map(|(name, soft, hard)| Rlimit {
            resource: name.to_owned(),
            soft,
            hard,
        })
        .to_vec();
    launch.working_directory = Some(dir.path().to_owned());
    let (outcome, text) = outcome(launch).await;
    assert_eq!(outcome, Outcome::Code(0), "{text}");
    let directory = dir.path().canonicalize().unwrap();
    let expected = format!("0027\n5\n77\n88\n0\n{}\n123\n", directory.display());
    assert_eq!(text, expected);
}

#[tokio::test]
async fn identities_are_names_or_ids() {
    if !is_root() {
        return;
    }
    for (user, group, extra, expected) in [
        (Some("nobody"), None, vec![], "65534 65534 65534"),
        (Some("65534"), Some("daemon"), vec![], "65534 1 1"),
        (Some("54321"), Some("4321"), vec!["9"], "54321 4321 4321 9"),
        (None, Some("daemon"), vec![], "0 1 1"),
    ] {
        let mut launch = launch(&["sh", "-c", "echo $(id -u) $(id -g) $(id -G)"]);
        launch.identity = Some(Identity {
            user: user.map(str::to_owned),
            group: group.map(str::to_owned),
            supplementary_groups: extra.into_iter().map(str::to_owned).collect(),
        });
        let (outcome, text) = outcome(launch).await;
        assert_eq!(outcome, Outcome::Code(0));
        assert!(
            text.starts_with(expected),
            "{text:?} for {user:?} {group:?}"
        );
    }
}

#[tokio::test]
async fn both_streams_are_kept_apart_or_in_their_order() {
    let script = "echo one; echo two >&2; echo three";
    for (merge, out, err) in [
        (true, "one\ntwo\nthree\n", ""),
        (false, "one\nthree\n", "two\n"),
    ] {
        let mut launch = launch(&["sh", "-c", script]);
        launch.merge_stderr = merge;
        let mut running = begin(&runner(), launch);
        assert_eq!(running.finish().await, Outcome::Code(0));
        assert_eq!((&*running.output(), &*running.errors()), (out, err));
    }
}

#[tokio::test]
async fn whoever_it_runs_as_may_open_its_output_by_name() {
    if !is_root() {
        return;
    }
    let mut launch = launch(&["sh", "-c", "echo opened > /dev/stdout"]);
    launch.identity = Some(Identity {
        user: Some("nobody".to_owned()),
        group: None,
        supplementary_groups: Vec::new(),
    });
    assert_eq!(
        outcome(launch).await,
        (Outcome::Code(0), "opened\n".to_owned())
    );
}

#[tokio::test]
async fn an_unprivileged_user_cannot_execute_what_it_may_not() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("tool");
    fs::write(&tool, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut launch = launch(&[tool.to_str().unwrap()]);
    launch.identity = Some(Identity {
        user: Some("nobody".to_owned()),
        group: None,
        supplementary_groups: Vec::new(),
    });
    match outcome(launch).await.0 {
        Outcome::SpawnError(error) => assert_eq!(error.errno, libc::EACCES),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stdin_is_empty_or_the_file() {
    let (_, text) = outcome(launch(&["sh", "-c", "cat; readlink /proc/self/fd/0"])).await;
    assert_eq!(text, "/dev/null\n");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in");
    fs::write(&file, "from a file").unwrap();
    let mut launch = launch(&["cat"]);
    launch.stdin = Stdin::File(file);
    let (_, text) = outcome(launch).await;
    assert_eq!(text, "from a file");
}

#[tokio::test]
async fn a_program_is_alone_in_its_session_and_starts_clean() {
    // Not close-on-exec: what a careless parent of a daemon leaves open.
    let _stray = nix::unistd::dup(std::io::stderr()).unwrap();
    let mut running = begin(&runner(), launch(&["sleep", "1000"]));
    running.started().await;
    let pid = running.pid;
    assert_eq!(group_and_session(pid), Some((pid, pid)));
    let fds = || {
        let mut fds: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        fds.sort_unstable();
        fds
    };
    // Its loader opens and closes libraries first.
    eventually("only 0 to 2", || fds() == ["0", "1", "2"]).await;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for field in ["SigBlk:", "SigIgn:"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let set = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // 32 and 33 are the libc's own, and no program can change them.
        assert_eq!(set & !(3 << 31), 0, "{line}");
    }
    // The shim holds no stray descriptor, and what it holds is not the run's.
    let shim = running.shim();
    let (runs, logs) = (dirs().runs, dirs().logs);
    for entry in fs::read_dir(format!("/proc/{shim}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        let expected = ["/dev/null", "socket:", "anon_inode:", "pipe:"];
        let of_run = Path::new(target).starts_with(&runs) || Path::new(target).starts_with(&logs);
        assert!(
            of_run || expected.iter().any(|e| target.starts_with(e)),
            "{target}"
        );
    }
    running
        .run
        .stop(plan(procession::domain::run::SignalScope::Main, PATIENCE));
    assert_eq!(running.finish().await, Outcome::Signal(libc::SIGTERM));
}
