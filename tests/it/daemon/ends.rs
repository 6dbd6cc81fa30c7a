//! Ends of real processes: told at once, told once, and what follows.

use std::time::{Duration, Instant};

use procession::grpc::proto::{
    self, Process, ProcessState as State, RestartMode, RestartPolicy, WaitCondition,
    exit_status::Outcome,
};

use super::{
    calls::{self, duration, ended, state, status},
    history::History,
    proc,
    support::{Daemon, command, eventually, sh},
};

fn with(mut process: Process, policy: RestartPolicy) -> Process {
    process.spec.as_mut().unwrap().restart_policy = Some(policy);
    process
}

fn never() -> RestartPolicy {
    RestartPolicy {
        mode: RestartMode::Never.into(),
        ..Default::default()
    }
}

/// No pause between runs.
fn at_once() -> RestartPolicy {
    RestartPolicy {
        initial_backoff: Some(duration(Duration::ZERO)),
        max_backoff: Some(duration(Duration::ZERO)),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_end_is_told_though_a_grandchild_holds_the_output() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    // It ignores SIGTERM, so that the run is not empty for an hour.
    let script = "(trap '' TERM; echo ready; while :; do sleep 1; done) & sleep 0.2; exit 7";
    let mut process = with(sh("one", script), never());
    process.spec.as_mut().unwrap().stop_policy = Some(proto::StopPolicy {
        grace_period: Some(duration(Duration::from_secs(3600))),
        ..Default::default()
    });
    calls::create(&mut client, process).await;
    history
        .until("the end is told", |held| {
            let status = held.get("one").and_then(|p| p.status.as_ref());
            status.is_some_and(|s| s.last_exit.is_some())
        })
        .await;
    let (exit, outcome) = ended(&history.held["one"]);
    assert_eq!(*outcome, Outcome::ExitCode(7));
    assert!(!exit.stop_requested);
    assert_eq!(history.status("one").state(), State::Stopping);
    assert!(!proc::below(daemon.pid()).is_empty());
    let exited = calls::wait_for(&mut client, "one", WaitCondition::Exited).await;
    assert_eq!(*ended(&exited).1, Outcome::ExitCode(7));
    // And the rest goes when somebody says so.
    let now = proto::StopProcessRequest {
        name: "one".to_owned(),
        stop_policy: Some(proto::StopPolicy {
            grace_period: Some(duration(Duration::ZERO)),
            ..Default::default()
        }),
        wait: calls::wait(WaitCondition::Settled),
        ..Default::default()
    };
    let stopped = client
        .stop_process(now)
        .await
        .unwrap()
        .into_inner()
        .process
        .unwrap();
    assert_eq!(status(&stopped).exit_history.len(), 1);
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}

#[tokio::test]
async fn the_daemon_lives_on_with_output_that_outlives_the_run() {
    // The grandchild goes with the run; what it wrote before is kept.
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let script = "(echo from the grandchild; sleep 1000) & sleep 0.2; echo last; exit 0";
    calls::create(&mut client, with(sh("one", script), never())).await;
    let done = calls::wait_for(&mut client, "one", WaitCondition::Settled).await;
    assert_eq!(state(&done), State::Succeeded);
    let lines = calls::output(&mut client, "one").await;
    let lines: Vec<&[u8]> = lines.iter().map(|entry| &entry.data[..]).collect();
    assert_eq!(lines, [&b"from the grandchild"[..], b"last"]);
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}

#[tokio::test]
async fn every_end_has_its_state() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let plain = daemon.directory().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let script = daemon.directory().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let plain = plain.display().to_string();
    let script = script.display().to_string();
    let failed = |reason| (State::Failed, reason);
    type Row<'a> = (
        &'a str,
        &'a [&'a str],
        (State, &'a str),
        Result<Outcome, i32>,
    );
    // What is run, and the state, reason and outcome it leads to.
    let table: [Row<'_>; 9] = [
        (
            "ok",
            &["true"],
            (State::Succeeded, ""),
            Ok(Outcome::ExitCode(0)),
        ),
        (
            "one",
            &["false"],
            failed("EXIT_CODE"),
            Ok(Outcome::ExitCode(1)),
        ),
        (
            "many",
            &["sh", "-c", "exit 255"],
            failed("EXIT_CODE"),
            Ok(Outcome::ExitCode(255)),
        ),
        (
            "shell127",
            &["sh", "-c", "nosuch"],
            failed("EXIT_CODE"),
            Ok(Outcome::ExitCode(127)),
        ),
        (
            "killed",
            &["sh", "-c", "kill -9 $$"],
            failed("SIGNAL"),
            Ok(Outcome::SignalNumber(9)),
        ),
        (
            "enoent",
            &["/no/such/program"],
            failed("SPAWN_ERROR"),
            Err(2),
        ),
        (
            "nopath",
            &["no-such-program"],
            failed("SPAWN_ERROR"),
            Err(2),
        ),
        ("eacces", &[&plain], failed("SPAWN_ERROR"), Err(13)),
        ("interpreter", &[&script], failed("SPAWN_ERROR"), Err(2)),
    ];
    for (name, argv, (expected, reason), outcome) in table {
        // The default policy would retry what may pass, and these are not of those.
        let spawns = outcome.is_err();
        let policy = if spawns {
            RestartPolicy::default()
        } else {
            never()
        };
        calls::create(&mut client, with(command(name, argv), policy)).await;
        let done = calls::wait_for(&mut client, name, WaitCondition::Settled).await;
        assert_eq!(state(&done), expected, "{done:?}");
        assert_eq!(status(&done).reason, reason, "{done:?}");
        assert_eq!(status(&done).run_id, 1, "{done:?}");
        let (exit, told) = ended(&done);
        match outcome {
            Ok(outcome) => assert_eq!(*told, outcome, "{name}"),
            Err(errno) => {
                assert_eq!(exit.spawn_errno, errno, "{exit:?}");
                let Outcome::SpawnError(text) = told else {
                    panic!("{exit:?}");
                };
                assert!(text.contains(argv[0]), "{text}");
                assert!(!status(&done).message.is_empty());
            }
        }
    }
    daemon.ended().await;
}

