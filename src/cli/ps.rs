//! `ps` and `get`: what is there now.

use super::{
    args::{GetArgs, PsArgs},
    client,
    errors::CliError,
    exit_code::ExitCode,
    list,
    render::process,
    selector::{Empty, Selection},
    session::Session,
};
use crate::grpc::proto;

/// What the columns need.
pub(crate) const FIELDS: &[&str] = &["name", "labels", "group", "status"];
const WIDE_FIELDS: &[&str] = &["name", "labels", "group", "status", "spec.command"];

pub(crate) async fn ps(args: &PsArgs, session: &mut Session<'_>) -> Result<ExitCode, CliError> {
    let selection = Selection::parse(&args.select, Empty::All)?;
    let selector = selection.resolve(&mut session.client).await?;
    let fields: &[&str] = match (session.out.is_json(), session.out.is_wide()) {
        (true, _) => &[],
        (false, true) => WIDE_FIELDS,
        (false, false) => FIELDS,
    };
    let listed = list::list(&mut session.client, &selector, fields).await?;
    if session.out.is_json() {
        session.out.json(&listed)?;
    } else if listed.processes.is_empty() && selection.is_everything() {
        session
            .err
            .say("there are no processes; `procession apply FILE` makes some");
    } else if !listed.processes.is_empty() {
        let now = session.out.now();
        session.out.table(&process::table(
            &listed.processes,
            session.out.is_wide(),
            now,
        ))?;
    }
    selection.require(&list::name_set(&listed.processes))?;
    let all_running = listed.processes.iter().all(process::is_running);
    Ok(match selection.is_everything() || all_running {
        true => ExitCode::Ok,
        false => ExitCode::NotRunning,
    })
}

pub(crate) async fn get(args: &GetArgs, session: &mut Session<'_>) -> Result<ExitCode, CliError> {
    let request = proto::GetProcessRequest {
        name: args.name.clone(),
        read_mask: None,
    };
    let response = session
        .client
        .get_process(client::call(request))
        .await?
        .into_inner();
    if session.out.is_json() {
        session.out.json(&response)?;
    } else if let Some(process) = &response.process {
        let fields = process::describe(process, session.out.now());
        session.out.fields(&fields)?;
    }
    Ok(ExitCode::Ok)
}
