//! What the supervisor did, to the wire.

use prost::Message;
use tonic::Status;
use tonic_types::pb;

use crate::{
    grpc::proto,
    supervisor::{Configured, Outcome},
};

/// What a configuration call did to one process.
#[must_use]
pub fn plan(done: &Configured) -> proto::ChangePlan {
    let restarts = done.live && done.changes.iter().any(|change| change.needs_restart);
    let action = match done.outcome {
        Outcome::Created => proto::ChangeAction::Create,
        Outcome::Pruned => proto::ChangeAction::Delete,
        Outcome::Unchanged => proto::ChangeAction::None,
        Outcome::Updated if restarts => proto::ChangeAction::Restart,
        Outcome::Updated => proto::ChangeAction::LiveUpdate,
    };
    let paths = |forcing: bool| {
        let chosen = done.changes.iter().filter(|c| !forcing || c.needs_restart);
        chosen.map(|change| change.path.to_owned()).collect()
    };
    proto::ChangePlan {
        action: action.into(),
        changed_paths: paths(false),
        forcing_paths: if action == proto::ChangeAction::Restart {
            paths(true)
        } else {
            Vec::new()
        },
        deferred: done.deferred,
    }
}

/// What happened to one process.
#[must_use]
pub fn outcome(outcome: Outcome) -> proto::ApplyOutcome {
    match outcome {
        Outcome::Created => proto::ApplyOutcome::Created,
        Outcome::Updated => proto::ApplyOutcome::Updated,
        Outcome::Unchanged => proto::ApplyOutcome::Unchanged,
        Outcome::Pruned => proto::ApplyOutcome::Pruned,
    }
}

/// A status within a response.
#[must_use]
pub fn item_status(result: Result<(), &Status>) -> pb::Status {
    match result {
        Ok(()) => pb::Status::default(),
        Err(status) => pb::Status::decode(status.details())
            .ok()
            .filter(|inner| inner.code != 0)
            .unwrap_or_else(|| pb::Status {
                code: status.code().into(),
                message: status.message().to_owned(),
                details: Vec::new(),
            }),
    }
}
