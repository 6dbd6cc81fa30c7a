//! "Then wait": whether a condition held at or after a position.
//!
//! Judged on what each run went through, not on the latest state only: a run
//! that was RUNNING for a millisecond satisfies RUNNING.

use std::collections::VecDeque;

use super::{
    id::Revision,
    limits::EXIT_HISTORY_MAX,
    spec::Spec,
    status::{Desired, State, Status},
};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The run was RUNNING.
    Running,
    /// The run was ready.
    Ready,
    /// Its main process ended.
    Exited,
    /// It ended with success.
    Succeeded,
    /// Nothing more happens by itself.
    Settled,
    /// Deleted and gone.
    Deleted,
}

/// Whether it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It held.
    Satisfied,
    /// It can no longer hold for this run.
    Unsatisfiable,
    /// Not yet.
    Pending,
}

/// Why a wait cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("run {run_id} is no longer remembered; the oldest is {oldest}")]
pub struct RunTooOld {
    /// Asked for.
    pub run_id: i64,
    /// Oldest known.
    pub oldest: i64,
}

/// What the remembered runs of one process went through, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Milestones {
    runs: VecDeque<Milestone>,
}

#[derive(Debug, Clone, Copy)]
struct Milestone {
    run_id: i64,
    running: bool,
    ready: bool,
    /// Revision and success of the end of the main process.
    ended: Option<(Revision, bool)>,
}

// === impl Milestones ===

impl Milestones {
    /// Takes note of a published status.
    pub fn note(&mut self, spec: &Spec, status: &Status, revision: Revision) {
        if status.run_id == 0 {
            return;
        }
        if self
            .runs
            .back()
            .is_none_or(|last| last.run_id < status.run_id)
        {
            let run_id = status.run_id;
            self.runs.push_back(Milestone {
                run_id,
                running: false,
                ready: false,
                ended: None,
            });
            if self.runs.len() > EXIT_HISTORY_MAX + 1 {
                self.runs.pop_front();
            }
        }
        let Some(run) = self.runs.back_mut() else {
            return;
        };
        run.running |= matches!(
            status.state,
            State::Running | State::Paused | State::Reloading
        );
        run.ready |= status.ready;
        if run.ended.is_none()
            && let Some(record) = status.current_exit()
        {
            run.ended = Some((revision, record.is_success(&spec.config.restart)));
        }
    }

    /// The run a wait is about: the one up at `from`, else the next one.
    #[must_use]
    pub fn run_at(&self, from: Revision) -> i64 {
        self.runs
            .iter()
            .find(|run| run.ended.is_none_or(|(at, _)| at > from))
            .map_or_else(
                || self.runs.back().map_or(1, |run| run.run_id + 1),
                |run| run.run_id,
            )
    }

    /// Judges `condition` of run `run_id` (0: of whichever run is up or next) now.
    ///
    /// # Errors
    /// The run is older than what is remembered.
    pub fn judge(
        &self,
        condition: Condition,
        run_id: i64,
        status: &Status,
    ) -> Result<Verdict, RunTooOld> {
        match condition {
            Condition::Deleted => return Ok(Verdict::Pending),
            Condition::Settled => {
                let settled = status.state.is_settled();
                return Ok(if settled {
                    Verdict::Satisfied
                } else {
                    Verdict::Pending
                });
            }
            _ => {}
        }
        let Some(run) = self.runs.iter().find(|run| run.run_id == run_id) else {
            if let Some(oldest) = self.runs.front().map(|run| run.run_id)
                && run_id < oldest
            {
                return Err(RunTooOld { run_id, oldest });
            }
            // Not begun: it may still come while it is wanted and not settled.
            let hopeless = status.state.is_settled() || status.desired != Desired::Running;
            return Ok(if hopeless {
                Verdict::Unsatisfiable
            } else {
                Verdict::Pending
            });
        };
        let held = match condition {
            Condition::Running => run.running,
            Condition::Ready => run.ready,
            Condition::Exited => run.ended.is_some(),
            Condition::Succeeded => run.ended.is_some_and(|(_, success)| success),
            Condition::Settled | Condition::Deleted => false,
        };
        Ok(match (held, run.ended) {
            (true, _) => Verdict::Satisfied,
            (false, Some(_)) => Verdict::Unsatisfiable,
            (false, None) => Verdict::Pending,
        })
    }
}
