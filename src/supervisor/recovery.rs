//! Taking over what an earlier daemon left: processes as they were kept, runs as
//! their shims kept them.
//!
//! The registry was restored before; each process gets its owner, whose first act
//! is to look for its run. Invariant: nobody but an owner decides what a finding
//! means, and only by `transition`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    api::{ProcessNode, Refused},
    driver::Driver,
    effects::RUN_EVENTS_MAX,
    intent::Intent,
    root::{Inner, Supervisor},
};
use crate::{
    domain::{
        event::Event,
        id::{ProcessName, Uid},
        lifecycle::Lifecycle,
        run::RunEvent,
        spec::StopPolicy,
        status::{ConditionKind, Desired},
    },
    runner::Adopt,
};

/// Of the state that a creation publishes.
const FIRST_VERSION: i64 = 1;

/// What to take over.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The newest intent of each process that exists, with its configuration.
    pub processes: Vec<Intent>,
    /// Everything that is wanted is begun, also what had ended for good: the
    /// machine was restarted, or the daemon had stopped everything.
    pub afresh: bool,
    /// No other process existed. Only then is a run of an unknown one stopped.
    pub complete: bool,
}

/// What an owner begins with instead of a creation.
pub(super) struct Kept {
    pub(super) intent: Intent,
    /// It is begun if it is wanted, whatever became of it.
    pub(super) afresh: bool,
}

impl Supervisor {
    /// Takes over the processes of an earlier daemon. Call it once, before anyone
    /// else may call. Returns the processes of which nothing but the intent was
    /// kept and that could not be created, with the reason.
    pub fn recover(&self, recovery: Recovery) -> Vec<(ProcessName, Refused)> {
        let inner = &self.inner;
        let mut found: BTreeMap<Uid, Vec<i64>> = BTreeMap::new();
        for (uid, run_id) in inner.runner.found() {
            found.entry(uid).or_default().push(run_id);
        }
        let mut refused = Vec::new();
        // The graph first, so that no owner finds a gate open that is not.
        for intent in &recovery.processes {
            if let Some(spec) = &intent.spec {
                inner
                    .graph()
                    .put(intent.name.clone(), &spec.config.dependencies);
            }
        }
        for intent in recovery.processes {
            let name = intent.name.clone();
            let mut runs = found.remove(&intent.uid).unwrap_or_default();
            runs.sort_unstable();
            let kept = Kept {
                intent,
                afresh: recovery.afresh,
            };
            if let Err(error) = self.take_over(kept, runs.into()) {
                refused.push((name, error));
            }
        }
        for (uid, runs) in found {
            for run_id in runs {
                if recovery.complete {
                    tracing::warn!(%uid, run_id, "a run of no known process is stopped");
                    inner.end_unknown(uid, run_id);
                } else {
                    // Its process may be what the store has lost.
                    tracing::error!(%uid, run_id, "a run of an unknown process is left alone");
                }
            }
        }
        refused
    }

    fn take_over(&self, mut kept: Kept, runs: VecDeque<i64>) -> Result<(), Refused> {
        let Some(spec) = kept.intent.spec.clone() else {
            return Err(Refused::NotFound(kept.intent.name));
        };
        let inner = &self.inner;
        let mut mailboxes = inner.mailboxes();
        let node = match inner.registry.get(spec.name.as_str()) {
            Some(node) if node.uid() == kept.intent.uid => node,
            // Nothing of it was observed yet.
            _ => inner.publish_new(
                kept.intent.uid,
                &spec,
                kept.intent.desired,
                kept.intent.cause.clone(),
            )?,
        };
        // Its creation was all: the daemon went before it began what was asked for.
        kept.afresh |= node.version() == FIRST_VERSION && runs.is_empty();
        let state = node.body();
        let mut life = Lifecycle::restore(state.status.clone(), state.cause.clone());
        life.set_stale(stale(&node));
        let found: VecDeque<i64> = runs
            .into_iter()
            .filter(|id| !inner.forget_if_over(&life, node.uid(), *id))
            .collect();
        inner.own(&mut mailboxes, node, spec, life, |driver| Driver {
            found,
            kept: Some(kept),
            ..driver
        })
    }
}

// === impl Inner ===

impl Inner {
    /// Brings a run to an end that belongs to no process.
    fn end_unknown(self: &Arc<Self>, uid: Uid, run_id: i64) {
        let Ok(name) = ProcessName::new("unknown") else {
            return; // it is a valid name
        };
        let stop = StopPolicy::default().plan();
        let adopt = Adopt {
            uid,
            run_id,
            name,
            stop,
            log_policy: None,
        };
        // BOUND: RUN_EVENTS_MAX; the run protocol has fewer events.
        let (sender, mut events) = mpsc::channel(RUN_EVENTS_MAX);
        let runtime = self.runtime.clone();
        let shared = Arc::clone(self);
        self.tracker.spawn_on(
            async move {
                let run = shared.runner.adopt(adopt, sender);
                run.stop(stop);
                while let Some(event) = events.recv().await {
                    if matches!(event, RunEvent::Empty | RunEvent::NotBegun) {
                        shared.runner.forget(uid, run_id);
                        return;
                    }
                }
            },
            &runtime,
        );
    }

    /// Clears up after a run that is known to be over.
    fn forget_if_over(&self, life: &Lifecycle, uid: Uid, run_id: i64) -> bool {
        let over = life.is_over(run_id);
        if over {
            self.runner.forget(uid, run_id);
        }
        over
    }
}

/// Whether the live run was known to lack a change.
fn stale(node: &ProcessNode) -> bool {
    let conditions = &node.body().status.details.conditions;
    conditions
        .iter()
        .any(|c| c.kind == ConditionKind::ConfigCurrent && !c.holds)
}

// === impl Driver ===

impl Driver {
    /// The first act of an owner that takes over.
    pub(super) fn recover(&mut self) {
        let found = self.found.pop_front();
        self.apply(Event::Recover(found));
        self.replay();
    }

    /// The end of a run that was found, with later ones still to be looked at.
    pub(super) fn next_found(&mut self, event: &RunEvent) -> Option<Event> {
        let over = matches!(event, RunEvent::Empty | RunEvent::NotBegun);
        let next = if over { self.found.pop_front() } else { None };
        next.map(|id| Event::Recover(Some(id)))
    }

    /// Once every run is accounted for: what the user wants, unless it was acted on.
    pub(super) fn replay(&mut self) {
        if !self.found.is_empty() {
            return;
        }
        let Some(Kept { intent, afresh }) = self.kept.take() else {
            return;
        };
        let pending = intent.number > self.intent;
        self.intent = self.intent.max(intent.number);
        if pending {
            let stale =
                self.life.has_run() && self.life.status.run_generation != self.spec.generation;
            self.apply(Event::Configured {
                cause: intent.cause.clone(),
                stale,
            });
        }
        let plan = self.spec.config.stop.plan();
        let before = self.life.status.desired;
        let run_id = self.life.status.run_id;
        match intent.desired {
            Desired::Deleted => self.apply(Event::Delete(intent.cause, plan)),
            Desired::Stopped if before != Desired::Stopped => {
                self.apply(Event::Stop(intent.cause, plan));
            }
            Desired::Stopped => {}
            Desired::Running if pending && self.life.has_run() && intent.instead_of == run_id => {
                self.apply(Event::Restart(intent.cause, plan));
            }
            Desired::Running => {
                let asked = pending && intent.begin;
                if asked || afresh || before != Desired::Running {
                    self.apply(Event::Start(intent.cause));
                }
            }
        }
    }
}
