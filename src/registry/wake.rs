//! How a publisher wakes whoever waits for changes, at a cost that does not
//! depend on how many wait.
//!
//! Role: each dispatcher has one [`Gate`]: a bit. Publishing sets the bit and
//! wakes only if it was clear, so a burst wakes once. The dispatcher clears the
//! bit, *then* reads the head.
//!
//! Why no wake-up is lost: both sides use a read-modify-write on the bit, so one
//! comes after the other. Publisher second: it finds the bit clear and wakes.
//! Dispatcher second: it reads what the publisher wrote, hence sees the head
//! stored before it. Either half in the other order loses wake-ups
//! (`tests/loom`, the negative models).
//!
//! Deliberately absent: subscribers (they belong to a dispatcher), and queues.

use std::fmt;

use crate::sync::{Arc, AtomicBool, Ordering};

/// A dispatcher's half. Dropping it ends the wake-ups, but for one that is just
/// being delivered.
pub struct Gate {
    line: Arc<Line>,
}

/// The publishers' half.
pub(super) struct Line {
    pending: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Lines to wake once the log lock is released. Allocates only if more than one
/// dispatcher was idle.
#[derive(Default)]
pub(super) struct Idle {
    first: Option<Arc<Line>>,
    rest: Vec<Arc<Line>>,
}

// === impl Gate ===

impl Gate {
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> (Self, Arc<Line>) {
        let line = Arc::new(Line {
            pending: AtomicBool::new(false),
            wake: Box::new(wake),
        });
        let gate = Self {
            line: Arc::clone(&line),
        };
        (gate, line)
    }

    /// Re-arms the wake-up. Call it before reading the head, never after: what is
    /// published from here on wakes again, what was published before is in the
    /// head.
    pub fn clear(&self) {
        // ORDERING: a read-modify-write with Acquire, so that it reads the
        // publisher's `true` and sees the head stored before it.
        self.line.pending.swap(false, Ordering::AcqRel);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A set bit is never woken; the line itself goes with the next gate added.
        self.line.pending.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

// === impl Line ===

impl Line {
    /// Sets the bit; says whether the dispatcher has to be woken.
    pub(super) fn mark(&self) -> bool {
        // ORDERING: Release for the head stored before; Acquire is not needed but
        // comes with the read-modify-write at no cost.
        !self.pending.swap(true, Ordering::AcqRel)
    }

    pub(super) fn wake(&self) {
        (self.wake)();
    }

    /// Whether the dispatcher's half is gone.
    pub(super) fn is_abandoned(line: &Arc<Self>) -> bool {
        Arc::strong_count(line) == 1
    }
}

// === impl Idle ===

impl Idle {
    /// Marks all `lines` and keeps the idle ones.
    pub(super) fn mark(lines: &[Arc<Line>]) -> Self {
        let mut idle = Self::default();
        for line in lines {
            if line.mark() {
                if idle.first.is_none() {
                    idle.first = Some(Arc::clone(line));
                } else {
                    idle.rest.push(Arc::clone(line));
                }
            }
        }
        idle
    }

    /// Wakes them. Not under a lock: `wake` is somebody else's code.
    pub(super) fn wake(self) {
        for line in self.first.iter().chain(&self.rest) {
            line.wake();
        }
    }
}
