//! Errors of the listeners, the selector and the watch, in the contract's model:
//! a code, and an `ErrorInfo` whose reason clients branch on.
//!
//! Deliberately absent: secrets, paths of this host.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::spec::FieldError;

/// `ErrorInfo.domain` of every error.
const DOMAIN: &str = "procession.v1";
/// Violations told in one error: together below 4 KiB.
const VIOLATIONS_MAX: usize = 16;
/// Trailer that tells a retrying client how long to wait.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// An error with a reason and facts.
pub(in crate::grpc) fn with_reason(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    metadata: &[(&str, String)],
) -> Status {
    Status::with_error_details(code, message, info(reason, metadata))
}

/// INVALID_ARGUMENT that names the fields.
pub(in crate::grpc) fn fields(reason: &str, problems: &[FieldError]) -> Status {
    let mut details = info(reason, &[]);
    for problem in problems.iter().take(VIOLATIONS_MAX) {
        details.add_bad_request_violation(&problem.field, &problem.problem);
    }
    let message = match problems {
        [] => String::new(),
        [only] => format!("{}: {}", only.field, only.problem),
        [first, ..] => format!(
            "{}: {} (and {} more problems)",
            first.field,
            first.problem,
            problems.len() - 1
        ),
    };
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// UNAVAILABLE: try again after `delay`.
pub(in crate::grpc) fn unavailable(reason: &str, message: &str, delay: Duration) -> Status {
    let mut details = info(reason, &[]);
    details.set_retry_info(Some(delay));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// RESOURCE_EXHAUSTED: `subject` has reached its limit.
pub(in crate::grpc) fn quota(reason: &str, subject: &str, limit: usize, delay: Duration) -> Status {
    let message = format!("{subject}: the limit of {limit} is reached");
    let mut details = info(reason, &[("limit", limit.to_string())]);
    details.add_quota_failure_violation(subject, &message);
    details.set_retry_info(Some(delay));
    let mut status = Status::with_error_details(Code::ResourceExhausted, message, details);
    let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    status
        .metadata_mut()
        .insert(PUSHBACK, MetadataValue::from(millis));
    status
}

fn info(reason: &str, metadata: &[(&str, String)]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
