//! What waits to be written: calls in their order, and one state per process.
//!
//! Bounds: `CALLS_MAX` calls; one state per process. New
//! processes need a call that succeeds, so while nothing can be written their
//! number does not grow.
//!
//! A state waits in the seat of the one it replaces, so the oldest seat says how
//! far everything is recorded: the `floor` of a seat is the last revision before
//! the batch that took it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Intent, NotDurable, Observation, Reason, Receipt, Stats, api::INTENTS_PER_CALL_MAX};
use crate::domain::id::{Revision, Uid};

/// Calls that wait at most.
const CALLS_MAX: usize = 4096;
/// Intents of one transaction, but that a call is never split.
const GROUP_INTENTS_MAX: usize = 512;
/// States of one transaction.
const GROUP_STATES_MAX: usize = 1024;

/// What the writer and its callers share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    pub(super) stats: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) transactions: AtomicU64,
    pub(super) synced: AtomicU64,
    pub(super) intents: AtomicU64,
    pub(super) states: AtomicU64,
    pub(super) failures: AtomicU64,
}

/// One call that is answered.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) asked: Asked,
    pub(super) answer: oneshot::Sender<Result<(), NotDurable>>,
}

#[derive(Debug)]
pub(super) enum Asked {
    Intents(Vec<Intent>),
    Epoch { epoch: Box<str>, boot: Box<str> },
}

/// What goes into one transaction.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) calls: Vec<Call>,
    pub(super) states: Vec<Seated>,
    /// Everything up to here is recorded with it.
    pub(super) durable: Revision,
}

/// A state and the seat it waited in.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) observation: Observation,
    seat: u64,
    floor: Revision,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Work {
    /// Write this.
    Group(Group),
    /// The time it waited for is there.
    Due,
    /// Nothing more comes: end, and tell here.
    Close(Close),
    /// Nobody is left: end.
    Abandoned,
}

/// The end of a store.
#[derive(Debug)]
pub(super) struct Close {
    /// The daemon had stopped every process.
    pub(super) stopped_all: bool,
    /// Told how it went.
    pub(super) done: oneshot::Sender<Result<(), NotDurable>>,
}

/// Whether the writer can take a group, and when it wants to be woken regardless.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) takes: bool,
    pub(super) until: Option<Instant>,
    pub(super) write_behind: Duration,
}

#[derive(Debug)]
struct Queue {
    calls: VecDeque<Call>,
    states: HashMap<Uid, Seated>,
    /// Seats in their order.
    seats: BTreeMap<u64, Uid>,
    next_seat: u64,
    /// Since when a state waits.
    waiting_since: Option<Instant>,
    /// End of the latest batch.
    upto: Revision,
    /// Why calls are refused.
    refusing: Option<Reason>,
    /// It never heals: nothing is kept.
    frozen: bool,
    closing: bool,
    /// The thread is gone.
    ended: bool,
    close: Option<Close>,
    abandoned: bool,
}

// === impl Shared ===

impl Shared {
    /// `broken`: nothing can ever be written.
    pub(super) fn new(durable: Revision, broken: Option<&Reason>) -> Self {
        Self {
            queue: Mutex::new(Queue {
                calls: VecDeque::new(),
                states: HashMap::new(),
                seats: BTreeMap::new(),
                next_seat: 0,
                waiting_since: None,
                upto: durable,
                refusing: broken.cloned(),
                frozen: broken.is_some(),
                closing: false,
                ended: false,
                close: None,
                abandoned: false,
            }),
            wake: Condvar::new(),
            stats: Counters::default(),
        }
    }

    pub(super) fn intend(&self, intents: Vec<Intent>) -> Receipt {
        if intents.len() > INTENTS_PER_CALL_MAX {
            let (answer, receipt) = oneshot::channel();
            // The receipt is ours.
            let _ = answer.send(Err(NotDurable::TooMany(intents.len())));
            return Receipt(receipt);
        }
        self.call(Asked::Intents(intents))
    }

    pub(super) fn begin_epoch(&self, epoch: Box<str>, boot: Box<str>) -> Receipt {
        self.call(Asked::Epoch { epoch, boot })
    }

    fn call(&self, asked: Asked) -> Receipt {
        let (answer, receipt) = oneshot::channel();
        let mut queue = self.lock();
        let refused = if queue.closing {
            Some(NotDurable::Closed)
        } else if let Some(reason) = &queue.refusing {
            Some(NotDurable::ReadOnly(reason.clone()))
        } else if queue.calls.len() >= CALLS_MAX {
            Some(NotDurable::Busy(queue.calls.len()))
        } else {
            None
        };
        match refused {
            // The receipt is still ours.
            Some(refused) => drop(answer.send(Err(refused))),
            None => {
                queue.calls.push_back(Call { asked, answer });
                self.wake.notify_one();
            }
        }
        Receipt(receipt)
    }

    pub(super) fn observe(&self, batch: Vec<Observation>, upto: Revision) {
        let mut queue = self.lock();
        if queue.frozen {
            return;
        }
        let floor = queue.upto;
        for observation in batch {
            queue.seat(observation, floor);
        }
        if upto > floor {
            queue.upto = upto;
            queue.waiting_since.get_or_insert_with(Instant::now);
        }
        self.wake.notify_one();
    }

