//! Shims and daemons that die at a named step: each run begins once or not at all,
//! and how it ended is told once.

use std::{
    ffi::OsStr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use procession::{
    domain::run::{Outcome, RunEvent},
    runner::{Launch, Runner, ShimRunner},
};

use super::{
    adoption::{Place, block_on},
    support::*,
    survival::{ROOT, alone, is_alone},
};

/// Where a shim dies, and whether the program has run by then.
pub(crate) const POINTS: [(&str, bool); 10] = [
    ("after_define", false),
    ("after_pipes", false),
    ("after_fork", false),
    ("before_run_record", false),
    ("after_run_record", false),
    ("after_gate", true),
    ("before_exit_record", true),
    ("after_exit_record", true),
    ("after_reap", true),
    ("before_empty", true),
];

#[test]
fn a_shim_that_dies_anywhere_is_told_once_and_as_it_was() {
    for (point, ran) in POINTS {
        let place = Place::new();
        let (failing, launch, _) = fails_at(&place, point);
        let running = block_on(async {
            let mut running = begin_in(&place.dirs(), &failing, launch);
            while running.next().await.is_some() {}
            running
        });
        check(&place, &running, point, ran);
    }
}

#[test]
fn a_shim_that_dies_anywhere_is_told_to_the_next_daemon_as_it_was() {
    for (point, ran) in POINTS {
        let place = Place::new();
        let (failing, launch, hit) = fails_at(&place, point);
        let uid = block_on(async {
            let running = begin_in(&place.dirs(), &failing, launch);
            eventually("its shim dies", || hit.exists()).await;
            running.uid
        });
        let running = block_on(async {
            let mut running = place.adopt(uid);
            while running.next().await.is_some() {}
            running
        });
        check(&place, &running, point, ran);
    }
}

/// A runner whose first shim dies there, what it is to run, and the file that
/// tells of the death.
fn fails_at(place: &Place, point: &str) -> (ShimRunner, Launch, PathBuf) {
    let hit = place.root.path().join("hit");
    let failing = place
        .runner
        .clone()
        .with_shim_env(OsStr::new("PROCESSION_FAILPOINT"), OsStr::new(point))
        .with_shim_env(OsStr::new("PROCESSION_FAILPOINT_ONCE"), hit.as_os_str());
    let script = proof_in(place.root.path());
    (failing, launch(&["sh", "-c", &script]), hit)
}

fn proof_in(root: &Path) -> String {
    let proof = root.join("proof");
    format!("echo ran >> {proof:?}; echo output; exit 41")
}

fn check(place: &Place, running: &Running, point: &str, ran: bool) {
    let what = format!("{point}: {:?}", running.seen);
    let times = std::fs::read_to_string(place.root.path().join("proof")).unwrap_or_default();
    assert_eq!(times, if ran { "ran\n" } else { "" }, "{what}");
    assert_eq!(running.processes(), Vec::<i32>::new(), "{what}");
    let exits: Vec<&Outcome> = running
        .seen
        .iter()
        .filter_map(|event| match event {
            RunEvent::Exited(exit) => Some(&exit.outcome),
            _ => None,
        })
        .collect();
    if running.seen == [RunEvent::NotBegun] {
        assert!(!ran, "{what}");
        assert!(!running.directory().exists(), "{what}");
        return;
    }
    assert_eq!(running.seen.last(), Some(&RunEvent::Empty), "{what}");
    match exits[..] {
        [Outcome::Code(41)] if ran => {
            // Neither shim nor daemon had its pipe when it ended.
            let nobody = point == "after_gate" && running.output().is_empty();
            assert!(nobody || running.output() == "output\n", "{what}");
        }
        [Outcome::SpawnError(_) | Outcome::Unknown(_)] if !ran => {}
        _ => panic!("{what}"),
    }
}

#[test]
fn a_run_whose_shims_die_without_a_word_is_killed() {
    let place = Place::new();
    let failing = place.runner.clone().with_shim_env(
        OsStr::new("PROCESSION_FAILPOINT"),
        OsStr::new("before_adoption"),
    );
    block_on(async {
        let script = "setsid sleep 1000 & while :; do sleep 1000; done";
        let launch = launch(&["sh", "-c", script]);
        let mut running = begin_in(&place.dirs(), &failing, launch);
        running.started().await;
        kill(running.owner().unwrap(), Signal::SIGKILL);
        assert_eq!(running.finish().await, Outcome::Signal(libc::SIGKILL));
        assert!(running.seen.contains(&RunEvent::Killing));
        eventually("no zombie", || state(running.pid).is_none()).await;
    });
}

/// Where a daemon dies, and whether the program runs all the same.
#[test]
fn a_daemon_that_dies_while_it_launches_leaves_one_run_or_none() {
    for (point, runs) in [("after_mkdir", false), ("after_spawn", true)] {
        let place = Place::new();
        let ended = alone("failpoints::alone_launches")
            .env(ROOT, place.root.path())
            .env("PROCESSION_FAILPOINT", point)
            .status()
            .unwrap();
        assert_eq!(ended.signal(), Some(libc::SIGKILL), "{point}");
        let found = place.runner.found();
        assert_eq!(found.len(), 1, "{point}");
        let running = block_on(async {
            let mut running = place.adopt(found[0].0);
            while running.next().await.is_some() {}
            running
        });
        check(&place, &running, point, runs);
    }
}

#[tokio::test]
async fn alone_launches() {
    if !is_alone() {
        return; // see above
    }
    let root = std::env::var_os(ROOT).unwrap();
    let root = Path::new(&root);
    let dirs = dirs_in(root);
    let launch = launch(&["sh", "-c", &proof_in(root)]);
    let mut running = begin_in(&dirs, &runner_in(&dirs), launch);
    running.finish().await;
}
