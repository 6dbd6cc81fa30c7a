use tokio::time::Instant;

use crate::domain::id::{ProcessName, Uid};

use super::*;

fn launch() -> Launch {
    Launch {
        uid: Uid::from_bytes([7; 16]),
        run_id: 1,
        name: ProcessName::new("fake").unwrap(),
        argv: vec!["fake".into()],
        env: Vec::new(),
        env_files: Vec::new(),
        env_overrides: Vec::new(),
        working_directory: None,
        identity: None,
        umask: None,
        nice: None,
        oom_score_adj: None,
        rlimits: Vec::new(),
        stdin: super::super::Stdin::Null,
        log_policy: super::super::LogPolicy {
            max_bytes: 0,
            segment_bytes: 0,
            max_segments: 0,
            max_age: Duration::ZERO,
            drop_when_full: false,
        },
        merge_stderr: false,
        stop: plan(1),
    }
}

fn plan(grace: u64) -> StopPlan {
    StopPlan {
        signal: SIGTERM,
        scope: SignalScope::Tree,
        grace: Duration::from_secs(grace),
        kill_timeout: Duration::from_secs(2),
    }
}

fn begin(runner: &FakeRunner) -> (Box<dyn Run>, mpsc::Receiver<RunEvent>) {
    let (sender, events) = mpsc::channel(16);
    (runner.launch(launch(), sender), events)
}

/// The names of all events of a run, with the outcome of the exit.
async fn all(events: &mut mpsc::Receiver<RunEvent>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = events.recv().await {
        seen.push(match event {
            RunEvent::Spawned { .. } => "spawned".to_owned(),
            RunEvent::Adopted { started, .. } => format!("adopted {started}"),
            RunEvent::NotBegun => "not begun".to_owned(),
            RunEvent::Started => "started".to_owned(),
            RunEvent::Exited(exit) => match exit.outcome {
                Outcome::Code(code) => format!("code {code}"),
                Outcome::Signal(number) => format!("signal {number}"),
                other => format!("{other:?}"),
            },
            RunEvent::Killing => "killing".to_owned(),
            RunEvent::Survivors(pids) => format!("survivors {pids:?}"),
            RunEvent::Output(health) => format!("output {:?}", health.state),
            RunEvent::Unresponsive(silence) => format!("unresponsive {silence:?}"),
            RunEvent::Empty => "empty".to_owned(),
        });
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_by_its_script() {
    let runner = FakeRunner::new();
    runner.push(Script {
        ends_after: Some((Duration::from_secs(60), Outcome::Code(3))),
        ..Script::default()
    });
    let (_run, mut events) = begin(&runner);
    let since = Instant::now();
    let seen = all(&mut events).await;
    assert_eq!(seen, ["spawned", "started", "code 3", "empty"]);
    assert_eq!(since.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_refused() {
    let runner = FakeRunner::new();
    runner.push(Script {
        refuses: Some(SpawnError {
            errno: 2,
            message: "exec".into(),
        }),
        ..Script::default()
    });
    let (_run, mut events) = begin(&runner);
    let seen = all(&mut events).await;
    assert_eq!(seen.len(), 2);
    assert!(seen[0].starts_with("SpawnError"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn who_ignores_a_stop_is_killed_and_may_leave_survivors() {
    let runner = FakeRunner::new();
    runner.set_default(Script {
        on_stop: OnStop::Ignores,
        survivors: vec![4711],
        ..Script::default()
    });
    let (run, mut events) = begin(&runner);
    run.stop(plan(3600));
    run.stop(plan(5));
    let fake = runner.run(0).await;
    let since = Instant::now();
    let release = async {
        fake.until_asked(|asked| matches!(asked, Asked::Stop(p) if *p == plan(5)))
            .await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        fake.release().await;
    };
    let (seen, ()) = tokio::join!(all(&mut events), release);
    let expected = [
        "spawned",
        "started",
        "killing",
        "signal 9",
        "survivors [4711]",
        "empty",
    ];
    assert_eq!(seen, expected);
    assert_eq!(since.elapsed(), Duration::from_secs(30));
    assert_eq!(
        run.signal(SIGTERM, SignalScope::Main).await,
        Ok(Err(SignalError::Gone))
    );
}

#[tokio::test(start_paused = true)]
async fn a_test_ends_a_run_by_hand() {
    let runner = FakeRunner::new();
    let (run, mut events) = begin(&runner);
    assert_eq!(run.freeze().await, Ok(Ok(())));
    let fake = runner.run(0).await;
    fake.end(Outcome::Code(9)).await;
    fake.end(Outcome::Code(8)).await;
    assert_eq!(
        all(&mut events).await,
        ["spawned", "started", "code 9", "empty"]
    );
    assert_eq!(fake.asked(), [Asked::Freeze]);
    assert_eq!((runner.launches(), fake.launch.unwrap().run_id), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_counts() {
    let runner = FakeRunner::new();
    runner.push(Script {
        starts_after: Duration::from_secs(10),
        ..Script::default()
    });
    let (run, mut events) = begin(&runner);
    run.stop(plan(1));
    let since = Instant::now();
    assert_eq!(all(&mut events).await, ["spawned", "signal 15", "empty"]);
    assert_eq!(since.elapsed(), Duration::ZERO);
}
