//! `wait`: blocks until a condition holds. Without a timeout it asks again for as
//! long as it takes, each time from the revision judged last, so that a state that
//! lasts a millisecond between two calls is not missed.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    args::{WaitArgs, WaitFor},
    client,
    control::outcome,
    errors::CliError,
    exit_code::ExitCode,
    render::{text, time},
    session::Session,
};
use crate::grpc::proto::{self, WaitCondition, WaitOutcome};

/// One call waits at most this long; the daemon's own bound is an hour.
const ONE_CALL_MAX: Duration = Duration::from_secs(600);

pub(crate) async fn wait(args: &WaitArgs, session: &mut Session<'_>) -> Result<ExitCode, CliError> {
    let begun = Instant::now();
    let mut min_revision = 0;
    let mut uid = String::new();
    loop {
        let left = args
            .timeout
            .map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let timeout = left.unwrap_or(ONE_CALL_MAX).min(ONE_CALL_MAX);
        let request = proto::WaitProcessRequest {
            name: args.name.clone(),
            condition: condition(args.condition).into(),
            min_revision,
            timeout: Some(time::wire(timeout)),
            uid: uid.clone(),
            ..proto::WaitProcessRequest::default()
        };
        let call = client::waiting_call(request, Some(timeout));
        let response = match session.client.wait_process(call).await {
            Ok(response) => response.into_inner(),
            // It is gone, whether it went before or during this command.
            Err(status) if is_gone(&status, args) => gone(),
            Err(status) => return Err(status.into()),
        };
        let is_over = left.is_some_and(|left| left <= timeout);
        if response.outcome() == WaitOutcome::TimedOut && !is_over {
            min_revision = response
                .header
                .map_or(min_revision, |header| header.revision);
            uid = response.process.map_or(uid, |process| process.uid);
            continue;
        }
        let (wanted, json) = (response.outcome(), session.out.is_json());
        let process = response.process.clone();
        let wanted_gone = wanted == WaitOutcome::Satisfied && process.is_none();
        if wanted_gone && args.condition == WaitFor::Deleted && !json {
            let name = text::line(&args.name);
            session.out.line(&format!("{name}: does not exist"))?;
            return Ok(ExitCode::Ok);
        }
        let done = outcome::Done::new(&args.name, &response, process, wanted, json)?;
        return outcome::report(&done, args.timeout, session);
    }
}

fn is_gone(status: &tonic::Status, args: &WaitArgs) -> bool {
    args.condition == WaitFor::Deleted && status.code() == tonic::Code::NotFound
}

/// What the daemon says of a process that went during the call.
fn gone() -> proto::WaitProcessResponse {
    proto::WaitProcessResponse {
        outcome: WaitOutcome::Satisfied.into(),
        ..proto::WaitProcessResponse::default()
    }
}

/// The wire form of `condition`.
pub(crate) fn condition(condition: WaitFor) -> WaitCondition {
    match condition {
        WaitFor::Running => WaitCondition::Running,
        WaitFor::Ready => WaitCondition::Ready,
        WaitFor::Exited => WaitCondition::Exited,
        WaitFor::Succeeded => WaitCondition::Succeeded,
        WaitFor::Settled => WaitCondition::Settled,
        WaitFor::Deleted => WaitCondition::Deleted,
    }
}
