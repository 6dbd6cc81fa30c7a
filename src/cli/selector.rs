//! What the user names, as a `ProcessSelector`.
//!
//! Names, globs and groups widen; labels narrow. Names and globs may be mixed: the
//! wire asks that all given parts match, so the names then go as globs. `group:*`
//! is resolved to the groups of the moment.

use std::collections::BTreeSet;

use super::{args::SelectArgs, client, client::Client, errors::CliError};
use crate::{domain::id::ProcessName, grpc::proto};

/// What no target at all means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    All,
    Refused,
}

/// The targets of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    names: Vec<String>,
    name_patterns: Vec<String>,
    groups: Vec<String>,
    group_patterns: Vec<String>,
    labels: String,
}

// === impl Selection ===

impl Selection {
    /// Understands the targets.
    ///
    /// # Errors
    /// [`CliError::Usage`] with the remedy.
    pub(crate) fn parse(args: &SelectArgs, empty: Empty) -> Result<Self, CliError> {
        let mut selection = Self {
            labels: args.labels.clone().unwrap_or_default(),
            ..Self::default()
        };
        let mut all = args.all;
        for target in &args.targets {
            match target.as_str() {
                "all" => all = true,
                target => selection.add(target)?,
            }
        }
        let targeted = !selection.names.is_empty()
            || !selection.name_patterns.is_empty()
            || selection.by_group();
        if all && targeted {
            return Err(usage(
                "`all` cannot be combined with other names; leave one out",
            ));
        }
        if selection.by_group()
            && !(selection.names.is_empty() && selection.name_patterns.is_empty())
        {
            return Err(usage(
                "groups and names cannot be mixed; use one command for each",
            ));
        }
        if !all && !targeted && selection.labels.is_empty() && empty == Empty::Refused {
            return Err(usage("name at least one process, a selector, or --all"));
        }
        Ok(selection)
    }

    /// The selection of one target, as `signal` takes it.
    pub(crate) fn one(target: &str) -> Result<Self, CliError> {
        let args = SelectArgs {
            targets: vec![target.to_owned()],
            ..SelectArgs::default()
        };
        Self::parse(&args, Empty::Refused)
    }

    fn add(&mut self, target: &str) -> Result<(), CliError> {
        let group = target
            .strip_prefix("group:")
            .or_else(|| target.strip_suffix(":*"));
        let (list, patterns, text) = match group {
            Some(group) => (&mut self.groups, &mut self.group_patterns, group),
            None => (&mut self.names, &mut self.name_patterns, target),
        };
        let list = if text.contains(['*', '?']) {
            // A glob is a name with wildcards: check it with something in their place.
            check(target, &text.replace(['*', '?'], "x"))?;
            patterns
        } else {
            check(target, text)?;
            list
        };
        if !list.iter().any(|known| known == text) {
            list.push(text.to_owned());
        }
        Ok(())
    }

    fn by_group(&self) -> bool {
        !self.groups.is_empty() || !self.group_patterns.is_empty()
    }

    /// The name, where exactly one process is meant and nothing else.
    pub(crate) fn single_name(&self) -> Option<&str> {
        match self.names.as_slice() {
            [name] if self.name_patterns.is_empty() && self.labels.is_empty() => Some(name),
            _ => None,
        }
    }

    /// Whether anything was asked for, or everything is meant.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The names that were written out and are not in `found`.
    pub(crate) fn missing(&self, found: &BTreeSet<&str>) -> Vec<String> {
        // With labels a name that is not listed may exist without them.
        if !self.labels.is_empty() {
            return Vec::new();
        }
        self.names
            .iter()
            .filter(|name| !found.contains(name.as_str()))
            .cloned()
            .collect()
    }

    /// Fails where what was asked for is not in `found`.
    ///
    /// # Errors
    /// [`CliError::NotFound`] or [`CliError::NoMatch`].
    pub(crate) fn require(&self, found: &BTreeSet<&str>) -> Result<(), CliError> {
        let missing = self.missing(found);
        if !missing.is_empty() {
            return Err(CliError::NotFound(missing));
        }
        if found.is_empty() && !self.is_everything() {
            return Err(CliError::NoMatch(self.to_string()));
        }
        Ok(())
    }

    /// The selector of the wire; asks the daemon for its groups if need be.
    ///
    /// # Errors
    /// [`CliError::NoMatch`] when no group fits: an empty selector would mean all.
    pub(crate) async fn resolve(
        &self,
        client: &mut Client,
    ) -> Result<proto::ProcessSelector, CliError> {
        let mut groups = self.groups.clone();
        if !self.group_patterns.is_empty() {
            let answer = client
                .list_groups(client::call(proto::ListGroupsRequest {}))
                .await?;
            groups.extend(self.matching_groups(&answer.into_inner().groups));
            if groups.is_empty() {
                return Err(CliError::NoMatch(self.to_string()));
            }
        }
        Ok(self.on_the_wire(groups))
    }

    fn matching_groups(&self, known: &[proto::GroupStatus]) -> Vec<String> {
        known
            .iter()
            .filter(|status| status.process_count > 0)
            .filter_map(|status| status.group.as_ref())
            .filter(|group| {
                self.group_patterns
                    .iter()
                    .any(|glob| matches(glob, &group.name))
            })
            .filter(|group| !self.groups.contains(&group.name))
            .map(|group| group.name.clone())
            .collect()
    }

    fn on_the_wire(&self, groups: Vec<String>) -> proto::ProcessSelector {
        let (names, name_patterns) = if self.name_patterns.is_empty() {
            (self.names.clone(), Vec::new())
        } else {
            (
                Vec::new(),
                self.names
                    .iter()
                    .chain(&self.name_patterns)
                    .cloned()
                    .collect(),
            )
        };
        proto::ProcessSelector {
            names,
            name_patterns,
            groups,
            label_selector: self.labels.clone(),
            states: Vec::new(),
        }
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = self.names.clone();
        parts.extend(self.name_patterns.iter().cloned());
        parts.extend(
            self.groups
                .iter()
                .chain(&self.group_patterns)
                .map(|g| format!("group:{g}")),
        );
        if !self.labels.is_empty() {
            parts.push(format!("-l {}", self.labels));
        }
        match parts.is_empty() {
            true => f.write_str("all"),
            false => f.write_str(&parts.join(" ")),
        }
    }
}

fn check(target: &str, name: &str) -> Result<(), CliError> {
    match ProcessName::new(name) {
        Ok(_) => Ok(()),
        Err(error) => Err(usage(&format!(
            "`{target}` cannot be a process or group: {error}"
        ))),
    }
}

fn usage(text: &str) -> CliError {
    CliError::Usage(text.to_owned())
}

/// Whether `text` fits `glob` (`*` and `?` only). Linear in both but for `*`,
/// which backtracks to the latest one only.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g + 1, t));
                g += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((after, at)) => {
                    star = Some((after, at + 1));
                    (g, t) = (after, at + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests;
