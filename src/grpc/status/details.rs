//! Puts a status together, within what a header may hold.

use std::{collections::HashMap, fmt::Display, time::Duration};

use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt};

use super::{DOMAIN, PUSHBACK, Reason};
use crate::domain::spec::FieldError;

/// Violations of one answer: with texts cut, details stay below 4 KiB, since
/// proxies commonly drop headers above 8 KiB.
const VIOLATIONS_MAX: usize = 12;
/// Bytes of one text within the details.
const TEXT_BYTES_MAX: usize = 120;
/// Bytes of the message, which the details repeat.
const MESSAGE_BYTES_MAX: usize = 400;

/// An error in the making.
pub(super) struct Answer {
    reason: Reason,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
    violations: usize,
    pushback: Option<Duration>,
}

// === impl Answer ===

impl Answer {
    pub(super) fn new(reason: Reason, message: String) -> Self {
        Self::from_details(reason, message, ErrorDetails::new())
    }

    pub(super) fn from_details(reason: Reason, message: String, details: ErrorDetails) -> Self {
        Self {
            reason,
            message,
            metadata: HashMap::new(),
            details,
            violations: 0,
            pushback: None,
        }
    }

    /// Adds to `ErrorInfo.metadata`.
    pub(super) fn with(mut self, key: &str, value: impl Display) -> Self {
        let value = cut(&value.to_string(), TEXT_BYTES_MAX).to_owned();
        self.metadata.insert(key.to_owned(), value);
        self
    }

    /// Names the process that is meant.
    pub(super) fn resource(mut self, name: &str, description: &str) -> Self {
        let name = cut(name, TEXT_BYTES_MAX * 4);
        self.details
            .set_resource_info("process", name, "", description);
        self
    }

    /// Adds a `PreconditionFailure.Violation`.
    pub(super) fn violation(mut self, kind: &str, subject: &str, description: &str) -> Self {
        self.violations += 1;
        if self.violations <= VIOLATIONS_MAX {
            let description = cut(description, TEXT_BYTES_MAX);
            self.details
                .add_precondition_failure_violation(kind, subject, description);
        }
        self
    }

    /// Adds a `BadRequest.FieldViolation` each.
    pub(super) fn fields(mut self, faults: &[FieldError]) -> Self {
        for fault in faults.iter().take(VIOLATIONS_MAX) {
            let field = cut(&fault.field, TEXT_BYTES_MAX);
            let problem = cut(&fault.problem, TEXT_BYTES_MAX);
            self.details.add_bad_request_violation(field, problem);
        }
        self
    }

    /// Adds a `QuotaFailure.Violation`.
    pub(super) fn quota(mut self, subject: &str, description: &str) -> Self {
        let description = cut(description, TEXT_BYTES_MAX);
        self.details
            .add_quota_failure_violation(subject, description);
        self
    }

    /// Says when to try again.
    pub(super) fn retry(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self.pushback = Some(delay);
        self
    }

    pub(super) fn status(mut self) -> Status {
        self.details
            .set_error_info(self.reason.as_str(), DOMAIN, self.metadata);
        let mut trailers = MetadataMap::new();
        if let Some(delay) = self.pushback {
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            trailers.insert(PUSHBACK, MetadataValue::from(millis));
        }
        let message = cut(&self.message, MESSAGE_BYTES_MAX);
        Status::with_error_details_and_metadata(self.reason.code(), message, self.details, trailers)
    }
}

/// The texts in one line, cut with a count where they are too many.
pub(super) fn bounded<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.into_iter().collect();
    let shown = texts.iter().take(6).copied().collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(6) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// At most `max` bytes of `text`, at a character's end.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
