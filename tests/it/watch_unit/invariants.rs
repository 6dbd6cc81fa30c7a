//! I5 to I9 by example, I13, I17 to I20, pace, budgets.

use std::time::Duration;

use procession::{
    domain::status::State,
    registry::Mode,
    watch::{
        BATCH_BYTES_MAX, BATCH_PROCESSES_MAX, CloseReason, Dispatcher, EventKind, Options, Payload,
    },
};
use tokio::time::{Instant, advance, timeout};

use super::world::{HEARTBEAT, Lens, MODES, World, by_label, options};

use State::{Failed, Running};

#[tokio::test(start_paused = true)]
async fn i5_a_snapshot_is_exact_at_synced() {
    let mut world = World::new();
    for i in 0..10 {
        world.put(&format!("p{i}"), Running, ["a", "b"][i % 2]);
    }
    world.delete("p4");
    for mode in MODES {
        let filter = by_label("tier=a");
        let mut client = world.open(Options {
            filter: filter.clone(),
            ..options(mode)
        });
        assert_eq!(client.payload().await, Payload::Opened { resumed: false });
        // After the head was read nothing of it may leak into the snapshot's cut.
        let synced = client.sync().await;
        assert!(synced.exact);
        assert_eq!(synced.to.get(), world.head());
        assert_eq!(client.view, world.replay(world.head(), &filter));
    }
}

#[tokio::test(start_paused = true)]
async fn i7_changes_reach_both_modes() {
    for mode in MODES {
        let mut world = World::new();
        world.put("a", Running, "x");
        let mut client = world.open(options(mode));
        client.sync().await;
        world.put("a", Failed, "x");
        world.put("b", Running, "x");
        world.put("a", Running, "x");
        world.delete("b");
        let mut told = Vec::new();
        while client.at != Some(world.head()) {
            told.extend(
                client
                    .events()
                    .await
                    .into_iter()
                    .map(|(kind, name, _)| (kind, name)),
            );
        }
        use EventKind::{Added, Changed, Deleted};
        let expected: Vec<(EventKind, String)> = match mode {
            Mode::EveryChange => vec![
                (Changed, "a".into()),
                (Added, "b".into()),
                (Changed, "a".into()),
                (Deleted, "b".into()),
            ],
            Mode::LatestState => vec![(Changed, "a".into())],
        };
        assert_eq!(told, expected);
        assert!(client.exact);
    }
}

#[tokio::test(start_paused = true)]
async fn i9_the_head_is_told_within_a_heartbeat_whatever_matches() {
    for mode in MODES {
        let mut world = World::new();
        let filter = by_label("tier=nobody");
        let mut client = world.open(Options {
            filter,
            ..options(mode)
        });
        client.sync().await;
        let begun = Instant::now();
        for _ in 0..700 {
            world.put("a", Running, "x");
        }
        let message = client.message().await;
        assert_eq!(message.payload, Payload::Progress);
        assert_eq!(message.to.get(), world.head());
        assert!(message.exact);
        assert!(begun.elapsed() <= HEARTBEAT + Duration::from_secs(1));
    }
}

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
async fn i17_merged_versions_are_counted() {
    let mut world = World::new();
    world.put("a", Running, "x");
    let mut latest = world.open(options(Mode::LatestState));
    let mut every = world.open(options(Mode::EveryChange));
    latest.sync().await;
    every.sync().await;
    for _ in 0..5 {
        world.put("a", Failed, "x");
    }
    assert_eq!(latest.events().await, [(EventKind::Changed, "a".into(), 4)]);
    let all = every.events().await;
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|(_, _, skipped)| *skipped == 0));
}

#[tokio::test(start_paused = true)]
async fn i18_the_edge_of_a_selector_is_not_an_end() {
    for mode in MODES {
        let mut world = World::new();
        world.put("a", Running, "in");
        let filter = by_label("tier=in");
        let mut client = world.open(Options {
            filter,
            ..options(mode)
        });
        client.sync().await;

        world.put("a", Running, "out");
        assert_eq!(client.events().await, [(EventKind::Left, "a".into(), 0)]);
        assert!(client.view.is_empty());
        world.put("a", Running, "out");
        world.put("a", Failed, "in");
        let (kind, ..) = client.events().await[0];
        assert_eq!(kind, EventKind::Added);
        world.put("a", Failed, "in");
        assert_eq!(client.events().await, [(EventKind::Changed, "a".into(), 0)]);
        world.delete("a");
        assert_eq!(client.events().await, [(EventKind::Deleted, "a".into(), 0)]);

        // What was never inside is not told of, not even its end.
        world.put("b", Running, "out");
        world.delete("b");
        assert_eq!(client.payload().await, Payload::Progress);
    }
}

