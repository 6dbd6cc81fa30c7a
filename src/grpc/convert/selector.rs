//! `ProcessSelector` to a compiled filter.

use super::{Faults, Unacceptable};
use crate::{
    domain::{spec::FieldError, status::State},
    grpc::proto,
    watch::{Filter, Glob, LabelSelector, Parts},
};

/// Compiles a selector; absent means everything.
///
/// # Errors
/// Faulty names, patterns, states or groups, or a label selector that does not
/// parse.
pub fn filter(selector: Option<&proto::ProcessSelector>) -> Result<Filter, Unacceptable> {
    compile(selector, "selector")
}

/// As [`filter`], for a selector that stands in the field `at`.
///
/// # Errors
/// As [`filter`].
pub fn compile(
    selector: Option<&proto::ProcessSelector>,
    at: &str,
) -> Result<Filter, Unacceptable> {
    let Some(selector) = selector else {
        return Ok(Filter::all());
    };
    let mut faults = Faults::below(format!("{at}."));
    let names = |faults: &mut Faults, part: &str, texts: &[String]| {
        let each = texts.iter().enumerate();
        each.filter_map(|(i, text)| faults.name(&format!("{part}[{i}]"), text))
            .collect()
    };
    let (chosen, groups) = (
        names(&mut faults, "names", &selector.names),
        names(&mut faults, "groups", &selector.groups),
    );
    let mut patterns = Vec::new();
    for (i, text) in selector.name_patterns.iter().enumerate() {
        match Glob::new(text) {
            Ok(glob) => patterns.push(glob),
            Err(error) => faults.add(&format!("name_patterns[{i}]"), error.to_string()),
        }
    }
    let mut states = Vec::new();
    for (i, number) in selector.states.iter().enumerate() {
        let field = format!("states[{i}]");
        let Some(known) = faults.known(&field, *number) else {
            continue;
        };
        match state(known) {
            Some(state) => states.push(state),
            None => faults.add(&field, "must not be UNSPECIFIED; leave it out"),
        }
    }
    let labels = LabelSelector::parse(&selector.label_selector).map_err(|error| {
        Unacceptable::Selector(FieldError {
            field: format!("{at}.label_selector"),
            problem: error.to_string(),
        })
    });
    faults.finish(())?;
    Ok(Filter::new(Parts {
        names: chosen,
        patterns,
        labels: labels?,
        states,
        groups,
    }))
}

fn state(state: proto::ProcessState) -> Option<State> {
    Some(match state {
        proto::ProcessState::Unspecified => return None,
        proto::ProcessState::Stopped => State::Stopped,
        proto::ProcessState::Pending => State::Pending,
        proto::ProcessState::Starting => State::Starting,
        proto::ProcessState::Running => State::Running,
        proto::ProcessState::Reloading => State::Reloading,
        proto::ProcessState::Paused => State::Paused,
        proto::ProcessState::Stopping => State::Stopping,
        proto::ProcessState::Backoff => State::Backoff,
        proto::ProcessState::Succeeded => State::Succeeded,
        proto::ProcessState::Failed => State::Failed,
        proto::ProcessState::Unknown => State::Unknown,
    })
}
