//! The daemon dies at any time.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use procession::{domain::id::Revision, store::Store};
use proptest::prelude::*;

use super::{
    ledger::{Ledger, NAMES, Step, Ticket},
    support::{copy, observe, open},
};

/// Histories per run of the property.
const CASES: u32 = 64;
/// Children that are killed.
const KILLS: u64 = 20;
/// Intents that a child sends before it waits for the first of them.
const AHEAD: usize = 8;

#[derive(Debug, Clone)]
enum Op {
    /// The flag: it is waited for.
    Say(Step, bool),
    /// Everything sent is waited for.
    Settle,
    /// Its files, as they are, are opened elsewhere.
    Look,
    /// The store is dropped and opened again.
    Crash,
    /// The store is closed and opened again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES;
    prop_oneof![
        3 => (name.clone(), any::<bool>()).prop_map(|(name, on)| Step::Put(name, on)),
        3 => (name.clone(), any::<bool>()).prop_map(|(name, on)| Step::Want(name, on)),
        6 => name.clone().prop_map(Step::Change),
        1 => name.prop_map(Step::Delete),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (step(), prop::bool::weighted(0.3)).prop_map(|(step, waits)| Op::Say(step, waits)),
        2 => Just(Op::Settle),
        1 => Just(Op::Look),
        1 => Just(Op::Crash),
        1 => Just(Op::Restart),
    ]
}

struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    ledger: Ledger,
    sent: Vec<(procession::store::Receipt, Ticket)>,
}

// === impl World ===

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(open(dir.path()).0);
        Self {
            dir,
            store,
            ledger: Ledger::default(),
            sent: Vec::new(),
        }
    }

    fn act(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Say(step, waits) => self.say(*step, *waits),
            Op::Settle => self.settle(),
            Op::Look => return self.look(),
            Op::Crash => {
                let durable = self.durable();
                self.store = None;
                return self.reopen(durable);
            }
            Op::Restart => {
                self.settle();
                self.store.take().unwrap().close(false).unwrap();
                return self.reopen(Revision::new(self.ledger.revision));
            }
        }
        Ok(())
    }

    fn say(&mut self, step: Step, waits: bool) {
        let said = self.ledger.say(step);
        let store = self.store.as_ref().unwrap();
        if let Some((intent, ticket)) = said.intent {
            self.sent.push((store.intend(vec![intent]), ticket));
        }
        // A state follows only an intent that is durable.
        if waits || !said.seen.is_empty() {
            self.settle();
        }
        if !said.seen.is_empty() {
            observe(self.store.as_ref().unwrap(), said.seen);
        }
    }

    fn settle(&mut self) {
        for (receipt, ticket) in self.sent.drain(..) {
            receipt.wait().unwrap();
            self.ledger.ack(ticket);
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let known = self.ledger.known(self.durable());
        let image = tempfile::tempdir().unwrap();
        copy(self.dir.path(), image.path());
        let (_store, found) = open(image.path());
        self.ledger.check(&found, &known)
    }

    fn reopen(&mut self, durable: Revision) -> Result<(), String> {
        let known = self.ledger.known(durable);
        let (store, found) = open(self.dir.path());
        self.ledger.check(&found, &known)?;
        let (ledger, again) = Ledger::of(&found, &self.ledger);
        self.ledger = ledger;
        self.sent.clear();
        if !again.is_empty() {
            observe(&store, again);
        }
        self.store = Some(store);
        Ok(())
    }

    fn durable(&self) -> Revision {
        *self.store.as_ref().unwrap().durable_revision().borrow()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_crash_leaves_what_was_acknowledged_or_newer(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.act(op).map_err(TestCaseError::fail)?;
        }
        world.act(&Op::Crash).map_err(TestCaseError::fail)?;
    }
}

/// Where the child of [`a_killed_daemon_loses_nothing_acknowledged`] has its store.
const CHILD_DIR: &str = "STORE_CHILD_DIR";
const CHILD_SEED: &str = "STORE_CHILD_SEED";

/// The endless history of a seed.
fn history(seed: u64) -> impl Iterator<Item = Step> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (name, on) = ((state >> 8) as usize % NAMES, state >> 40 & 1 == 1);
        match state >> 16 & 15 {
            0..=3 => Step::Put(name, on),
            4..=7 => Step::Want(name, on),
            8..=14 => Step::Change(name),
            _ => Step::Delete(name),
        }
    })
}

#[test]
fn a_killed_daemon_loses_nothing_acknowledged() {
    for seed in 1..=KILLS {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::crashes::alone_as_a_writer",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .env(CHILD_SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = Vec::new();
        // It is killed in the midst of what it does after this line.
        let enough = 5 + (seed * 37 % 400) as usize;
        while told.len() < enough {
            told.extend(report(&lines.next().unwrap().unwrap()));
        }
        child.kill().unwrap();
        told.extend(lines.map_while(Result::ok).filter_map(|line| report(&line)));
        child.wait().unwrap();
        judge(dir.path(), seed, &told);
    }
}

/// Steps that were acknowledged and the durable revision, as a line tells them.
fn report(line: &str) -> Option<(usize, i64)> {
    let (acked, durable) = line.strip_prefix("acked ")?.split_once(' ')?;
    Some((acked.parse().ok()?, durable.parse().ok()?))
}

fn judge(dir: &Path, seed: u64, told: &[(usize, i64)]) {
    let (acked, durable) = *told.last().unwrap();
    let mut ledger = Ledger::default();
    let mut intents = 0;
    for step in history(seed).take(acked + 100 * AHEAD) {
        if let Some((_, ticket)) = ledger.say(step).intent {
            intents += 1;
            if intents <= acked {
                ledger.ack(ticket);
            }
        }
    }
    let (_store, found) = open(dir);
    let known = ledger.known(Revision::new(durable));
    if let Err(error) = ledger.check(&found, &known) {
        panic!("seed {seed}, {acked} acknowledged, durable {durable}: {error}");
    }
    assert!(!found.clean && found.log_break.is_none());
}

#[test]
fn alone_as_a_writer() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return; // see above
    };
    let seed = std::env::var(CHILD_SEED).unwrap().parse().unwrap();
    let (store, _) = open(Path::new(&dir));
    let mut ledger = Ledger::default();
    let mut sent = Vec::new();
    let mut acked = 0;
    let mut out = std::io::stdout();
    for step in history(seed) {
        let said = ledger.say(step);
        sent.extend(said.intent.map(|(intent, _)| store.intend(vec![intent])));
        let waits = sent.len() >= AHEAD || !said.seen.is_empty();
        for receipt in sent.drain(..if waits { sent.len() } else { 0 }) {
            receipt.wait().unwrap();
            acked += 1;
            let durable = *store.durable_revision().borrow();
            writeln!(out, "acked {acked} {durable}").unwrap();
        }
        if !said.seen.is_empty() {
            observe(&store, said.seen);
        }
    }
}
