//! I5b, I7, I9, I10 under random writes, reads and cuts: whenever the server says
//! exact, the client's view is the replay of the history.

use proptest::prelude::*;

use procession::{
    domain::status::State,
    registry::Mode,
    watch::{Filter, Options, Payload},
};

use super::world::{Client, MODES, World, by_label, options};

#[derive(Debug, Clone)]
enum Action {
    Put {
        name: u8,
        failed: bool,
        inside: bool,
    },
    Delete {
        name: u8,
    },
    /// Reads this many messages.
    Read(usize),
    /// Cuts the stream and resumes it.
    Cut,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let name = 0..5u8;
    let action = prop_oneof![
        6 => (name.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(name, failed, inside)| Action::Put { name, failed, inside }),
        2 => name.prop_map(|name| Action::Delete { name }),
        2 => (1..4usize).prop_map(Action::Read),
        1 => Just(Action::Cut),
    ];
    prop::collection::vec(action, 1..60)
}

fn check(world: &World, client: &Client, filter: &Filter) {
    if client.exact {
        let at = client.at.unwrap_or_default();
        assert_eq!(client.view, world.replay(at, filter), "at {at}");
    }
}

async fn run(actions: Vec<Action>, mode: Mode, ring: usize, filter: Filter) {
    let mut world = World::with_ring(ring);
    let asked = Options {
        filter: filter.clone(),
        ..options(mode)
    };
    let mut client = world.open(asked.clone());
    for action in actions {
        match action {
            Action::Put {
                name,
                failed,
                inside,
            } => {
                let state = if failed {
                    State::Failed
                } else {
                    State::Running
                };
                world.put(
                    &format!("p{name}"),
                    state,
                    if inside { "in" } else { "out" },
                );
            }
            Action::Delete { name } => world.delete(&format!("p{name}")),
            Action::Read(count) => {
                for _ in 0..count {
                    client.message().await;
                    check(&world, &client, &filter);
                }
            }
            Action::Cut => client = resume(&world, client, &asked),
        }
    }
    // Quiesce: the head is told, the view is the registry.
    let mut messages = 0;
    while !(client.exact && client.at == Some(world.head())) {
        client.message().await;
        check(&world, &client, &filter);
        messages += 1;
        assert!(messages < 200, "the client catches up");
    }
    assert_eq!(client.view, world.replay(world.head(), &filter));
}

/// What a client library does: goes on with the view it has, if it has one.
fn resume(world: &World, client: Client, asked: &Options) -> Client {
    if !client.has_view() {
        return world.open(asked.clone());
    }
    let resume = Some(client.token());
    let mut next = world.open(Options {
        resume,
        ..asked.clone()
    });
    next.view = client.view;
    next
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_called_exact_is_the_replay(
        actions in actions(),
        every in any::<bool>(),
        ring in 1..30usize,
        filtered in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let filter = if filtered { by_label("tier=in") } else { Filter::all() };
        runtime.block_on(run(actions, MODES[usize::from(!every)], ring, filter));
    }
}

#[tokio::test(start_paused = true)]
async fn i10_a_cut_at_every_message_loses_nothing() {
    for mode in MODES {
        let mut world = World::new();
        let asked = options(mode);
        let mut client = world.open(asked.clone());
        client.sync().await;
        for i in 0..50 {
            world.put(&format!("p{}", i % 7), State::Running, "x");
            if i % 5 == 0 {
                world.delete(&format!("p{}", (i + 3) % 7));
            }
            client = resume(&world, client, &asked);
            while !matches!(client.payload().await, Payload::Events(_)) {}
            check(&world, &client, &Filter::all());
        }
        assert_eq!(client.view, world.replay(world.head(), &Filter::all()));
    }
}
