//! "Then wait": whether a condition held at or after a position.
//!
//! Judged on what each run went through, not on the latest state only: a run
//! that was RUNNING for a millisecond satisfies RUNNING. What held is told at
//! once; what can no longer hold only when the run's end is settled, so that the
//! state shown with it says how it ended.

use std::collections::VecDeque;

use super::{
    id::Revision,
    limits::EXIT_HISTORY_MAX,
    spec::Spec,
    status::{State, Status},
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
    /// It can no longer hold for this run, and the run's end is settled.
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
            // Not begun: it may still come while something happens by itself.
            return Ok(if status.state.is_settled() {
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
        // Its main process may be gone while its tree is not yet proven empty.
        let stopping = status.state == State::Stopping && status.run_id == run_id;
        let over = run.ended.is_some() && !stopping;
        Ok(match (held, over) {
            (true, _) => Verdict::Satisfied,
            (false, true) => Verdict::Unsatisfiable,
            (false, false) => Verdict::Pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            id::ProcessName,
            run::{Exit, Outcome},
            spec::Config,
            status::{Cause, Desired, RunRecord},
            time::Timestamp,
        },
        Verdict::{Pending, Satisfied, Unsatisfiable},
        *,
    };

    const FAILURE: Outcome = Outcome::Code(3);

    /// A process whose states are published one after the other.
    struct World {
        spec: Spec,
        status: Status,
        milestones: Milestones,
        revision: Revision,
    }

    impl World {
        fn new() -> Self {
            Self {
                spec: Spec {
                    name: ProcessName::new("web").unwrap(),
                    generation: 1,
                    created: Timestamp(0),
                    config: Config::default(),
                },
                status: Status::new(Desired::Running, Cause::SUPERVISOR, Timestamp(0)),
                milestones: Milestones::default(),
                revision: Revision::ZERO,
            }
        }

        /// In `state` of run `run_id`.
        fn enters(&mut self, state: State, run_id: i64) {
            self.status.state = state;
            self.status.run_id = run_id;
            self.revision = self.revision.next();
            self.milestones
                .note(&self.spec, &self.status, self.revision);
        }

        /// The main process of the run ended; its tree is not yet proven empty.
        fn exits(&mut self, outcome: Outcome) {
            let record = RunRecord {
                run_id: self.status.run_id,
                exit: Exit::new(outcome, Timestamp(1)),
                stop_requested: false,
                start_time: Timestamp(1),
                cause: Cause::KERNEL,
            };
            let mut details = (*self.status.details).clone();
            details.history.insert(0, Arc::new(record));
            self.status.details = Arc::new(details);
            self.enters(State::Stopping, self.status.run_id);
        }

        fn verdict(&self, condition: Condition, run_id: i64) -> Verdict {
            self.milestones
                .judge(condition, run_id, &self.status)
                .unwrap()
        }
    }

    #[test]
    fn what_held_is_told_at_the_exit_and_what_cannot_hold_once_the_run_is_settled() {
        for (condition, outcome, at_exit, at_end) in [
            (Condition::Running, FAILURE, Pending, Unsatisfiable),
            (Condition::Ready, FAILURE, Pending, Unsatisfiable),
            (Condition::Succeeded, FAILURE, Pending, Unsatisfiable),
            (Condition::Succeeded, Outcome::Code(0), Satisfied, Satisfied),
            (Condition::Exited, FAILURE, Satisfied, Satisfied),
        ] {
            // The last two: the next run, which began in the change that ended this one.
            for (state, run_id) in [
                (State::Backoff, 1),
                (State::Failed, 1),
                (State::Succeeded, 1),
                (State::Stopped, 1),
                (State::Pending, 1),
                (State::Starting, 2),
                (State::Stopping, 2),
            ] {
                let case = format!("{condition:?} {outcome:?} {state:?}");
                let mut world = World::new();
                world.enters(State::Starting, 1);
                let before = world.verdict(condition, 1);
                assert_eq!(before, Pending, "{case}");
                world.exits(outcome.clone());
                assert_eq!(world.verdict(condition, 1), at_exit, "{case}");
                world.enters(state, run_id);
                assert_eq!(world.verdict(condition, 1), at_end, "{case}");
            }
        }
    }

    #[test]
    fn a_run_that_ran_for_a_moment_ran() {
        let mut world = World::new();
        world.enters(State::Starting, 1);
        world.enters(State::Running, 1);
        world.exits(FAILURE);
        assert_eq!(world.verdict(Condition::Running, 1), Satisfied);
        world.enters(State::Failed, 1);
        assert_eq!(world.verdict(Condition::Running, 1), Satisfied);
    }

    #[test]
    fn the_next_run_is_given_up_only_when_the_stop_is_done() {
        let mut world = World::new();
        world.enters(State::Running, 1);
        world.enters(State::Stopping, 1);
        assert_eq!(world.verdict(Condition::Running, 2), Pending);
        world.exits(Outcome::Signal(15));
        assert_eq!(world.verdict(Condition::Running, 2), Pending);
        world.enters(State::Stopped, 1);
        assert_eq!(world.verdict(Condition::Running, 2), Unsatisfiable);
    }
}
