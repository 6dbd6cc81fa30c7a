//! Wakes the subscribers of one API thread when the head moves.
//!
//! Protocol, in this order on each side (see `registry`'s gate): the dispatcher
//! clears the gate, then reads the head, then tells it; a subscriber registers
//! with the told head before it re-reads it. So no wake-up is lost and nothing is
//! periodic. A publisher's cost is one bit and at most one wake-up per thread,
//! whatever the number of subscribers.
//!
//! Deliberately absent: changes themselves; subscribers pull those.

use std::sync::Arc;

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    domain::id::Revision,
    registry::{Body, Gate, Registry},
};

/// The head as the subscribers of this thread see it. Closed when the dispatcher
/// is gone.
pub type Heads = watch::Receiver<Revision>;

/// Runs as a task of the runtime it was started on; dropping it ends the task.
#[derive(Debug)]
pub struct Dispatcher {
    heads: Heads,
    task: JoinHandle<()>,
}

// === impl Dispatcher ===

impl Dispatcher {
    /// Starts a dispatcher on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start<B: Body>(registry: Registry<B>) -> Self {
        let notify = Arc::new(Notify::new());
        let wake = Arc::clone(&notify);
        let gate = registry.add_gate(move || wake.notify_one());
        // After the gate: what is published from here on wakes.
        let (sender, heads) = watch::channel(registry.head());
        let task = tokio::spawn(dispatch(registry, gate, notify, sender));
        Self { heads, task }
    }

    /// For one subscriber.
    #[must_use]
    pub fn heads(&self) -> Heads {
        self.heads.clone()
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn dispatch<B: Body>(
    registry: Registry<B>,
    gate: Gate,
    notify: Arc<Notify>,
    heads: watch::Sender<Revision>,
) {
    loop {
        notify.notified().await;
        gate.clear();
        let head = registry.head();
        heads.send_if_modified(|told| {
            let moved = head > *told;
            *told = head.max(*told);
            moved
        });
    }
}
