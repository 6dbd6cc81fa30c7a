//! Errors on the wire: one code, one stable reason and `google.rpc` details each.
//!
//! Every error carries `ErrorInfo` with domain `procession.v1`; `docs/errors.md`
//! lists the reasons. Matches are exhaustive, so that a new error of the domain
//! does not compile until its answer is chosen.

mod details;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::ErrorDetails;

use self::details::Answer;
use super::convert::Unacceptable;
use crate::{
    domain::{admission::Denied, graph::GraphError, id::ProcessName, spec::FieldError},
    supervisor::Refused,
};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "procession.v1";
/// Trailer that tells a client's retry policy when to try again.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// When to try again after a shortage that passes by itself.
const RETRY: Duration = Duration::from_millis(200);

macro_rules! reasons {
    ($($name:ident = $text:literal, $code:ident;)+) => {
        /// `ErrorInfo.reason`: part of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "documented in docs/errors.md")]
        pub enum Reason { $($name),+ }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Text on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The one code it comes with.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code),+ }
            }
        }
    };
}

reasons! {
    FieldInvalid = "FIELD_INVALID", InvalidArgument;
    SelectorInvalid = "SELECTOR_INVALID", InvalidArgument;
    PageTokenInvalid = "PAGE_TOKEN_INVALID", InvalidArgument;
    RequestIdReused = "REQUEST_ID_REUSED", InvalidArgument;
    RevisionInFuture = "REVISION_IN_FUTURE", InvalidArgument;
    ListExpired = "LIST_EXPIRED", Aborted;
    PreconditionMismatch = "PRECONDITION_MISMATCH", Aborted;
    ProcessNotFound = "PROCESS_NOT_FOUND", NotFound;
    ProcessExists = "PROCESS_EXISTS", AlreadyExists;
    NotRunning = "NOT_RUNNING", FailedPrecondition;
    StillRunning = "STILL_RUNNING", FailedPrecondition;
    Deleting = "DELETING", FailedPrecondition;
    DependencyCycle = "DEPENDENCY_CYCLE", FailedPrecondition;
    DependencyMissing = "DEPENDENCY_MISSING", FailedPrecondition;
    StopFailed = "STOP_FAILED", FailedPrecondition;
    Survivors = "SURVIVORS", FailedPrecondition;
    NoCgroup = "NO_CGROUP", FailedPrecondition;
    StdinClosed = "STDIN_CLOSED", FailedPrecondition;
    StdinTaken = "STDIN_TAKEN", FailedPrecondition;
    StdinFull = "STDIN_FULL", ResourceExhausted;
    StdinOffset = "STDIN_OFFSET", OutOfRange;
    SignalRefused = "SIGNAL_REFUSED", FailedPrecondition;
    HistoryTrimmed = "HISTORY_TRIMMED", OutOfRange;
    EpochChanged = "EPOCH_CHANGED", OutOfRange;
    Lagged = "LAGGED", OutOfRange;
    ScopeChanged = "SCOPE_CHANGED", OutOfRange;
    RunTooOld = "RUN_TOO_OLD", OutOfRange;
    QuotaProcesses = "QUOTA_PROCESSES", ResourceExhausted;
    QuotaWaiters = "QUOTA_WAITERS", ResourceExhausted;
    QuotaStreams = "QUOTA_STREAMS", ResourceExhausted;
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted;
    ResponseTooLarge = "RESPONSE_TOO_LARGE", ResourceExhausted;
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted;
    Overloaded = "OVERLOADED", Unavailable;
    StoreReadOnly = "STORE_READ_ONLY", Unavailable;
    LogsUnreadable = "LOGS_UNREADABLE", Unavailable;
    Starting = "STARTING", Unavailable;
    ShuttingDown = "SHUTTING_DOWN", Unavailable;
    StreamMaxAge = "STREAM_MAX_AGE", Unavailable;
    NoCredentials = "NO_CREDENTIALS", Unauthenticated;
    NotAllowed = "NOT_ALLOWED", PermissionDenied;
    CapabilityMissing = "CAPABILITY_MISSING", Unimplemented;
    DeadlinePassed = "DEADLINE_PASSED", DeadlineExceeded;
    Internal = "INTERNAL", Internal;
}

