//! Writes of the daemon that fail, are cut short or interrupted: nothing false is
//! acknowledged, and it never ends of it. And a daemon that is killed before any of
//! them. By `tools/faults.c`, which is preloaded.

use crate::{
    chance::{Dice, rounds},
    known::{Answer, Known, desired},
};
use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
};

use procession::grpc::proto::DesiredState;

use super::support::{Rig, not_run, store_writable, until_or, until_writable};

const NAMES: [&str; 3] = ["p0", "p1", "p2"];
const COMMANDS: usize = 12;
/// More calls than that are not reached.
const CALLS_MAX: usize = 400;

/// How one daemon with faults ended.
#[derive(Debug, Default)]
struct Tally {
    kept: usize,
    refused: usize,
    not_kept: usize,
    /// Daemons that could not start, and said so.
    not_started: usize,
}

/// `None`, and a word, where there is no C compiler.
pub(super) fn preload(directory: &Path) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/faults.c");
    let library = directory.join("faults.so");
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .status();
    match done {
        Ok(status) => {
            assert!(status.success(), "{status}");
            Some(library)
        }
        Err(error) => {
            not_run(&format!("no C compiler: {error}"));
            None
        }
    }
}

#[tokio::test]
async fn no_single_failing_call_leads_to_a_false_answer() {
    let library = tempfile::tempdir().unwrap();
    let Some(library_path) = preload(library.path()) else {
        return;
    };
    let mut dice = Dice::new();
    let step = if rounds(1, 1) > 1 { 1 } else { 5 };
    let offset = usize::try_from(dice.throw(step as u64)).unwrap();
    let (mut tally, mut last) = (Tally::default(), 0);
    for n in (1 + offset..CALLS_MAX).step_by(step) {
        let at = n.to_string();
        let env = [("FAULTS_MODE", "eio"), ("FAULTS_AT", at.as_str())];
        if !round(&library_path, &env, &mut dice, &mut tally).await {
            break;
        }
        last = n;
    }
    println!("calls up to {last}, every {step}: {tally:?}");
    assert!(last > 20, "hardly any call was counted");
    assert!(tally.refused + tally.not_kept > 0, "{tally:?}");
}

#[tokio::test]
async fn a_daemon_killed_before_any_call_loses_nothing_acknowledged() {
    let library = tempfile::tempdir().unwrap();
    let Some(library_path) = preload(library.path()) else {
        return;
    };
    let mut dice = Dice::new();
    let step = if rounds(1, 1) > 1 { 1 } else { 11 };
    let offset = usize::try_from(dice.throw(step as u64)).unwrap();
    let (mut kept, mut last) = (0, 0);
    for n in (1 + offset..CALLS_MAX).step_by(step) {
        let Some(acknowledged) = killed_at(n, &library_path, &mut dice).await else {
            break;
        };
        kept += acknowledged;
        last = n;
    }
    println!("killed before calls up to {last}, every {step}: {kept} kept, none lost");
    assert!(last > 20, "hardly any call was counted");
    assert!(kept > 0, "nothing was acknowledged");
}

#[tokio::test]
async fn short_and_interrupted_writes_change_nothing() {
    let library = tempfile::tempdir().unwrap();
    let Some(library_path) = preload(library.path()) else {
        return;
    };
    let mut dice = Dice::new();
    for mode in ["short", "eintr"] {
        let mut tally = Tally::default();
        for _ in 0..rounds(2, 20) {
            round(
                &library_path,
                &[("FAULTS_MODE", mode)],
                &mut dice,
                &mut tally,
            )
            .await;
        }
        println!("{mode}: {tally:?}");
        let trouble = tally.not_kept + tally.not_started;
        assert_eq!(trouble, 0, "{mode}: {tally:?}");
    }
}

