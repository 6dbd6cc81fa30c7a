//! The owner task of one process: receives, decides by `transition`, commits,
//! carries out.
//!
//! ```text
//! mailbox, run events, dependencies, timer -> Event -> transition -> commit -> effects
//! ```
//!
//! Invariants: only this task commits the process's state; a change is published
//! before its effects begin and before anyone is answered; the task never waits
//! for anything but its next input. It ends when the process is removed.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep_until,
};

use super::{
    api::{Control, ProcessNode, Refused},
    clock::entropy,
    effects::{LiveRun, PendingFreeze},
    intent::{Intending, NotKept, Writable},
    mailbox::{Configure, Message, Reply, delete_verb},
    recovery::Kept,
    root::Inner,
    waiters::Waiters,
};
use crate::{
    domain::{
        admission::{Current, Precondition, Verb, admit},
        event::{Effect, Event, Gate},
        graph,
        id::ProcessName,
        lifecycle::{Context, Lifecycle},
        run::RunEvent,
        spec::{Config, Spec},
        status::{Cause, Position, ProcessState},
        transition::transition,
    },
    registry::Slot,
    runner::SignalError,
    supervisor::{Ack, Configured, Outcome, Rollout},
};

/// Everything one owner task has.
pub(super) struct Driver {
    pub(super) shared: Arc<Inner>,
    pub(super) slot: Arc<Slot<ProcessState>>,
    pub(super) node: ProcessNode,
    pub(super) spec: Arc<Spec>,
    pub(super) life: Lifecycle,
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) run: Option<LiveRun>,
    pub(super) freeze: Option<PendingFreeze>,
    pub(super) waiters: Waiters,
    /// Told when a process that this one depends on changes.
    pub(super) look_again: Arc<Notify>,
    /// Runs of `restart_with` dependencies at the launch of the live run.
    pub(super) followed: HashMap<ProcessName, i64>,
    /// Number of the latest intent that was acted on.
    pub(super) intent: i64,
    /// The command that waits for the disk.
    pub(super) intending: Option<Intending>,
    /// Told when an intent that was not kept can be.
    pub(super) owed: Option<Writable>,
    /// What an earlier daemon left, until it is accounted for.
    pub(super) kept: Option<Kept>,
    /// Runs that were found and not looked at yet, oldest first.
    pub(super) found: VecDeque<i64>,
    pub(super) removed: bool,
}

enum Input {
    Message(Option<Message>),
    Run(i64, RunEvent),
    Frozen(Result<(), SignalError>),
    Kept(Result<(), NotKept>),
    Writable,
    Dependencies,
    Timer,
}

/// The store can be written again; never, if nothing is owed.
async fn owed_writable(owed: &mut Option<Writable>) {
    match owed {
        None => std::future::pending().await,
        Some(writable) => writable.await,
    }
}

impl Driver {
    /// Owns the process until it is removed or every handle is gone.
    pub(super) async fn run(mut self) {
        self.waiters.note(&self.node.clone());
        self.shared
            .dependents
            .register(&self.look_again, &[], &self.spec.config.dependencies);
        self.shared.dependents.notify(&self.spec.name);
        if self.kept.is_some() {
            self.recover();
        } else if self.spec.config.autostart {
            self.apply(Event::Start(self.node.body().cause.clone()));
        }
        while !self.removed {
            match self.next().await {
                Input::Message(Some(message)) => self.receive(message),
                Input::Message(None) => break,
                Input::Run(id, event) => self.run_told(id, event),
                Input::Frozen(result) => self.frozen(result),
                Input::Kept(result) => self.intent_settled(result),
                Input::Writable => self.pay_owed(),
                Input::Dependencies => self.dependencies_changed(),
                Input::Timer => self.apply(Event::Tick),
            }
        }
        let dependencies = &self.spec.config.dependencies;
        self.shared
            .dependents
            .register(&self.look_again, dependencies, &[]);
        self.waiters.gone(&self.node);
    }

    async fn next(&mut self) -> Input {
        let timer = self
            .life
            .next_tick()
            .map(|at| self.shared.clock.instant(at));
        let run_id = self.life.status.run_id;
        tokio::select! {
            // The kernel's word first, so that a command finds the truth.
            biased;
            event = LiveRun::next(&mut self.run) => Input::Run(run_id, event),
            result = PendingFreeze::next(&mut self.freeze) => Input::Frozen(result),
            result = Intending::next(&mut self.intending) => Input::Kept(result),
            message = self.messages.recv(), if self.takes_commands() => Input::Message(message),
            () = owed_writable(&mut self.owed) => Input::Writable,
            () = self.look_again.notified() => Input::Dependencies,
            () = sleep_until(timer.unwrap_or_else(tokio::time::Instant::now)), if timer.is_some() => Input::Timer,
        }
    }

