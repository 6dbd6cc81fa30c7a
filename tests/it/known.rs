//! What clients were told, against what a later daemon says.
#![allow(clippy::print_stdout, reason = "calls that got no answer")]

use std::collections::BTreeMap;

use procession::grpc::proto::{self, ConditionStatus, DesiredState as Desired, Process};

use crate::{
    chance::Dice,
    daemon::{
        calls::{condition, status},
        support::Client,
    },
};

/// Of one process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    /// The last that was acknowledged; `None`: it does not exist.
    acked: Option<Desired>,
    /// It may be one of these instead: asked for since, and refused or not answered.
    may: Vec<Option<Desired>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Kept,
    /// Nothing was done.
    Refused,
    /// Refused because it could not be kept, or done and said not to be kept.
    NotKept,
    /// The daemon went away.
    Gone,
}

// === impl Known ===

impl Known {
    /// One command on `process`, chosen by `dice`.
    pub(crate) async fn ask(
        &mut self,
        client: &mut Client,
        process: &Process,
        dice: &mut Dice,
    ) -> Answer {
        let (wanted, result) = command_once(client, process, dice, self.acked.is_some()).await;
        let answer = match &result {
            Ok(process) => match process.as_ref().map(|p| &status(p).conditions) {
                Some(of) if condition(of, "IntentDurable") == Some(ConditionStatus::False) => {
                    Answer::NotKept
                }
                _ => Answer::Kept,
            },
            Err(status) => answer(status),
        };
        match answer {
            Answer::Kept => {
                self.acked = wanted;
                self.may.clear();
            }
            Answer::Refused => {}
            Answer::NotKept | Answer::Gone => self.may.push(wanted),
        }
        answer
    }

    /// The last answer came too late to rely on: it only may be so, as `before` it.
    /// Whether it told of a change.
    pub(crate) fn doubt(&mut self, mut before: Self) -> bool {
        let told = self.acked;
        let change = before.acked != told && !before.may.contains(&told);
        before.may.push(told);
        *self = before;
        change
    }

    /// What is found must be what was told; it is known from now on.
    pub(crate) fn check(&mut self, found: Option<Desired>, what: &str) {
        let holds = found == self.acked || self.may.contains(&found);
        assert!(holds, "{what}: {found:?}, known {self:?}");
        self.acked = found;
        self.may.clear();
    }
}

fn answer(status: &tonic::Status) -> Answer {
    use tonic::Code;
    match status.code() {
        Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            Answer::Refused
        }
        _ if read_only(status) => Answer::NotKept,
        _ => {
            println!("no answer: {status}");
            Answer::Gone
        }
    }
}

/// Whether the reason is STORE_READ_ONLY.
pub(crate) fn read_only(status: &tonic::Status) -> bool {
    let reason = b"STORE_READ_ONLY";
    status.details().windows(reason.len()).any(|w| w == reason)
}

async fn command_once(
    client: &mut Client,
    process: &Process,
    dice: &mut Dice,
    exists: bool,
) -> (Option<Desired>, Result<Option<Process>, tonic::Status>) {
    let name = process.name.clone();
    match (exists, dice.throw(4)) {
        (false, _) => {
            let request = proto::CreateProcessRequest {
                process: Some(process.clone()),
                ..Default::default()
            };
            let result = client.create_process(request).await;
            (
                Some(Desired::Running),
                result.map(|r| r.into_inner().process),
            )
        }
        (true, 0) => {
            let request = proto::DeleteProcessRequest {
                name,
                ..Default::default()
            };
            (None, client.delete_process(request).await.map(|_| None))
        }
        (true, 1 | 2) => {
            let request = proto::StopProcessRequest {
                name,
                ..Default::default()
            };
            let result = client.stop_process(request).await;
            (
                Some(Desired::Stopped),
                result.map(|r| r.into_inner().process),
            )
        }
        (true, _) => {
            let request = proto::StartProcessRequest {
                name,
                ..Default::default()
            };
            let result = client.start_process(request).await;
            (
                Some(Desired::Running),
                result.map(|r| r.into_inner().process),
            )
        }
    }
}

/// By name; what is being deleted counts as gone.
pub(crate) async fn desired(client: &mut Client) -> BTreeMap<String, Desired> {
    let request = proto::ListProcessesRequest::default();
    let listed = client.list_processes(request).await.unwrap().into_inner();
    let all = listed.processes.iter();
    all.map(|p| (p.name.clone(), status(p).desired_state()))
        .filter(|(_, desired)| *desired != Desired::Deleted)
        .collect()
}
