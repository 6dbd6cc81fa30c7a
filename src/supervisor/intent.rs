//! What the user asked for, kept before it is visible.
//!
//! ```text
//! command -> admitted -> intent kept -> (the owner goes on) -> transition -> commit -> answer
//! ```
//!
//! An owner hands an intent to the store and takes no further command until it is
//! durable; ends, timers and dependencies go on meanwhile, so an automatic restart
//! waits for no disk. A stop is carried out even if it cannot be kept, and says so
//! by the condition IntentDurable. Intents of one process are numbered, so that
//! after a crash the last one can be told apart from one that was acted on.
//!
//! Deliberately absent: how intents are kept (the store implements the trait),
//! observed state (that is written behind).

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
};

use super::{
    api::{Control, Rollout},
    driver::Driver,
    mailbox::{Message, delete_verb},
};
use crate::domain::{
    admission::{Precondition, Verb},
    event::Event,
    id::{ProcessName, Uid},
    spec::Spec,
    status::{Cause, Desired},
};

/// What the user wants of one process from now on.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The incarnation.
    pub uid: Uid,
    /// Its name.
    pub name: ProcessName,
    /// 0: its creation; then 1, 2, 3, ...
    pub number: i64,
    /// Desired state.
    pub desired: Desired,
    /// The configuration; absent where it stays as it is.
    pub spec: Option<Arc<Spec>>,
    /// A run was asked for, even if one ended for good.
    pub begin: bool,
    /// That run takes the place of this one; 0: of none.
    pub instead_of: i64,
    /// The run that the command is about; 0: none.
    pub run_id: i64,
    /// Who asked.
    pub cause: Cause,
}

/// Keeps intents durably.
pub trait IntentStore: Send + Sync {
    /// Keeps `intent` and everything published before this call; answers once
    /// both would survive a crash of the machine. Never blocks.
    fn keep(&self, intent: Intent) -> Receipt;

    /// Resolves once intents can be kept.
    fn writable(&self) -> Writable;
}

/// The answer of a store. What was asked for goes on without it being waited for.
pub type Receipt = Pin<Box<dyn Future<Output = Result<(), NotKept>> + Send>>;

/// See [`IntentStore::writable`].
pub type Writable = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why an intent was not kept. It may come to light again after a crash all the
/// same, as anything that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be written: {reason}")]
pub struct NotKept {
    /// For people.
    pub reason: Box<str>,
}

/// Keeps nothing: for supervisors that need not outlive their daemon.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

/// A command whose intent is on its way to the disk.
pub(super) struct Intending {
    receipt: Receipt,
    /// What was kept, if it is.
    pub(super) intent: Intent,
    /// To be carried out then.
    pub(super) message: Message,
}

// === impl Forgetful ===

impl IntentStore for Forgetful {
    fn keep(&self, _: Intent) -> Receipt {
        Box::pin(ready(Ok(())))
    }

    fn writable(&self) -> Writable {
        Box::pin(ready(()))
    }
}

// === impl Intending ===

impl Intending {
    pub(super) fn new(receipt: Receipt, intent: Intent, message: Message) -> Self {
        Self {
            receipt,
            intent,
            message,
        }
    }

    /// The store's answer; never, when nothing is on its way.
    pub(super) async fn next(intending: &mut Option<Self>) -> Result<(), NotKept> {
        match intending {
            None => std::future::pending().await,
            Some(intending) => (&mut intending.receipt).await,
        }
    }
}

// === impl Driver ===