#[tokio::test]
async fn more_environment_than_the_kernel_takes_is_an_errno() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let file = daemon.directory().join("env");
    // One string of argv or environment may have 128 KiB.
    std::fs::write(&file, format!("BIG={}\n", "x".repeat(130 * 1024))).unwrap();
    let mut process = command("big", &["true"]);
    process.spec.as_mut().unwrap().env_files = vec![file.display().to_string()];
    calls::create(&mut client, process).await;
    let done = calls::wait_for(&mut client, "big", WaitCondition::Settled).await;
    assert_eq!(state(&done), State::Failed, "{done:?}");
    assert_eq!(ended(&done).0.spawn_errno, 7, "{done:?}");
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}

#[tokio::test]
async fn an_end_within_the_grace_of_the_start_keeps_its_code() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let patient = |mode: RestartMode| RestartPolicy {
        mode: mode.into(),
        start_grace: Some(duration(Duration::from_secs(3600))),
        initial_backoff: Some(duration(Duration::from_secs(3600))),
        max_backoff: Some(duration(Duration::from_secs(3600))),
        ..Default::default()
    };
    let mut apply = Vec::new();
    for (name, script, mode) in [
        ("job", "exit 0", RestartMode::OnFailure),
        ("service", "exit 0", RestartMode::Always),
        ("broken", "exit 5", RestartMode::OnFailure),
        ("once", "exit 5", RestartMode::Never),
    ] {
        let mut process = with(sh(name, script), patient(mode));
        // A grace of an hour needs as long to start.
        let start_timeout = Some(duration(Duration::from_secs(7200)));
        process.spec.as_mut().unwrap().start_timeout = start_timeout;
        apply.push(process);
    }
    calls::apply(&mut client, apply).await;
    for (name, expected, code) in [
        ("job", State::Succeeded, 0),
        ("service", State::Backoff, 0),
        ("broken", State::Backoff, 5),
        ("once", State::Failed, 5),
    ] {
        history.all_in(&[name], &[expected]).await;
        assert!(!history.paths[name].contains(&State::Running), "{name}");
        assert_eq!(
            *ended(&history.held[name]).1,
            Outcome::ExitCode(code),
            "{name}"
        );
    }
    daemon.ended().await;
}

#[tokio::test]
async fn a_storm_is_bounded() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let budget = RestartPolicy {
        budget: Some(proto::RestartBudget {
            max_restarts: 5,
            window: Some(duration(Duration::from_secs(3600))),
        }),
        ..at_once()
    };
    let failures = RestartPolicy {
        max_consecutive_failures: 4,
        ..at_once()
    };
    calls::create(&mut client, with(sh("budget", "exit 1"), budget)).await;
    calls::create(&mut client, with(sh("failures", "exit 1"), failures)).await;
    for (name, runs) in [("budget", 6), ("failures", 4)] {
        history.all_in(&[name], &[State::Failed]).await;
        let status = history.status(name);
        assert_eq!(status.reason, "RETRY_LIMIT", "{status:?}");
        assert_eq!(status.run_id, runs, "{status:?}");
        assert_eq!(status.restart_count, runs - 1, "{status:?}");
    }
    daemon.ended().await;
}

