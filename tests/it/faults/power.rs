//! Power cuts while intents are written: what was acknowledged must be there
//! afterwards.
//!
//! In every other round nobody is within a sync at the cut: the daemon stands still,
//! outside of any call, and every acknowledgement counts. In the others the cut comes
//! at any moment, and an acknowledgement counts if the client had it before the cut
//! was begun (see `disk.rs`); what is asked for after it must never be acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use procession::grpc::proto::Process;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    disk::{Disk, Power},
    support::{Rig, pass, until},
};
use crate::{
    chance::{Dice, rounds},
    daemon::support::Client,
    known::{Answer, Known, desired},
};

const NAMES: usize = 8;
/// From the cut to the answer that nothing can be kept, or never.
const ANSWERED_IN: Duration = Duration::from_secs(2);

/// What all askers of a round share.
#[derive(Debug, Default)]
struct Round {
    power: Power,
    /// Acknowledged so far.
    kept: AtomicUsize,
}

/// Of all askers.
#[derive(Debug, Default)]
struct Tally {
    /// Must be there.
    kept: usize,
    /// Acknowledged as the power went: may be there.
    late: usize,
    /// Asked for without power, and acknowledged.
    wrong: usize,
}

// === impl Tally ===

impl Tally {
    const fn add(&mut self, other: &Self) {
        self.kept += other.kept;
        self.late += other.late;
        self.wrong += other.wrong;
    }
}

/// Asks until something is not kept.
async fn ask_on(
    mut client: Client,
    process: Process,
    mut dice: Dice,
    known: Arc<Mutex<Known>>,
    round: Arc<Round>,
) -> Tally {
    let mut known = known.lock().await;
    let mut tally = Tally::default();
    // Whoever was told that all is gone may be refused for ever.
    let mut tries = 20;
    while tries > 0 {
        let (before, off) = (known.clone(), round.power.is_off());
        tries -= usize::from(off);
        match known.ask(&mut client, &process, &mut dice).await {
            Answer::Kept if round.power.is_on() => {
                tally.kept += 1;
                round.kept.fetch_add(1, SeqCst);
            }
            // A command that changes nothing needs no disk.
            Answer::Kept if known.doubt(before) => {
                tally.late += 1;
                tally.wrong += usize::from(off);
            }
            Answer::Kept | Answer::Refused => {}
            Answer::NotKept | Answer::Gone => break,
        }
    }
    tally
}

#[tokio::test]
async fn acknowledged_intents_outlive_power_cuts() {
    let mut rig = Rig::new();
    let Some(disk) = Disk::new(&rig) else {
        return;
    };
    let mut dice = Dice::new();
    let names: Vec<String> = (0..NAMES).map(|n| format!("p{n}")).collect();
    let known: Vec<Arc<Mutex<Known>>> = names.iter().map(|_| Arc::default()).collect();
    let (count, mut all) = (rounds(4, 10), Tally::default());
    rig.start();
    for round in 0..count {
        let shared = Arc::<Round>::default();
        let mut askers = JoinSet::new();
        for (name, known) in names.iter().zip(&known) {
            askers.spawn(ask_on(
                rig.client().await,
                rig.sleeper(name),
                dice.split(),
                Arc::clone(known),
                Arc::clone(&shared),
            ));
        }
        until("something is acknowledged", async || {
            (shared.kept.load(SeqCst) > 0).then_some(())
        })
        .await;
        pass(Duration::from_millis(20 + dice.throw(200))).await;
        if round % 2 == 0 {
            rig.freeze().await;
            disk.cut(&Power::default()).await;
            rig.thaw();
        } else {
            disk.cut(&shared.power).await;
        }
        // Who asks about a run that the daemon had not looked at yet waits for the disk.
        let end = Instant::now() + ANSWERED_IN;
        while let Ok(Some(tally)) = timeout_at(end, askers.join_next()).await {
            all.add(&tally.unwrap());
        }
        rig.kill();
        while let Some(tally) = askers.join_next().await {
            all.add(&tally.unwrap());
        }
        rig.kill_all();
        disk.again().await;
        rig.start();
        let mut client = rig.client().await;
        let there = desired(&mut client).await;
        for (name, known) in names.iter().zip(&known) {
            let found = there.get(name).copied();
            let what = format!("round {round}: {name}");
            known.lock().await.check(found, &what);
        }
    }
    println!("{count} power cuts, {all:?}, none lost");
    assert!(all.kept >= count, "hardly anything was asked for");
    assert_eq!(all.wrong, 0, "acknowledged without a disk");
    let client = rig.client().await;
    rig.end_and(client, || drop(disk)).await;
}