/// The supervisor's refusal. `epoch` is the daemon run's.
#[must_use]
pub fn refused(refused: &Refused, epoch: &str) -> Status {
    let message = refused.to_string();
    match refused {
        Refused::NotFound(name) => not_found([name.as_str()]),
        Refused::Exists { name, uid } => Answer::new(Reason::ProcessExists, message)
            .with("uid", uid)
            .resource(
                name.as_str(),
                "the name is taken; choose another or use ApplyProcess",
            )
            .status(),
        Refused::Denied { name, denied } => self::denied(name, denied, message),
        Refused::Invalid(faults) => invalid(Reason::FieldInvalid, faults),
        Refused::Graph(error) => graph(error),
        Refused::RunTooOld(error) => Answer::new(Reason::RunTooOld, message)
            .with("oldest", error.oldest)
            .status(),
        Refused::InFuture { head, .. } => Answer::new(Reason::RevisionInFuture, message)
            .with("head_revision", head)
            .with("epoch", epoch)
            .status(),
        Refused::StopFailed { name, pids } => {
            let remedy = "processes survive SIGKILL; end what holds them in the kernel";
            Answer::new(Reason::StopFailed, message)
                .with("pids", list(pids))
                .violation("STOP_FAILED", name.as_str(), remedy)
                .status()
        }
        Refused::Signal {
            name,
            number,
            errno,
        } => Answer::new(Reason::SignalRefused, message.clone())
            .with("signal", number)
            .with("errno", errno)
            .violation("SIGNAL_REFUSED", name.as_str(), &message)
            .status(),
        Refused::NoCgroup(name) => Answer::new(Reason::NoCgroup, message)
            .violation("NO_CGROUP", name.as_str(), "use SIGNAL_SCOPE_TREE instead")
            .status(),
        Refused::StdinClosed(_) | Refused::StdinTaken(_) => stdin_refused(refused, message),
        Refused::StdinFull { total, .. } => Answer::new(Reason::StdinFull, message)
            .with("offset", total)
            .status(),
        Refused::StdinOffset { total, .. } => Answer::new(Reason::StdinOffset, message)
            .with("offset", total)
            .status(),
        Refused::Quota { limit, max } => quota(limit, *max, message, Duration::from_secs(1)),
        Refused::Overloaded(name) => Answer::new(Reason::Overloaded, message)
            .with("name", name)
            .retry(RETRY)
            .status(),
        Refused::NotKept(_) => Answer::new(Reason::StoreReadOnly, message)
            .retry(Duration::from_secs(5))
            .status(),
        Refused::ShuttingDown => Answer::new(Reason::ShuttingDown, message)
            .retry(Duration::from_secs(1))
            .status(),
    }
}

/// A message that cannot be taken.
#[must_use]
pub fn unacceptable(error: &Unacceptable) -> Status {
    match error {
        Unacceptable::Fields(faults) => invalid(Reason::FieldInvalid, faults),
        Unacceptable::Missing(missing) => capability_missing(missing.capability, &missing.field),
    }
}

impl From<Unacceptable> for Status {
    fn from(error: Unacceptable) -> Self {
        unacceptable(&error)
    }
}

/// Something this daemon does not have, asked for by `what` (a field or a method).
#[must_use]
pub fn capability_missing(capability: &str, what: &str) -> Status {
    let message = format!("{what} needs {capability:?}, which this daemon does not have");
    Answer::new(Reason::CapabilityMissing, message)
        .with("capability", capability)
        .status()
}

/// Faulty fields, under one of the reasons of INVALID_ARGUMENT.
#[must_use]
pub fn invalid(reason: Reason, faults: &[FieldError]) -> Status {
    let mut message: Vec<_> = faults.iter().take(3).map(ToString::to_string).collect();
    if faults.len() > message.len() {
        message.push(format!("and {} more", faults.len() - message.len()));
    }
    Answer::new(reason, message.join("; "))
        .fields(faults)
        .status()
}

/// Processes that do not exist.
#[must_use]
pub fn not_found<'a>(names: impl IntoIterator<Item = &'a str>) -> Status {
    let names = details::bounded(names);
    let message = format!("no such process: {names}");
    Answer::new(Reason::ProcessNotFound, message)
        .resource(&names, "list the processes or create it")
        .status()
}

/// A guard of the request that does not hold; `actual` is what is.
#[must_use]
pub fn mismatch(subject: &str, field: &str, expected: &str, actual: &str) -> Status {
    let text = format!("precondition {field} is {expected}, but it is {actual} now");
    Answer::new(Reason::PreconditionMismatch, format!("{subject}: {text}"))
        .with(field, actual)
        .violation(&field.to_uppercase(), subject, &text)
        .status()
}

/// A list whose revision is no longer held.
#[must_use]
pub fn list_expired() -> Status {
    let message = "the list of this page token is no longer held; start again without a token";
    Answer::new(Reason::ListExpired, message.into()).status()
}

/// A request_id that was used for something else.
#[must_use]
pub fn request_id_reused(first_revision: Option<i64>) -> Status {
    let message = "request_id was used for another request; draw a new one";
    let answer = Answer::new(Reason::RequestIdReused, message.into());
    match first_revision {
        Some(revision) => answer.with("first_revision", revision),
        None => answer,
    }
    .fields(&[FieldError {
        field: "request_id".into(),
        problem: "was used for another request; draw a new one".into(),
    }])
    .status()
}