#[tokio::test]
async fn a_restart_is_delayed_as_the_policy_says() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let policy = RestartPolicy {
        initial_backoff: Some(duration(Duration::from_millis(100))),
        max_backoff: Some(duration(Duration::from_millis(400))),
        jitter_ratio: Some(0.0),
        max_consecutive_failures: 5,
        ..Default::default()
    };
    let begun = Instant::now();
    calls::create(&mut client, with(sh("one", "exit 1"), policy)).await;
    history.all_in(&["one"], &[State::Failed]).await;
    // 100 + 200 + 400 + 400 ms before the runs 2 to 5.
    assert!(
        begun.elapsed() >= Duration::from_millis(1100),
        "{:?}",
        begun.elapsed()
    );
    let exits = &history.status("one").exit_history;
    let at = |time: &Option<prost_types::Timestamp>| {
        let time = time.unwrap();
        i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
    };
    let pauses: Vec<i128> = exits
        .windows(2)
        .rev()
        .map(|pair| (at(&pair[0].start_time) - at(&pair[1].exit_time)) / 1_000_000)
        .collect();
    // The clocks of the shim and of the timer differ by less than a few ms.
    for (pause, least) in pauses.iter().zip([95, 195, 395, 395]) {
        assert!(*pause >= least, "{pauses:?}");
    }
    assert_eq!(pauses.len(), 4);
    daemon.ended().await;
}

#[tokio::test]
async fn a_stable_run_is_forgiven() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let count = daemon.directory().join("count");
    // Fails twice at once, then runs for a while, then fails again.
    let script = format!(
        "echo x >> {0}; [ $(wc -l < {0}) -le 2 ] && exit 1; sleep 1; exit 1",
        count.display()
    );
    let policy = RestartPolicy {
        stable_after: Some(duration(Duration::from_millis(500))),
        max_consecutive_failures: 3,
        ..at_once()
    };
    calls::create(&mut client, with(sh("one", &script), policy)).await;
    history
        .until("two failures", |held| {
            held.get("one")
                .is_some_and(|p| status(p).consecutive_failures == 2)
        })
        .await;
    history
        .until("forgiven while it runs", |held| {
            let status = status(&held["one"]);
            status.consecutive_failures == 0 && status.state() == State::Running
        })
        .await;
    // Without that this would be the third failure in a row.
    history
        .until("a run after that", |held| status(&held["one"]).run_id >= 5)
        .await;
    calls::stop(&mut client, "one").await;
    daemon.ended().await;
}

#[tokio::test]
async fn a_thousand_short_runs_leave_no_zombie() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let before = proc::descriptors(daemon.pid()).len();
    let policy = RestartPolicy {
        mode: RestartMode::Always.into(),
        ..at_once()
    };
    let begun = Instant::now();
    for n in 0..4 {
        let process = with(command(&format!("p{n}"), &["true"]), policy.clone());
        calls::create(&mut client, process).await;
    }
    let names: Vec<String> = (0..4).map(|n| format!("p{n}")).collect();
    history
        .until("250 runs of each", |held| {
            let enough = |name| held.get(name).is_some_and(|p| status(p).run_id > 250);
            names.iter().all(enough)
        })
        .await;
    println!("1000 runs of true in {:?}", begun.elapsed());
    for name in &names {
        calls::stop(&mut client, name).await;
    }
    let head = calls::head(&mut client).await;
    history.up_to(head).await;
    for name in &names {
        let status = history.status(name);
        let uid = &history.held[name].uid;
        let runs = history.exits.keys().filter(|(of, _)| of == uid);
        let runs: Vec<i64> = runs.map(|(_, run_id)| *run_id).collect();
        let dense: Vec<i64> = (1..=status.run_id).collect();
        assert_eq!(runs, dense, "{name}: a record per run");
        assert!(history.exits.iter().all(|((of, _), exit)| of != uid
            || exit.stop_requested
            || exit.outcome == Some(Outcome::ExitCode(0))));
    }
    proc::nothing_below(daemon.pid());
    eventually("no descriptor is left", || {
        (proc::descriptors(daemon.pid()).len() <= before).then_some(())
    });
    daemon.ended().await;
}
