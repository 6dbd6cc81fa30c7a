//! I10 to I12: where a stream can be resumed, and what it is told where not.

use procession::{
    domain::{id::Revision, status::State},
    registry::Mode,
    watch::{EventKind, Lost, LostReason, OpenError, Options, Payload, Policy, Token},
};

use super::world::{EPOCH, Lens, MODES, World, by_label, options};

use State::Running;

fn token(epoch: &str, revision: i64, scope: &str) -> Option<Token> {
    Some(Token {
        epoch: epoch.into(),
        revision: Revision::new(revision),
        scope: scope.into(),
    })
}

/// A world whose log begins after revision 10, of 20.
fn trimmed() -> World {
    let mut world = World::with_ring(10);
    for i in 0..20 {
        world.put(&format!("p{}", i % 4), Running, "x");
    }
    world
}

#[tokio::test(start_paused = true)]
async fn i10_a_stream_goes_on_where_it_stood() {
    for mode in MODES {
        let mut world = World::new();
        world.put("a", Running, "x");
        let mut first = world.open(options(mode));
        first.sync().await;
        let resume = Some(first.token());
        world.put("b", Running, "x");
        let mut second = world.open(Options {
            resume,
            ..options(mode)
        });
        let opened = second.message().await;
        assert_eq!(opened.payload, Payload::Opened { resumed: true });
        assert_eq!(opened.from, opened.to);
        assert_eq!(Some(opened.to.get()), first.at);
        assert_eq!(second.events().await, [(EventKind::Added, "b".into(), 0)]);
    }
}

#[tokio::test(start_paused = true)]
async fn i11_what_cannot_be_resumed_is_reset_with_the_reason() {
    let world = trimmed();
    let cases = [
        (token("unknown", 15, "scope"), LostReason::EpochChanged),
        (token("epoch-1", 4, ""), LostReason::EpochChanged),
        (token("epoch-1", 3, ""), LostReason::HistoryTrimmed),
        (token(EPOCH, 9, "scope"), LostReason::HistoryTrimmed),
        (token(EPOCH, 15, "other"), LostReason::ScopeChanged),
    ];
    for (resume, reason) in cases {
        let every = Options {
            resume,
            ..options(Mode::EveryChange)
        };
        let lost = Lost {
            reason,
            oldest: Revision::new(10),
        };
        let mut client = world.open(every.clone());
        assert_eq!(client.payload().await, Payload::Opened { resumed: false });
        assert_eq!(client.payload().await, Payload::Reset(lost));
        let synced = client.sync().await;
        assert_eq!(synced.to.get(), world.head());

        let fail = Options {
            policy: Policy::Fail,
            ..every
        };
        let refused = world.try_open(fail, Lens::default());
        assert_eq!(refused.err(), Some(OpenError::Lost(lost)));
    }
}

#[tokio::test(start_paused = true)]
async fn i11_the_floor_itself_and_a_vouched_scope_can_be_resumed() {
    let world = trimmed();
    for (revision, scope) in [(10, "scope"), (10, ""), (20, "scope")] {
        let resume = token(EPOCH, revision, scope);
        let mut client = world.open(Options {
            resume,
            ..options(Mode::EveryChange)
        });
        assert_eq!(client.payload().await, Payload::Opened { resumed: true });
    }
    // Latest states are kept for as long as the tombstones are.
    let resume = token(EPOCH, 0, "scope");
    let mut client = world.open(Options {
        resume,
        ..options(Mode::LatestState)
    });
    assert_eq!(client.payload().await, Payload::Opened { resumed: true });
}

#[tokio::test(start_paused = true)]
async fn i12_the_future_and_the_past_of_zero_are_refused() {
    let world = trimmed();
    for mode in MODES {
        for (epoch, revision) in [(EPOCH, 21), (EPOCH, i64::MAX), (EPOCH, -1), ("unknown", -1)] {
            let resume = token(epoch, revision, "");
            let refused = world.try_open(
                Options {
                    resume,
                    ..options(mode)
                },
                Lens::default(),
            );
            let expected = OpenError::InFuture {
                asked: Revision::new(revision),
                head: Revision::new(20),
            };
            assert_eq!(refused.err(), Some(expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_behind_is_told_or_ended() {
    for policy in [Policy::Resnapshot, Policy::Fail] {
        let mut world = World::with_ring(10);
        let mut client = world.open(Options {
            policy,
            ..options(Mode::EveryChange)
        });
        client.sync().await;
        for i in 0..25 {
            world.put(&format!("p{i}"), Running, "x");
        }
        let lost = Lost {
            reason: LostReason::Lagged,
            oldest: Revision::new(15),
        };
        match client.next().await.unwrap() {
            Ok(message) => {
                assert_eq!(policy, Policy::Resnapshot);
                assert_eq!(message.payload, Payload::Reset(lost));
                client.sync().await;
                assert_eq!(client.view.len(), 25);
            }
            Err(told) => {
                assert_eq!((policy, told), (Policy::Fail, lost));
                assert!(client.next().await.is_none());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_states_from_before_the_ring_gets_kinds_it_can_apply() {
    let mut world = World::with_ring(10);
    world.put("changed", Running, "in");
    world.put("left", Running, "in");
    world.put("deleted", Running, "in");
    let filter = by_label("tier=in");
    let mut client = world.open(Options {
        filter: filter.clone(),
        ..options(Mode::LatestState)
    });
    client.sync().await;
    world.put("changed", State::Failed, "in");
    world.put("left", Running, "out");
    world.delete("deleted");
    world.put("added", Running, "in");
    for _ in 0..20 {
        world.put("noise", Running, "out");
    }
    let mut kinds = Vec::new();
    while client.at != Some(world.head()) {
        let message = client.message().await;
        if let Payload::Events(events) = message.payload {
            kinds.extend(events.into_iter().map(|e| (e.shown.name, e.kind)));
        }
    }
    let expected = [
        ("changed", EventKind::Changed),
        ("left", EventKind::Left),
        ("deleted", EventKind::Deleted),
        ("added", EventKind::Added),
    ];
    for (name, kind) in expected {
        assert!(kinds.contains(&(name.into(), kind)), "{name}: {kinds:?}");
    }
    assert!(client.exact);
    assert_eq!(client.view, world.replay(world.head(), &filter));
}
