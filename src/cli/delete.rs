//! `delete`: stops processes and removes them.

use super::{
    args::DeleteArgs,
    client::{self, Client},
    control::{self, outcome},
    each,
    errors::CliError,
    exit_code::ExitCode,
    list,
    render::{json, text},
    selector::{Empty, Selection},
    session::Session,
};
use crate::grpc::proto::{self, WaitCondition, WaitOutcome};

pub(crate) async fn delete(
    args: &DeleteArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let selection = Selection::parse(&args.select, Empty::Refused)?;
    if let Some(name) = selection.single_name() {
        let answer = one(session.client.clone(), request(args, name), args).await?;
        return tell(&answer, args, session);
    }
    let selector = selection.resolve(&mut session.client).await?;
    let listed = list::list(&mut session.client, &selector, &["name"])
        .await?
        .processes;
    if !args.allow_missing {
        selection.require(&list::name_set(&listed))?;
    }
    let names: Vec<String> = listed.into_iter().map(|process| process.name).collect();
    let client = session.client.clone();
    let call = |name: String| one(client.clone(), request(args, &name), args);
    each::each(&names, call, session, |answer, session| {
        tell(&answer, args, session)
    })
    .await
}

/// Deletes `name`, stopping it as configured, and waits until it is gone.
pub(crate) fn plain_request(
    name: &str,
    wait: Option<proto::WaitOptions>,
) -> proto::DeleteProcessRequest {
    proto::DeleteProcessRequest {
        name: name.to_owned(),
        request_id: client::request_id(),
        wait,
        ..proto::DeleteProcessRequest::default()
    }
}

fn request(args: &DeleteArgs, name: &str) -> proto::DeleteProcessRequest {
    // Present with UNSPECIFIED: answer once the deletion is durable.
    let wait = match args.wait.no_wait {
        true => proto::WaitOptions::default(),
        false => control::wait_options(WaitCondition::Deleted, args.wait.timeout),
    };
    proto::DeleteProcessRequest {
        allow_missing: args.allow_missing,
        only_if_stopped: args.only_if_stopped,
        stop_policy: control::stop_policy(&args.stop),
        ..plain_request(name, Some(wait))
    }
}

async fn one(
    mut client: Client,
    request: proto::DeleteProcessRequest,
    args: &DeleteArgs,
) -> Result<(String, proto::DeleteProcessResponse), CliError> {
    let name = request.name.clone();
    let call = client::waiting_call(request, Some(args.wait.timeout));
    let response = client.delete_process(call).await?.into_inner();
    Ok((name, response))
}

fn tell(
    (name, response): &(String, proto::DeleteProcessResponse),
    args: &DeleteArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let outcome = response.wait_outcome();
    if matches!(outcome, WaitOutcome::TimedOut | WaitOutcome::Unsatisfiable) {
        let json = session.out.is_json();
        let done = outcome::Done::new(name, response, response.process.clone(), outcome, json)?;
        return outcome::report(&done, Some(args.wait.timeout), session);
    }
    if session.out.is_json() {
        session.out.line(&json::to_json(response, false)?)?;
    } else {
        let said = match (&response.process, args.wait.no_wait) {
            (None, _) => "did not exist",
            (Some(_), true) => "being deleted",
            (Some(_), false) => "deleted",
        };
        session.out.line(&format!("{}: {said}", text::line(name)))?;
    }
    Ok(ExitCode::Ok)
}
