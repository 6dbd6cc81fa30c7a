//! When a subscription has to say something, may say something, and ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::id::Revision;

#[derive(Debug)]
pub(super) struct Clock {
    pub(super) heartbeat: Duration,
    pub(super) last_sent: Instant,
    pub(super) closes_at: Instant,
    pub(super) pace: Duration,
    /// The next update begins no earlier.
    pub(super) paced_until: Instant,
    /// Head when the update under way began; it is not paced.
    pub(super) update_to: Revision,
}

// === impl Clock ===

impl Clock {
    pub(super) fn is_silent(&self) -> bool {
        Instant::now() >= self.last_sent + self.heartbeat
    }

    /// Whether changes may be told now. What belongs to an update that has begun
    /// is told at once, so that a pace never keeps a reader from catching up.
    pub(super) fn may_update(&mut self, cursor: Revision, head: Revision) -> bool {
        if cursor < self.update_to {
            return true;
        }
        let may = Instant::now() >= self.paced_until;
        if may {
            self.update_to = head;
        }
        may
    }

    /// Changes were told.
    pub(super) fn updated(&mut self) {
        self.paced_until = Instant::now() + self.pace;
    }

    pub(super) fn next_deadline(&self, paced: bool) -> Instant {
        let deadline = self.closes_at.min(self.last_sent + self.heartbeat);
        match paced {
            true => deadline.min(self.paced_until),
            false => deadline,
        }
    }
}
