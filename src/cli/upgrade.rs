//! `upgrade`: the daemon becomes the program now installed, in place.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    args::UpgradeArgs,
    client::{self, Client},
    errors::CliError,
    exit_code::ExitCode,
    render::{text, time},
    session::Session,
};
use crate::grpc::proto::{self, GetServerInfoResponse, ShutdownMode};

/// Time between two looks at whether the new daemon answers.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) async fn upgrade(
    args: &UpgradeArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let before = info(&mut session.client).await?;
    let mode = ShutdownMode::Reexec.into();
    let request = client::call(proto::ShutdownServerRequest { mode });
    session.client.shutdown_server(request).await?;
    let asked = Instant::now();
    while asked.elapsed() < args.timeout {
        if let Some(after) = successor(session, &before).await {
            let gap = time::age(asked.elapsed());
            if session.out.is_json() {
                session.out.json(&after)?;
            } else {
                session.out.line(&format!(
                    "{} -> {} after {gap}; the processes run on",
                    text::line(&before.server_version),
                    text::line(&after.server_version),
                ))?;
            }
            return Ok(ExitCode::Ok);
        }
        sleep(LOOK_INTERVAL).await;
    }
    let waited = time::age(args.timeout);
    let remark = format!("error: no new daemon answers after {waited}; its log says why");
    session.err.say(&remark);
    Ok(ExitCode::TimedOut)
}

async fn info(client: &mut Client) -> Result<GetServerInfoResponse, CliError> {
    let request = client::call(proto::GetServerInfoRequest {});
    Ok(client.get_server_info(request).await?.into_inner())
}

/// What the daemon says that came after `before`, if it is there.
async fn successor(
    session: &Session<'_>,
    before: &GetServerInfoResponse,
) -> Option<GetServerInfoResponse> {
    let mut client = client::connect(&session.socket).await.ok()?;
    let after = info(&mut client).await.ok()?;
    let epoch = |info: &GetServerInfoResponse| info.header.as_ref().map(|h| h.epoch.clone());
    (epoch(&after) != epoch(before)).then_some(after)
}
