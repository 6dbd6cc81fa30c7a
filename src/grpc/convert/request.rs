//! What requests have in common: guards, waits, rollouts.

use std::time::Duration;

use super::{Faults, process, spec};
use crate::{
    domain::{
        admission::Precondition,
        id::{ProcessName, Uid},
        spec::StopPolicy,
        wait::Condition,
    },
    grpc::proto,
    supervisor::{Rollout, Target},
};

/// Longest wait, and the default.
pub const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A process and its guards, as a request names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// For the supervisor.
    pub target: Target,
    /// Epoch that the caller expects; empty: any.
    pub epoch: String,
}

/// "Then wait".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Then {
    /// For what; `None`: for nothing.
    pub condition: Option<Condition>,
    /// At most this long.
    pub timeout: Duration,
}

// === impl Then ===

impl Then {
    /// What was only validated leads to nothing that could be waited for.
    #[must_use]
    pub fn unless(self, validate_only: bool) -> Self {
        Self {
            condition: self.condition.filter(|_| !validate_only),
            ..self
        }
    }
}

/// Takes a name and its guards; the etag may be empty. `None` only with a fault
/// noted.
pub fn guarded(
    name: &str,
    etag: &str,
    precondition: Option<&proto::Precondition>,
    faults: &mut Faults,
) -> Option<Guarded> {
    let name = faults.name("name", name);
    let guard = precondition.cloned().unwrap_or_default();
    let mut wanted = Precondition {
        uid: faults
            .uuid("precondition.uid", &guard.uid)
            .map(|uid| uid.hyphenated().to_string()),
        version: guard.version,
        generation: guard.generation,
        run_id: guard.run_id,
    };
    if !etag.is_empty() {
        self::etag(etag, &mut wanted, faults);
    }
    Some(Guarded {
        target: Target {
            name: name?,
            guard: wanted,
        },
        epoch: guard.epoch,
    })
}

/// An etag is a guard of incarnation and generation.
fn etag(etag: &str, wanted: &mut Precondition, faults: &mut Faults) {
    let Some((uid, generation)) = process::parse_etag(etag) else {
        faults.add("etag", "is not from this daemon; read the process again");
        return;
    };
    let differs = wanted.uid.as_ref().is_some_and(|other| *other != uid)
        || wanted.generation.is_some_and(|other| other != generation);
    if differs {
        faults.add("etag", "contradicts the precondition; send one of them");
        return;
    }
    wanted.uid = Some(uid);
    wanted.generation = Some(generation);
}

/// Takes wait options; absent: no wait.
pub fn then(options: Option<&proto::WaitOptions>, faults: &mut Faults) -> Then {
    let Some(options) = options else {
        return Then {
            condition: None,
            timeout: WAIT_MAX,
        };
    };
    Then {
        condition: faults
            .known("wait.condition", options.condition)
            .and_then(condition),
        timeout: timeout("wait.timeout", options.timeout.as_ref(), faults),
    }
}

/// How long to wait: the default, or what is asked for within it.
pub fn timeout(
    field: &str,
    value: Option<&prost_types::Duration>,
    faults: &mut Faults,
) -> Duration {
    faults
        .duration(field, value)
        .unwrap_or(WAIT_MAX)
        .min(WAIT_MAX)
}

/// A wait condition; `None` for UNSPECIFIED.
#[must_use]
pub fn condition(condition: proto::WaitCondition) -> Option<Condition> {
    match condition {
        proto::WaitCondition::Unspecified => None,
        proto::WaitCondition::Running => Some(Condition::Running),
        proto::WaitCondition::Ready => Some(Condition::Ready),
        proto::WaitCondition::Exited => Some(Condition::Exited),
        proto::WaitCondition::Succeeded => Some(Condition::Succeeded),
        proto::WaitCondition::Settled => Some(Condition::Settled),
        proto::WaitCondition::Deleted => Some(Condition::Deleted),
    }
}

/// A policy for this one stop.
pub fn stop(policy: Option<&proto::StopPolicy>, faults: &mut Faults) -> StopPolicy {
    let at = "stop_policy";
    let policy = spec::stop_policy(&policy.copied().unwrap_or_default(), at, faults);
    if let Err(found) = policy.validate(at) {
        faults.extend(found);
    }
    policy
}

/// What a running process does about a changed spec.
pub fn rollout(mode: i32, faults: &mut Faults) -> Rollout {
    match faults.known("rollout", mode) {
        None | Some(proto::RolloutMode::Unspecified | proto::RolloutMode::NextStart) => {
            Rollout::NextStart
        }
        Some(proto::RolloutMode::RestartIfNeeded) => Rollout::RestartIfNeeded,
        Some(proto::RolloutMode::Rolling) => {
            faults.absent(true, "rolling", "rollout");
            Rollout::NextStart
        }
    }
}

/// An incarnation; `None` for an empty text.
pub fn uid(field: &str, text: &str, faults: &mut Faults) -> Option<Uid> {
    faults
        .uuid(field, text)
        .map(|uid| Uid::from_bytes(uid.into_bytes()))
}

/// The one process a request names. `None` only with a fault noted.
pub fn name(text: &str, faults: &mut Faults) -> Option<ProcessName> {
    faults.name("name", text)
}
