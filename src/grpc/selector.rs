//! The selector of a request, compiled, or the fields that are at fault.

use std::fmt::Display;

use tonic::Status;

use super::{
    proto,
    status::{self, Reason},
};
use crate::{
    domain::{id::ProcessName, limits::PROCESSES_MAX, spec::FieldError, status::State},
    watch::{Filter, Glob, LabelSelector, Parts},
};

/// Patterns of one selector.
const PATTERNS_MAX: usize = 100;
/// States of one selector, repeated ones included.
const STATES_MAX: usize = 100;

/// Compiles `selector`, the field of that name of a request; absent: everything.
///
/// # Errors
/// INVALID_ARGUMENT: SELECTOR_INVALID for label text, else FIELD_INVALID.
pub fn filter(selector: Option<&proto::ProcessSelector>) -> Result<Filter, Status> {
    filter_at("selector", selector)
}

/// As [`filter`], for a selector in the field `at` of a request.
///
/// # Errors
/// As [`filter`].
pub fn filter_at(at: &str, selector: Option<&proto::ProcessSelector>) -> Result<Filter, Status> {
    let Some(selector) = selector else {
        return Ok(Filter::all());
    };
    let mut problems = Vec::new();
    let parts = Parts {
        names: part(
            &format!("{at}.names"),
            &selector.names,
            PROCESSES_MAX,
            &mut problems,
            |n| ProcessName::new(n),
        ),
        patterns: part(
            &format!("{at}.name_patterns"),
            &selector.name_patterns,
            PATTERNS_MAX,
            &mut problems,
            |p| Glob::new(p),
        ),
        states: part(
            &format!("{at}.states"),
            &selector.states,
            STATES_MAX,
            &mut problems,
            |number| state(*number).ok_or("is no state; see the enum ProcessState"),
        ),
        groups: part(
            &format!("{at}.groups"),
            &selector.groups,
            PROCESSES_MAX,
            &mut problems,
            |g| ProcessName::new(g),
        ),
        labels: LabelSelector::default(),
    };
    if !problems.is_empty() {
        return Err(status::invalid(Reason::FieldInvalid, &problems));
    }
    match LabelSelector::parse(&selector.label_selector) {
        Ok(labels) => Ok(Filter::new(Parts { labels, ..parts })),
        Err(error) => Err(status::invalid(
            Reason::SelectorInvalid,
            &[FieldError {
                field: format!("{at}.label_selector"),
                problem: error.to_string(),
            }],
        )),
    }
}

/// Checks each value of one part; faulty ones are left out and told.
fn part<T, V, E: Display>(
    name: &str,
    values: &[T],
    max: usize,
    problems: &mut Vec<FieldError>,
    check: impl Fn(&T) -> Result<V, E>,
) -> Vec<V> {
    if values.len() > max {
        problems.push(FieldError {
            field: name.to_owned(),
            problem: format!("has {} values; at most {max} are allowed", values.len()),
        });
        return Vec::new();
    }
    let mut checked = Vec::with_capacity(values.len());
    for (i, value) in values.iter().enumerate() {
        match check(value) {
            Ok(value) => checked.push(value),
            Err(problem) => problems.push(FieldError {
                field: format!("{name}[{i}]"),
                problem: problem.to_string(),
            }),
        }
    }
    checked
}

fn state(number: i32) -> Option<State> {
    use proto::ProcessState as P;
    Some(match P::try_from(number).ok()? {
        P::Unspecified => return None,
        P::Stopped => State::Stopped,
        P::Pending => State::Pending,
        P::Starting => State::Starting,
        P::Running => State::Running,
        P::Reloading => State::Reloading,
        P::Paused => State::Paused,
        P::Stopping => State::Stopping,
        P::Backoff => State::Backoff,
        P::Succeeded => State::Succeeded,
        P::Failed => State::Failed,
        P::Unknown => State::Unknown,
    })
}
