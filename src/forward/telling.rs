//! What the daemon's log says about one forward, and how often at most.

use tokio::time::Instant;

use super::{limits::WARN_INTERVAL, queue::reason, target::Failure};
use crate::logs::Gap;

/// Speaks of one forward.
#[derive(Debug)]
pub(super) struct Telling {
    process: String,
    target: String,
    failing: Option<Failing>,
    lost: Losses,
    refused: Losses,
}

#[derive(Debug)]
struct Failing {
    tries: u64,
    told: Instant,
}

/// Counted until they may be told.
#[derive(Debug, Default)]
struct Losses {
    count: u64,
    told: Option<Instant>,
}

// === impl Telling ===

impl Telling {
    pub(super) fn new(process: String, target: String) -> Self {
        Self {
            process,
            target,
            failing: None,
            lost: Losses::default(),
            refused: Losses::default(),
        }
    }

    pub(super) fn began_at_the_end(&self) {
        tracing::info!(
            process = self.process,
            target = self.target,
            "output is forwarded from now on; what was written before is not"
        );
    }

    /// Told at once, and then once a while as long as it goes on.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let now = Instant::now();
        let failing = self.failing.get_or_insert(Failing {
            tries: 0,
            told: now,
        });
        failing.tries += 1;
        if failing.tries > 1 && now < failing.told + WARN_INTERVAL {
            return;
        }
        failing.told = now;
        tracing::warn!(
            process = self.process,
            target = self.target,
            error = failure.reason,
            tries = failing.tries,
            "output cannot be forwarded; it is kept and tried again"
        );
    }

    pub(super) fn succeeded(&mut self) {
        if let Some(failing) = self.failing.take() {
            tracing::info!(
                process = self.process,
                target = self.target,
                failures = failing.tries,
                "output is forwarded again"
            );
        }
    }

    pub(super) fn lost(&mut self, gap: &Gap) {
        let lines = gap.last_sequence - gap.first_sequence + 1;
        if let Some(lines) = self.lost.add(u64::try_from(lines).unwrap_or(0)) {
            let (process, target) = (&self.process, &self.target);
            let reason = reason(gap.reason);
            tracing::warn!(
                process,
                target,
                lines,
                reason,
                "lines were gone before they were sent"
            );
        }
    }

    pub(super) fn refused(&mut self, records: usize, why: &str) {
        if let Some(lines) = self.refused.add(u64::try_from(records).unwrap_or(0)) {
            let (process, target) = (&self.process, &self.target);
            tracing::warn!(
                process,
                target,
                lines,
                why,
                "the target refused lines for good"
            );
        }
    }

    pub(super) fn ended_early(&self, records: usize) {
        tracing::warn!(
            process = self.process,
            target = self.target,
            lines = records,
            "a forward ended with output that was not sent"
        );
    }

    pub(super) fn not_kept(&self, error: &std::io::Error) {
        tracing::warn!(
            process = self.process,
            target = self.target,
            %error,
            "the position of a forward is not kept; lines may be sent again"
        );
    }

    pub(super) fn unreadable(&self, error: &std::io::Error) {
        let (process, target) = (&self.process, &self.target);
        tracing::error!(process, target, %error, "output cannot be followed to forward it");
    }
}

// === impl Losses ===

impl Losses {
    /// All that was not told, if it may be told now.
    fn add(&mut self, count: u64) -> Option<u64> {
        self.count += count;
        let now = Instant::now();
        if self.count == 0 || self.told.is_some_and(|told| now < told + WARN_INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}
