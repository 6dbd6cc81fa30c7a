//! What messages and records are made of.
//!
//! Invariants as in `protocol`: reading never panics; a field once written is
//! never written in another way.

use std::time::Duration;

use crate::{
    domain::{
        run::{Exit, Outcome, OutputState, SignalScope, SpawnError, StopPlan, UnknownReason},
        time::Timestamp,
    },
    shim::codec::{DecodeError, Reader, Writer},
};

const TEXT_BYTES_MAX: usize = 4 * 1024;

pub(crate) fn write_plan(w: &mut Writer, plan: &StopPlan) {
    w.i32(plan.signal);
    w.u8(scope_number(plan.scope));
    write_duration(w, plan.grace);
    write_duration(w, plan.kill_timeout);
}

pub(crate) fn read_plan(r: &mut Reader<'_>) -> Result<StopPlan, DecodeError> {
    Ok(StopPlan {
        signal: r.i32()?,
        scope: read_scope(r)?,
        grace: Duration::from_nanos(r.u64()?),
        kill_timeout: Duration::from_nanos(r.u64()?),
    })
}

pub(super) fn write_spawn_error(w: &mut Writer, error: &SpawnError) {
    w.i32(error.errno);
    w.bytes(cut(&error.message).as_bytes());
}

pub(super) fn read_spawn_error(r: &mut Reader<'_>) -> Result<SpawnError, DecodeError> {
    Ok(SpawnError {
        errno: r.i32()?,
        message: r.string()?.into(),
    })
}

pub(crate) fn write_exit(w: &mut Writer, exit: &Exit) {
    match &exit.outcome {
        Outcome::Code(code) => {
            w.u8(1);
            w.u8(*code);
        }
        Outcome::Signal(number) => {
            w.u8(2);
            w.i32(*number);
        }
        Outcome::SpawnError(error) => {
            w.u8(3);
            write_spawn_error(w, error);
        }
        Outcome::Unknown(reason) => {
            w.u8(4);
            w.u8(match reason {
                UnknownReason::Reboot => 1,
                UnknownReason::Lost => 2,
            });
        }
    }
    w.bool(exit.core_dumped);
    w.bool(exit.oom_killed);
    w.i64(exit.at.0);
    write_duration(w, exit.cpu_time);
    w.i64(exit.max_rss_bytes);
}

pub(crate) fn read_exit(r: &mut Reader<'_>) -> Result<Exit, DecodeError> {
    let outcome = match r.u8()? {
        1 => Outcome::Code(r.u8()?),
        2 => Outcome::Signal(r.i32()?),
        3 => Outcome::SpawnError(read_spawn_error(r)?),
        4 => Outcome::Unknown(match r.u8()? {
            1 => UnknownReason::Reboot,
            2 => UnknownReason::Lost,
            _ => return Err(DecodeError::Value("reason")),
        }),
        _ => return Err(DecodeError::Value("outcome")),
    };
    Ok(Exit {
        outcome,
        core_dumped: r.bool()?,
        oom_killed: r.bool()?,
        at: Timestamp(r.i64()?),
        cpu_time: Duration::from_nanos(r.u64()?),
        max_rss_bytes: r.i64()?,
    })
}

pub(super) fn write_output_state(w: &mut Writer, state: OutputState) {
    match state {
        OutputState::Intact => w.u8(1),
        OutputState::Blocked { errno } => {
            w.u8(2);
            w.i32(errno);
        }
        OutputState::Dropped { bytes } => {
            w.u8(3);
            w.u64(bytes);
        }
    }
}

pub(super) fn read_output_state(r: &mut Reader<'_>) -> Result<OutputState, DecodeError> {
    Ok(match r.u8()? {
        1 => OutputState::Intact,
        2 => OutputState::Blocked { errno: r.i32()? },
        3 => OutputState::Dropped { bytes: r.u64()? },
        _ => return Err(DecodeError::Value("state")),
    })
}

pub(super) fn scope_number(scope: SignalScope) -> u8 {
    match scope {
        SignalScope::Main => 1,
        SignalScope::Group => 2,
        SignalScope::Cgroup => 3,
        SignalScope::Tree => 4,
    }
}

pub(super) fn read_scope(r: &mut Reader<'_>) -> Result<SignalScope, DecodeError> {
    Ok(match r.u8()? {
        1 => SignalScope::Main,
        2 => SignalScope::Group,
        3 => SignalScope::Cgroup,
        4 => SignalScope::Tree,
        _ => return Err(DecodeError::Value("scope")),
    })
}

/// Nanoseconds; 584 years and more are 584 years.
pub(super) fn write_duration(w: &mut Writer, duration: Duration) {
    w.u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
