//! Why a process is as it is, in words.
//!
//! Pure: decided from the published state, its past changes and a look at other
//! processes. Deliberately absent: promises; what may happen depends on events.

use std::collections::HashSet;

use super::{observed, process, timestamp};
use crate::{
    domain::{
        id::ProcessName,
        run::{Outcome, UnknownReason},
        status::{Desired, ProcessState, Reason, RunRecord, Stage, State, Status},
    },
    grpc::proto,
    registry::{Before, Change},
    supervisor::ProcessNode,
};

/// Blockers of one answer.
const BLOCKERS_MAX: usize = 100;

/// What happens next by itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Next {
    /// Empty: nothing.
    pub action: String,
    /// When, if that is known.
    pub time: Option<prost_types::Timestamp>,
}

/// One sentence: why it is in its state, and what follows.
#[must_use]
pub fn summary(node: &ProcessNode, next: &Next) -> String {
    let state = node.body();
    let status = &state.status;
    let mut text = format!("{} is {}", state.name(), status.state.as_str());
    text.push_str(&because(status));
    match (next.action.as_str(), next.time.is_some()) {
        ("", _) if status.state.is_settled() => {
            text.push_str("; nothing happens next by itself");
        }
        ("", _) => {}
        (action, false) => text.push_str(&format!("; next: {action}")),
        (action, true) => text.push_str(&format!("; next, at next_action_time: {action}")),
    }
    text.push('.');
    text
}

/// What happens next if nobody does anything.
#[must_use]
pub fn next(status: &Status) -> Next {
    let (action, time) = match status.state {
        State::Backoff => (
            format!("start run {}", status.run_id + 1),
            status.next_start_time,
        ),
        State::Pending => {
            let names = join(&status.details.waiting_on);
            let action = format!("start run {} once {names} allows it", status.run_id + 1);
            (action, status.next_start_time)
        }
        State::Starting if status.deadline_time.0 != 0 => {
            let action = format!("stop run {} unless it has started", status.run_id);
            (action, status.deadline_time)
        }
        State::Stopping => {
            let run = status.run_id;
            let action = match status.stage {
                Stage::Kill | Stage::Reap => format!("give up on run {run} if it survives"),
                Stage::None | Stage::Spawn | Stage::Probe | Stage::Signal => {
                    format!("send SIGKILL to what is left of run {run}")
                }
            };
            (action, status.deadline_time)
        }
        State::Starting
        | State::Stopped
        | State::Running
        | State::Reloading
        | State::Paused
        | State::Succeeded
        | State::Failed
        | State::Unknown => return Next::default(),
    };
    Next {
        action,
        time: timestamp(time),
    }
}

/// What keeps `node` from its desired state: its own hold, then what holds that,
/// through every dependency that is itself pending. `look` finds a process.
#[must_use]
pub fn blockers(
    node: &ProcessNode,
    look: impl Fn(&ProcessName) -> Option<ProcessNode>,
) -> Vec<proto::Blocker> {
    let mut blockers = own(node);
    let mut seen = HashSet::from([node.body().name().clone()]);
    let mut queue = node.body().status.details.waiting_on.clone();
    while let Some(name) = queue.pop() {
        if blockers.len() >= BLOCKERS_MAX {
            break;
        }
        if !seen.insert(name.clone()) {
            continue;
        }
        let message = match look(&name) {
            None => format!("{name} does not exist"),
            Some(dependency) => {
                let status = &dependency.body().status;
                queue.extend(status.details.waiting_on.iter().cloned());
                let wanted = if status.desired == Desired::Running {
                    ""
                } else {
                    " and not wanted; start it"
                };
                let why = because(status);
                format!("{name} is {}{why}{wanted}", status.state.as_str())
            }
        };
        blockers.push(proto::Blocker {
            reason: Reason::Dependency.as_str().to_owned(),
            name: name.as_str().to_owned(),
            message,
        });
    }
    blockers
}

/// A past change as an event.
#[must_use]
pub fn event(change: &Change<ProcessState>) -> proto::ProcessEvent {
    let node = &change.node;
    let kind = match (&change.before, node.is_deleted()) {
        (_, true) => proto::ProcessEventKind::Deleted,
        (Before::Absent, false) => proto::ProcessEventKind::Added,
        (Before::State(_) | Before::Unknown { .. }, false) => proto::ProcessEventKind::Changed,
    };
    let state = node.body();
    proto::ProcessEvent {
        kind: kind.into(),
        revision: change.revision.get(),
        process: Some(process::process(node)),
        skipped_versions: change.skipped,
        event_time: timestamp(state.time),
        cause: Some(observed::cause(&state.cause)),
    }
}

/// What it waits for that is no other process.
fn own(node: &ProcessNode) -> Vec<proto::Blocker> {
    let status = &node.body().status;
    let wanted = status.desired == Desired::Running;
    let message = match status.state {
        State::Backoff => "waits before the next run",
        State::Failed if wanted => "failed for good; start or reset it",
        State::Failed if status.reason == Reason::StopFailed => "processes of the run survive",
        State::Stopping => "the run is not gone yet",
        State::Paused => "is paused; resume it",
        State::Pending
        | State::Failed
        | State::Starting
        | State::Stopped
        | State::Running
        | State::Reloading
        | State::Succeeded
        | State::Unknown => return Vec::new(),
    };
    let reason = match status.reason {
        Reason::None => status.state.as_str(),
        reason => reason.as_str(),
    };
    vec![proto::Blocker {
        reason: reason.to_owned(),
        name: String::new(),
        message: message.to_owned(),
    }]
}

fn because(status: &Status) -> String {
    let said = &status.details.message;
    if !said.is_empty() {
        return format!(": {said}");
    }
    match (status.state, status.last_exit()) {
        (State::Backoff | State::Failed | State::Succeeded, Some(record)) => {
            format!(": {}", ending(record))
        }
        (State::Pending, _) => format!(": it waits for {}", join(&status.details.waiting_on)),
        (State::Running, _) => format!(" in run {}", status.run_id),
        (State::Stopped, _) if status.run_id == 0 => ": it was never started".to_owned(),
        (State::Stopped, _) => ": a stop was asked for".to_owned(),
        _ if status.reason != Reason::None => format!(": {}", status.reason.as_str()),
        _ => String::new(),
    }
}

fn ending(record: &RunRecord) -> String {
    let run = record.run_id;
    let oom = if record.exit.oom_killed {
        " for lack of memory"
    } else {
        ""
    };
    match &record.exit.outcome {
        Outcome::Code(code) => format!("run {run} exited with code {code}"),
        Outcome::Signal(number) => format!("run {run} was ended by signal {number}{oom}"),
        Outcome::SpawnError(error) => format!("run {run} could not start: {}", error.message),
        Outcome::Unknown(UnknownReason::Reboot) => format!("run {run} ended with the machine"),
        Outcome::Unknown(UnknownReason::Lost) => format!("how run {run} ended is not known"),
    }
}

fn join(names: &[ProcessName]) -> String {
    let names: Vec<_> = names.iter().map(ProcessName::as_str).collect();
    names.join(", ")
}
