//! What can go wrong in a command, its exit code, and how it is told: one line
//! `error: ...`, the details field by field, and the remedy.
//!
//! Details come from the `google.rpc` messages of the status, never from parsing
//! its text.

mod rpc;

use std::{
    error::Error as StdError,
    io::{self, Write},
    path::Path,
};

use prost::Message as _;
use tonic::Status;

use super::{exit_code::ExitCode, render::text};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line contradicts itself; the text has the remedy.
    #[error("{0}")]
    Usage(String),
    /// Processes that were named do not exist.
    #[error("no such process: {}", .0.join(", "))]
    NotFound(Vec<String>),
    /// No process fits the selector.
    #[error("nothing matches {0}")]
    NoMatch(String),
    /// Nobody answers on the socket.
    #[error("cannot reach the daemon")]
    Unreachable(#[source] io::Error),
    /// The daemon refused or failed.
    #[error("{}", .0.message())]
    Rpc(Box<Status>),
    /// The request cannot be carried out as asked.
    #[error("{0}")]
    Refused(String),
    /// The file of processes cannot be used: one problem per line, each with file,
    /// line and key.
    #[error("{0}")]
    Config(String),
    /// A response cannot be shown as JSON.
    #[error("cannot write the answer as JSON: {0}")]
    Json(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

// === impl CliError ===

impl CliError {
    /// The exit code of a command that ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Config(_) => ExitCode::Usage,
            Self::NotFound(_) | Self::NoMatch(_) => ExitCode::NotFound,
            Self::Unreachable(_) => ExitCode::Unreachable,
            Self::Rpc(status) if status.code() == tonic::Code::NotFound => ExitCode::NotFound,
            // The reader of the output has seen enough: not a failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Ok,
            Self::Rpc(_) | Self::Refused(_) | Self::Json(_) | Self::Output(_) => ExitCode::Failed,
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        match transport_cause(&status) {
            Some(cause) => Self::Unreachable(cause),
            None => Self::Rpc(Box::new(status)),
        }
    }
}

impl From<tonic::transport::Error> for CliError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Unreachable(io_cause(&error))
    }
}

/// Writes `error` for people. `socket` is the one that was tried.
///
/// # Errors
/// What writing to `to` gives.
pub(super) fn render(error: &CliError, socket: &Path, to: &mut dyn Write) -> io::Result<()> {
    match error {
        CliError::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        CliError::Unreachable(cause) => unreachable_daemon(cause, socket, to),
        CliError::Rpc(status) => rpc::render(None, status, to),
        CliError::NotFound(_) | CliError::NoMatch(_) => {
            writeln!(to, "error: {}", text::line(&error.to_string()))?;
            hint("`procession ps` lists the processes", to)
        }
        CliError::Config(problems) => problems
            .lines()
            .try_for_each(|line| writeln!(to, "error: {}", text::line(line))),
        CliError::Usage(_) => {
            writeln!(to, "error: {}", text::line(&error.to_string()))?;
            hint("`procession --help` shows how it is used", to)
        }
        CliError::Refused(_) | CliError::Json(_) | CliError::Output(_) => {
            writeln!(to, "error: {}", text::line(&error.to_string()))
        }
    }
}

/// Writes what went wrong with one process of several.
///
/// # Errors
/// What writing to `to` gives.
pub(crate) fn render_item(name: &str, error: &CliError, to: &mut dyn Write) -> io::Result<()> {
    match error {
        CliError::Rpc(status) => rpc::render(Some(name), status, to),
        error => writeln!(
            to,
            "error: {}: {}",
            text::line(name),
            text::line(&error.to_string())
        ),
    }
}

/// A status nested in a response, with its details.
pub(crate) fn status(nested: &tonic_types::Status) -> Status {
    let details = nested.encode_to_vec();
    Status::with_details(nested.code.into(), nested.message.clone(), details.into())
}

fn unreachable_daemon(cause: &io::Error, socket: &Path, to: &mut dyn Write) -> io::Result<()> {
    writeln!(
        to,
        "error: cannot reach the daemon on {}: {cause}",
        socket.display()
    )?;
    match cause.kind() {
        io::ErrorKind::PermissionDenied => hint(
            "the socket belongs to another user: run as that user, or start the daemon with \
             --socket-group",
            to,
        ),
        _ => hint(
            "start it with `procession serve`, or say where it is with --socket or \
             PROCESSION_SOCKET",
            to,
        ),
    }
}

fn hint(remedy: &str, to: &mut dyn Write) -> io::Result<()> {
    writeln!(to, "hint: {remedy}")
}

/// Why the request never got an answer, if that is what `status` means. A status
/// of the daemon always says its reason in an `ErrorInfo`.
fn transport_cause(status: &Status) -> Option<io::Error> {
    if !status.details().is_empty() {
        return None;
    }
    let source = status.source()?;
    let unanswered = matches!(
        status.code(),
        tonic::Code::Unavailable | tonic::Code::Unknown
    );
    (unanswered && source.is::<tonic::transport::Error>()).then(|| io_cause(source))
}

/// The system error at the bottom of `error`.
fn io_cause(error: &(dyn StdError + 'static)) -> io::Error {
    let mut current = error;
    loop {
        if let Some(found) = current.downcast_ref::<io::Error>() {
            return match found.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(found.kind(), found.to_string()),
            };
        }
        match current.source() {
            Some(source) => current = source,
            None => return io::Error::other(current.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
