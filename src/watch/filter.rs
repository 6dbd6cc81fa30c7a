//! Which processes a caller means: a compiled selector.
//!
//! Invariants: all given parts must match, any value within a part; an empty part
//! matches everything. Pure; evaluating allocates nothing. The canonical text of
//! two filters is equal if they have the same parts, in whatever order they were
//! given, so that it can be part of a watch's scope.
//!
//! Deliberately absent: wire types, and any index: a match is a few comparisons.

mod glob;
mod labels;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

pub use self::{
    glob::{Glob, GlobError},
    labels::{LabelError, LabelSelector},
};
use crate::domain::{
    id::ProcessName,
    status::{ProcessState, State},
};

/// The parts of a selector, checked one by one.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Exact names.
    pub names: Vec<ProcessName>,
    /// Globs over names.
    pub patterns: Vec<Glob>,
    /// Requirements on labels.
    pub labels: LabelSelector,
    /// Lifecycle states.
    pub states: Vec<State>,
    /// Exact group names.
    pub groups: Vec<ProcessName>,
}

/// A compiled selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    names: BTreeSet<ProcessName>,
    patterns: BTreeSet<Glob>,
    labels: LabelSelector,
    /// In the order of their names.
    states: Vec<State>,
    groups: BTreeSet<ProcessName>,
}

// === impl Filter ===

impl Filter {
    /// Matches everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Puts `parts` together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let mut states = parts.states;
        states.sort_unstable_by_key(|state| state.as_str());
        states.dedup();
        Self {
            names: parts.names.into_iter().collect(),
            patterns: parts.patterns.into_iter().collect(),
            labels: parts.labels,
            states,
            groups: parts.groups.into_iter().collect(),
        }
    }

    /// Whether this state is meant.
    #[must_use]
    pub fn matches(&self, process: &ProcessState) -> bool {
        self.matches_name(process.name())
            && (self.states.is_empty() || self.states.contains(&process.status.state))
            && self.matches_group(process.spec.config.group.as_ref())
            && self.labels.matches(&process.spec.config.labels)
    }

    /// Whether a process of this name can ever be meant; names do not change.
    #[must_use]
    pub fn matches_name(&self, name: &ProcessName) -> bool {
        (self.names.is_empty() || self.names.contains(name))
            && (self.patterns.is_empty() || self.patterns.iter().any(|p| p.matches(name.as_str())))
    }

    /// Whether it has no part at all.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// The exact names asked for, sorted; empty: not selected by exact name.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &ProcessName> {
        self.names.iter()
    }

    fn matches_group(&self, group: Option<&ProcessName>) -> bool {
        self.groups.is_empty() || group.is_some_and(|group| self.groups.contains(group))
    }
}

/// The canonical text. No part can contain a `;`.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "names", &self.names)?;
        list(f, "patterns", &self.patterns)?;
        write!(f, "labels={};", self.labels)?;
        list(f, "states", self.states.iter().map(|state| state.as_str()))?;
        list(f, "groups", &self.groups)
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    part: &str,
    values: impl IntoIterator<Item = impl fmt::Display>,
) -> fmt::Result {
    f.write_str(part)?;
    let mut separator = '=';
    for value in values {
        f.write_char(separator)?;
        write!(f, "{value}")?;
        separator = ',';
    }
    f.write_char(';')
}
