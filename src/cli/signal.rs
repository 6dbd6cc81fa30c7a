//! `signal`: one signal to each process that is named.

use super::{
    args::{ScopeArg, SignalArgs, values::SignalArg},
    client,
    client::Client,
    each,
    errors::CliError,
    exit_code::ExitCode,
    list,
    render::{json, text},
    selector::Selection,
    session::Session,
};
use crate::grpc::proto::{self, SignalScope, signal_process_request::TargetSignal};

pub(crate) async fn signal(
    args: &SignalArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let selection = Selection::one(&args.target)?;
    if let Some(name) = selection.single_name() {
        let answer = send(session.client.clone(), args, name.to_owned()).await?;
        return tell(&answer, session);
    }
    let selector = selection.resolve(&mut session.client).await?;
    let names = list::names(&mut session.client, &selection, &selector).await?;
    let client = session.client.clone();
    each::each(
        &names,
        |name| send(client.clone(), args, name),
        session,
        |answer, session| tell(&answer, session),
    )
    .await
}

async fn send(
    mut client: Client,
    args: &SignalArgs,
    name: String,
) -> Result<(String, proto::SignalProcessResponse), CliError> {
    let request = proto::SignalProcessRequest {
        name: name.clone(),
        target_signal: Some(match args.signal {
            SignalArg::Named(signal) => TargetSignal::Signal(signal.into()),
            SignalArg::Number(number) => TargetSignal::SignalNumber(number),
        }),
        scope: args.scope.map_or(SignalScope::Unspecified, scope).into(),
        precondition: None,
        request_id: client::request_id(),
    };
    let answer = client
        .signal_process(client::call(request))
        .await?
        .into_inner();
    Ok((name, answer))
}

fn tell(
    (name, answer): &(String, proto::SignalProcessResponse),
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    match session.out.is_json() {
        true => session.out.line(&json::to_json(answer, false)?)?,
        false => session.out.line(&format!(
            "{}: run {} signalled",
            text::line(name),
            answer.run_id
        ))?,
    }
    Ok(ExitCode::Ok)
}

fn scope(arg: ScopeArg) -> SignalScope {
    match arg {
        ScopeArg::Main => SignalScope::MainProcess,
        ScopeArg::Group => SignalScope::ProcessGroup,
        ScopeArg::Cgroup => SignalScope::Cgroup,
        ScopeArg::Tree => SignalScope::Tree,
    }
}
