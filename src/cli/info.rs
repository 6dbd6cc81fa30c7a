//! `info`: who is answering.

use super::{
    client,
    errors::CliError,
    exit_code::ExitCode,
    render::{process, text, time},
    session::Session,
};
use crate::grpc::proto;

pub(crate) async fn info(session: &mut Session<'_>) -> Result<ExitCode, CliError> {
    let request = client::call(proto::GetServerInfoRequest {});
    let response = session.client.get_server_info(request).await?.into_inner();
    if session.out.is_json() {
        session.out.json(&response)?;
    } else {
        let fields = fields(&response, session);
        session.out.fields(&fields)?;
    }
    Ok(ExitCode::Ok)
}

fn fields(info: &proto::GetServerInfoResponse, session: &Session<'_>) -> Vec<(String, String)> {
    let header = info.header.clone().unwrap_or_default();
    let mut fields = vec![
        ("Socket".to_owned(), session.socket.display().to_string()),
        ("Version".to_owned(), text::line(&info.server_version)),
        ("Instance".to_owned(), text::line(&info.instance_id)),
        ("Pid".to_owned(), info.pid.to_string()),
    ];
    if let Some(start) = &info.start_time {
        let age = time::age(time::since(start, session.out.now()));
        fields.push((
            "Started".to_owned(),
            format!("{} ({age} ago)", time::instant(start)),
        ));
    }
    fields.extend([
        ("Epoch".to_owned(), text::line(&header.epoch)),
        (
            "Revision".to_owned(),
            format!("{} (durable {})", header.revision, info.durable_revision),
        ),
        (
            "Resumable".to_owned(),
            format!(
                "after r{} for every change, after r{} for the latest state",
                info.oldest_resumable_revision, info.oldest_resumable_latest_revision
            ),
        ),
        (
            "Capabilities".to_owned(),
            text::line(&info.capabilities.join(" ")),
        ),
        ("Principal".to_owned(), text::line(&info.principal)),
    ]);
    for condition in &info.conditions {
        let label = format!("Condition {}", text::line(&condition.r#type));
        fields.push((label, process::describe_condition(condition)));
    }
    let mut limits: Vec<_> = info.limits.iter().collect();
    limits.sort();
    for (name, value) in limits {
        fields.push((format!("Limit {}", text::line(name)), value.to_string()));
    }
    fields.retain(|(_, value)| !value.is_empty());
    fields
}