    /// One at a time: the next sees what the one before left.
    fn takes_commands(&self) -> bool {
        self.intending.is_none() && self.found.is_empty()
    }

    /// Decides, publishes, carries out.
    pub(super) fn apply(&mut self, event: Event) {
        let effects = self.decide(event);
        self.publish();
        self.carry_out(effects);
    }

    fn decide(&mut self, event: Event) -> Vec<Effect> {
        let (life, effects) = self.consider(event);
        self.life = life;
        effects
    }

    /// Whether `event` would have any consequence now.
    pub(super) fn would_change(&self, event: Event) -> bool {
        let (life, effects) = self.consider(event);
        life.status != self.life.status || !effects.is_empty()
    }

    fn consider(&self, event: Event) -> (Lifecycle, Vec<Effect>) {
        let context = Context {
            now: self.shared.clock.now(),
            entropy: entropy(),
            gate: self.gate(),
        };
        transition(&self.spec, self.life.clone(), event, &context)
    }

    /// Makes spec and status visible, if they differ from what is.
    fn publish(&mut self) {
        let published = self.node.body();
        if published.status == self.life.status
            && published.intent == self.intent
            && Arc::ptr_eq(&published.spec, &self.spec)
        {
            return;
        }
        let state = self.state();
        match self
            .shared
            .registry
            .commit(&self.slot, |_| Some(state.clone()))
        {
            Ok(committed) => self.node = committed.node,
            Err(error) => {
                // Nobody else commits or deletes this slot.
                tracing::error!(process = %self.spec.name, %error, "a commit was refused");
                return;
            }
        }
        self.waiters.note(&self.node);
        self.shared.dependents.notify(&self.spec.name);
        self.shared.tell_if_essential(self.node.body());
    }

    pub(super) fn state(&self) -> ProcessState {
        ProcessState {
            spec: Arc::clone(&self.spec),
            status: self.life.status.clone(),
            cause: self.life.cause.clone(),
            time: self.shared.clock.now().wall,
            intent: self.intent,
        }
    }

    fn gate(&self) -> Gate {
        let dependencies = &self.spec.config.dependencies;
        if dependencies.is_empty() {
            return Gate::Open;
        }
        let nodes: HashMap<&ProcessName, ProcessNode> = dependencies
            .iter()
            .filter_map(|d| Some((&d.name, self.shared.registry.get(d.name.as_str())?)))
            .collect();
        graph::gate(dependencies, |name| {
            nodes.get(name).map(|node| &node.body().status)
        })
    }

    fn run_told(&mut self, run_id: i64, event: RunEvent) {
        let ended = matches!(event, RunEvent::Exited(_));
        let mut effects = self.run_event(run_id, event);
        // An exit and its proof of emptiness that came together are one change.
        if ended && let Some(next) = LiveRun::try_next(&mut self.run) {
            effects.extend(self.run_event(run_id, next));
        }
        self.publish();
        if !self.life.has_run() {
            self.run = None;
        }
        self.carry_out(effects);
        self.replay();
    }

    fn run_event(&mut self, run_id: i64, event: RunEvent) -> Vec<Effect> {
        let event = self.next_found(&event).unwrap_or(Event::Run(run_id, event));
        self.decide(event)
    }

    fn dependencies_changed(&mut self) {
        let renewed = self
            .spec
            .config
            .dependencies
            .iter()
            .filter(|d| d.restart_with)
            .any(|d| {
                let now = self.shared.registry.get(d.name.as_str());
                let now = now.map_or(0, |node| node.body().status.run_id);
                self.followed.get(&d.name).is_some_and(|then| now > *then)
            });
        if renewed && self.life.has_run() {
            self.follow();
            self.apply(Event::DependencyRestarted);
        } else {
            self.apply(Event::Dependencies);
        }
    }

    /// Carries a command out, or first sees to it that its intent is kept.
    fn receive(&mut self, message: Message) {
        match self.intent_of(&message) {
            Some(intent) => {
                let receipt = self.shared.intents.keep(intent.clone());
                self.intending = Some(Intending::new(receipt, intent, message));
            }
            None => self.obey(message),
        }
    }

