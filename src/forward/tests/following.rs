//! One forward: what it sends, where it stands, and when it tries again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    domain::{id::Uid, spec::ForwardStream},
    forward::{
        keep::Keeper,
        limits::{BEGIN_INTERVAL, DRAIN_MAX, RETRY_MAX, RETRY_MIN, SAVE_INTERVAL},
        queue::{Content, Queue, lost_text},
        target::{Failure, Target},
        task::{Forward, Order, Setup},
        telling::Telling,
    },
    logs::{
        Limits, Logs,
        tests::writer::{Writer, uid},
    },
};

const PROCESS: u32 = 1;

/// What a target does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Fails,
    AsksForDelay(Duration),
    Sticks,
    Refuses,
}

/// What is shared with a target: its mood, and when it was tried.
#[derive(Debug, Clone)]
struct Control {
    mood: watch::Sender<Mood>,
    tries: Arc<Mutex<Vec<Instant>>>,
    taken: mpsc::Sender<String>,
}

#[derive(Debug)]
struct Fake(Control);

struct World {
    directory: tempfile::TempDir,
    logs: Logs,
    writer: Writer,
    control: Control,
    taken: mpsc::Receiver<String>,
    order: watch::Sender<Order>,
}

impl Target for Fake {
    const LINGER: (usize, Duration) = (1, Duration::ZERO);

    async fn send(&mut self, queue: &mut Queue) -> Result<(), Failure> {
        let mood = *self.0.mood.borrow();
        self.0.tries.lock().unwrap().push(Instant::now());
        match mood {
            Mood::Takes => {}
            Mood::Fails => return Err(Failure::new("it fails")),
            Mood::AsksForDelay(delay) => {
                return Err(Failure {
                    reason: "it is busy".into(),
                    retry_after: Some(delay),
                });
            }
            Mood::Sticks => std::future::pending().await,
            Mood::Refuses => {
                queue.refused(1, 1, "it is bad");
                return Ok(());
            }
        }
        while let Some(content) = queue.front() {
            let text = match content {
                Content::Line(entry) => String::from_utf8_lossy(&entry.data).into_owned(),
                Content::Lost(gap, _) => lost_text(gap),
            };
            self.0.taken.send(text).await.unwrap();
            queue.sent(1);
        }
        Ok(())
    }
}

