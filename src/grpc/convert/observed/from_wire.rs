//! The observed half of a process, from what `super` made of it.
//!
//! Only for what the daemon itself has written. A value that is not known is an
//! error, never a guess; but conditions of unknown types are left out: each is
//! told again by whoever knows it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    domain::{
        id::ProcessName,
        run::{Exit, Outcome, SpawnError, UnknownReason},
        status::{
            Caller, Cause, Condition, ConditionKind, Desired, Details, Origin, Reason, RunRecord,
            Stage, State, Status,
        },
        time::Timestamp,
    },
    grpc::proto::{self, exit_status},
};

/// Texts of reasons that are kept at most; each is kept for ever.
const REASONS_MAX: usize = 1024;
/// Stands in for reasons beyond [`REASONS_MAX`].
const REASON_OTHER: &str = "OTHER";

/// Which field has a value that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} has the unknown value {value:?}")]
pub struct UnknownValue {
    /// Its name.
    pub field: &'static str,
    /// What it has.
    pub value: String,
}

/// A status.
///
/// # Errors
/// The first field with an unknown value.
pub fn status(wire: proto::ProcessStatus) -> Result<Status, UnknownValue> {
    let history = wire.exit_history.into_iter().map(record);
    let conditions = wire.conditions.into_iter().filter_map(condition);
    let waiting_on = wire.waiting_on.iter().map(|text| name(text));
    let details = Details {
        message: wire.message.into(),
        waiting_on: waiting_on.collect::<Result<_, _>>()?,
        surviving_pids: wire.surviving_pids,
        cgroup_path: wire.cgroup_path.into(),
        history: history.collect::<Result<_, _>>()?,
        conditions: conditions.collect::<Result<_, _>>()?,
    };
    Ok(Status {
        state: state(wire.state)?,
        desired: desired(wire.desired_state)?,
        ready: ready(wire.readiness)?,
        reason: among("reason", &wire.reason, REASONS, Reason::as_str)?,
        stage: among("stage", &wire.stage, STAGES, Stage::as_str)?,
        pid: wire.pid,
        consecutive_failures: wire.consecutive_failures,
        run_id: wire.run_id,
        run_generation: wire.run_generation,
        restart_count: wire.restart_count,
        start_time: time(wire.start_time)?,
        end_time: time(wire.end_time)?,
        state_time: time(wire.state_time)?,
        deadline_time: time(wire.state_deadline_time)?,
        next_start_time: time(wire.next_start_time)?,
        ready_time: time(wire.ready_time)?,
        cause: cause(wire.cause)?,
        details: Arc::new(details),
    })
}

/// A cause. One whose caller has neither a principal nor a request id reads as
/// without a caller.
///
/// # Errors
/// It is absent, or its origin is unknown.
pub fn cause(wire: Option<proto::EventCause>) -> Result<Cause, UnknownValue> {
    let wire = wire.ok_or_else(|| unknown("cause", &"absent"))?;
    let called = !wire.principal.is_empty() || !wire.request_id.is_empty();
    Ok(Cause {
        origin: among("cause.origin", &wire.origin, ORIGINS, Origin::as_str)?,
        caller: called.then(|| {
            Arc::new(Caller {
                principal: wire.principal.into(),
                request_id: wire.request_id.into(),
                once: None,
            })
        }),
    })
}

const REASONS: &[Reason] = &[
    Reason::None,
    Reason::Dependency,
    Reason::ExitCode,
    Reason::Signal,
    Reason::OomKilled,
    Reason::SpawnError,
    Reason::StartTimeout,
    Reason::RetryLimit,
    Reason::DependencyFailed,
    Reason::StopFailed,
    Reason::Lost,
];

const STAGES: &[Stage] = &[
    Stage::None,
    Stage::Spawn,
    Stage::Probe,
    Stage::Signal,
    Stage::Kill,
    Stage::Reap,
];

const ORIGINS: &[Origin] = &[
    Origin::Api,
    Origin::Supervisor,
    Origin::Kernel,
    Origin::Config,
];

const KINDS: &[ConditionKind] = &[
    ConditionKind::Adopted,
    ConditionKind::ConfigCurrent,
    ConditionKind::DependenciesMet,
    ConditionKind::IntentDurable,
    ConditionKind::LogsIntact,
];

/// Does not compile once a value is missing from the tables above.
const _: fn(Reason, Stage, Origin, ConditionKind) = |reason, stage, origin, kind| {
    match reason {
        Reason::None
        | Reason::Dependency
        | Reason::ExitCode
        | Reason::Signal
        | Reason::OomKilled
        | Reason::SpawnError
        | Reason::StartTimeout
        | Reason::RetryLimit
        | Reason::DependencyFailed
        | Reason::StopFailed
        | Reason::Lost => {}
    }
    match stage {
        Stage::None | Stage::Spawn | Stage::Probe | Stage::Signal | Stage::Kill | Stage::Reap => {}
    }
    match origin {
        Origin::Api | Origin::Supervisor | Origin::Kernel | Origin::Config => {}
    }
    match kind {
        ConditionKind::Adopted
        | ConditionKind::ConfigCurrent
        | ConditionKind::DependenciesMet
        | ConditionKind::IntentDurable
        | ConditionKind::LogsIntact => {}
    }
};