impl Driver {
    /// The intent of a command that must be kept before it is carried out. `None`:
    /// it changes nothing that is kept, or is refused.
    pub(super) fn intent_of(&self, message: &Message) -> Option<Intent> {
        let next = Intent {
            run_id: self.life.status.run_id,
            ..self.next_intent()
        };
        match message {
            // What the end of the daemon stops is wanted all the same.
            Message::Control { .. } if self.shared.is_closing() => None,
            Message::Control {
                control,
                guard,
                cause,
                ..
            } => self.intent_of_control(control, guard, cause, next),
            Message::Delete {
                guard,
                cause,
                only_if_stopped,
                ..
            } => {
                let deleting = self.life.status.desired == Desired::Deleted;
                let verb = delete_verb(*only_if_stopped);
                (!deleting && self.admit(verb, guard).is_ok()).then(|| Intent {
                    desired: Desired::Deleted,
                    cause: cause.clone(),
                    ..next
                })
            }
            Message::Configure(new, _) => {
                let changes = self.spec.config.changes_to(&new.config);
                let idle = new.validate_only || changes.is_empty();
                if idle || self.admit(Verb::Configure, &new.guard).is_err() {
                    return None;
                }
                let restart = new.rollout == Rollout::RestartIfNeeded
                    && self.life.has_run()
                    && changes.iter().any(|change| change.needs_restart);
                let run_id = self.life.status.run_id;
                Some(Intent {
                    spec: Some(Arc::new(self.next_spec(new.config.clone()))),
                    desired: if restart {
                        Desired::Running
                    } else {
                        next.desired
                    },
                    begin: restart,
                    instead_of: if restart { run_id } else { 0 },
                    cause: new.cause.clone(),
                    ..next
                })
            }
            Message::Signal { .. } | Message::Open { .. } | Message::Wait(..) => None,
        }
    }

    fn intent_of_control(
        &self,
        control: &Control,
        guard: &Precondition,
        cause: &Cause,
        next: Intent,
    ) -> Option<Intent> {
        let status = &self.life.status;
        let verb = control.as_verb();
        let next = Intent {
            cause: cause.clone(),
            ..next
        };
        let intent = match control {
            Control::Start if self.would_change(Event::Start(cause.clone())) => Intent {
                desired: Desired::Running,
                begin: true,
                run_id: self.life.target_run(),
                ..next
            },
            Control::Restart(_) => Intent {
                desired: Desired::Running,
                begin: true,
                instead_of: if self.life.has_run() {
                    status.run_id
                } else {
                    0
                },
                run_id: status.run_id + 1,
                ..next
            },
            Control::Stop(_) if status.desired != Desired::Stopped => Intent {
                desired: Desired::Stopped,
                ..next
            },
            // What is frozen or forgiven does not outlive a crash of the machine.
            _ => return None,
        };
        self.admit(verb, guard).is_ok().then_some(intent)
    }

    /// The intent of the waiting command is kept, or is not.
    pub(super) fn intent_settled(&mut self, result: Result<(), NotKept>) {
        let Some(Intending {
            intent, message, ..
        }) = self.intending.take()
        else {
            return;
        };
        match result {
            Ok(()) => {
                self.intent = intent.number;
                self.obey(message);
                self.take_back_if_refused(&intent);
            }
            Err(error) if message.works_without_store() => {
                tracing::warn!(process = %self.spec.name, %error, "a stop is not durable");
                self.intent = intent.number;
                // First: the answer tells of it.
                self.apply(Event::IntentKept(false));
                self.obey(message);
                self.owed = Some(self.shared.intents.writable());
            }
            Err(error) => message.refuse(error.into()),
        }
    }

    /// Between its admission and now the kernel may have changed what a guard is
    /// about; then what was kept is not what holds.
    fn take_back_if_refused(&mut self, intent: &Intent) {
        let kept = intent.spec.as_ref().map(|spec| spec.generation);
        let holds = self.life.status.desired == intent.desired
            && kept.is_none_or(|generation| generation == self.spec.generation);
        if !holds && !self.removed {
            self.keep_again();
        }
    }

    /// The store can be written again: what a stop wanted is kept after all.
    pub(super) fn pay_owed(&mut self) {
        self.owed = None;
        self.keep_again();
        self.apply(Event::IntentKept(true));
    }

    /// Keeps what holds now. The answer is not waited for: nobody was promised
    /// anything.
    fn keep_again(&mut self) {
        let intent = Intent {
            spec: Some(Arc::clone(&self.spec)),
            cause: self.life.cause.clone(),
            ..self.next_intent()
        };
        self.intent = intent.number;
        drop(self.shared.intents.keep(intent));
    }

    /// The next intent, wanting what is wanted anyway.
    fn next_intent(&self) -> Intent {
        Intent {
            uid: self.node.uid(),
            name: self.spec.name.clone(),
            number: self.intent + 1,
            desired: self.life.status.desired,
            spec: None,
            begin: false,
            instead_of: 0,
            run_id: 0,
            cause: Cause::SUPERVISOR,
        }
    }
}
