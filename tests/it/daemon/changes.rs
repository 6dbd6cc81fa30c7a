//! Configurations that change, and processes that depend on each other.

use std::time::Duration;

use procession::grpc::proto::{
    self, ApplyOutcome, ChangeAction, ControlAction, Dependency, Process, ProcessState as State,
    RestartPolicy, WaitCondition,
};

use super::{
    calls::{self, duration, state, status},
    history::History,
    support::{Daemon, command, sh},
};

const FIFTY: usize = 50;

fn fifty() -> Vec<Process> {
    let process = |n| {
        let mut process = command(&format!("p{n:02}"), &["sleep", "1000"]);
        let spec = process.spec.as_mut().unwrap();
        spec.env = [("A", "1"), ("B", "2")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        process
    };
    (0..FIFTY).map(process).collect()
}

/// Runs of all, by name.
fn runs(history: &History) -> Vec<(String, i64, i32)> {
    let run = |(name, process): (&String, &Process)| {
        let status = process.status.as_ref().unwrap();
        (name.clone(), status.run_id, status.pid)
    };
    history.held.iter().map(run).collect()
}

#[tokio::test]
async fn an_apply_bounces_exactly_what_changed() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let mut wanted = fifty();
    let names: Vec<String> = wanted.iter().map(|p| p.name.clone()).collect();
    calls::apply(&mut client, wanted.clone()).await;
    history.all_in(&names, &[State::Running]).await;
    let before = runs(&history);
    let head = calls::head(&mut client).await;

    // A hundred times the same: nothing happens at all.
    for _ in 0..100 {
        let applied = calls::apply(&mut client, wanted.clone()).await;
        let unchanged = |item: &proto::BatchItemResult| item.outcome() == ApplyOutcome::Unchanged;
        assert!(applied.results.iter().all(unchanged), "{applied:?}");
    }
    assert_eq!(calls::head(&mut client).await, head);

    // One field of one; then one variable less.
    let edits: [fn(&mut proto::ProcessSpec); 2] = [
        |spec| spec.command = vec!["sleep".to_owned(), "2000".to_owned()],
        |spec| drop(spec.env.remove("B")),
    ];
    for (run_id, edit) in (2..).zip(edits) {
        edit(wanted[17].spec.as_mut().unwrap());
        let applied = calls::apply(&mut client, wanted.clone()).await;
        for (n, item) in applied.results.iter().enumerate() {
            let action = item
                .plan
                .as_ref()
                .map_or(ChangeAction::None, |plan| plan.action());
            let expected = if n == 17 {
                (ApplyOutcome::Updated, ChangeAction::Restart)
            } else {
                (ApplyOutcome::Unchanged, ChangeAction::None)
            };
            assert_eq!((item.outcome(), action), expected, "{item:?}");
        }
        history
            .until("the next run", |held| {
                let status = status(&held["p17"]);
                status.run_id == run_id && status.state() == State::Running
            })
            .await;
    }
    let after = runs(&history);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before == after, before.0 != "p17", "{before:?} {after:?}");
    }
    let pid = history.status("p17").pid;
    let env = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let env: Vec<&[u8]> = env.split(|byte| *byte == 0).collect();
    assert!(env.contains(&&b"A=1"[..]) && !env.contains(&&b"B=2"[..]));

    // What can change in a live run does, without a new one.
    wanted[18]
        .labels
        .insert("tier".to_owned(), "front".to_owned());
    calls::apply(&mut client, wanted.clone()).await;
    let head = calls::head(&mut client).await;
    history.up_to(head).await;
    assert_eq!(runs(&history), after);
    calls::control_all(&mut client, ControlAction::Stop).await;
    daemon.ended().await;
}

fn dependency(name: &str, condition: WaitCondition) -> Dependency {
    Dependency {
        name: name.to_owned(),
        condition: condition.into(),
        ..Default::default()
    }
}

fn depends(mut process: Process, on: Vec<Dependency>) -> Process {
    process.spec.as_mut().unwrap().dependencies = on;
    process
}