    /// Carries a command out: what it wants is kept, or need not be.
    pub(super) fn obey(&mut self, message: Message) {
        match message {
            Message::Control {
                control,
                guard,
                cause,
                reply,
            } => {
                self.control(control, &guard, cause, reply);
            }
            Message::Delete {
                stop,
                only_if_stopped,
                guard,
                cause,
                reply,
            } => {
                let verb = delete_verb(only_if_stopped);
                let plan = stop.plan_over(&self.spec.config.stop);
                let result = self.admit(verb, &guard).map(|()| {
                    self.audit("delete", &cause);
                    self.apply(Event::Delete(cause, plan));
                    self.ack(self.life.status.run_id)
                });
                let _ = reply.send(result);
            }
            Message::Configure(configure, reply) => {
                let _ = reply.send(self.configure(*configure));
            }
            Message::Signal {
                number,
                scope,
                guard,
                cause,
                reply,
            } => match self.admit(Verb::Signal, &guard) {
                Ok(()) => {
                    self.audit(&format!("signal {number}"), &cause);
                    self.signal(number, scope, reply);
                }
                Err(refused) => drop(reply.send(Err(refused))),
            },
            Message::Open {
                purpose,
                guard,
                cause,
                reply,
            } => {
                let opened = self.admit(Verb::Signal, &guard).and_then(|()| self.open());
                if opened.is_ok() {
                    self.audit(purpose, &cause);
                }
                drop(reply.send(opened));
            }
            Message::Wait(wait, reply) => {
                let head = self.shared.registry.head();
                if wait.from > head {
                    drop(reply.send(Err(Refused::InFuture {
                        asked: wait.from,
                        head,
                    })));
                } else {
                    self.waiters.add(&wait, &self.node, reply);
                }
            }
        }
    }

    fn control(&mut self, control: Control, guard: &Precondition, cause: Cause, reply: Reply<Ack>) {
        if let Err(refused) = self.admit(control.as_verb(), guard) {
            drop(reply.send(Err(refused)));
            return;
        }
        self.audit(control.verb(), &cause);
        let run_id = match control {
            Control::Pause => return self.freeze(true, cause, reply),
            Control::Resume => return self.freeze(false, cause, reply),
            Control::Start => {
                let run_id = self.life.target_run();
                self.apply(Event::Start(cause));
                run_id
            }
            Control::Restart(over) => {
                let plan = over.plan_over(&self.spec.config.stop);
                self.apply(Event::Restart(cause, plan));
                self.life.target_run()
            }
            Control::Stop(over) => {
                let plan = over.plan_over(&self.spec.config.stop);
                self.apply(Event::Stop(cause, plan));
                self.life.status.run_id
            }
            Control::Reset => {
                self.apply(Event::Reset(cause));
                self.life.status.run_id
            }
        };
        let _ = reply.send(Ok(self.ack(run_id)));
    }

    fn configure(&mut self, new: Configure) -> Result<Configured, Refused> {
        self.admit(Verb::Configure, &new.guard)?;
        let changes = self.spec.config.changes_to(&new.config);
        let needs_restart = changes.iter().any(|change| change.needs_restart);
        let live = self.life.has_run();
        let outcome = if changes.is_empty() {
            Outcome::Unchanged
        } else {
            Outcome::Updated
        };
        if outcome == Outcome::Updated && !new.validate_only {
            self.audit("configure", &new.cause);
            self.reconfigure(new.config, needs_restart, new.cause.clone());
            if needs_restart && live && new.rollout == Rollout::RestartIfNeeded {
                let plan = self.spec.config.stop.plan();
                self.apply(Event::Restart(new.cause, plan));
            }
        }
        Ok(Configured {
            outcome,
            node: Some(self.node.clone()),
            changes,
            live,
            deferred: needs_restart && live && new.rollout == Rollout::NextStart,
            position: self.ack(self.life.target_run()).position,
        })
    }

    fn reconfigure(&mut self, config: Config, stale: bool, cause: Cause) {
        let old = Arc::clone(&self.spec);
        let look_again = &self.look_again;
        self.shared
            .dependents
            .register(look_again, &old.config.dependencies, &config.dependencies);
        self.spec = Arc::new(self.next_spec(config));
        self.apply(Event::Configured { cause, stale });
        self.tell_changes(&old);
    }

    pub(super) fn next_spec(&self, config: Config) -> Spec {
        Spec {
            name: self.spec.name.clone(),
            generation: self.spec.generation + 1,
            created: self.spec.created,
            config,
        }
    }

    /// Who did what; every command that was admitted leaves a line.
    fn audit(&self, command: &str, cause: &Cause) {
        let caller = cause.caller.as_deref();
        tracing::info!(
            process = %self.spec.name,
            command,
            origin = cause.origin.as_str(),
            principal = caller.map(|c| &*c.principal),
            request_id = caller.map(|c| &*c.request_id).filter(|id| !id.is_empty()),
            "command"
        );
    }

    pub(super) fn admit(&self, verb: Verb, guard: &Precondition) -> Result<(), Refused> {
        let current = Current {
            uid: self.node.uid(),
            version: self.node.version(),
            generation: self.spec.generation,
            run_id: self.life.status.run_id,
        };
        guard
            .check(current)
            .and_then(|()| admit(verb, &self.life.status))
            .map_err(|denied| Refused::Denied {
                name: self.spec.name.clone(),
                denied,
            })
    }

    pub(super) fn ack(&self, run_id: i64) -> Ack {
        let position = Position {
            revision: self.node.revision(),
            run_id,
        };
        Ack {
            node: self.node.clone(),
            position,
        }
    }
}
