//! What of a spec reaches the child, what the child writes, and what it must not
//! inherit.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use procession::grpc::proto::{
    self, LogEntry, OutputStream, Process, ProcessState as State, RestartMode, RestartPolicy,
    WaitCondition,
};

use super::{
    calls::{self, duration, ended, state, status},
    history::History,
    proc,
    support::{Client, Daemon, command, eventually, sh},
};

/// Signals 32 and 33, which libc keeps for itself and nobody can reset.
const OF_LIBC: u64 = 3 << 31;

/// Runs it once to a successful end; the lines that it wrote.
async fn lines(client: &mut Client, mut process: Process) -> Vec<String> {
    process.spec.as_mut().unwrap().restart_policy = Some(RestartPolicy {
        mode: RestartMode::Never.into(),
        ..Default::default()
    });
    let name = calls::create(client, process).await;
    let done = calls::wait_for(client, &name, WaitCondition::Settled).await;
    let written = written(client, &name).await;
    assert_eq!(state(&done), State::Succeeded, "{done:?} {written:?}");
    written
}

async fn written(client: &mut Client, name: &str) -> Vec<String> {
    let entries = calls::output(client, name).await;
    let text = |entry: &LogEntry| String::from_utf8_lossy(&entry.data).into_owned();
    entries.iter().map(text).collect()
}

#[tokio::test]
async fn settings_reach_the_child() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().canonicalize().unwrap();
    std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o755)).unwrap();
    let env_file = inside.join("env");
    std::fs::write(&env_file, "FROM_FILE=file\nBOTH=file\n# a comment\n").unwrap();
    let stdin_file = inside.join("stdin");
    std::fs::write(&stdin_file, "line of stdin\n").unwrap();
    let script = "pwd; umask; nice; ulimit -n; ulimit -c; cat /proc/self/oom_score_adj
                  echo $FROM_FILE $BOTH $PROCESSION_NAME $PROCESSION_RUN_ID; cat";
    let mut process = sh("all", script);
    let spec = process.spec.as_mut().unwrap();
    spec.working_directory = inside.display().to_string();
    spec.umask = "027".to_owned();
    spec.nice = 5;
    spec.oom_score_adj = Some(300);
    spec.env_files = vec![env_file.display().to_string()];
    spec.env.insert("BOTH".to_owned(), "spec".to_owned());
    spec.stdio = Some(proto::Stdio {
        stdin_file: stdin_file.display().to_string(),
        ..Default::default()
    });
    spec.resource_limits = Some(proto::ResourceLimits {
        open_files_max: 123,
        rlimits: vec![proto::Rlimit {
            name: "core".to_owned(),
            soft: 0,
            hard: None,
        }],
        ..Default::default()
    });
    let written = lines(&mut client, process).await;
    let expected = [
        &inside.display().to_string(),
        "0027",
        "5",
        "123",
        "0",
        "300",
        "file spec all 1",
        "line of stdin",
    ];
    assert_eq!(written, expected);
    daemon.ended().await;
}

#[tokio::test]
async fn an_identity_reaches_the_child_or_the_start_fails_by_name() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let run_as = |name: &str, user: &str| {
        let mut process = sh(name, "id -u; id -g; id -G; ps -o args= -p $$ >&2 || true");
        process.spec.as_mut().unwrap().run_as = Some(proto::Identity {
            user: user.to_owned(),
            ..Default::default()
        });
        process
    };
    if nix::unistd::geteuid().is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let written = lines(&mut client, run_as("other", "nobody")).await;
        assert_eq!(
            written[..2],
            [nobody.uid.to_string(), nobody.gid.to_string()]
        );
        // None of the daemon's groups.
        assert!(!written[2].split(' ').any(|gid| gid == "0"), "{written:?}");
    }
    let name = calls::create(&mut client, run_as("nobody", "no-such-user")).await;
    let done = calls::wait_for(&mut client, &name, WaitCondition::Settled).await;
    assert_eq!(state(&done), State::Failed);
    assert_eq!(status(&done).reason, "SPAWN_ERROR");
    assert!(status(&done).message.contains("no-such-user"), "{done:?}");
    daemon.ended().await;
}

#[tokio::test]
async fn a_child_inherits_three_descriptors_and_no_signal_state() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    for n in 0..20 {
        calls::create(&mut client, command(&format!("p{n}"), &["sleep", "1000"])).await;
    }
    let names: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    history.all_in(&names, &[State::Running]).await;
    for name in &names {
        let pid = history.status(name).pid;
        // The program itself may have a file of its locale open for a moment.
        let fds = eventually("three descriptors", || {
            let fds = proc::descriptors(pid);
            (fds.len() == 3).then_some(fds)
        });
        assert_eq!(fds.iter().filter(|fd| *fd == "/dev/null").count(), 1);
        assert_eq!(fds.iter().filter(|fd| fd.starts_with("pipe:")).count(), 2);
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for key in ["SigBlk:", "SigIgn:"] {
            let mask = text
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap();
            let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
            assert_eq!(mask & !OF_LIBC, 0, "{key} {mask:x}");
        }
    }
    daemon.ended().await;
}