/// An answer above a bound.
#[must_use]
pub fn response_too_large(limit: usize) -> Status {
    let message = format!("the answer is above {limit} bytes; ask for less with read_mask");
    Answer::new(Reason::ResponseTooLarge, message.clone())
        .with("limit", limit)
        .quota("response_bytes", &message)
        .status()
}

/// The caller's deadline passed while it waited.
#[must_use]
pub fn deadline() -> Status {
    let message = "the deadline passed; what was asked for before the wait was carried out";
    Answer::new(Reason::DeadlinePassed, message.into()).status()
}

/// A bug; the log has the rest.
#[must_use]
pub fn internal(request_id: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_request_info(request_id, "");
    Answer::from_details(Reason::Internal, "internal error".into(), details).status()
}

/// Any other error: a message and numbers, without further details.
#[must_use]
pub fn plain(
    reason: Reason,
    message: impl Into<String>,
    metadata: impl IntoIterator<Item = (&'static str, String)>,
) -> Status {
    metadata
        .into_iter()
        .fold(
            Answer::new(reason, message.into()),
            |answer, (key, value)| answer.with(key, value),
        )
        .status()
}

/// The daemon is on its way out; another may answer after `delay`.
#[must_use]
pub fn shutting_down(delay: Duration) -> Status {
    retry_later(Reason::ShuttingDown, "the daemon is shutting down", delay)
}

/// As [`plain`], and the caller may try again after `delay`.
#[must_use]
pub fn retry_later(reason: Reason, message: impl Into<String>, delay: Duration) -> Status {
    Answer::new(reason, message.into()).retry(delay).status()
}

fn denied(name: &ProcessName, denied: &Denied, message: String) -> Status {
    let subject = name.as_str();
    match denied {
        Denied::Precondition {
            field,
            expected,
            actual,
        } => mismatch(subject, field, expected, actual),
        Denied::NotRunning(state) => Answer::new(Reason::NotRunning, message)
            .with("state", state.as_str())
            .violation("NOT_RUNNING", subject, "start it first")
            .status(),
        Denied::Deleting => Answer::new(Reason::Deleting, message)
            .violation("DELETING", subject, "wait until it is gone, then create it")
            .status(),
        Denied::StillRunning(state) => Answer::new(Reason::StillRunning, message)
            .with("state", state.as_str())
            .violation("STILL_RUNNING", subject, "stop it first")
            .status(),
        Denied::Survivors(pids) => Answer::new(Reason::Survivors, message)
            .with("pids", list(pids))
            .violation("SURVIVORS", subject, "end these processes first")
            .status(),
    }
}

fn stdin_refused(refused: &Refused, message: String) -> Status {
    match refused {
        Refused::StdinTaken(name) => Answer::new(Reason::StdinTaken, message)
            .violation(
                "STDIN_TAKEN",
                name.as_str(),
                "end the other attachment first",
            )
            .status(),
        _ => Answer::new(Reason::StdinClosed, message.clone())
            .violation(
                "STDIN_CLOSED",
                &message,
                "set spec.stdio.open_stdin; a stdin that was closed opens with the next run",
            )
            .status(),
    }
}

fn graph(error: &GraphError) -> Status {
    let message = error.to_string();
    match error {
        GraphError::Cycle(path) => {
            let mut answer = Answer::new(Reason::DependencyCycle, message);
            for edge in path.windows(2) {
                let [from, to] = edge else { continue };
                let subject = format!("{from} -> {to}");
                answer = answer.violation("DEPENDENCY_CYCLE", &subject, "remove one edge");
            }
            answer.status()
        }
        GraphError::Missing { process, missing } => {
            let subject = format!("{process} -> {missing}");
            let remedy = "create it first, in the same batch, or mark the dependency optional";
            Answer::new(Reason::DependencyMissing, message)
                .violation("DEPENDENCY_MISSING", &subject, remedy)
                .status()
        }
    }
}

/// A limit that is reached; `message` says so to people.
#[must_use]
pub fn quota(limit: &str, max: usize, message: String, delay: Duration) -> Status {
    let reason = match limit {
        "processes_max" => Reason::QuotaProcesses,
        "waiters_max" => Reason::QuotaWaiters,
        "watch_streams_max" | "watch_streams_per_principal_max" => Reason::QuotaStreams,
        // Limits are text; one without a reason of its own still says its name.
        _ => Reason::QuotaExceeded,
    };
    Answer::new(reason, message.clone())
        .with("limit", limit)
        .with("max", max)
        .quota(limit, &message)
        .retry(delay)
        .status()
}

fn list(pids: &[i32]) -> String {
    let texts: Vec<_> = pids.iter().map(ToString::to_string).collect();
    details::bounded(texts.iter().map(String::as_str))
}
