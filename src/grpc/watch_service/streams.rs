//! How many long streams are open, in total and per caller.
//!
//! Invariant: a guard counts from `open` until it is dropped, and a caller without
//! streams takes no memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::Status;

use super::super::{auth::Principal, status};

/// Streams of all callers.
pub const STREAMS_MAX: usize = 20_000;
/// Streams of one caller.
pub const STREAMS_PER_PRINCIPAL_MAX: usize = 1024;
/// When to try again after a refusal.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The open streams of the daemon, over all API threads.
#[derive(Debug)]
pub struct Streams {
    total_max: usize,
    per_principal_max: usize,
    open: Mutex<Open>,
}

/// Counts one stream for as long as it lives.
#[derive(Debug)]
pub struct StreamGuard {
    streams: Arc<Streams>,
    principal: Principal,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_principal: HashMap<Principal, usize>,
}

// === impl Streams ===

impl Default for Streams {
    fn default() -> Self {
        Self::new(STREAMS_MAX, STREAMS_PER_PRINCIPAL_MAX)
    }
}

impl Streams {
    /// Nothing is open; these are the limits.
    #[must_use]
    pub fn new(total_max: usize, per_principal_max: usize) -> Self {
        Self {
            total_max,
            per_principal_max,
            open: Mutex::default(),
        }
    }

    /// Counts one more stream of `principal`.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with reason QUOTA_STREAMS.
    pub fn open(self: &Arc<Self>, principal: &Principal) -> Result<StreamGuard, Status> {
        let mut open = self.lock();
        if open.total >= self.total_max {
            return Err(refused("watch_streams_max", self.total_max));
        }
        let count = open.by_principal.entry(principal.clone()).or_default();
        if *count >= self.per_principal_max {
            return Err(refused(
                "watch_streams_per_principal_max",
                self.per_principal_max,
            ));
        }
        *count += 1;
        open.total += 1;
        Ok(StreamGuard {
            streams: Arc::clone(self),
            principal: principal.clone(),
        })
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // Counts are whole after every statement; poison says nothing.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl StreamGuard ===

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.total -= 1;
        if let Entry::Occupied(mut count) = open.by_principal.entry(self.principal.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn refused(subject: &str, limit: usize) -> Status {
    status::quota(
        subject,
        limit,
        format!("the limit of {limit} {subject} is reached"),
        RETRY_DELAY,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_bind_and_drops_give_back() {
        let streams = Arc::new(Streams::new(3, 2));
        let [a, b] = ["a", "b"].map(|name| Principal(name.into()));
        let first = streams.open(&a).unwrap();
        let _second = streams.open(&a).unwrap();
        let status = streams.open(&a).unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            status.metadata().get("grpc-retry-pushback-ms").unwrap(),
            "5000"
        );
        let _third = streams.open(&b).unwrap();
        assert!(streams.open(&b).is_err(), "the total binds");
        drop(first);
        assert_eq!(streams.count(), 2);
        drop(streams.open(&a).unwrap());
        assert_eq!(streams.count(), 2);
    }

    #[test]
    fn callers_that_are_gone_are_forgotten() {
        let streams = Arc::new(Streams::default());
        drop(streams.open(&Principal("x".into())).unwrap());
        assert!(streams.lock().by_principal.is_empty());
    }
}