    pub(super) fn close(&self, close: Close) {
        let mut queue = self.lock();
        queue.closing = true;
        // Otherwise it is dropped, which is an answer too.
        if !queue.ended && queue.close.is_none() {
            queue.close = Some(close);
        }
        self.wake.notify_one();
    }

    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.wake.notify_one();
    }

    /// The thread is gone: nobody is left waiting, and nobody waits again.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.closing = true;
        queue.frozen = true;
        queue.ended = true;
        let waiting = std::mem::take(&mut queue.calls);
        let close = queue.close.take();
        drop(queue);
        // Their receipts resolve by it.
        drop((waiting, close));
    }

    /// Waits for work.
    pub(super) fn next(&self, terms: Terms) -> Work {
        let mut queue = self.lock();
        loop {
            if let Some(work) = queue.work(terms) {
                return work;
            }
            let now = Instant::now();
            let behind = queue.waiting_since.filter(|_| terms.takes);
            let behind = behind.map(|since| since + terms.write_behind);
            let until = behind.into_iter().chain(terms.until).min();
            queue = match until {
                None => self
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let pause = until.saturating_duration_since(now);
                    let waited = self.wake.wait_timeout(queue, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Everything that waits, up to the size of a group; `None`: nothing does.
    pub(super) fn take(&self) -> Option<Group> {
        self.lock().take()
    }

    /// Puts back what was not written; its calls were answered. All that wait are
    /// refused, and those to come.
    pub(super) fn fail(&self, group: Group, reason: &Reason) {
        let mut queue = self.lock();
        queue.refusing.get_or_insert_with(|| reason.clone());
        for seated in group.states {
            queue.restore(seated);
        }
        let waiting = std::mem::take(&mut queue.calls);
        drop(queue);
        for call in group.calls.into_iter().chain(waiting) {
            // Nobody may wait for it.
            let _ = call.answer.send(Err(NotDurable::ReadOnly(reason.clone())));
        }
    }

    /// Calls are taken again.
    pub(super) fn heal(&self) {
        self.lock().refusing = None;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Queue ===

impl Queue {
    fn work(&mut self, terms: Terms) -> Option<Work> {
        if self.abandoned && !self.closing {
            return Some(Work::Abandoned);
        }
        let now = Instant::now();
        let behind = self
            .waiting_since
            .is_some_and(|since| now >= since + terms.write_behind);
        let urgent = behind || self.closing || !self.calls.is_empty();
        if terms.takes
            && urgent
            && let Some(group) = self.take()
        {
            return Some(Work::Group(group));
        }
        if let Some(close) = self.close.take() {
            return Some(Work::Close(close));
        }
        let due = terms.until.is_some_and(|until| now >= until);
        due.then_some(Work::Due)
    }

    fn take(&mut self) -> Option<Group> {
        let moved = self.waiting_since.is_some();
        if self.calls.is_empty() && !moved {
            return None;
        }
        let mut group = Group::default();
        let mut intents = 0;
        while intents < GROUP_INTENTS_MAX
            && let Some(call) = self.calls.pop_front()
        {
            intents += match &call.asked {
                Asked::Intents(intents) => intents.len(),
                Asked::Epoch { .. } => 1,
            };
            // What an intent was decided on is not younger than it.
            if let Asked::Intents(intents) = &call.asked {
                for intent in intents {
                    let seated = self.states.remove(&intent.uid);
                    group.states.extend(seated.inspect(|seated| {
                        self.seats.remove(&seated.seat);
                    }));
                }
            }
            group.calls.push(call);
        }
        while group.states.len() < GROUP_STATES_MAX
            && let Some((_, uid)) = self.seats.pop_first()
        {
            group.states.extend(self.states.remove(&uid));
        }
        let first = self.seats.values().next();
        let floor = first.and_then(|uid| self.states.get(uid));
        group.durable = floor.map_or(self.upto, |seated| seated.floor);
        if floor.is_none() {
            self.waiting_since = None;
        }
        Some(group)
    }

    fn seat(&mut self, observation: Observation, floor: Revision) {
        self.waiting_since.get_or_insert_with(Instant::now);
        match self.states.get_mut(&observation.uid) {
            Some(seated) if seated.observation.version <= observation.version => {
                seated.observation = observation;
            }
            Some(_) => {}
            None => {
                let seat = self.next_seat;
                self.next_seat += 1;
                self.seats.insert(seat, observation.uid);
                let seated = Seated {
                    seat,
                    floor,
                    observation,
                };
                self.states.insert(seated.observation.uid, seated);
            }
        }
    }

    /// Takes the seat back; a newer state that came meanwhile moves into it.
    fn restore(&mut self, mut before: Seated) {
        self.waiting_since.get_or_insert_with(Instant::now);
        let uid = before.observation.uid;
        if let Some(newer) = self.states.remove(&uid) {
            self.seats.remove(&newer.seat);
            before.observation = newer.observation;
        }
        self.seats.insert(before.seat, uid);
        self.states.insert(uid, before);
    }
}

// === impl Counters ===

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        // ORDERING: a number for people; nothing is read through it.
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Stats {
        // ORDERING: as above.
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            transactions: get(&self.transactions),
            synced: get(&self.synced),
            intents: get(&self.intents),
            states: get(&self.states),
            failures: get(&self.failures),
        }
    }
}

#[cfg(test)]
mod tests;
