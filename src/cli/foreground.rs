//! What `serve` and `up` share: options to a daemon, what ends it, and how.

use std::{fs, path::Path, sync::Arc, thread};

use nix::unistd::{Gid, Group};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    CliError, ExitCode,
    args::{GlobalArgs, ListenArgs},
    paths::{self, Surroundings},
};
use crate::{
    daemon::{Daemon, Options, Shutdown},
    domain::{id::ProcessName, status::Cause},
    grpc::server::{API_THREADS_MAX, TcpConfig, TlsFiles, UnixConfig},
    supervisor::Ended,
};

/// Why the daemon ends.
#[derive(Debug)]
pub(super) enum Trigger {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// `ShutdownServer`.
    Asked(Shutdown),
    /// A process that `exit_with` names.
    Essential(Ended),
}

/// SIGINT and SIGTERM of this process.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Resolves what the command line says.
///
/// # Errors
/// A group that does not exist, or a TLS file that cannot be used.
pub(super) fn options(
    listen: &ListenArgs,
    global: &GlobalArgs,
    here: Surroundings<'_>,
) -> Result<Options, CliError> {
    let group = listen.socket_group.as_deref().map(group_id).transpose()?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Ok(Options {
        socket: UnixConfig {
            path: paths::socket(global.socket.clone(), here),
            group,
        },
        tcp: tcp(listen)?,
        state_dir: listen
            .state_dir
            .clone()
            .unwrap_or_else(|| paths::default_state_dir(here)),
        api_threads: listen
            .api_threads
            .map_or(cores.min(API_THREADS_MAX), usize::from),
    })
}

fn group_id(text: &str) -> Result<u32, CliError> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(Gid::as_raw(group.gid)),
        Ok(None) | Err(_) => Err(CliError::Usage(format!(
            "--socket-group: there is no group {text:?}"
        ))),
    }
}

fn tcp(listen: &ListenArgs) -> Result<Option<TcpConfig>, CliError> {
    if let Some(address) = listen.insecure_tcp {
        return Ok(Some(TcpConfig { address, tls: None }));
    }
    let (Some(address), Some(certificate), Some(key), Some(client_ca)) = (
        listen.listen,
        &listen.tls_cert,
        &listen.tls_key,
        &listen.tls_client_ca,
    ) else {
        return Ok(None);
    };
    let read = |option: &str, path: &Path| {
        fs::read(path)
            .map_err(|error| CliError::Usage(format!("{option} {}: {error}", path.display())))
    };
    let files = TlsFiles {
        certificates: read("--tls-cert", certificate)?,
        key: read("--tls-key", key)?,
        client_ca: read("--tls-client-ca", client_ca)?,
    };
    let tls = files
        .server_config()
        .map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(Some(TcpConfig {
        address,
        tls: Some(Arc::clone(&tls)),
    }))
}

// === impl Signals ===

impl Signals {
    /// Takes both signals over; must be called within a runtime.
    pub(super) fn listen() -> Result<Self, CliError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Trigger {
        tokio::select! {
            _ = self.interrupt.recv() => Trigger::Interrupt,
            _ = self.terminate.recv() => Trigger::Terminate,
        }
    }
}

/// Starts the daemon, and says so if anybody may use it.
///
/// # Errors
/// Why there is none.
pub(super) async fn start(options: Options, listen: &ListenArgs) -> Result<Daemon, CliError> {
    let daemon = Daemon::start(options)
        .await
        .map_err(|error| CliError::Refused(error.to_string()))?;
    if listen.insecure_tcp.is_some() {
        tracing::warn!("TCP without any protection: whoever can connect may do everything");
    }
    Ok(daemon)
}

/// Waits for whatever ends the daemon. `essential`: the end of a process that
/// `exit_with` names does.
pub(super) async fn trigger(daemon: &Daemon, signals: &mut Signals, essential: bool) -> Trigger {
    let mut end = daemon.supervisor().essential_end();
    let mut asked = daemon.shutdown_asked();
    tokio::select! {
        trigger = signals.next() => trigger,
        how = asked.wait_for(Option::is_some) => {
            Trigger::Asked(how.ok().and_then(|how| *how).unwrap_or(Shutdown::Stop))
        }
        ended = end.wait_for(Option::is_some), if essential => {
            match ended.ok().and_then(|ended| ended.clone()) {
                Some(ended) => Trigger::Essential(ended),
                None => Trigger::Asked(Shutdown::Stop),
            }
        }
    }
}

/// What becomes of the processes after `trigger`. SIGINT is a person's Ctrl-C and
/// always stops them.
pub(super) fn shutdown(trigger: &Trigger, on_term: Shutdown) -> Shutdown {
    match trigger {
        Trigger::Interrupt | Trigger::Essential(_) => Shutdown::Stop,
        Trigger::Terminate => on_term,
        Trigger::Asked(how) => *how,
    }
}

/// Stops every process, dependents first; another signal meanwhile kills them.
/// Returns the names of those whose tree would not die.
pub(super) async fn stop_all(daemon: &Daemon, signals: &mut Signals) -> Vec<ProcessName> {
    daemon.announce_shutdown();
    let supervisor = daemon.supervisor();
    let mut orderly = std::pin::pin!(supervisor.shutdown(Cause::SUPERVISOR));
    loop {
        tokio::select! {
            left = &mut orderly => return left,
            _ = signals.next() => {
                tracing::warn!("another signal: killing every process");
                supervisor.kill_all(Cause::SUPERVISOR).await;
            }
        }
    }
}

/// The exit code after `trigger`, and what to say about it.
pub(super) fn verdict(trigger: &Trigger, left: &[ProcessName]) -> (ExitCode, Option<String>) {
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(ProcessName::as_str).collect();
        let text = format!("error: processes survive SIGKILL: {}", names.join(", "));
        return (ExitCode::Failed, Some(text));
    }
    match trigger {
        Trigger::Essential(ended) => {
            let text = format!("{} has ended; its exit code is {}", ended.name, ended.code);
            (ExitCode::Process(ended.code), Some(text))
        }
        Trigger::Interrupt | Trigger::Terminate | Trigger::Asked(_) => (ExitCode::Ok, None),
    }
}
