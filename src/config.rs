//! L5, the configuration file: TOML, YAML or JSON to what the API is asked for.
//!
//! The way of a file, read in one direction: text -> `parse` (a tree that knows
//! its lines) -> `check` (the tree against the schema of `raw`; expands
//! `${VAR}`) -> `cycle` -> serde -> `raw` -> `resolve` -> proto.
//!
//! Invariants: all errors of a file come at once, each with line and key; the
//! schema that editors use is the schema that is checked; nothing is read but the
//! file, and variables only from the map passed in. Deliberately absent: whether
//! the daemon can do what is asked, and whether a dependency exists there; it
//! answers for itself.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{self, Path},
};

use crate::grpc::proto;

mod check;
mod cycle;
mod errors;
mod expand;
mod parse;
mod raw;
mod resolve;
mod scalar;
mod schema;
mod tree;

pub use errors::{ConfigError, ConfigErrors};
pub use schema::json_schema;

use errors::Findings;
use parse::Format;
use tree::Node;

/// Largest configuration file, in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// Most processes in one file; as many as `BatchApplyProcesses` takes.
pub const PROCESSES_MAX: usize = 1000;

/// Variables that `${VAR}` may name.
pub type Environment = BTreeMap<String, String>;

/// What a file asks for, both ordered by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Processes with name, labels, annotations, group and spec. Paths in them
    /// are absolute.
    pub processes: Vec<proto::Process>,
    /// Policies of groups.
    pub groups: Vec<proto::ProcessGroup>,
}

/// Reads the file at `path`, of which the extension tells the language.
///
/// # Errors
/// Everything that is wrong with it, ready to be printed.
pub fn load(path: &Path, env: &Environment) -> Result<Config, ConfigErrors> {
    let whole = |message: String| ConfigErrors::whole(path, message);
    let format = Format::of(path).ok_or_else(|| {
        whole("unknown kind of file; its name must end in .toml, .yaml (or .yml) or .json".into())
    })?;
    let text = read(path).map_err(whole)?;
    let absolute =
        path::absolute(path).map_err(|error| whole(format!("no such place: {error}")))?;
    let base = absolute.parent().unwrap_or(&absolute);
    if base.to_str().is_none() {
        return Err(whole("the name of its directory must be UTF-8".into()));
    }
    let mut findings = Findings::default();
    let config = build(format, &text, base, env, &mut findings);
    findings.or(path, config)
}

/// The text of the file, without a byte order mark.
fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!(
            "is too large; at most {FILE_BYTES_MAX} bytes are allowed"
        ));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        format!(
            "is not UTF-8 from byte {}",
            error.utf8_error().valid_up_to()
        )
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// The configuration; empty and of no use where something was found.
fn build(
    format: Format,
    text: &str,
    base: &Path,
    env: &Environment,
    findings: &mut Findings,
) -> Config {
    let Some(mut tree) = parse::parse(format, text, findings) else {
        return Config::default();
    };
    check_count(&tree, findings);
    check::check(schema::schema(), &mut tree, env, findings);
    cycle::check(&tree, findings);
    if !findings.is_empty() {
        return Config::default();
    }
    let file = tree.into_json().map(serde_json::from_value::<raw::File>);
    match file {
        Some(Ok(file)) => resolve::resolve(file, base),
        // The schema let through what the structs refuse.
        Some(Err(error)) => {
            findings.add(0, "", error.to_string());
            Config::default()
        }
        None => {
            findings.add(0, "", "contains a number that cannot be used");
            Config::default()
        }
    }
}

fn check_count(tree: &Node, findings: &mut Findings) {
    let processes = tree.get("processes").map_or(&[][..], Node::entries);
    if let Some((_, node)) = processes.get(PROCESSES_MAX) {
        let found = processes.len();
        findings.add(
            node.line,
            "processes",
            format!("has {found} processes; at most {PROCESSES_MAX} are allowed in one file"),
        );
    }
}

#[cfg(test)]
mod tests;
