//! TOML, YAML or JSON text to a tree.
//!
//! Invariants: whatever the text, no panic; nesting is at most
//! [`DEPTH_MAX`](super::tree::DEPTH_MAX); keys of a table are unique.

use std::path::Path;

use super::{errors::Findings, tree::Node};

mod json;
mod toml;
mod yaml;

/// Language of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Yaml,
    Json,
}

impl Format {
    /// By the extension of the file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The tree; `None` where `findings` tells why there is none.
pub(super) fn parse(format: Format, text: &str, findings: &mut Findings) -> Option<Node> {
    match format {
        Format::Toml => toml::parse(text, findings),
        Format::Yaml => yaml::parse(text, findings),
        Format::Json => json::parse(text, findings),
    }
}

fn too_deep() -> String {
    format!(
        "is nested too deeply; at most {} levels are allowed",
        super::tree::DEPTH_MAX
    )
}
