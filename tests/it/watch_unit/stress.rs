//! Writers on their own threads, readers of both modes: the chain holds all the
//! way, and at rest every view is the registry.

use std::{collections::BTreeMap, thread, time::Duration};

use procession::{
    domain::{id::Uid, status::State},
    registry::Registry,
    watch::{Filter, Options},
};

use super::world::{Client, MODES, World, by_label, options, process};

const WRITERS: u64 = 3;
const WRITES: u64 = 4000;
const NAMES: u64 = 9;

/// Small and replayable: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn write(registry: &Registry<procession::domain::status::ProcessState>, seed: u64) {
    let mut dice = Dice(seed);
    for i in 0..WRITES {
        let name = format!("p{}", dice.roll(NAMES));
        let state = [State::Running, State::Failed][usize::from(dice.roll(2) == 0)];
        let body = process(&name, state, ["in", "out"][usize::from(dice.roll(3) == 0)]);
        match registry.slot(&name) {
            Some(slot) if dice.roll(8) == 0 => {
                // Lost to another writer: just as well.
                drop(registry.delete(&slot, |node| Some(node.body().clone())));
            }
            Some(slot) if registry.commit(&slot, |_| Some(body.clone())).is_ok() => {}
            _ => {
                let uid = Uid::from_bytes((u128::from(seed) << 64 | u128::from(i)).to_be_bytes());
                drop(registry.create(uid, body));
            }
        }
    }
}

/// Reads until the view is exact at `head`, which is told once known.
async fn read(mut client: Client, mut head: tokio::sync::watch::Receiver<Option<i64>>) -> Client {
    loop {
        let rests = *head.borrow_and_update();
        if client.exact && rests.is_some() && client.at == rests {
            return client;
        }
        tokio::select! {
            message = client.next() => drop(message.unwrap().unwrap()),
            changed = head.changed(), if rests.is_none() => changed.unwrap(),
        }
    }
}

/// A small ring, so that readers are reset and read from before it, too.
#[tokio::test]
async fn i9_at_rest_every_view_is_the_registry() {
    let seed = u64::from_le_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap()) | 1;
    println!("seed {seed}");
    let world = World::with_ring(200);
    let (tell, head) = tokio::sync::watch::channel(None);
    let mut readers = Vec::new();
    for mode in MODES {
        for filter in [Filter::all(), by_label("tier=in")] {
            let heartbeat = Duration::from_millis(200);
            let client = world.open(Options {
                filter: filter.clone(),
                heartbeat,
                ..options(mode)
            });
            readers.push((mode, filter, tokio::spawn(read(client, head.clone()))));
        }
    }
    let writers: Vec<_> = (0..WRITERS)
        .map(|i| {
            let registry = world.registry.clone();
            thread::spawn(move || write(&registry, seed.rotate_left(u32::try_from(i).unwrap()) | 1))
        })
        .collect();
    let written =
        tokio::task::spawn_blocking(|| writers.into_iter().for_each(|w| w.join().unwrap()));
    written.await.unwrap();
    tell.send_replace(Some(world.head()));
    let snapshot = world.registry.snapshot();
    for (mode, filter, reader) in readers {
        let client = reader.await.unwrap();
        let expected: BTreeMap<_, _> = snapshot
            .nodes
            .iter()
            .filter(|node| filter.matches(node.body()))
            .map(|node| (node.body().name().to_string(), node.version()))
            .collect();
        let seen: BTreeMap<_, _> = client
            .view
            .iter()
            .map(|(name, seen)| (name.clone(), seen.version))
            .collect();
        assert_eq!(seen, expected, "{mode:?} {filter}, seed {seed}");
    }
}
