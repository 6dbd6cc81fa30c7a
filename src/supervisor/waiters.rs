//! Callers who wait for a condition of one process.
//!
//! The owner judges them on every change that it commits, so that none is missed
//! and a change costs nothing but the judging.

use super::{
    api::{ProcessNode, Refused, WaitFor, WaitResult},
    mailbox::Reply,
};
use crate::domain::{
    id::Revision,
    limits::WAITERS_MAX,
    status::{Reason, State},
    wait::{Condition, Milestones, Verdict},
};

/// The waiting callers of one process and what its runs went through.
#[derive(Default)]
pub(super) struct Waiters {
    milestones: Milestones,
    waiting: Vec<Waiter>,
}

struct Waiter {
    condition: Condition,
    run_id: i64,
    /// Asked about whatever comes, so a stopped process is no reason to give up.
    patient: bool,
    reply: Reply<WaitResult>,
}

// === impl Waiters ===

impl Waiters {
    /// Takes note of a published state and answers whom it concerns.
    pub(super) fn note(&mut self, node: &ProcessNode) {
        let state = node.body();
        self.milestones
            .note(&state.spec, &state.status, node.revision());
        if !self.waiting.is_empty() {
            let milestones = &self.milestones;
            self.waiting = std::mem::take(&mut self.waiting)
                .into_iter()
                .filter_map(|waiter| settle(milestones, waiter, node))
                .collect();
        }
    }

    /// Judges a new wait against `node`, the current state; keeps it if it can
    /// still come true.
    pub(super) fn add(&mut self, wait: &WaitFor, node: &ProcessNode, reply: Reply<WaitResult>) {
        let unmatched = wait.uid.is_some_and(|uid| uid != node.uid());
        if unmatched {
            let _ = reply.send(Ok(WaitResult {
                satisfied: false,
                node: None,
            }));
            return;
        }
        self.waiting.retain(|waiter| !waiter.reply.is_closed());
        if self.waiting.len() >= WAITERS_MAX {
            let _ = reply.send(Err(Refused::Quota {
                limit: "waiters_max",
                max: WAITERS_MAX,
            }));
            return;
        }
        let patient = wait.run_id == 0 && wait.from == Revision::ZERO;
        let run_id = match (wait.run_id, patient) {
            (0, true) => self.latest_or_next(wait.condition, node),
            (0, false) => self.milestones.run_at(wait.from),
            (run_id, _) => run_id,
        };
        let waiter = Waiter {
            condition: wait.condition,
            run_id,
            patient,
            reply,
        };
        self.waiting.extend(settle(&self.milestones, waiter, node));
    }

    /// The process is gone; nobody waits any longer.
    pub(super) fn gone(&mut self, last: &ProcessNode) {
        for waiter in self.waiting.drain(..) {
            let satisfied = waiter.condition == Condition::Deleted;
            let result = WaitResult {
                satisfied,
                node: Some(last.clone()),
            };
            let _ = waiter.reply.send(Ok(result));
        }
    }

    /// Without a position, a wait is about the run that is up; about the latest
    /// one if it asks for an end; else about the next.
    fn latest_or_next(&self, condition: Condition, node: &ProcessNode) -> i64 {
        let status = &node.body().status;
        let about_an_end = matches!(condition, Condition::Exited | Condition::Succeeded);
        let up = status.run_id > 0 && status.current_exit().is_none();
        if up || (about_an_end && status.run_id > 0) {
            status.run_id
        } else {
            status.run_id + 1
        }
    }
}

/// Answers `waiter` if its verdict is known, else gives it back.
fn settle(milestones: &Milestones, waiter: Waiter, node: &ProcessNode) -> Option<Waiter> {
    let status = &node.body().status;
    let stop_failed = status.state == State::Failed && status.reason == Reason::StopFailed;
    let answer = if waiter.condition == Condition::Deleted && stop_failed {
        let pids = status.details.surviving_pids.clone();
        Err(Refused::StopFailed {
            name: node.body().name().clone(),
            pids,
        })
    } else {
        match milestones.judge(waiter.condition, waiter.run_id, status) {
            Ok(Verdict::Pending) => return keep(waiter),
            Ok(Verdict::Unsatisfiable) if waiter.patient && waiter.run_id > status.run_id => {
                return keep(waiter);
            }
            Ok(verdict) => {
                let satisfied = verdict == Verdict::Satisfied;
                Ok(WaitResult {
                    satisfied,
                    node: Some(node.clone()),
                })
            }
            Err(too_old) => Err(too_old.into()),
        }
    };
    let _ = waiter.reply.send(answer);
    None
}

fn keep(waiter: Waiter) -> Option<Waiter> {
    (!waiter.reply.is_closed()).then_some(waiter)
}
