//! Conditions that are about one run: how its output is kept, and whether it could
//! be taken over.
//!
//! Invariants: they say nothing until there is something to say; output that was
//! thrown away stays told of until the next run begins; a condition never says
//! that a run is out of reach once it was heard of.

use std::time::Duration;

use super::super::{
    lifecycle::Lifecycle,
    run::{OutputHealth, OutputState},
    status::{Cause, Condition, ConditionKind},
    time::Now,
};

const BLOCKED: &str = "BLOCKED";
const DROPPED: &str = "DROPPED";
const UNRESPONSIVE: &str = "UNRESPONSIVE";

/// How the output of the live run is kept now.
pub(super) fn output(life: &mut Lifecycle, health: OutputHealth, now: Now) {
    let kind = ConditionKind::LogsIntact;
    let old = life.condition(kind).map(|old| old.reason);
    let approximate = health.approximate_bytes;
    let (holds, reason, message) = match health.state {
        OutputState::Dropped { bytes } => (false, DROPPED, dropped(bytes)),
        // What is lost does not come back with a shim that lost nothing.
        _ if old == Some(DROPPED) => return,
        OutputState::Blocked { errno } => (false, BLOCKED, blocked(errno)),
        OutputState::Intact if approximate > 0 => (true, "APPROXIMATE", timeless(approximate)),
        OutputState::Intact if old.is_none() => return,
        OutputState::Intact => (true, "INTACT", String::new()),
    };
    life.cause = Cause::SUPERVISOR;
    life.set_condition(kind, holds, reason, message, now);
}

/// Who holds the live run has not answered for `silence`.
pub(super) fn unresponsive(life: &mut Lifecycle, silence: Duration, now: Now) {
    let message = format!(
        "its shim has not answered for {silence:?}: the run may live, but no signal reaches it; \
         if the shim is stopped, continue it; if it hangs, kill it, and the run gets another one; \
         if its run directory cannot be read, the daemon's log says why"
    );
    life.cause = Cause::SUPERVISOR;
    life.set_condition(ConditionKind::Adopted, false, UNRESPONSIVE, message, now);
}

/// The live run was heard of, or there is none.
pub(super) fn answered(life: &mut Lifecycle) {
    let is_silent = |c: &Condition| c.kind == ConditionKind::Adopted && c.reason == UNRESPONSIVE;
    life.set_details(|details| details.conditions.retain(|c| !is_silent(c)));
}

/// Nothing of the run lives, so nothing of it waits or is to be taken over.
pub(super) fn ended(life: &mut Lifecycle, now: Now) {
    answered(life);
    let kind = ConditionKind::LogsIntact;
    if life.condition(kind).is_some_and(|c| c.reason == BLOCKED) {
        let message = "its last output was not stored when it ended; its shim tries until there \
                       is room where the logs are";
        life.set_condition(kind, false, BLOCKED, message.to_owned(), now);
    }
}

/// Another run begins, of which nothing is known yet.
pub(super) fn forget(life: &mut Lifecycle) {
    let of_run = [ConditionKind::Adopted, ConditionKind::LogsIntact];
    life.set_details(|details| details.conditions.retain(|c| !of_run.contains(&c.kind)));
}

fn blocked(errno: i32) -> String {
    let error = std::io::Error::from_raw_os_error(errno);
    format!(
        "its output cannot be stored ({error}), so the run waits when it writes and nothing is \
         lost; make room where the logs are, or set log_policy.full_action to DROP"
    )
}

fn dropped(bytes: u64) -> String {
    format!(
        "at least {bytes} bytes of output of this run could not be stored and were dropped; gaps \
         in its log count them all; make room where the logs are, or set log_policy.full_action \
         to BLOCK, so that it waits and loses nothing more"
    )
}

fn timeless(bytes: u64) -> String {
    format!(
        "nothing is missing, but {bytes} bytes were taken over from a shim that was killed, so \
         their times are those of the takeover"
    )
}