#[tokio::test]
async fn what_depends_starts_only_after_the_job_has_succeeded() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let go = daemon.directory().join("go");
    let done = daemon.directory().join("done");
    let (go_path, done_path) = (go.display(), done.display());
    // The job fails until it may go on, and leaves what the service needs.
    let mut job = sh(
        "job",
        &format!("[ -e {go_path} ] || exit 1; sleep 0.1; touch {done_path}"),
    );
    job.spec.as_mut().unwrap().restart_policy = Some(RestartPolicy {
        initial_backoff: Some(duration(Duration::from_millis(20))),
        max_backoff: Some(duration(Duration::from_millis(20))),
        ..Default::default()
    });
    let service = sh(
        "service",
        &format!("[ -e {done_path} ] || exit 9; sleep 1000"),
    );
    let service = depends(service, vec![dependency("job", WaitCondition::Succeeded)]);
    let worker = sh(
        "worker",
        &format!("[ -e {done_path} ] || exit 9; sleep 1000"),
    );
    let worker = depends(worker, vec![dependency("service", WaitCondition::Ready)]);
    calls::apply(&mut client, vec![worker, service, job]).await;
    history
        .until("the job was tried", |held| {
            held.get("job").is_some_and(|p| status(p).run_id >= 3)
        })
        .await;
    for name in ["service", "worker"] {
        let status = history.status(name);
        assert_eq!(
            (status.state(), status.run_id),
            (State::Pending, 0),
            "{status:?}"
        );
        assert_eq!(status.reason, "DEPENDENCY", "{status:?}");
    }
    assert_eq!(history.status("service").waiting_on, ["job"]);
    std::fs::write(&go, "").unwrap();
    history
        .all_in(&["service", "worker"], &[State::Running])
        .await;
    assert_eq!(history.status("job").state(), State::Succeeded);
    for name in ["service", "worker"] {
        assert_eq!(history.status(name).run_id, 1);
        let path = [
            State::Stopped,
            State::Pending,
            State::Starting,
            State::Running,
        ];
        assert_eq!(history.paths[name], path, "{name}");
    }
    daemon.ended().await;
}

#[tokio::test]
async fn a_job_that_fails_for_good_fails_what_needs_it_until_it_recovers() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let go = daemon.directory().join("go");
    let mut job = sh("job", &format!("[ -e {} ]", go.display()));
    job.spec.as_mut().unwrap().restart_policy = Some(RestartPolicy {
        mode: proto::RestartMode::Never.into(),
        ..Default::default()
    });
    let service = command("service", &["sleep", "1000"]);
    let service = depends(service, vec![dependency("job", WaitCondition::Succeeded)]);
    calls::apply(&mut client, vec![job, service]).await;
    history.all_in(&["service"], &[State::Failed]).await;
    let service = history.status("service");
    assert_eq!(service.reason, "DEPENDENCY_FAILED", "{service:?}");
    assert_eq!(service.run_id, 0);
    std::fs::write(&go, "").unwrap();
    calls::start(&mut client, "job", WaitCondition::Succeeded).await;
    history.all_in(&["service"], &[State::Running]).await;
    assert_eq!(history.status("service").run_id, 1);
    daemon.ended().await;
}

#[tokio::test]
async fn who_restarts_with_another_does() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let base = command("base", &["sleep", "1000"]);
    let mut follows = dependency("base", WaitCondition::Running);
    follows.restart_with = true;
    let follower = depends(command("follower", &["sleep", "1000"]), vec![follows]);
    let loose = command("loose", &["sleep", "1000"]);
    let loose = depends(loose, vec![dependency("base", WaitCondition::Running)]);
    calls::apply(&mut client, vec![base, follower, loose]).await;
    let names = ["base", "follower", "loose"].map(str::to_owned);
    history.all_in(&names, &[State::Running]).await;
    for run in 2..5 {
        calls::restart(&mut client, "base", WaitCondition::Running).await;
        history
            .until("the follower's next run", |held| {
                let status = status(&held["follower"]);
                status.run_id == run && state(&held["follower"]) == State::Running
            })
            .await;
        assert_eq!(history.status("base").run_id, run);
        assert_eq!(history.status("loose").run_id, 1);
    }
    // A crash of the one is a new run of it, too.
    let pid = nix::unistd::Pid::from_raw(history.status("base").pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    history
        .until("the follower after the crash", |held| {
            let status = status(&held["follower"]);
            status.run_id == 5 && status.state() == State::Running
        })
        .await;
    assert_eq!(history.status("loose").run_id, 1);
    daemon.ended().await;
}

#[tokio::test]
async fn a_stop_with_dependents_goes_from_the_leaves_to_the_root() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let told = daemon.directory().join("told");
    let process = |name: &str, on: Vec<&str>| {
        let script = format!(
            "trap 'sleep 0.1; echo {name} >> {}; exit' TERM; echo ready; while :; do sleep 0.01; done",
            told.display()
        );
        let on = on
            .into_iter()
            .map(|on| dependency(on, WaitCondition::Ready));
        depends(sh(name, &script), on.collect())
    };
    let processes = vec![
        process("leaf", vec!["left", "right"]),
        process("left", vec!["root"]),
        process("right", vec!["root"]),
        process("root", vec![]),
        process("other", vec![]),
    ];
    calls::apply(&mut client, processes).await;
    for name in ["leaf", "left", "right", "root", "other"] {
        while calls::output(&mut client, name).await.is_empty() {}
    }
    let request = proto::StopProcessRequest {
        name: "root".to_owned(),
        with_dependents: true,
        wait: calls::wait(WaitCondition::Settled),
        ..Default::default()
    };
    client.stop_process(request).await.unwrap();
    let head = calls::head(&mut client).await;
    history.up_to(head).await;
    let order = std::fs::read_to_string(&told).unwrap();
    let order: Vec<&str> = order.lines().collect();
    assert_eq!(
        (order[0], order[3], order.len()),
        ("leaf", "root", 4),
        "{order:?}"
    );
    assert_eq!(history.status("other").state(), State::Running);
    daemon.ended().await;
}
