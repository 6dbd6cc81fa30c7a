//! I5 to I9 by example, I13, I17 to I20, pace, budgets.

use std::time::Duration;

use procession::{
    domain::status::State,
    registry::Mode,
    watch::{BATCH_BYTES_MAX, BATCH_PROCESSES_MAX, EventKind, Options, Payload},
};
use tokio::time::Instant;

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
