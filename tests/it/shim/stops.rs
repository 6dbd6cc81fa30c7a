//! Stops, signals, freezing: what is told is true, and nothing stays behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use procession::{
    domain::run::{Outcome, RunEvent, SignalScope},
    runner::{ShimRunner, SignalError},
};

use super::support::*;

const HOUR: Duration = Duration::from_secs(3600);

fn with_and_without_cgroups() -> [ShimRunner; 2] {
    [runner(), runner().without_cgroups()]
}

/// Waits forever, and ignores SIGTERM.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

#[tokio::test]
async fn a_polite_run_ends_within_its_grace() {
    let mut running = shell(
        &runner(),
        "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done",
    );
    running.ready(1).await;
    running.run.stop(plan(SignalScope::Main, HOUR));
    assert_eq!(running.finish().await, Outcome::Code(7));
    assert!(!running.seen.contains(&RunEvent::Killing));
}

#[tokio::test]
async fn a_tree_that_runs_away_is_gone_after_a_stop() {
    // setsid, a double fork, nohup, and each of them ignores SIGTERM.
    let script = format!(
        "setsid sh -c \"{STUBBORN}\" & \
         (sh -c \"{STUBBORN}\" &) ; \
         (setsid sh -c \"(setsid sh -c \\\"{STUBBORN}\\\" &) ; exit\" &) ; \
         nohup sh -c \"{STUBBORN}\" & \
         {STUBBORN}"
    );
    for runner in with_and_without_cgroups() {
        let mut running = shell(&runner, &script);
        running.ready(5).await;
        assert!(running.processes().len() >= 5);
        running
            .run
            .stop(plan(SignalScope::Tree, Duration::from_millis(50)));
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
        assert!(running.seen.contains(&RunEvent::Killing));
        if let Some(path) = &running.cgroup {
            assert!(!cgroup_dir(path).exists());
        }
    }
}

#[tokio::test]
async fn a_crowd_that_keeps_forking_is_killed() {
    // 200 of them in sessions of their own, and each forks on.
    let script = "trap '' TERM; i=0; while [ $i -lt 200 ]; do i=$((i+1)); \
        setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & done; \
        echo ready; while :; do sleep 1000; done";
    for runner in with_and_without_cgroups() {
        let mut running = shell(&runner, script);
        running.ready(1).await;
        running.run.stop(plan(SignalScope::Tree, Duration::ZERO));
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
    }
}

