//! What reaches an owner task, and the bounded way there.
//!
//! A full mailbox is an answer (`Overloaded`), never a wait; a closed one means
//! that the process is gone.

use tokio::sync::{mpsc, oneshot};

use super::{
    api::{Ack, Configured, Control, Refused, Rollout, WaitFor, WaitResult},
    stdin::LiveProcess,
};
use crate::domain::{
    admission::{Precondition, Verb},
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
    /// The live run is wanted, to write to it and more.
    Open {
        purpose: &'static str,
        guard: Precondition,
        cause: Cause,
        reply: Reply<LiveProcess>,
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

// === impl Message ===

impl Message {
    /// A stop is carried out whatever becomes of the disk.
    pub(super) const fn works_without_store(&self) -> bool {
        matches!(
            self,
            Self::Control {
                control: Control::Stop(_),
                ..
            }
        )
    }

    pub(super) fn refuse(self, refused: Refused) {
        match self {
            Self::Control { reply, .. } | Self::Delete { reply, .. } => {
                drop(reply.send(Err(refused)));
            }
            Self::Configure(_, reply) => drop(reply.send(Err(refused))),
            Self::Signal { reply, .. } => drop(reply.send(Err(refused))),
            Self::Open { reply, .. } => drop(reply.send(Err(refused))),
            Self::Wait(_, reply) => drop(reply.send(Err(refused))),
        }
    }
}

// === impl Mailbox ===

impl Mailbox {
    pub(super) fn new(name: ProcessName) -> (Self, mpsc::Receiver<Message>) {
        // BOUND: MAILBOX_MAX messages; a full mailbox refuses.
        let (messages, receiver) = mpsc::channel(MAILBOX_MAX);
        (Self { name, messages }, receiver)
    }

    /// Sends what `message` makes of a reply handle and waits for the answer.
    ///
    /// A message sent in the very moment in which the owner ends may be left in the
    /// channel, which then lives as long as its last sender: whoever waits holds none.
    pub(super) async fn ask<T>(
        self,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.messages
            .try_send(message(reply))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Refused::Overloaded(self.name.clone()),
                mpsc::error::TrySendError::Closed(_) => Refused::NotFound(self.name.clone()),
            })?;
        drop(self.messages);
        // The owner answers everything it takes; it ends only when the process is gone.
        answer
            .await
            .unwrap_or_else(|_| Err(Refused::NotFound(self.name)))
    }
}

/// What a deletion must be admitted as.
pub(super) const fn delete_verb(only_if_stopped: bool) -> Verb {
    if only_if_stopped {
        Verb::DeleteIfStopped
    } else {
        Verb::Delete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{id::Revision, wait::Condition};

    #[tokio::test]
    async fn whoever_waits_for_an_answer_does_not_keep_the_channel() {
        let name = ProcessName::new("web").unwrap();
        let (mailbox, mut messages) = Mailbox::new(name.clone());
        let wait = WaitFor {
            name,
            uid: None,
            condition: Condition::Deleted,
            run_id: 0,
            from: Revision::ZERO,
        };
        let asked = tokio::spawn(mailbox.ask(|reply| Message::Wait(wait, reply)));
        let message = messages.recv().await.unwrap();
        assert_eq!(messages.sender_strong_count(), 0);
        drop(message);
        let answer = asked.await.unwrap();
        assert!(matches!(answer, Err(Refused::NotFound(_))), "{answer:?}");
    }
}
