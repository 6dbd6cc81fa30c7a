//! Requests with a `request_id` are carried out once.
//!
//! - A repetition gets what the first got; one that comes while the first is still
//!   under way waits for it.
//! - Only success is remembered: a refused request did nothing, and may be tried
//!   again under its id.
//! - The work of a request goes on if its caller goes away, so that a repetition
//!   never meets half of it.
//!
//! Deliberately absent: memory over daemon restarts; the store has it, and it is
//! handed in by [`Dedupe::remember`].

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// How long an id is remembered.
pub const RETENTION: Duration = Duration::from_secs(600);
/// Ids remembered; the oldest is forgotten first.
pub const REQUEST_IDS_MAX: usize = 100_000;

/// The memory of request ids.
#[derive(Debug, Default)]
pub struct Dedupe {
    inner: Mutex<Inner>,
}

/// Which request, as far as its sender says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who.
    pub principal: Arc<str>,
    /// Which RPC.
    pub method: Box<str>,
    /// The `request_id`.
    pub id: uuid::Uuid,
}

/// What is remembered of a request that was carried out.
pub trait Outcome: Clone + Send + Sync + 'static {
    /// Revision of what was done.
    fn revision(&self) -> i64;
}

/// Why there is no outcome.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The request itself failed.
    Failed(E),
    /// The id was used with other content.
    Reused {
        /// Revision of the first request; `None` while it is under way.
        first_revision: Option<i64>,
    },
    /// The work panicked.
    Lost,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// Of those that are done, oldest first.
    order: VecDeque<(Instant, Key)>,
}

#[derive(Debug)]
struct Entry {
    digest: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Closes when the first is done or has failed.
    Running(watch::Receiver<()>),
    Done {
        revision: i64,
        outcome: Arc<dyn Any + Send + Sync>,
    },
}

enum Admission {
    First(Ticket),
    Wait(watch::Receiver<()>),
    Repeat(Arc<dyn Any + Send + Sync>),
    Reused(Option<i64>),
}

/// The right to carry out a request; forgets it when dropped unfinished.
struct Ticket {
    dedupe: Arc<Dedupe>,
    key: Key,
    /// Wakes who waits by being dropped.
    _done: watch::Sender<()>,
}

// === impl Dedupe ===

impl Dedupe {
    /// Carries out `work`, unless `key` was seen with this `digest` of its content:
    /// then waits for, and answers, the first outcome. Without a key it is always
    /// carried out.
    ///
    /// # Errors
    /// That of `work`, or the id was used with other content.
    pub async fn once<T: Outcome, E: Send + 'static>(
        self: &Arc<Self>,
        key: Option<Key>,
        digest: u64,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Failure<E>> {
        let Some(key) = key else {
            return carry_out(None, work).await;
        };
        loop {
            match self.admit(&key, digest, Instant::now()) {
                Admission::First(ticket) => return carry_out(Some(ticket), work).await,
                Admission::Wait(mut first) => {
                    // An error is the news too: the sender is gone.
                    let _ = first.changed().await;
                }
                Admission::Repeat(outcome) => {
                    return outcome.downcast_ref::<T>().cloned().ok_or(Failure::Lost);
                }
                Admission::Reused(first_revision) => {
                    return Err(Failure::Reused { first_revision });
                }
            }
        }
    }

    /// Remembers what was carried out under `key`, `age` ago.
    pub fn remember<T: Outcome>(&self, key: Key, digest: u64, outcome: &T, age: Duration) {
        // Of a clock that began later it is as old as that clock.
        let at = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        let mut inner = self.lock();
        let state = State::Done {
            revision: outcome.revision(),
            outcome: Arc::new(outcome.clone()),
        };
        inner.order.push_back((at, key.clone()));
        inner.entries.insert(key, Entry { digest, state });
    }

    fn admit(self: &Arc<Self>, key: &Key, digest: u64, now: Instant) -> Admission {
        let mut inner = self.lock();
        inner.forget(now);
        match inner.entries.get(key) {
            None => {
                let (done, running) = watch::channel(());
                let state = State::Running(running);
                inner.entries.insert(key.clone(), Entry { digest, state });
                Admission::First(Ticket {
                    dedupe: Arc::clone(self),
                    key: key.clone(),
                    _done: done,
                })
            }
            Some(entry) => match (&entry.state, entry.digest == digest) {
                (State::Running(first), true) => Admission::Wait(first.clone()),
                (State::Running(_), false) => Admission::Reused(None),
                (State::Done { outcome, .. }, true) => Admission::Repeat(Arc::clone(outcome)),
                (State::Done { revision, .. }, false) => Admission::Reused(Some(*revision)),
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front() {
            let expired = now.saturating_duration_since(*at) >= RETENTION;
            if !expired && self.order.len() <= REQUEST_IDS_MAX {
                break;
            }
            if let Some((_, key)) = self.order.pop_front() {
                self.entries.remove(&key);
            }
        }
    }
}

// === impl Ticket ===

impl Ticket {
    fn finish<T: Outcome>(&self, outcome: &T, now: Instant) {
        let mut inner = self.dedupe.lock();
        if let Some(entry) = inner.entries.get_mut(&self.key) {
            entry.state = State::Done {
                revision: outcome.revision(),
                outcome: Arc::new(outcome.clone()),
            };
            inner.order.push_back((now, self.key.clone()));
        }
        inner.forget(now);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.dedupe.lock();
        let unfinished = inner
            .entries
            .get(&self.key)
            .is_some_and(|entry| matches!(entry.state, State::Running(_)));
        if unfinished {
            inner.entries.remove(&self.key);
        }
    }
}

/// Runs `work` on a task of its own, and records its success.
async fn carry_out<T: Outcome, E: Send + 'static>(
    ticket: Option<Ticket>,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, Failure<E>> {
    let task = tokio::spawn(async move {
        let result = work.await;
        if let (Some(ticket), Ok(outcome)) = (&ticket, &result) {
            ticket.finish(outcome, Instant::now());
        }
        result
    });
    match task.await {
        Ok(result) => result.map_err(Failure::Failed),
        Err(_) => Err(Failure::Lost),
    }
}

#[cfg(test)]
mod tests;