#[tokio::test]
async fn who_ignores_the_signal_is_killed_after_the_grace() {
    let grace = Duration::from_millis(300);
    let mut running = shell(&runner(), STUBBORN);
    running.ready(1).await;
    let since = Instant::now();
    running.run.stop(plan(SignalScope::Main, grace));
    assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
    let took = since.elapsed();
    assert!(took >= grace, "{took:?}");
    assert!(took < grace + Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_later_stop_shortens_the_grace() {
    let mut running = shell(&runner(), STUBBORN);
    running.ready(1).await;
    running.run.stop(plan(SignalScope::Tree, HOUR));
    running
        .run
        .stop(plan(SignalScope::Tree, Duration::from_millis(50)));
    assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
}

#[tokio::test]
async fn a_stop_before_the_start_is_not_lost() {
    let mut running = shell(&runner(), STUBBORN);
    running.run.stop(plan(SignalScope::Tree, Duration::ZERO));
    let outcome = running.finish().await;
    assert!(matches!(outcome, Outcome::Signal(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_signal_right_after_the_launch_arrives() {
    // Ignored by a shim, but not by what it runs, however early it comes.
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
        let mut running = begin(&runner(), launch(&["sleep", "1000"]));
        let answer = running.run.signal(number, SignalScope::Main).await;
        assert_eq!(answer, Ok(Ok(())));
        assert_eq!(running.finish().await, Outcome::Signal(number));
    }
}

#[tokio::test]
async fn what_a_main_process_leaves_is_stopped_without_being_told() {
    for runner in with_and_without_cgroups() {
        let script = format!("setsid sh -c \"{STUBBORN}\" & read line; exit 4");
        let script = script.replace("read line", "while [ ! -e \"$GO\" ]; do sleep 0.01; done");
        let dir = tempfile::tempdir().unwrap();
        let go = dir.path().join("go");
        let mut launch = launch(&["sh", "-c", &script]);
        launch.env.push(("GO".into(), go.clone().into()));
        let mut running = begin(&runner, launch);
        running.ready(1).await;
        std::fs::write(&go, "").unwrap();
        assert_eq!(running.exited().await.outcome, Outcome::Code(4));
        let refused = running.run.signal(libc::SIGUSR1, SignalScope::Tree).await;
        assert!(matches!(refused, Ok(Err(SignalError::Gone)) | Err(_)));
        running.finish().await;
        assert!(running.seen.contains(&RunEvent::Killing));
    }
}

#[tokio::test]
async fn a_shim_does_nothing_while_nothing_happens() {
    for runner in with_and_without_cgroups() {
        // Main is gone, what it left ignores the signal, the grace is long.
        let mut launch = launch(&["sh", "-c", "trap '' TERM; sleep 1000 & exit 4"]);
        launch.stop = plan(SignalScope::Tree, HOUR);
        let mut running = begin(&runner, launch);
        running
            .until(|event| matches!(event, RunEvent::Spawned { .. }))
            .await;
        let main = running.pid;
        let shim = parent(main);
        running.exited().await;
        let left = running.processes();
        let shim = shim.or_else(|| parent(*left.first()?)).unwrap();
        let used = || {
            let text = std::fs::read_to_string(format!("/proc/{shim}/status")).unwrap();
            let switches = |line: &&str| line.contains("ctxt_switches");
            text.lines()
                .filter(switches)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        eventually("it rests", || {
            let before = used();
            std::thread::sleep(Duration::from_millis(100));
            used() == before && parent(left[0]) == Some(shim) && state(shim).unwrap() == "S"
        })
        .await;
        running.run.stop(plan(SignalScope::Tree, Duration::ZERO));
        running.finish().await;
    }
}

#[tokio::test]
async fn a_stopped_or_frozen_tree_is_woken_to_stop() {
    let polite = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    for runner in with_and_without_cgroups() {
        let mut running = shell(&runner, polite);
        running.ready(1).await;
        running.run.freeze().await.unwrap().unwrap();
        running.run.stop(plan(SignalScope::Main, HOUR));
        assert_eq!(running.finish().await, Outcome::Code(0));

        let mut running = shell(&runner, polite);
        running.ready(1).await;
        kill(running.pid, Signal::SIGSTOP);
        running.run.stop(plan(SignalScope::Main, HOUR));
        assert_eq!(running.finish().await, Outcome::Code(0));
    }
}

#[tokio::test]
async fn a_frozen_run_does_not_run() {
    let script = "while :; do echo tick; sleep 0.005; done";
    for runner in with_and_without_cgroups() {
        let mut running = shell(&runner, script);
        running.started().await;
        assert_eq!(running.line().await, "tick");
        running.run.freeze().await.unwrap().unwrap();
        let used = || {
            let path = format!("/proc/{}/status", running.pid);
            let text = std::fs::read_to_string(path).unwrap();
            let switches = text.lines().find(|line| line.starts_with("voluntary"));
            switches.unwrap().to_owned()
        };
        // Who waits for a child that it made by vfork is woken once more when that
        // executes, and does not run.
        let mut before = used();
        eventually("it stands", || {
            let last = std::mem::replace(&mut before, used());
            last == before
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(used(), before, "cgroup: {:?}", running.cgroup);
        running.run.thaw().await.unwrap().unwrap();
        eventually("it runs again", || used() != before).await;
        running.run.stop(plan(SignalScope::Tree, Duration::ZERO));
        running.finish().await;
    }
}

#[tokio::test]
async fn a_signal_reaches_its_scope_and_no_more() {
    // Main, one in its group, one in a session of its own: each says its name.
    // The signal also ends the sleep of each, which their shell would remark on.
    let say =
        |name: &str| format!("trap 'echo {name}' USR1; echo ready; while :; do sleep 0.01; done");
    let (group, session, main) = (say("group"), say("session"), say("main"));
    let script = format!("exec 2>/dev/null; ({group}) & setsid sh -c \"{session}\" & {main}");
    for runner in with_and_without_cgroups() {
        let mut running = shell(&runner, &script);
        running.ready(3).await;
        for (scope, expected) in [
            (SignalScope::Main, vec!["main"]),
            (SignalScope::Group, vec!["group", "main"]),
            (SignalScope::Tree, vec!["group", "main", "session"]),
        ] {
            running.run.signal(libc::SIGUSR1, scope).await.unwrap().ok();
            let mut heard = Vec::new();
            for _ in &expected {
                heard.push(running.line().await);
            }
            heard.sort_unstable();
            assert_eq!(heard, expected, "{scope:?}");
        }
        let answer = running.run.signal(libc::SIGUSR1, SignalScope::Cgroup).await;
        match running.cgroup {
            Some(_) => assert_eq!(answer, Ok(Ok(()))),
            None => assert_eq!(answer, Ok(Err(SignalError::NoCgroup))),
        }
        let answer = running.run.signal(4711, SignalScope::Main).await;
        assert_eq!(answer, Ok(Err(SignalError::Refused(libc::EINVAL))));
        running.run.stop(plan(SignalScope::Tree, Duration::ZERO));
        running.finish().await;
        let answer = running.run.signal(libc::SIGUSR1, SignalScope::Main).await;
        assert!(matches!(answer, Ok(Err(SignalError::Gone)) | Err(_)));
    }
}

#[tokio::test]
async fn runs_have_cgroups_only_where_asked() {
    let [with, without] = with_and_without_cgroups();
    let mut running = begin(&without, launch(&["true"]));
    running.finish().await;
    assert_eq!(running.cgroup, None);
    let mut running = begin(&with, launch(&["true"]));
    running.finish().await;
    match running.cgroup {
        Some(path) => assert!(path.ends_with(".1"), "{path}"),
        None => println!("skipped: no writable cgroup2 here"),
    }
}
