//! A gRPC status as text: the message, each violation on a line, then what to do.
//! Nothing is said twice.

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
    let headline = headline(status, &details);
    let remedy = remedy(status, &details);
    writeln!(to, "error: {about}{headline}")?;
    let told = |text: &str| {
        let is_hint = |remedy: &String| remedy.starts_with(text);
        headline.contains(text) || remedy.as_ref().is_some_and(is_hint)
    };
    for (subject, description, kind) in violations(&details) {
        let (subject, description) = (text::line(subject), text::line(description));
        if told(&description) {
            continue;
        }
        match kind {
            Some(kind) => writeln!(to, "  {subject}: {description} ({})", text::line(kind))?,
            None => writeln!(to, "  {subject}: {description}")?,
        }
    }
    if let Some(info) = details.error_info() {
        metadata(&info.metadata, &headline, to)?;
    }
    match remedy {
        Some(remedy) => hint(&remedy, to),
        None => Ok(()),
    }
}

/// What is wrong, part by part: subject, description and, of preconditions, kind.
fn violations(details: &ErrorDetails) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
    let fields = details.bad_request().into_iter().flat_map(|bad| {
        let fields = bad.field_violations.iter();
        fields.map(|part| (part.field.as_str(), part.description.as_str(), None))
    });
    let preconditions = details.precondition_failure().into_iter().flat_map(|bad| {
        let parts = bad.violations.iter();
        parts.map(|part| {
            let kind = Some(part.r#type.as_str());
            (part.subject.as_str(), part.description.as_str(), kind)
        })
    });
    let quotas = details.quota_failure().into_iter().flat_map(|bad| {
        let parts = bad.violations.iter();
        parts.map(|part| (part.subject.as_str(), part.description.as_str(), None))
    });
    fields.chain(preconditions).chain(quotas)
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

fn metadata(
    metadata: &HashMap<String, String>,
    headline: &str,
    to: &mut dyn Write,
) -> io::Result<()> {
    let is_part = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let told: Vec<&str> = headline.split(|c| !is_part(c)).collect();
    let mut pairs: Vec<_> = metadata.iter().collect();
    pairs.retain(|(_, value)| !told.contains(&value.as_str()));
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
