//! Whether a command may be carried out now.
//!
//! Asking for what already holds is accepted and changes nothing; a command is
//! denied only where it cannot mean anything, or where a guard says so.

use super::{
    id::Uid,
    status::{Desired, Reason, State, Status},
};

/// What a caller may ask of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Desired state running.
    Start,
    /// Desired state stopped.
    Stop,
    /// A new run.
    Restart,
    /// Gone.
    Delete,
    /// Gone, if nothing runs.
    DeleteIfStopped,
    /// A signal to the live run.
    Signal,
    /// Frozen.
    Pause,
    /// Thawed.
    Resume,
    /// Counters cleared.
    Reset,
    /// Another configuration.
    Configure,
}

/// Guards of a write; all given parts must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precondition {
    /// Same incarnation, in the text form of a UUID.
    pub uid: Option<String>,
    /// Exactly this version.
    pub version: Option<i64>,
    /// Same configuration.
    pub generation: Option<i64>,
    /// Same run.
    pub run_id: Option<i64>,
}

/// What the guards are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Current {
    /// Incarnation.
    pub uid: Uid,
    /// Version.
    pub version: i64,
    /// Configuration.
    pub generation: i64,
    /// Run.
    pub run_id: i64,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A guard does not hold.
    #[error("precondition {field} is {expected}, but the process has {actual}")]
    Precondition {
        /// Which guard.
        field: &'static str,
        /// What the caller expects.
        expected: String,
        /// What is.
        actual: String,
    },
    /// Nothing runs that could be signalled, paused or resumed.
    #[error("no run is up (the process is {})", .0.as_str())]
    NotRunning(State),
    /// It is being deleted.
    #[error("the process is being deleted")]
    Deleting,
    /// Something runs and the caller forbade stopping it.
    #[error("a run is up (the process is {}); stop it first", .0.as_str())]
    StillRunning(State),
    /// Processes of an earlier run survived SIGKILL.
    #[error("processes of the last run survive: {0:?}")]
    Survivors(Vec<i32>),
}

impl Precondition {
    /// Compares every given part.
    ///
    /// # Errors
    /// The first part that does not hold.
    pub fn check(&self, current: Current) -> Result<(), Denied> {
        let uid = current.uid.to_string();
        let differs = |field, expected: String, actual: String| {
            if expected == actual {
                Ok(())
            } else {
                Err(Denied::Precondition {
                    field,
                    expected,
                    actual,
                })
            }
        };
        if let Some(expected) = &self.uid {
            differs("uid", expected.clone(), uid)?;
        }
        for (field, expected, actual) in [
            ("version", self.version, current.version),
            ("generation", self.generation, current.generation),
            ("run_id", self.run_id, current.run_id),
        ] {
            if let Some(expected) = expected {
                differs(field, expected.to_string(), actual.to_string())?;
            }
        }
        Ok(())
    }
}

/// Whether `verb` may be carried out in this status.
///
/// # Errors
/// Why not.
pub fn admit(verb: Verb, status: &Status) -> Result<(), Denied> {
    let up = status.state.is_alive();
    if status.desired == Desired::Deleted && !matches!(verb, Verb::Delete | Verb::Signal) {
        return Err(Denied::Deleting);
    }
    match verb {
        Verb::Start | Verb::Restart if status.reason == Reason::StopFailed => {
            Err(Denied::Survivors(status.details.surviving_pids.clone()))
        }
        Verb::DeleteIfStopped if up || status.reason == Reason::StopFailed => {
            Err(Denied::StillRunning(status.state))
        }
        Verb::Signal if !up || status.pid == 0 => Err(Denied::NotRunning(status.state)),
        Verb::Pause | Verb::Resume
            if !matches!(
                status.state,
                State::Running | State::Paused | State::Reloading
            ) =>
        {
            Err(Denied::NotRunning(status.state))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{status::Cause, time::Timestamp};

    fn status(state: State) -> Status {
        let mut status = Status::new(Desired::Running, Cause::SUPERVISOR, Timestamp(1));
        status.state = state;
        status.pid = if state.is_alive() { 7 } else { 0 };
        status
    }

    #[test]
    fn commands_are_denied_only_where_they_mean_nothing() {
        use State::{Backoff, Failed, Paused, Pending, Running, Starting, Stopped, Stopping};
        let states = [
            Stopped, Pending, Starting, Running, Paused, Stopping, Backoff, Failed,
        ];
        let table = [
            (Verb::Start, vec![]),
            (Verb::Stop, vec![]),
            (Verb::Restart, vec![]),
            (Verb::Reset, vec![]),
            (Verb::Signal, vec![Stopped, Pending, Backoff, Failed]),
            (
                Verb::Pause,
                vec![Stopped, Pending, Starting, Stopping, Backoff, Failed],
            ),
            (
                Verb::DeleteIfStopped,
                vec![Starting, Running, Paused, Stopping],
            ),
        ];
        for (verb, denied) in table {
            for state in states {
                assert_eq!(
                    admit(verb, &status(state)).is_err(),
                    denied.contains(&state),
                    "{verb:?} in {state:?}"
                );
            }
        }
    }

    #[test]
    fn a_process_with_survivors_starts_no_second_run() {
        let mut failed = status(State::Failed);
        failed.reason = Reason::StopFailed;
        assert!(matches!(
            admit(Verb::Start, &failed),
            Err(Denied::Survivors(_))
        ));
        assert_eq!(admit(Verb::Stop, &failed), Ok(()));
    }

    #[test]
    fn every_guard_is_compared() {
        let current = Current {
            uid: Uid::from_bytes([1; 16]),
            version: 3,
            generation: 2,
            run_id: 7,
        };
        let same = Precondition {
            uid: Some(current.uid.to_string()),
            version: Some(3),
            generation: Some(2),
            run_id: Some(7),
        };
        assert_eq!(same.check(current), Ok(()));
        let other = |p: Precondition| match p.check(current) {
            Err(Denied::Precondition { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            other(Precondition {
                uid: Some("x".into()),
                ..same.clone()
            }),
            "uid"
        );
        assert_eq!(
            other(Precondition {
                version: Some(4),
                ..same.clone()
            }),
            "version"
        );
        assert_eq!(
            other(Precondition {
                generation: Some(1),
                ..same.clone()
            }),
            "generation"
        );
        assert_eq!(
            other(Precondition {
                run_id: Some(8),
                ..same
            }),
            "run_id"
        );
    }
}
