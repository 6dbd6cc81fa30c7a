//! What is told of how a run's output is kept, and how often.
//!
//! A disk at its limit may take and refuse output many times a second. Invariants:
//! only changes are told, at most one per [`SPACING`]; what counts is told in the
//! end, and at the end of the run without a delay.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::run::OutputHealth;

/// Between two changes that are told.
const SPACING: Duration = Duration::from_secs(1);

/// What was told, and what is to be.
#[derive(Debug)]
pub(super) struct OutputNews {
    /// `None`: it is not known what the owner thinks.
    told: Option<OutputHealth>,
    told_at: Option<Instant>,
    /// What is to be told, and when.
    waiting: Option<(OutputHealth, Instant)>,
}

// === impl OutputNews ===

impl OutputNews {
    /// Of a run that begins now: nothing is missing.
    pub(super) fn of_launched() -> Self {
        Self {
            told: Some(OutputHealth::INTACT),
            ..Self::of_adopted()
        }
    }

    /// Of a run of which an earlier daemon was told something.
    pub(super) fn of_adopted() -> Self {
        Self {
            told: None,
            told_at: None,
            waiting: None,
        }
    }

    pub(super) fn hear(&mut self, health: OutputHealth, now: Instant) {
        let due = self.told_at.map_or(now, |at| at + SPACING).max(now);
        self.waiting = (self.told != Some(health)).then_some((health, due));
    }

    /// When something is to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.map(|(_, due)| due)
    }

    /// What is to be told by now.
    pub(super) fn take(&mut self, now: Instant) -> Option<OutputHealth> {
        self.due().filter(|due| *due <= now)?;
        self.told_at = Some(now);
        self.take_rest()
    }

    /// What is to be told at all.
    pub(super) fn take_rest(&mut self) -> Option<OutputHealth> {
        let (health, _) = self.waiting.take()?;
        self.told = Some(health);
        Some(health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::OutputState;

    fn blocked(errno: i32) -> OutputHealth {
        OutputHealth {
            state: OutputState::Blocked { errno },
            approximate_bytes: 0,
        }
    }

    #[test]
    fn only_changes_are_told_and_the_first_at_once() {
        let now = Instant::now();
        let mut news = OutputNews::of_launched();
        news.hear(OutputHealth::INTACT, now);
        assert_eq!((news.due(), news.take(now)), (None, None));
        news.hear(blocked(28), now);
        assert_eq!(news.take(now), Some(blocked(28)));
        assert_eq!((news.due(), news.take(now)), (None, None));
        let mut news = OutputNews::of_adopted();
        news.hear(OutputHealth::INTACT, now);
        assert_eq!(
            news.take(now),
            Some(OutputHealth::INTACT),
            "it may have been blocked"
        );
    }

    #[test]
    fn a_disk_at_its_limit_is_told_of_once_a_second() {
        let begin = Instant::now();
        let mut news = OutputNews::of_launched();
        let mut told = Vec::new();
        for step in 0..=100 {
            let now = begin + SPACING * step / 10;
            let heard = if step % 2 == 0 {
                blocked(28)
            } else {
                OutputHealth::INTACT
            };
            news.hear(heard, now);
            told.extend(news.take(now));
        }
        told.extend(news.take_rest());
        assert!(told.len() <= 12, "{told:?}");
        assert!(told.windows(2).all(|two| two[0] != two[1]), "{told:?}");
        assert_eq!(told.last(), Some(&blocked(28)), "the last one counts");
    }

    #[test]
    fn what_waits_is_told_at_the_end_of_the_run() {
        let now = Instant::now();
        let mut news = OutputNews::of_launched();
        news.hear(blocked(28), now);
        assert_eq!(news.take(now), Some(blocked(28)));
        news.hear(blocked(5), now);
        assert_eq!(news.due(), Some(now + SPACING));
        assert_eq!(news.take(now), None);
        assert_eq!(news.take_rest(), Some(blocked(5)));
        assert_eq!(news.take_rest(), None);
    }
}
