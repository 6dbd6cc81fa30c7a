//! A gRPC status as text: the message, each violation on a line, then what to do.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::hint;
use crate::cli::render::text;

/// Writes `status`; `about` is the process where there are several.
pub(super) fn render(about: Option<&str>, status: &Status, to: &mut dyn Write) -> io::Result<()> {
    let details = status.get_error_details();
    let about = about
        .map(|name| format!("{}: ", text::line(name)))
        .unwrap_or_default();
    writeln!(to, "error: {about}{}", headline(status, &details))?;
    for violation in details
        .bad_request()
        .iter()
        .flat_map(|bad| &bad.field_violations)
    {
        let (field, description) = (
            text::line(&violation.field),
            text::line(&violation.description),
        );
        writeln!(to, "  {field}: {description}")?;
    }
    for violation in details
        .precondition_failure()
        .iter()
        .flat_map(|failed| &failed.violations)
    {
        let (subject, description) = (
            text::line(&violation.subject),
            text::line(&violation.description),
        );
        writeln!(
            to,
            "  {subject}: {description} ({})",
            text::line(&violation.r#type)
        )?;
    }
    for violation in details
        .quota_failure()
        .iter()
        .flat_map(|failed| &failed.violations)
    {
        let (subject, description) = (
            text::line(&violation.subject),
            text::line(&violation.description),
        );
        writeln!(to, "  {subject}: {description}")?;
    }
    if let Some(info) = details.error_info() {
        metadata(&info.metadata, to)?;
    }
    match remedy(status, &details) {
        Some(remedy) => hint(&remedy, to),
        None => Ok(()),
    }
}

/// The message of the daemon; where it is empty, the reason or the code.
fn headline(status: &Status, details: &ErrorDetails) -> String {
    if !status.message().is_empty() {
        return text::line(status.message());
    }
    match details.error_info() {
        Some(info) => text::line(&info.reason),
        None => status.code().description().to_owned(),
    }
}

fn metadata(metadata: &HashMap<String, String>, to: &mut dyn Write) -> io::Result<()> {
    let mut pairs: Vec<_> = metadata.iter().collect();
    pairs.sort();
    for (key, value) in pairs {
        writeln!(to, "  {} = {}", text::line(key), text::line(value))?;
    }
    Ok(())
}

/// What to do, by the stable reason of the daemon; else by the code.
fn remedy(status: &Status, details: &ErrorDetails) -> Option<String> {
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let known = match reason {
        "PROCESS_NOT_FOUND" => "`procession ps` lists the processes",
        "PROCESS_EXISTS" => "use `procession apply` to change it, or delete it first",
        "PRECONDITION_MISMATCH" | "LIST_EXPIRED" => "it changed meanwhile: look again, then repeat",
        "NOT_RUNNING" => "start it first: `procession start NAME`",
        "DEPENDENCY_CYCLE" | "DEPENDENCY_MISSING" => "correct `dependencies` in the file",
        "STOP_FAILED" | "SURVIVORS" => {
            "processes of an earlier run are still alive; end them, then `procession reset NAME`"
        }
        "STORE_READ_ONLY" => "the state directory cannot be written; see `procession info`",
        "NOT_ALLOWED" => "your role does not allow this; see `principal` in `procession info`",
        "NO_CREDENTIALS" => "the daemon does not know who you are; use its Unix socket",
        "SELECTOR_INVALID" => "write labels as app=web,tier in (a,b),!debug",
        "CAPABILITY_MISSING" => "this daemon cannot do that; see `procession info`",
        "MESSAGE_TOO_LARGE" => "split the request, or the file, into smaller ones",
        _ => return retry_or_code(status, details),
    };
    Some(known.to_owned())
}

fn retry_or_code(status: &Status, details: &ErrorDetails) -> Option<String> {
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        return Some(format!("try again in {delay:?}"));
    }
    match status.code() {
        Code::Unimplemented => {
            Some("this daemon is too old for that; see `procession info`".into())
        }
        // The client's own deadline shows as CANCELLED.
        Code::DeadlineExceeded | Code::Cancelled => {
            Some("the daemon did not answer in time; try again".into())
        }
        _ => None,
    }
}