#[tokio::test(start_paused = true)]
async fn i18_left_carries_identity_only_and_deleted_the_last_state() {
    let mut world = World::new();
    world.put("a", Running, "in");
    world.put("b", Failed, "in");
    let filter = by_label("tier=in");
    let mut client = world.open(Options {
        filter,
        ..options(Mode::EveryChange)
    });
    client.sync().await;
    world.put("a", Running, "out");
    world.delete("b");
    let Payload::Events(events) = client.payload().await else {
        panic!("expected events");
    };
    assert_eq!(
        (events[0].shown.state, events[0].shown.tier.as_str()),
        (None, "")
    );
    assert_eq!(events[1].shown.state, Some(Failed));
}

#[tokio::test(start_paused = true)]
async fn i18_a_conflated_recreation_is_one_added_with_the_new_uid() {
    let mut world = World::new();
    world.put("a", Running, "x");
    let mut client = world.open(options(Mode::LatestState));
    client.sync().await;
    let old = client.view["a"].uid.clone();
    world.delete("a");
    world.put("a", Running, "x");
    assert_eq!(client.events().await, [(EventKind::Added, "a".into(), 0)]);
    assert_ne!(client.view["a"].uid, old);
}

#[tokio::test(start_paused = true)]
async fn i19_what_the_mask_hides_is_no_event_but_the_interval_advances() {
    for mode in MODES {
        let mut world = World::new();
        world.put("a", Running, "x");
        let lens = Lens {
            states_masked: true,
            ..Lens::default()
        };
        let mut client = world.try_open(options(mode), lens).unwrap();
        client.sync().await;
        world.put("a", Failed, "x");
        let message = client.message().await;
        assert_eq!(message.payload, Payload::Progress);
        assert_eq!(message.to.get(), world.head());
        world.put("a", Running, "y");
        let (kind, ..) = client.events().await[0];
        assert_eq!(kind, EventKind::Changed);
    }
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
async fn without_a_snapshot_the_stream_begins_at_the_head() {
    for mode in MODES {
        let mut world = World::new();
        world.put("a", Running, "x");
        let mut client = world.open(Options {
            skip_snapshot: true,
            ..options(mode)
        });
        let opened = client.message().await;
        assert_eq!(opened.payload, Payload::Opened { resumed: true });
        assert_eq!((opened.from.get(), opened.to.get()), (1, 1));
        world.put("b", Running, "x");
        let message = client.message().await;
        // A reader of states that was given no snapshot has no whole view.
        assert_eq!(message.exact, mode == Mode::EveryChange);
    }
}

#[tokio::test(start_paused = true)]
async fn parts_and_batches_keep_their_budgets() {
    let mut world = World::new();
    let many = 2 * BATCH_PROCESSES_MAX + 7;
    for i in 0..many {
        world.put(&format!("p{i}"), Running, "x");
    }
    for bytes in [1, BATCH_BYTES_MAX / 3, BATCH_BYTES_MAX + 1] {
        let fits = (BATCH_BYTES_MAX / bytes).clamp(1, BATCH_PROCESSES_MAX);
        let lens = Lens {
            bytes,
            ..Lens::default()
        };
        let mut snapshot = world.try_open(options(Mode::LatestState), lens).unwrap();
        while !snapshot.exact {
            if let Payload::Snapshot(part) = snapshot.payload().await {
                assert!(part.len() <= fits);
            }
        }
        assert_eq!(snapshot.view.len(), many);
        for mode in MODES {
            let mut resumed = world
                .try_open(
                    Options {
                        resume: Some(procession::watch::Token {
                            revision: procession::domain::id::Revision::ZERO,
                            ..snapshot.token()
                        }),
                        ..options(mode)
                    },
                    lens,
                )
                .unwrap();
            while resumed.at != Some(world.head()) {
                if let Payload::Events(events) = resumed.payload().await {
                    assert!(events.len() <= fits, "{} {fits}", events.len());
                }
            }
            assert!(resumed.exact);
            assert_eq!(resumed.view.len(), many);
        }
    }
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
    let (ask, asked) = std::sync::mpsc::channel::<()>();
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