/// A daemon with faults, and one without that must know all that was acknowledged.
/// `false`: the call that was to fail was never made.
async fn round(library: &Path, env: &[(&str, &str)], dice: &mut Dice, tally: &mut Tally) -> bool {
    let mut rig = Rig::new();
    let hit = rig.root().join("hit");
    let (state, what) = (rig.state(), format!("{env:?}"));
    let mut env = env.to_vec();
    env.push(("LD_PRELOAD", library.to_str().unwrap()));
    env.push(("FAULTS_DIR", state.to_str().unwrap()));
    env.push(("FAULTS_HIT", hit.to_str().unwrap()));
    let mut known = NAMES.map(|_| Known::default());
    let started = match rig.start_with(&env) {
        None => rig.serves().await,
        Some(status) => Err(status),
    };
    if let Err(status) = started {
        assert!(status.code().is_some_and(|code| code != 101), "{status}");
        assert!(rig.log().contains("error"), "{what}: {}", rig.log());
        tally.not_started += 1;
    } else {
        let mut client = rig.client().await;
        for _ in 0..COMMANDS {
            let at = usize::try_from(dice.throw(NAMES.len() as u64)).unwrap();
            let process = rig.sleeper(NAMES[at]);
            match known[at].ask(&mut client, &process, dice).await {
                Answer::Kept => tally.kept += 1,
                Answer::Refused => tally.refused += 1,
                Answer::NotKept => tally.not_kept += 1,
                Answer::Gone => panic!("{what}: the daemon is gone: {}", rig.log()),
            }
            if !store_writable(&mut client).await && dice.throw(2) == 0 {
                until_writable(&mut client, true).await;
            }
        }
        until_writable(&mut client, true).await;
        drop(client);
        assert!(!rig.log().contains("panicked"), "{what}: {}", rig.log());
        rig.kill();
    }
    rig.start();
    let mut client = rig.client().await;
    let there = desired(&mut client).await;
    for (name, known) in NAMES.iter().zip(&mut known) {
        known.check(there.get(*name).copied(), &format!("{what}: {name}"));
    }
    let hit = hit.exists();
    rig.end(client).await;
    hit
}

/// A daemon that is killed before its call number `n`, and one after it, which must
/// know all that was acknowledged and run it once; how much that was. `None`: that
/// call was never made.
async fn killed_at(n: usize, library: &Path, dice: &mut Dice) -> Option<usize> {
    let mut rig = Rig::new();
    let (state, hit, at) = (rig.state(), rig.root().join("hit"), n.to_string());
    let env = [
        ("FAULTS_MODE", "kill"),
        ("FAULTS_AT", at.as_str()),
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAULTS_DIR", state.to_str().unwrap()),
        ("FAULTS_HIT", hit.to_str().unwrap()),
    ];
    let mut known = NAMES.map(|_| Known::default());
    let mut kept = 0;
    let begun = rig.start_with(&env).is_none();
    if begun
        && rig.serves().await.is_ok()
        && let Some(mut client) = rig.try_client().await
    {
        for _ in 0..COMMANDS {
            let at = usize::try_from(dice.throw(NAMES.len() as u64)).unwrap();
            let process = rig.sleeper(NAMES[at]);
            match known[at].ask(&mut client, &process, dice).await {
                Answer::Kept => kept += 1,
                Answer::Refused => {}
                Answer::NotKept => panic!("{n}: nothing failed: {}", rig.log()),
                Answer::Gone => break,
            }
        }
    }
    if !hit.exists() {
        rig.kill();
        return None;
    }
    if let Some(status) = rig.ended_if_begun().await {
        assert_eq!(status.signal(), Some(9), "{n}: {}", rig.log());
    }
    rig.start();
    let mut client = rig.client().await;
    let there = desired(&mut client).await;
    for (name, known) in NAMES.iter().zip(&mut known) {
        known.check(there.get(*name).copied(), &format!("killed at {n}: {name}"));
    }
    // What was kept and not acknowledged is still acted on.
    let mut seen = String::new();
    let wanted = |d: &&DesiredState| **d == DesiredState::Running;
    let each_once = async || {
        let (there, children) = (desired(&mut client).await, rig.children());
        seen = format!("{there:?}, running {children:?}");
        (children.len() == there.values().filter(wanted).count()).then_some(())
    };
    let clean = until_or(each_once).await;
    assert!(clean, "killed at {n}: {seen}: {}", rig.log());
    rig.end(client).await;
    Some(kept)
}
