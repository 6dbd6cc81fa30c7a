//! `explain NAME`: the causal chain behind a state.

use super::{
    args::ExplainArgs,
    client,
    errors::CliError,
    exit_code::ExitCode,
    render::{change, text, time},
    session::Session,
};
use crate::grpc::proto;

pub(crate) async fn explain(
    args: &ExplainArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let request = proto::ExplainProcessRequest {
        name: args.name.clone(),
        max_events: args.max_events,
    };
    let response = session
        .client
        .explain_process(client::call(request))
        .await?
        .into_inner();
    if session.out.is_json() {
        session.out.json(&response)?;
        return Ok(ExitCode::Ok);
    }
    session.out.line(&text::line(&response.summary))?;
    for blocker in &response.blockers {
        session.out.line(&describe_blocker(blocker))?;
    }
    if !response.next_action.is_empty() {
        session.out.line(&next(&response, session))?;
    }
    if response.events.is_empty() {
        return Ok(ExitCode::Ok);
    }
    session.out.line("\nNewest first:")?;
    for (index, event) in response.events.iter().enumerate() {
        if let Some(new) = &event.process {
            let older = response
                .events
                .get(index + 1)
                .and_then(|event| event.process.as_ref());
            let palette = session.out.palette();
            session.out.line(&change::line(
                change::Change::Event(event),
                older,
                new,
                palette,
            ))?;
        }
    }
    Ok(ExitCode::Ok)
}

fn describe_blocker(blocker: &proto::Blocker) -> String {
    let parts = [
        blocker.reason.as_str(),
        blocker.name.as_str(),
        blocker.message.as_str(),
    ];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("blocked by {}", text::line(&parts.join(": ")))
}

fn next(response: &proto::ExplainProcessResponse, session: &Session<'_>) -> String {
    let action = text::line(&response.next_action);
    match &response.next_action_time {
        Some(when) => {
            let wait = time::age(time::until(when, session.out.now()));
            format!("next: {action} in {wait} ({})", time::instant(when))
        }
        None => format!("next: {action}"),
    }
}
