//! `down`: ends the daemon, with or without its processes.

use std::{io::ErrorKind, path::Path, time::Duration};

use tokio::{net::UnixStream, time::Instant};

use super::{
    args::DownArgs, client, errors::CliError, exit_code::ExitCode, render::time, session::Session,
};
use crate::grpc::proto::{self, ShutdownMode};

/// Time between two looks at whether the daemon still listens.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) async fn down(args: &DownArgs, session: &mut Session<'_>) -> Result<ExitCode, CliError> {
    let mode = match args.keep_processes {
        true => ShutdownMode::KeepProcesses,
        false => ShutdownMode::StopProcesses,
    };
    let request = client::call(proto::ShutdownServerRequest { mode: mode.into() });
    let response = session.client.shutdown_server(request).await?.into_inner();
    if session.out.is_json() {
        session.out.json(&response)?;
    }
    let deadline = Instant::now() + args.timeout;
    while is_listening(&session.socket).await {
        if Instant::now() >= deadline {
            let waited = time::age(args.timeout);
            session
                .err
                .say(&format!("error: the daemon is still there after {waited}"));
            session
                .err
                .say("hint: `procession ps` shows what it is waiting for");
            return Ok(ExitCode::TimedOut);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    if !session.out.is_json() {
        session.out.line(match args.keep_processes {
            true => "the daemon has ended; its processes are left running",
            false => "every process is stopped and the daemon has ended",
        })?;
    }
    Ok(ExitCode::Ok)
}

/// Whether somebody accepts connections on `socket`. Only what proves that nobody
/// does counts; a busy daemon is still there.
async fn is_listening(socket: &Path) -> bool {
    match UnixStream::connect(socket).await {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused
        ),
    }
}
