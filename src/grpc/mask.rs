//! Field masks: which part of a process a reader wants, or a writer changes.
//!
//! Paths are checked against the contract: every part but the last names a single
//! message, so the elements of a list and the keys of a map cannot be addressed.
//! `name`, `uid`, `version` and `revision` are in every projection, so that a
//! reader can always tell what it holds.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FieldMask;

use super::{
    convert::{observed, process},
    proto,
    schema::{Kind, Tree, schema},
    watch_service::View,
};
use crate::{domain::spec::FieldError, supervisor::ProcessNode};

/// The part of a process that a reader wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mask {
    tree: Tree,
    /// The paths, sorted; empty for everything.
    canonical: String,
}

/// The part of a process that a writer changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMask {
    tree: Tree,
}

const PROCESS: &str = ".procession.v1.Process";
/// name, uid, version, revision.
const IDENTITY: [u32; 4] = [1, 2, 3, 5];
/// update_time changes with every version.
const UPDATE_TIME: u32 = 12;
const STATUS: u32 = 10;
/// Paths of one mask.
const PATHS_MAX: usize = 256;
/// What an update may reach.
const UPDATABLE: [&str; 4] = ["spec", "labels", "annotations", "group"];

// === impl Mask ===

impl Mask {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            tree: Tree::Whole,
            canonical: String::new(),
        }
    }

    /// Checks a read mask; absent, empty and `*` mean everything.
    ///
    /// # Errors
    /// Every path that is no field, with the nearest that is.
    pub fn parse(mask: Option<&FieldMask>) -> Result<Self, Vec<FieldError>> {
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        if paths.is_empty() || matches!(paths, [all] if all == "*") {
            return Ok(Self::everything());
        }
        let mut tree = tree(paths, "read_mask")?;
        for number in IDENTITY {
            tree.insert(&[number]);
        }
        let paths: BTreeSet<_> = paths.iter().map(String::as_str).collect();
        let canonical = paths.into_iter().collect::<Vec<_>>().join(",");
        Ok(Self { tree, canonical })
    }

    /// Whether nothing is masked out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.tree == Tree::Whole
    }

    /// Reduces `process` to the mask.
    pub fn project(&self, process: &mut proto::Process) {
        if self.is_everything() {
            return;
        }
        let kept = self.tree.keep(&process.encode_to_vec());
        // What was just encoded decodes.
        *process = proto::Process::decode(&*kept).unwrap_or_default();
    }

    /// Whether the projections of two states of one process differ in more than
    /// identity. Only the masked half (configuration, status) is compared.
    #[must_use]
    pub fn touches(&self, old: &ProcessNode, new: &ProcessNode) -> bool {
        let Tree::Part(fields) = &self.tree else {
            return old.version() != new.version();
        };
        if old.uid() != new.uid() || fields.contains_key(&UPDATE_TIME) {
            return true;
        }
        if let Some(tree) = fields.get(&STATUS) {
            let status = |node: &ProcessNode| {
                let status = observed::status(node.body());
                tree.keep(&status.encode_to_vec())
            };
            if status(old) != status(new) {
                return true;
            }
        }
        let uid = old.uid();
        let (old, new) = (&old.body().spec, &new.body().spec);
        let configured = fields
            .keys()
            .any(|n| !IDENTITY.contains(n) && *n != STATUS && *n != UPDATE_TIME);
        if !configured || std::sync::Arc::ptr_eq(old, new) {
            return false;
        }
        let projected = |spec| {
            let mut process = process::configured(uid, spec);
            self.project(&mut process);
            process
        };
        projected(old) != projected(new)
    }
}

impl View for Mask {
    fn show(&self, node: &ProcessNode) -> proto::Process {
        let mut process = process::process(node);
        self.project(&mut process);
        process
    }

    fn touches(&self, before: &ProcessNode, after: &ProcessNode) -> bool {
        self.touches(before, after)
    }

    fn canonical(&self) -> String {
        self.canonical.clone()
    }
}

// === impl UpdateMask ===

impl UpdateMask {
    /// Checks an update mask.
    ///
    /// # Errors
    /// It is absent, empty or `*`, or a path is no field that can be updated.
    pub fn parse(mask: Option<&FieldMask>) -> Result<Self, Vec<FieldError>> {
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        let problem = match paths {
            [] => "is required: name the paths to change, e.g. \"spec.env\"",
            all if all.iter().any(|path| path == "*") => {
                "\"*\" would change everything; name the paths to change, or use ApplyProcess"
            }
            _ => "",
        };
        if !problem.is_empty() {
            return Err(vec![fault("update_mask", problem.into())]);
        }
        let tree = tree(paths, "update_mask")?;
        let outside: Vec<_> = paths
            .iter()
            .filter(|path| !UPDATABLE.contains(&path.split('.').next().unwrap_or_default()))
            .map(|path| {
                let allowed = UPDATABLE.join(", ");
                let problem = format!("{path:?} cannot be updated; use paths under {allowed}");
                fault("update_mask", problem)
            })
            .collect();
        if outside.is_empty() {
            Ok(Self { tree })
        } else {
            Err(outside)
        }
    }

    /// The masked part of `process`.
    #[must_use]
    pub fn part(&self, process: &proto::Process) -> proto::Process {
        let kept = self.tree.keep(&process.encode_to_vec());
        proto::Process::decode(&*kept).unwrap_or_default()
    }

    /// `base` with its masked part replaced by that of `from`.
    #[must_use]
    pub fn overlay(&self, base: &proto::Process, from: &proto::Process) -> proto::Process {
        // Encodings merge by concatenation.
        let mut bytes = self.tree.drop_from(&base.encode_to_vec());
        bytes.extend(self.tree.keep(&from.encode_to_vec()));
        proto::Process::decode(&*bytes).unwrap_or_default()
    }
}

fn tree(paths: &[String], field: &str) -> Result<Tree, Vec<FieldError>> {
    if paths.len() > PATHS_MAX {
        let problem = format!("{} paths; at most {PATHS_MAX}", paths.len());
        return Err(vec![fault(field, problem)]);
    }
    let mut tree = Tree::empty();
    let mut faults = Vec::new();
    for path in paths {
        match numbers(path) {
            Ok(numbers) => tree.insert(&numbers),
            Err(problem) => faults.push(fault(field, problem)),
        }
    }
    if faults.is_empty() {
        Ok(tree)
    } else {
        Err(faults)
    }
}

/// The field numbers along `path`, or what is wrong with it.
fn numbers(path: &str) -> Result<Vec<u32>, String> {
    let mut numbers = Vec::new();
    let mut message = schema().message(PROCESS);
    let mut before = String::new();
    for part in path.split('.') {
        let Some(current) = message else {
            return Err(format!(
                "{path:?} goes into {before:?}, whose parts cannot be addressed; use {before:?}"
            ));
        };
        let Some(field) = current.fields.get(part) else {
            let near = nearest(part, current.fields.keys().map(String::as_str));
            return Err(match near {
                Some(near) => format!(
                    "{path:?} is no field; did you mean {:?}?",
                    join(&before, near)
                ),
                None => format!("{path:?} is no field of a process"),
            });
        };
        numbers.push(field.number);
        before = join(&before, part);
        message = match &field.kind {
            Kind::One(name) => schema().message(name),
            Kind::Scalar | Kind::Many(_) | Kind::Map(_) => None,
        };
    }
    Ok(numbers)
}

fn join(before: &str, part: &str) -> String {
    if before.is_empty() {
        part.to_owned()
    } else {
        format!("{before}.{part}")
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn fault(field: &str, problem: String) -> FieldError {
    FieldError {
        field: field.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests;
