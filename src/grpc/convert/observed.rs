//! The observed half of a process, to the wire, and back from what was stored.

pub mod from_wire;

use crate::{
    domain::{
        run::{Outcome, UnknownReason},
        status::{Cause, Condition, Desired, ProcessState, RunRecord, State, Status},
    },
    grpc::{
        convert::{duration, timestamp},
        proto::{self, exit_status},
    },
};

/// The status of a process.
#[must_use]
pub fn status(process: &ProcessState) -> proto::ProcessStatus {
    proto::ProcessStatus {
        // A generation is acted on in the same change that brings it.
        observed_generation: process.spec.generation,
        last_exit: process.status.last_exit().map(|record| exit(record)),
        ..own(&process.status)
    }
}

/// All that a status says by itself, once: without what stands elsewhere too.
pub(super) fn own(status: &Status) -> proto::ProcessStatus {
    let details = &status.details;
    let readiness = if status.ready {
        proto::Readiness::Ready
    } else {
        proto::Readiness::NotReady
    };
    proto::ProcessStatus {
        phase: phase(status.state).into(),
        state: state(status.state).into(),
        readiness: readiness.into(),
        desired_state: desired(status.desired).into(),
        observed_generation: 0,
        run_id: status.run_id,
        pid: status.pid,
        start_time: timestamp(status.start_time),
        end_time: timestamp(status.end_time),
        state_time: timestamp(status.state_time),
        restart_count: status.restart_count,
        consecutive_failures: status.consecutive_failures,
        next_start_time: timestamp(status.next_start_time),
        last_exit: None,
        reason: status.reason.as_str().to_owned(),
        message: details.message.to_string(),
        conditions: details.conditions.iter().map(condition).collect(),
        surviving_pids: details.surviving_pids.clone(),
        exit_history: details.history.iter().map(|record| exit(record)).collect(),
        cgroup_path: details.cgroup_path.to_string(),
        notify_status: String::new(),
        waiting_on: details
            .waiting_on
            .iter()
            .map(|name| name.as_str().to_owned())
            .collect(),
        stage: status.stage.as_str().to_owned(),
        state_deadline_time: timestamp(status.deadline_time),
        cause: Some(cause(&status.cause)),
        ready_time: timestamp(status.ready_time),
        run_generation: status.run_generation,
    }
}

/// A state.
#[must_use]
pub fn state(state: State) -> proto::ProcessState {
    match state {
        State::Stopped => proto::ProcessState::Stopped,
        State::Pending => proto::ProcessState::Pending,
        State::Starting => proto::ProcessState::Starting,
        State::Running => proto::ProcessState::Running,
        State::Reloading => proto::ProcessState::Reloading,
        State::Paused => proto::ProcessState::Paused,
        State::Stopping => proto::ProcessState::Stopping,
        State::Backoff => proto::ProcessState::Backoff,
        State::Succeeded => proto::ProcessState::Succeeded,
        State::Failed => proto::ProcessState::Failed,
        State::Unknown => proto::ProcessState::Unknown,
    }
}

/// Who or what caused something.
#[must_use]
pub fn cause(cause: &Cause) -> proto::EventCause {
    let caller = cause.caller.as_deref();
    proto::EventCause {
        origin: cause.origin.as_str().to_owned(),
        principal: caller.map(|c| c.principal.to_string()).unwrap_or_default(),
        request_id: caller.map(|c| c.request_id.to_string()).unwrap_or_default(),
    }
}

fn phase(state: State) -> proto::ProcessPhase {
    match state {
        State::Pending | State::Starting | State::Backoff => proto::ProcessPhase::Pending,
        State::Running | State::Reloading | State::Paused | State::Stopping => {
            proto::ProcessPhase::Running
        }
        State::Stopped => proto::ProcessPhase::Stopped,
        State::Failed => proto::ProcessPhase::Failed,
        State::Succeeded => proto::ProcessPhase::Succeeded,
        State::Unknown => proto::ProcessPhase::Unknown,
    }
}

fn desired(desired: Desired) -> proto::DesiredState {
    match desired {
        Desired::Running => proto::DesiredState::Running,
        Desired::Stopped => proto::DesiredState::Stopped,
        Desired::Deleted => proto::DesiredState::Deleted,
    }
}

/// How a run ended.
#[must_use]
pub fn exit(record: &RunRecord) -> proto::ExitStatus {
    let exit = &record.exit;
    let (outcome, spawn_errno) = match &exit.outcome {
        Outcome::Code(code) => (exit_status::Outcome::ExitCode(i32::from(*code)), 0),
        Outcome::Signal(number) => (exit_status::Outcome::SignalNumber(*number), 0),
        Outcome::SpawnError(error) => {
            let message = error.message.to_string();
            (exit_status::Outcome::SpawnError(message), error.errno)
        }
        Outcome::Unknown(reason) => {
            let text = match reason {
                UnknownReason::Reboot => "REBOOT",
                UnknownReason::Lost => "LOST",
            };
            (exit_status::Outcome::UnknownReason(text.to_owned()), 0)
        }
    };
    proto::ExitStatus {
        run_id: record.run_id,
        outcome: Some(outcome),
        core_dumped: exit.core_dumped,
        oom_killed: exit.oom_killed,
        exit_time: timestamp(exit.at),
        spawn_errno,
        stop_requested: record.stop_requested,
        start_time: timestamp(record.start_time),
        cause: Some(cause(&record.cause)),
        cpu_time: Some(duration(exit.cpu_time)),
        max_rss_bytes: exit.max_rss_bytes,
    }
}

fn condition(condition: &Condition) -> proto::Condition {
    let status = if condition.holds {
        proto::ConditionStatus::True
    } else {
        proto::ConditionStatus::False
    };
    proto::Condition {
        r#type: condition.kind.as_str().to_owned(),
        status: status.into(),
        reason: condition.reason.to_owned(),
        message: condition.message.to_string(),
        transition_time: timestamp(condition.since),
    }
}