impl World {
    fn new(mood: Mood) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::new(directory.path().into(), Limits::default()).unwrap();
        let (sender, taken) = mpsc::channel(10_000);
        Self {
            writer: Writer::new(directory.path(), uid(PROCESS)),
            directory,
            logs,
            control: Control {
                mood: watch::Sender::new(mood),
                tries: Arc::default(),
                taken: sender,
            },
            taken,
            order: watch::Sender::new(Order::default()),
        }
    }

    fn uid() -> Uid {
        uid(PROCESS)
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(self.logs.directory(Self::uid()), "fake".into())
    }

    fn start(&self, from_the_first: bool) -> JoinHandle<()> {
        let setup = Setup {
            uid: Self::uid(),
            from_the_first,
            target: Fake(self.control.clone()),
            keeper: self.keeper(),
            telling: Telling::new("web".into(), "fake".into()),
            order: self.order.subscribe(),
            entropy: || 0,
        };
        let begun = Forward::begin(&self.logs, setup);
        tokio::spawn(Forward::run(self.logs.clone(), begun))
    }

    async fn taken(&mut self, count: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.taken.recv().await.unwrap());
        }
        taken
    }

    fn none_taken(&mut self) -> bool {
        self.taken.try_recv().is_err()
    }

    /// Waits for that many tries; time is not real.
    async fn tried(&self, count: usize) -> Vec<Instant> {
        loop {
            let tries = self.control.tries.lock().unwrap().clone();
            if tries.len() >= count {
                return tries;
            }
            // The clock of the test goes on by itself while nothing happens.
            tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>())
                .await
                .unwrap_err();
        }
    }

    /// As a daemon that ends, or a forward that is not wanted any more.
    fn stop(&self, forget: bool) {
        self.order.send_modify(|order| {
            order.stop = Some(Instant::now() + DRAIN_MAX);
            order.forget = forget;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_target_gets_everything_and_an_added_one_what_comes() {
    let mut world = World::new(Mood::Takes);
    world.writer.out("one\n");
    world.writer.err("two\n");
    let first = world.start(true);
    assert_eq!(world.taken(2).await, ["one", "two"]);
    first.abort();
    world.keeper().forget();
    let _added = world.start(false);
    world.writer.out("three\n");
    assert_eq!(world.taken(1).await, ["three"]);
}

#[tokio::test(start_paused = true)]
async fn only_wanted_streams_are_sent_and_that_changes_at_once() {
    let mut world = World::new(Mood::Takes);
    let only = |stream| move |order: &mut Order| order.streams = vec![stream];
    world.order.send_modify(only(ForwardStream::Stderr));
    let _forward = world.start(true);
    world.writer.out("out\n");
    world.writer.err("err\n");
    assert_eq!(world.taken(1).await, ["err"]);
    world.order.send_modify(only(ForwardStream::Stdout));
    world.writer.err("err\n");
    world.writer.out("out\n");
    assert_eq!(world.taken(1).await, ["out"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_is_tried_ever_more_seldom_and_misses_nothing() {
    let mut world = World::new(Mood::Fails);
    let _forward = world.start(true);
    world.writer.out("one\n");
    let tries = world.tried(12).await;
    world.writer.out("two\n");
    let mut wanted = RETRY_MIN;
    for pair in tries.windows(2) {
        let waited = pair[1] - pair[0];
        assert!(
            waited >= wanted && waited < wanted + Duration::from_millis(5),
            "{waited:?}"
        );
        wanted = (wanted * 2).min(RETRY_MAX);
    }
    assert_eq!(wanted, RETRY_MAX);
    assert!(world.none_taken());
    world.control.mood.send_replace(Mood::Takes);
    assert_eq!(world.taken(2).await, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_may_say_when_to_try_again_within_bounds() {
    let seconds = Duration::from_secs;
    for (asked, waited) in [
        (seconds(7), seconds(7)),
        (seconds(3600), RETRY_MAX),
        (seconds(0), RETRY_MIN),
    ] {
        let mut world = World::new(Mood::AsksForDelay(asked));
        world.writer.out("one\n");
        let forward = world.start(true);
        let tries = world.tried(3).await;
        let difference = (tries[2] - tries[1]).abs_diff(waited);
        assert!(
            difference < Duration::from_millis(5),
            "{asked:?}: {difference:?}"
        );
        assert!(world.none_taken());
        forward.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn what_retention_removes_first_is_told_with_its_numbers() {
    let mut world = World::new(Mood::Sticks);
    let forward = world.start(true);
    world.writer.out("one\n");
    world.tried(1).await;
    forward.abort();
    world.writer.out("two\n");
    world.writer.rotate();
    world.writer.out("three\nfour\n");
    world.writer.rotate();
    world.writer.out("five\n");
    world.writer.remove_segment(1);
    world.writer.remove_segment(2);
    world.control.mood.send_replace(Mood::Takes);
    let _forward = world.start(true);
    let lost = "4 lines lost (trimmed): sequences 1 to 4";
    assert_eq!(world.taken(2).await, [lost, "five"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_daemon_is_gone_on_from_with_a_second_sent_twice() {
    let mut world = World::new(Mood::Takes);
    world.writer.out("one\n");
    let forward = world.start(true);
    world.taken(1).await;
    // Time goes on by itself, past the next write of the position.
    let saved = Duration::from_secs(1).max(SAVE_INTERVAL) * 2;
    tokio::time::timeout(saved, std::future::pending::<()>())
        .await
        .unwrap_err();
    world.writer.out("two\nthree");
    let mut all = world.taken(1).await;
    forward.abort();
    assert!(forward.await.unwrap_err().is_cancelled());
    world.writer.out(" goes on\n");
    while let Ok(text) = world.taken.try_recv() {
        all.push(text);
    }
    let before = all.len();
    let _forward = world.start(false);
    while !all.iter().any(|text| text.ends_with(" goes on")) {
        all.extend(world.taken(1).await);
    }
    assert!(!all[before..].contains(&"one".into()), "{all:?}");
    assert!(all.contains(&"two".into()), "{all:?}");
    let is_whole = all.contains(&"three goes on".into());
    assert!(is_whole || all.contains(&"three".into()), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_ends_leaves_nothing_to_be_sent_twice() {
    let mut world = World::new(Mood::Takes);
    world.writer.out("one\ntwo\n");
    let forward = world.start(true);
    world.taken(2).await;
    world.writer.out("three");
    world.stop(false);
    forward.await.unwrap();
    assert_eq!(world.taken(1).await, ["three"]);
    world.order = watch::Sender::new(Order::default());
    world.writer.out(" and a half\nfour\n");
    let _forward = world.start(false);
    assert_eq!(world.taken(2).await, [" and a half", "four"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_process_has_its_last_words_sent() {
    let mut world = World::new(Mood::Fails);
    let forward = world.start(true);
    world.writer.out("one\n");
    world.tried(1).await;
    world.writer.out("last words");
    world.logs.remove(World::uid());
    world.stop(true);
    world.control.mood.send_replace(Mood::Takes);
    forward.await.unwrap();
    assert_eq!(world.taken(2).await, ["one", "last words"]);
    let is_gone = |path: &std::path::Path| !path.join(World::uid().to_string()).exists();
    assert!(is_gone(world.directory.path()), "it was not made anew");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_target_holds_up_no_end() {
    for mood in [Mood::Sticks, Mood::Fails] {
        let world = World::new(mood);
        let mut world = world;
        world.writer.out("one\n");
        let forward = world.start(true);
        world.tried(1).await;
        let began = Instant::now();
        world.stop(false);
        forward.await.unwrap();
        assert!(began.elapsed() < DRAIN_MAX + Duration::from_millis(10));
        assert!(world.keeper().load().is_some(), "the next one goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_holds_up_nothing() {
    let mut world = World::new(Mood::Refuses);
    world.writer.out("one\n");
    let _forward = world.start(true);
    world.tried(1).await;
    world.control.mood.send_replace(Mood::Takes);
    world.writer.out("two\n");
    assert_eq!(world.taken(1).await, ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_tried_again() {
    let mut world = World::new(Mood::Takes);
    world.writer.out("one\n");
    let place = world.logs.directory(World::uid());
    let aside = world.directory.path().join("aside");
    std::fs::rename(&place, &aside).unwrap();
    std::fs::write(&place, "in the way").unwrap();
    let _forward = world.start(true);
    tokio::time::timeout(BEGIN_INTERVAL * 2, std::future::pending::<()>())
        .await
        .unwrap_err();
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    assert_eq!(world.taken(1).await, ["one"]);
}
