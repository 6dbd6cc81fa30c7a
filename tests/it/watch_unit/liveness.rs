//! I13 and I20: what time does to a stream; wake-ups.

use std::time::Duration;

use procession::{
    domain::status::State,
    registry::Mode,
    watch::{BATCH_PROCESSES_MAX, CloseReason, Dispatcher, EventKind, Options, Payload},
};
use tokio::time::{Instant, advance, timeout};

use super::world::{HEARTBEAT, World, by_label, options};

use State::{Failed, Running};

#[tokio::test(start_paused = true)]
async fn i13_an_idle_stream_is_never_silent_for_longer_than_a_heartbeat() {
    let world = World::new();
    let mut client = world.open(options(Mode::LatestState));
    client.sync().await;
    for _ in 0..4 {
        let begun = Instant::now();
        assert_eq!(client.payload().await, Payload::Progress);
        let silence = begun.elapsed();
        assert!(silence >= HEARTBEAT && silence <= HEARTBEAT + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn i13_a_busy_stream_that_matches_nothing_is_not_silent() {
    let mut world = World::with_ring(100_000);
    let filter = by_label("tier=nobody");
    let mut client = world.open(Options {
        filter,
        ..options(Mode::EveryChange)
    });
    client.sync().await;
    for _ in 0..5000 {
        world.put("a", Running, "x");
    }
    let busy = async {
        // The clock runs while the subscription reads, and the head with it.
        loop {
            world.put("a", Running, "x");
            advance(Duration::from_secs(5)).await;
            tokio::task::yield_now().await;
        }
    };
    let begun = Instant::now();
    let mut silences = Vec::new();
    let reading = async {
        for _ in 0..5 {
            let begun = Instant::now();
            assert_eq!(client.payload().await, Payload::Progress);
            silences.push(begun.elapsed());
        }
    };
    tokio::select! {
        () = busy => {}
        () = reading => {}
    }
    assert!(begun.elapsed() > HEARTBEAT);
    // Time jumps by five seconds here, so a heartbeat is late by at most two jumps.
    let late = HEARTBEAT + Duration::from_secs(10);
    assert!(silences.iter().all(|s| *s <= late), "{silences:?}");
}

#[tokio::test(start_paused = true)]
async fn i13_a_long_snapshot_that_matches_nothing_is_not_silent() {
    let mut world = World::with_ring(10);
    for i in 0..6000 {
        world.put(&format!("p{i}"), Running, "x");
    }
    let filter = by_label("tier=nobody");
    let mut client = world.open(Options {
        filter,
        ..options(Mode::LatestState)
    });
    client.message().await;
    let slow = async {
        loop {
            advance(Duration::from_secs(10)).await;
            tokio::task::yield_now().await;
        }
    };
    let first = tokio::select! {
        () = slow => unreachable!(),
        message = client.message() => message,
    };
    assert_eq!(first.payload, Payload::Progress);
    assert_eq!(
        (first.from.get(), first.to.get(), first.exact),
        (0, 0, false)
    );
    let synced = client.sync().await;
    assert_eq!(synced.to.get(), world.head());
}

#[tokio::test(start_paused = true)]
async fn i20_a_shutdown_is_told_then_the_stream_ends() {
    let mut world = World::new();
    let mut idle = world.open(options(Mode::LatestState));
    let mut fresh = world.open(options(Mode::EveryChange));
    idle.sync().await;
    world.put("a", Running, "x");
    world.closing.cancel();
    for client in [&mut idle, &mut fresh] {
        let closing = loop {
            match client.payload().await {
                Payload::Opened { .. } => {}
                other => break other,
            }
        };
        assert_eq!(closing, Payload::Closing(CloseReason::Shutdown));
        assert!(client.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn i20_an_old_stream_is_told_so() {
    let world = World::new();
    let max_age = Duration::from_secs(100);
    let mut client = world.open(Options {
        max_age,
        ..options(Mode::LatestState)
    });
    let begun = Instant::now();
    let last = loop {
        match client.next().await {
            Some(message) => {
                if let Payload::Closing(reason) = message.unwrap().payload {
                    break reason;
                }
            }
            None => panic!("no closing"),
        }
    };
    assert_eq!(last, CloseReason::MaxStreamAge);
    assert!(begun.elapsed() >= max_age && begun.elapsed() < max_age + HEARTBEAT);
}

#[tokio::test(start_paused = true)]
async fn updates_keep_their_distance_and_lose_nothing() {
    let mut world = World::new();
    let pace = Duration::from_secs(10);
    let mut client = world.open(Options {
        min_update_interval: pace,
        ..options(Mode::LatestState)
    });
    client.sync().await;
    world.put("a", Running, "x");
    client.events().await;
    let begun = Instant::now();
    world.put("a", Failed, "x");
    world.put("a", Running, "x");
    assert_eq!(client.events().await, [(EventKind::Changed, "a".into(), 1)]);
    let waited = begun.elapsed();
    assert!(
        waited >= pace && waited <= pace + Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_end_does_not_match_keeps_its_distance() {
    let mut world = World::with_ring(10_000);
    let pace = Duration::from_secs(10);
    let mut client = world.open(Options {
        filter: by_label("tier=in"),
        min_update_interval: pace,
        ..options(Mode::LatestState)
    });
    client.sync().await;
    world.put("a", Running, "in");
    for i in 0..2 * BATCH_PROCESSES_MAX {
        world.put(&format!("p{i}"), Running, "out");
    }
    let begun = Instant::now();
    client.events().await;
    // The rest of the update is read, and has nothing to tell.
    assert!(timeout(pace / 10, client.next()).await.is_err());
    world.put("a", Failed, "in");
    assert_eq!(client.events().await.len(), 1);
    assert!(begun.elapsed() >= pace);
    assert_eq!(client.at, Some(world.head()));
}

/// Real time, real threads: a wake-up that is lost shows as a wait for the
/// heartbeat, which is set beyond the test's patience.
#[tokio::test]
async fn no_wake_up_is_lost_between_threads() {
    let mut world = World::new();
    world.put("a", Running, "x");
    let mut client = world.open(Options {
        heartbeat: Duration::from_secs(600),
        ..options(Mode::LatestState)
    });
    client.sync().await;
    let registry = world.registry.clone();
    let (ask, asked) = std::sync::mpsc::sync_channel::<()>(1);
    let writer = std::thread::spawn(move || {
        let slot = registry.slot("a").unwrap();
        while asked.recv().is_ok() {
            let committed = registry.commit(&slot, |node| Some(node.body().clone()));
            drop(committed.unwrap());
        }
    });
    for _ in 0..2000 {
        ask.send(()).unwrap();
        let told = timeout(Duration::from_secs(60), client.events()).await;
        assert_eq!(told.expect("woken").len(), 1);
    }
    drop(ask);
    writer.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_their_dispatcher() {
    let mut world = World::new();
    let mut client = world.open(options(Mode::LatestState));
    client.sync().await;
    world.dispatcher = Dispatcher::start(world.registry.clone());
    assert_eq!(
        client.payload().await,
        Payload::Closing(CloseReason::Shutdown)
    );
}
