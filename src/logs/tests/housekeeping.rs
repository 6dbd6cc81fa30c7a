//! What is removed, and what is kept.

use std::{fs, path::Path, time::Instant};

use super::{
    harness::{PATIENCE, World},
    writer::{Writer, uid},
};
use crate::logs::{GapReason, Limits, Logs, Place, Start, store::Store};

/// Waits until nothing is left in `root`.
pub(super) fn until_empty(root: &Path) {
    until("directories left", || {
        fs::read_dir(root).unwrap().count() == 0
    });
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn an_unfollowed_log_is_deleted() {
    let world = World::new();
    Writer::new(world.root(), uid(1)).out("x\n");
    world.logs.remove(uid(1));
    world.logs.remove(uid(2));
    until_empty(world.root());
}

#[test]
fn only_logs_of_known_processes_are_retained() {
    let world = World::new();
    for number in 1..=3 {
        Writer::new(world.root(), uid(number)).out("x\n");
    }
    let aside = world.root().join(format!("{}.removed", uid(4)));
    fs::create_dir(&aside).unwrap();
    let foreign = world.root().join("notes");
    fs::create_dir(&foreign).unwrap();
    world.logs.retain_only(&[uid(2)]).unwrap();
    until("orphans left", || {
        fs::read_dir(world.root()).unwrap().count() == 2
    });
    assert!(foreign.exists());
    assert!(world.root().join(uid(2).to_string()).exists());
}

#[test]
fn past_the_total_the_oldest_closed_segments_go() {
    let world = World::new();
    let mut writers: Vec<Writer> = (0..3)
        .map(|number| Writer::new(world.root(), uid(number)))
        .collect();
    for round in 0..4 {
        for writer in &mut writers {
            writer.out("x".repeat(999) + "\n");
            // Files of one moment have one time; these get theirs.
            let age = std::time::Duration::from_secs(1000 - round);
            let time = std::time::SystemTime::now() - age;
            writer.index(writer.segment).set_modified(time).unwrap();
            writer.rotate();
            writer.index(writer.segment - 1).set_modified(time).unwrap();
        }
    }
    let mut reader = world.follow(uid(0), Start::Oldest);
    reader.read(1, Place::MAX);
    assert_eq!(reader.entries.len(), 1);
    let store = Store::open(world.root().into()).unwrap();
    let before = store.used();
    assert_eq!(before, world.logs.used_bytes());
    store.keep_total(before);
    assert_eq!(store.used(), before, "within the total nothing goes");
    // The first of two processes goes, and the third stays.
    store.keep_total(before - 1500);
    let oldest = |writer: &Writer| writer.dir.join("0000000001.idx").exists();
    assert_eq!(writers.iter().filter(|w| oldest(w)).count(), 1);
    store.keep_total(0);
    for writer in &writers {
        let left = fs::read_dir(&writer.dir).unwrap();
        let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["0000000005.idx"], "the newest stays");
    }
    reader.drain();
    assert_eq!(reader.entries.len(), 1);
    let gap = reader.gaps[0];
    assert_eq!((gap.first_sequence, gap.last_sequence), (2, 4));
    assert_eq!((reader.gaps.len(), gap.reason), (1, GapReason::Trimmed));
}

#[test]
fn the_total_is_looked_at_when_a_run_begins() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::new(directory.path().into(), Limits { total_bytes: 5000 }).unwrap();
    let mut writer = Writer::new(directory.path(), uid(1));
    for _ in 0..10 {
        writer.out("x".repeat(999) + "\n");
        writer.rotate();
    }
    let _writing = logs.writing();
    until("too much is left", || logs.used_bytes() <= 5000);
}
