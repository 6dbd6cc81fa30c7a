//! What no compiler holds: layers, sizes, forbidden words, documents that name
//! what exists.
//!
//! A rule is a function from a [`Tree`] to complaints, so each is tried twice:
//! on a bad sample, of which it must complain, and on the project, of which it
//! must not. Deliberately absent from the tree: the text of these files,
//! whose samples are bad on purpose.

mod code;
mod docs;
mod layers;
mod uses;

use std::{fs, path::Path};

/// Files of the project, or a sample of them.
struct Tree {
    files: Vec<SourceFile>,
}

/// One file.
struct SourceFile {
    /// Relative to the project, with `/`.
    path: String,
    text: String,
}

/// What is not ours, or not text.
const SKIPPED: &[&str] = &[".git", ".tools", "target", "node_modules", "Cargo.lock"];

/// A path and why a rule does not hold for it.
type Exemption = (&'static str, &'static str);

// === impl Tree ===

impl Tree {
    /// The project as it is on disk.
    fn project() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        collect(root, root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.len() > 100, "only {} files found", files.len());
        Self { files }
    }

    fn sample(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| SourceFile {
            path: (*path).into(),
            text: (*text).into(),
        });
        Self {
            files: files.collect(),
        }
    }

    fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Rust below one of these folders.
    fn rust<'a>(&'a self, folders: &'a [&str]) -> impl Iterator<Item = &'a SourceFile> {
        self.files.iter().filter(move |file| {
            file.path.ends_with(".rs")
                && folders
                    .iter()
                    .any(|folder| file.path.starts_with(&format!("{folder}/")))
        })
    }
}

// === impl SourceFile ===

impl SourceFile {
    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// Its production code, comments included; empty if all of it is test code.
    fn production(&self) -> &str {
        if self.is_test() {
            return "";
        }
        self.text.split(INLINE_TESTS).next().unwrap_or_default()
    }

    /// Its test code.
    fn tests(&self) -> &str {
        if self.is_test() {
            return &self.text;
        }
        self.text.split_once(INLINE_TESTS).map_or("", |both| both.1)
    }

    /// Its production code without comments.
    fn code(&self) -> String {
        without_comments(self.production())
    }
}

const INLINE_TESTS: &str = "#[cfg(test)]\nmod tests {";

// === free functions ===

fn collect(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        let relative = path.strip_prefix(root).expect("below the root");
        let relative = relative.to_string_lossy().replace('\\', "/");
        let name = relative.rsplit('/').next().unwrap_or_default();
        if SKIPPED.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let ours = relative.starts_with("tests/it/tidy");
            files.push(SourceFile {
                path: relative,
                text: if ours { String::new() } else { text },
            });
        }
    }
}

/// Without what follows `//` at the start of a line or after a blank, so that
/// addresses in texts stay.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.trim_start().starts_with("//") {
            ""
        } else {
            line.split(" // ").next().unwrap_or_default()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn exempt(list: &[Exemption], path: &str) -> bool {
    list.iter().any(|(exempted, _)| *exempted == path)
}

/// The rule complains of the sample, once per expected part of a complaint.
#[track_caller]
fn complains(rule: fn(&Tree) -> Vec<String>, sample: &[(&str, &str)], expected: &[&str]) {
    let complaints = rule(&Tree::sample(sample));
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    for part in expected {
        assert!(
            complaints.iter().any(|complaint| complaint.contains(part)),
            "nothing about {part:?} in {complaints:#?}"
        );
    }
}

/// The rule finds nothing in the project.
#[track_caller]
fn holds(rule: fn(&Tree) -> Vec<String>) {
    let complaints = rule(&Tree::project());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
