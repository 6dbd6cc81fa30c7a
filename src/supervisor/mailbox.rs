//! What reaches an owner task, and the bounded way there.
//!
//! A full mailbox is an answer (`Overloaded`), never a wait; a closed one means
//! that the process is gone.

use tokio::sync::{mpsc, oneshot};

use super::api::{Ack, Configured, Control, Refused, Rollout, WaitFor, WaitResult};
use crate::domain::{
    admission::Precondition,
    id::ProcessName,
    limits::MAILBOX_MAX,
    run::SignalScope,
    spec::{Config, StopPolicy},
    status::Cause,
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// One message to an owner task.
pub(super) enum Message {
    Control {
        control: Control,
        guard: Precondition,
        cause: Cause,
        reply: Reply<Ack>,
    },
    Delete {
        stop: StopPolicy,
        only_if_stopped: bool,
        guard: Precondition,
        cause: Cause,
        reply: Reply<Ack>,
    },
    Configure(Box<Configure>, Reply<Configured>),
    Signal {
        number: i32,
        scope: SignalScope,
        guard: Precondition,
        cause: Cause,
        reply: Reply<i64>,
    },
    Wait(WaitFor, Reply<WaitResult>),
}

/// A new configuration, validated and fitting the graph.
pub(super) struct Configure {
    pub(super) config: Config,
    pub(super) rollout: Rollout,
    pub(super) guard: Precondition,
    pub(super) cause: Cause,
    pub(super) validate_only: bool,
}

/// The sending end.
#[derive(Clone)]
pub(super) struct Mailbox {
    name: ProcessName,
    messages: mpsc::Sender<Message>,
}

// === impl Mailbox ===

impl Mailbox {
    pub(super) fn new(name: ProcessName) -> (Self, mpsc::Receiver<Message>) {
        // BOUND: MAILBOX_MAX messages; a full mailbox refuses.
        let (messages, receiver) = mpsc::channel(MAILBOX_MAX);
        (Self { name, messages }, receiver)
    }

    /// Sends what `message` makes of a reply handle and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.messages
            .try_send(message(reply))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Refused::Overloaded(self.name.clone()),
                mpsc::error::TrySendError::Closed(_) => Refused::NotFound(self.name.clone()),
            })?;
        // The owner answers everything it takes; it ends only when the process is gone.
        answer
            .await
            .unwrap_or_else(|_| Err(Refused::NotFound(self.name.clone())))
    }
}
