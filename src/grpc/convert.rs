//! Between the wire and the domain, in both directions.
//!
//! Wire to domain reports every fault at once, each with its path below the
//! process (`spec.command`) or in the request (`wait.timeout`). A field whose
//! behaviour this daemon does not have is refused, never ignored. Domain to wire
//! is total, and `spec` there and back is the identity.

pub mod durable;
pub mod explain;
pub mod observed;
pub mod outcome;
pub mod process;
pub mod request;
pub mod signal;
pub mod spec;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use super::proto;
use crate::{
    domain::{id::ProcessName, spec::FieldError, time::Timestamp},
    logs::OutputStream,
};

/// Why a message cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unacceptable {
    /// These fields are faulty.
    Fields(Vec<FieldError>),
    /// It asks for something this daemon does not have.
    Missing(Missing),
}

/// A feature that is asked for and absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Name of the feature, as in `GetServerInfoResponse.capabilities`.
    pub capability: &'static str,
    /// What asks for it.
    pub field: String,
}

/// Collects what is wrong with a message.
#[derive(Debug, Default)]
pub struct Faults {
    /// Put before every field.
    prefix: String,
    fields: Vec<FieldError>,
    missing: Option<Missing>,
}

// === impl Faults ===

impl Faults {
    /// For a message that stands at `prefix` (empty, or ending in a dot).
    #[must_use]
    pub fn below(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..Self::default()
        }
    }

    /// Says an absent feature by the process that asks for it: a reader of the
    /// message has a file, and does not count processes.
    pub fn name_missing(&mut self, process: &ProcessName) {
        if let Some(missing) = &mut self.missing {
            let field = missing.field.strip_prefix(&self.prefix);
            missing.field = format!("{process}: {}", field.unwrap_or(&missing.field));
        }
    }

    /// Whether no field was found faulty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Notes a fault.
    pub fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.fields.push(FieldError {
            field: format!("{}{field}", self.prefix),
            problem: problem.into(),
        });
    }

    /// Notes faults found elsewhere, but for fields that have one already.
    pub fn extend(&mut self, faults: Vec<FieldError>) {
        let known = self.fields.len();
        for FieldError { field, problem } in faults {
            let full = format!("{}{field}", self.prefix);
            if !self.fields[..known].iter().any(|fault| fault.field == full) {
                self.add(&field, problem);
            }
        }
    }

    /// Takes over everything that is wrong with another part of the request.
    pub fn absorb(&mut self, other: Self) {
        self.fields.extend(other.fields);
        self.missing = self.missing.take().or(other.missing);
    }

    /// Notes that `field` asks for an absent feature, if it `is_set`.
    pub fn absent(&mut self, is_set: bool, capability: &'static str, field: &str) {
        if is_set && self.missing.is_none() {
            self.missing = Some(Missing {
                capability,
                field: format!("{}{field}", self.prefix),
            });
        }
    }

    /// `value`, if nothing was noted.
    ///
    /// # Errors
    /// What was noted; faulty fields come before absent features.
    pub fn finish<T>(self, value: T) -> Result<T, Unacceptable> {
        match (self.fields.is_empty(), self.missing) {
            (false, _) => Err(Unacceptable::Fields(self.fields)),
            (true, Some(missing)) => Err(Unacceptable::Missing(missing)),
            (true, None) => Ok(value),
        }
    }

    /// As [`Faults::finish`], for a value that is `None` only where something was
    /// noted.
    ///
    /// # Errors
    /// What was noted.
    pub fn finish_some<T>(self, value: Option<T>) -> Result<T, Unacceptable> {
        self.finish(())?;
        value.ok_or_else(|| Unacceptable::Fields(Vec::new()))
    }

    /// A name; an empty one is a fault too.
    pub fn name(&mut self, field: &str, text: &str) -> Option<ProcessName> {
        match ProcessName::new(text) {
            Ok(name) => Some(name),
            Err(error) => {
                self.add(field, error.to_string());
                None
            }
        }
    }

    /// A duration that is not negative.
    pub fn duration(
        &mut self,
        field: &str,
        value: Option<&prost_types::Duration>,
    ) -> Option<Duration> {
        let value = value?;
        let seconds = u64::try_from(value.seconds);
        let nanos = u32::try_from(value.nanos)
            .ok()
            .filter(|n| *n < 1_000_000_000);
        match (seconds, nanos) {
            (Ok(seconds), Some(nanos)) => Some(Duration::new(seconds, nanos)),
            _ => {
                self.add(
                    field,
                    "must be zero or more seconds with 0 to 999999999 nanoseconds",
                );
                None
            }
        }
    }

    /// An enum; its zero is `Some` too. An unknown number is a fault.
    pub fn known<E: TryFrom<i32>>(&mut self, field: &str, number: i32) -> Option<E> {
        let known = E::try_from(number).ok();
        if known.is_none() {
            self.add(
                field,
                format!("{number} is no known value; this daemon may be older than the client"),
            );
        }
        known
    }

    /// A UUID in lower case; `None` for an empty text.
    pub fn uuid(&mut self, field: &str, text: &str) -> Option<uuid::Uuid> {
        if text.is_empty() {
            return None;
        }
        let parsed = uuid::Uuid::try_parse(text).ok();
        if parsed.is_none() {
            self.add(field, "must be a UUID of 32 hexadecimal digits");
        }
        parsed
    }
}

// === impl Unacceptable ===

impl Unacceptable {
    /// One faulty field.
    #[must_use]
    pub fn field(field: &str, problem: impl Into<String>) -> Self {
        Self::Fields(vec![FieldError {
            field: field.to_owned(),
            problem: problem.into(),
        }])
    }

    /// An absent feature that `field` asks for.
    #[must_use]
    pub fn missing(capability: &'static str, field: &str) -> Self {
        Self::Missing(Missing {
            capability,
            field: field.to_owned(),
        })
    }
}

impl From<Vec<FieldError>> for Unacceptable {
    fn from(fields: Vec<FieldError>) -> Self {
        Self::Fields(fields)
    }
}

/// Which of its outputs a process wrote to.
#[must_use]
pub const fn output_stream(stream: OutputStream) -> proto::OutputStream {
    match stream {
        OutputStream::Stdout => proto::OutputStream::Stdout,
        OutputStream::Stderr => proto::OutputStream::Stderr,
    }
}

/// A duration; more than the wire can hold becomes its largest.
#[must_use]
pub fn duration(value: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or_default(),
    }
}

/// A point in time; 0 is absent.
#[must_use]
pub fn timestamp(time: Timestamp) -> Option<prost_types::Timestamp> {
    const SECOND: i64 = 1_000_000_000;
    (time != Timestamp::default()).then(|| prost_types::Timestamp {
        seconds: time.0.div_euclid(SECOND),
        nanos: i32::try_from(time.0.rem_euclid(SECOND)).unwrap_or_default(),
    })
}
