//! Waking, waiting and the end of followed logs.

use tokio::time::{Instant, advance};

use super::{
    harness::{PATIENCE, World, check},
    writer::{Writer, uid},
};
use crate::{
    logs::{Logs, Place, Start, limits::*, store::Store, watcher::Watcher},
    shim::segment::Stream,
};

#[tokio::test(start_paused = true)]
async fn a_prompt_is_handed_on_after_a_quiet_time() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut follower = world.follow(uid(1), Start::Oldest);
    writer.out("password: ");
    follower.drain();
    assert_eq!(follower.texts().len(), 0);
    let start = Instant::now();
    follower.until_text("password: ").await;
    assert!(start.elapsed() >= QUIET && start.elapsed() < 2 * QUIET);
    assert!(follower.entries[0].partial);
    // Another line in between does not disturb the open one.
    writer.err("note\n");
    follower.until_text("note").await;
    writer.out("x");
    writer.end_run();
    follower.drain();
    let got: Vec<_> = follower
        .entries
        .iter()
        .map(|e| (e.sequence, e.line_offset, e.partial))
        .collect();
    assert_eq!(got, [(1, 0, true), (2, 0, false), (1, 10, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_open_line_is_ended_by_the_end_of_its_run() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut follower = world.follow(uid(1), Start::Oldest);
    writer.out("ready> ");
    follower.until_text("ready> ").await;
    writer.begin_run(2);
    follower.drain();
    let end = follower.entries.last().unwrap();
    assert_eq!(
        (&end.data[..], end.partial, end.line_offset),
        (&b""[..], false, 7)
    );
    assert_eq!(end.run_id, 1);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_grows_is_held_for_a_bounded_time() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut follower = world.follow(uid(1), Start::Oldest);
    let start = Instant::now();
    while follower.drain().entries.is_empty() {
        writer.out(".");
        advance(QUIET / 2).await;
    }
    let held = start.elapsed();
    assert!(held >= HOLD_MAX && held < HOLD_MAX + QUIET, "{held:?}");
    assert!(follower.entries[0].partial);
}

#[tokio::test(start_paused = true)]
async fn an_open_line_keeps_the_other_stream_waiting_only_for_a_moment() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut follower = world.follow(uid(1), Start::Oldest);
    writer.out("open");
    follower.drain();
    writer.err("err\n");
    assert_eq!(follower.drain().entries.len(), 0, "in order of numbers");
    let start = Instant::now();
    follower.until_text("err").await;
    assert!(start.elapsed() <= 2 * QUIET);
    assert_eq!(follower.take_texts(), ["open", "err"]);
    // From now on nothing waits for it.
    writer.out(" more");
    follower.drain();
    writer.err("err\n");
    assert_eq!(follower.drain().take_texts(), [" more", "err"]);
}

#[tokio::test]
async fn a_follower_is_woken_across_rotations_and_runs() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut follower = world.follow(uid(1), Start::End);
    for round in 1..=30 {
        writer.out(format!("out {round}\nha"));
        follower.until_text(&format!("out {round}")).await;
        writer.rotate();
        writer.err(format!("err {round}\n"));
        match round % 3 {
            0 => writer.begin_run(round),
            _ => writer.out("lf\n"),
        }
        follower.until_text(&format!("err {round}")).await;
    }
    writer.end_run();
    follower.drain();
    check(&writer, 0, &follower.entries, &follower.gaps);
    assert_eq!(follower.gaps, []);
}

#[tokio::test]
async fn a_process_is_followed_before_it_has_a_log() {
    let world = World::new();
    let mut early = world.follow(uid(1), Start::End);
    let mut never = world.follow(uid(2), Start::After(0));
    assert_eq!(early.drain().entries.len(), 0);
    assert_eq!(early.reader.end(early.slot).unwrap().place, Place::MIN);
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("hello\n");
    early.until_text("hello").await;
    assert_eq!(never.drain().entries.len(), 0);
    assert_eq!((early.gaps.len(), never.gaps.len()), (0, 0));
}

#[tokio::test]
async fn a_reader_is_woken_once_and_only_for_what_it_follows() {
    let world = World::new();
    let mut one = Writer::new(world.root(), uid(1));
    let mut two = Writer::new(world.root(), uid(2));
    let mut reader = world.logs.reader();
    let slot = reader.attach(uid(1), Start::End).unwrap().unwrap().slot;
    assert_eq!(reader.next_ready(), None);
    two.out("not followed\n");
    for _ in 0..3 {
        one.out("line\n");
        let woken = tokio::time::timeout(PATIENCE, reader.ready()).await;
        woken.unwrap();
        let mut entries = 0;
        while entries < 1 {
            // The data may be told of before the record.
            reader.ready().await;
            assert_eq!(reader.next_ready(), Some(slot));
            assert_eq!(reader.next_ready(), None);
            entries += reader.read(slot, 1024, Place::MAX).unwrap().entries.len();
        }
    }
    reader.detach(slot);
    one.out("line\n");
    // Events come in order: with this one, that one has passed.
    let mut other = world.follow(uid(1), Start::Oldest);
    one.out("end\n");
    other.until_text("end").await;
    assert_eq!(reader.next_ready(), None);
}

#[tokio::test]
async fn one_reader_follows_a_thousand_processes() {
    let world = World::new();
    let mut writers: Vec<Writer> = (0..1000)
        .map(|number| Writer::new(world.root(), uid(number)))
        .collect();
    let mut reader = world.logs.reader();
    let mut open = std::collections::HashMap::new();
    for number in 0..1000 {
        let attached = reader.attach(uid(number), Start::End).unwrap().unwrap();
        open.insert(attached.slot, number);
    }
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(descriptors < 500, "no file is held open: {descriptors}");
    for writer in &mut writers {
        writer.out("line\n");
    }
    while !open.is_empty() {
        tokio::time::timeout(PATIENCE, reader.ready())
            .await
            .unwrap();
        while let Some(slot) = reader.next_ready() {
            let batch = reader.read(slot, 64 * 1024, Place::MAX).unwrap();
            if let [entry] = &batch.entries[..] {
                assert_eq!(entry.data, "line");
                open.remove(&slot).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn without_inotify_a_followed_log_is_looked_at() {
    let world = World::new();
    let store = Store::open(world.root().into()).unwrap();
    let logs = Logs::watched_by(Watcher::with(store, u64::MAX, None).unwrap()).unwrap();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut follower = super::harness::Follower::new(&logs, uid(1), Start::Oldest);
    let mut missing = super::harness::Follower::new(&logs, uid(2), Start::Oldest);
    writer.out("seen\n");
    follower.until_text("seen").await;
    Writer::new(world.root(), uid(2)).out("too\n");
    missing.until_text("too").await;
}

#[tokio::test]
async fn a_removed_log_is_read_to_its_end() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut follower = world.follow(uid(1), Start::Oldest);
    writer.write(Stream::Stdout, b"last words\nand no newline");
    world.logs.remove(uid(1));
    assert!(
        world
            .logs
            .reader()
            .attach(uid(1), Start::Oldest)
            .unwrap()
            .is_none()
    );
    follower.until_text("and no newline").await;
    assert!(follower.reader.is_removed(follower.slot));
    assert_eq!(follower.gaps, []);
    assert!(!world.root().join(uid(1).to_string()).exists());
    follower.reader.detach(follower.slot);
    super::housekeeping::until_empty(world.root());
}