fn state(number: i32) -> Result<State, UnknownValue> {
    match proto::ProcessState::try_from(number) {
        Ok(proto::ProcessState::Stopped) => Ok(State::Stopped),
        Ok(proto::ProcessState::Pending) => Ok(State::Pending),
        Ok(proto::ProcessState::Starting) => Ok(State::Starting),
        Ok(proto::ProcessState::Running) => Ok(State::Running),
        Ok(proto::ProcessState::Reloading) => Ok(State::Reloading),
        Ok(proto::ProcessState::Paused) => Ok(State::Paused),
        Ok(proto::ProcessState::Stopping) => Ok(State::Stopping),
        Ok(proto::ProcessState::Backoff) => Ok(State::Backoff),
        Ok(proto::ProcessState::Succeeded) => Ok(State::Succeeded),
        Ok(proto::ProcessState::Failed) => Ok(State::Failed),
        Ok(proto::ProcessState::Unknown) => Ok(State::Unknown),
        Ok(proto::ProcessState::Unspecified) | Err(_) => Err(unknown("state", &number)),
    }
}

fn desired(number: i32) -> Result<Desired, UnknownValue> {
    match proto::DesiredState::try_from(number) {
        Ok(proto::DesiredState::Running) => Ok(Desired::Running),
        Ok(proto::DesiredState::Stopped) => Ok(Desired::Stopped),
        Ok(proto::DesiredState::Deleted) => Ok(Desired::Deleted),
        Ok(proto::DesiredState::Unspecified) | Err(_) => Err(unknown("desired_state", &number)),
    }
}

fn ready(number: i32) -> Result<bool, UnknownValue> {
    match proto::Readiness::try_from(number) {
        Ok(proto::Readiness::Ready) => Ok(true),
        Ok(proto::Readiness::NotReady) => Ok(false),
        _ => Err(unknown("readiness", &number)),
    }
}

fn record(wire: proto::ExitStatus) -> Result<Arc<RunRecord>, UnknownValue> {
    let outcome = match wire.outcome {
        Some(exit_status::Outcome::ExitCode(code)) => {
            Outcome::Code(u8::try_from(code).map_err(|_| unknown("exit_code", &code))?)
        }
        Some(exit_status::Outcome::SignalNumber(number)) => Outcome::Signal(number),
        Some(exit_status::Outcome::SpawnError(message)) => Outcome::SpawnError(SpawnError {
            errno: wire.spawn_errno,
            message: message.into(),
        }),
        Some(exit_status::Outcome::UnknownReason(reason)) => Outcome::Unknown(match &*reason {
            "REBOOT" => UnknownReason::Reboot,
            "LOST" => UnknownReason::Lost,
            _ => return Err(unknown("unknown_reason", &reason)),
        }),
        None => return Err(unknown("outcome", &"absent")),
    };
    Ok(Arc::new(RunRecord {
        run_id: wire.run_id,
        exit: Exit {
            outcome,
            core_dumped: wire.core_dumped,
            oom_killed: wire.oom_killed,
            at: time(wire.exit_time)?,
            cpu_time: duration(wire.cpu_time)?,
            max_rss_bytes: wire.max_rss_bytes,
        },
        stop_requested: wire.stop_requested,
        start_time: time(wire.start_time)?,
        cause: cause(wire.cause)?,
    }))
}

fn condition(wire: proto::Condition) -> Option<Result<Condition, UnknownValue>> {
    let kind = *KINDS.iter().find(|kind| kind.as_str() == wire.r#type)?;
    let holds = match proto::ConditionStatus::try_from(wire.status) {
        Ok(proto::ConditionStatus::True) => true,
        Ok(proto::ConditionStatus::False) => false,
        _ => return Some(Err(unknown("condition.status", &wire.status))),
    };
    let since = match time(wire.transition_time) {
        Ok(since) => since,
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(Condition {
        kind,
        holds,
        reason: kept(wire.reason),
        message: wire.message.into(),
        since,
    }))
}

fn name(text: &str) -> Result<ProcessName, UnknownValue> {
    ProcessName::new(text).map_err(|_| unknown("waiting_on", &text))
}

fn among<T: Copy>(
    field: &'static str,
    text: &str,
    table: &[T],
    written: fn(T) -> &'static str,
) -> Result<T, UnknownValue> {
    let found = table.iter().find(|value| written(**value) == text);
    found.copied().ok_or_else(|| unknown(field, &text))
}

fn time(wire: Option<prost_types::Timestamp>) -> Result<Timestamp, UnknownValue> {
    let Some(wire) = wire else {
        return Ok(Timestamp::default());
    };
    let seconds = wire.seconds.checked_mul(1_000_000_000);
    let nanos = seconds.and_then(|seconds| seconds.checked_add(i64::from(wire.nanos)));
    nanos
        .map(Timestamp)
        .ok_or_else(|| unknown("a time", &wire.seconds))
}

fn duration(wire: Option<prost_types::Duration>) -> Result<Duration, UnknownValue> {
    let wire = wire.unwrap_or_default();
    let seconds = u64::try_from(wire.seconds);
    let nanos = u32::try_from(wire.nanos);
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(unknown("cpu_time", &wire.seconds)),
    }
}

/// A text that lives as long as the program. There are few different ones, and
/// they are bounded.
fn kept(reason: String) -> &'static str {
    static REASONS: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut reasons = REASONS.lock().unwrap_or_else(PoisonError::into_inner);
    let reasons = reasons.get_or_insert_with(HashSet::new);
    if let Some(known) = reasons.get(reason.as_str()) {
        return known;
    }
    if reasons.len() >= REASONS_MAX {
        return REASON_OTHER;
    }
    let text: &'static str = Box::leak(reason.into_boxed_str());
    reasons.insert(text);
    text
}

fn unknown(field: &'static str, value: &dyn std::fmt::Display) -> UnknownValue {
    let value = value.to_string();
    UnknownValue { field, value }
}