fn prlimit(daemon: &Daemon, soft: &str) {
    let done = std::process::Command::new("prlimit")
        .args(["--pid", &daemon.pid().to_string()])
        .arg(format!("--nofile={soft}:"))
        .status()
        .unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn without_descriptors_a_start_fails_by_name_and_recovers() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    for n in 0..10 {
        calls::create(&mut client, command(&format!("p{n}"), &["sleep", "1000"])).await;
    }
    let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    history.all_in(&names, &[State::Running]).await;
    let before: Vec<i32> = names.iter().map(|name| history.status(name).pid).collect();
    let open = proc::descriptors(daemon.pid()).len();
    for spare in [0, 1, 2, 3, 4, 5] {
        prlimit(&daemon, &(open + spare).to_string());
        let name = format!("late{spare}");
        let mut process = command(&name, &["sleep", "1000"]);
        process.spec.as_mut().unwrap().restart_policy = Some(RestartPolicy {
            initial_backoff: Some(duration(Duration::from_millis(50))),
            max_backoff: Some(duration(Duration::from_millis(50))),
            ..Default::default()
        });
        calls::create(&mut client, process).await;
        history
            .all_in(&[&name], &[State::Backoff, State::Running])
            .await;
        if history.status(&name).state() == State::Backoff {
            let (exit, outcome) = ended(&history.held[&name]);
            assert_eq!(exit.spawn_errno, nix::libc::EMFILE, "{exit:?}");
            assert!(matches!(
                outcome,
                proto::exit_status::Outcome::SpawnError(_)
            ));
            assert_eq!(history.status(&name).reason, "SPAWN_ERROR");
        } else {
            assert!(spare >= 3, "{spare} descriptors were enough");
        }
        // Whoever is connected is answered, and the others run on.
        for (name, pid) in names.iter().zip(&before) {
            let process = calls::get(&mut client, name).await;
            assert_eq!(
                (state(&process), status(&process).pid),
                (State::Running, *pid)
            );
        }
        prlimit(&daemon, "4096");
        history.all_in(&[&name], &[State::Running]).await;
        calls::stop(&mut client, &name).await;
    }
    daemon.client().await;
    daemon.ended().await;
}

#[tokio::test]
async fn a_low_soft_limit_of_descriptors_is_no_limit_to_the_daemon() {
    // As most shells and service managers start it, but lower.
    let daemon = Daemon::start_under(&["prlimit", "--nofile=200:2000"], &[]);
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let process = |n| sh(&format!("p{n}"), "ulimit -Sn; ulimit -Hn; sleep 1000");
    let processes: Vec<Process> = (0..100).map(process).collect();
    let names: Vec<String> = processes.iter().map(|p| p.name.clone()).collect();
    calls::apply(&mut client, processes).await;
    history.all_in(&names, &[State::Running]).await;
    assert!(proc::descriptors(daemon.pid()).len() > 300);
    // What it runs has the limits that it was itself given.
    while calls::output(&mut client, "p0").await.len() < 2 {}
    assert_eq!(written(&mut client, "p0").await, ["200", "2000"]);
    daemon.ended().await;
}

#[tokio::test]
async fn output_is_kept_byte_by_byte() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let file = daemon.directory().join("bytes");
    // Every byte but the newline, a NUL among them; an empty line; a long one; a
    // carriage return; and an end without a newline.
    let mut bytes: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    bytes.extend(b"\n\n");
    let long: Vec<u8> = (0..200_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    bytes.extend(&long);
    bytes.extend(b"\n10%\r20%\nno newline");
    std::fs::write(&file, &bytes).unwrap();
    let mut process = sh(
        "cat",
        &format!("cat {}; echo to stderr >&2", file.display()),
    );
    process.spec.as_mut().unwrap().restart_policy = Some(RestartPolicy {
        mode: RestartMode::Never.into(),
        ..Default::default()
    });
    calls::create(&mut client, process).await;
    calls::wait_for(&mut client, "cat", WaitCondition::Settled).await;
    let entries = calls::output(&mut client, "cat").await;
    let of = |stream: OutputStream| entries.iter().filter(move |e| e.stream() == stream);
    // Pieces of one line share its sequence.
    let mut lines: Vec<(i64, Vec<u8>)> = Vec::new();
    for entry in of(OutputStream::Stdout) {
        assert_eq!(entry.run_id, 1);
        match lines.last_mut() {
            Some((sequence, line)) if *sequence == entry.sequence => {
                assert_eq!(entry.line_offset, i64::try_from(line.len()).unwrap());
                line.extend(&entry.data);
            }
            _ => lines.push((entry.sequence, entry.data.to_vec())),
        }
    }
    let expected: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let lines: Vec<&[u8]> = lines.iter().map(|(_, line)| line.as_slice()).collect();
    assert_eq!(lines.len(), expected.len());
    assert!(lines == expected, "the bytes differ");
    let stderr: Vec<&[u8]> = of(OutputStream::Stderr).map(|e| &e.data[..]).collect();
    assert_eq!(stderr, [b"to stderr"]);
    let mut sequences: Vec<i64> = entries.iter().map(|entry| entry.sequence).collect();
    sequences.dedup();
    sequences.sort_unstable();
    sequences.dedup();
    let dense: Vec<i64> = (1..=i64::try_from(sequences.len()).unwrap()).collect();
    assert_eq!(sequences, dense);
    daemon.ended().await;
}
