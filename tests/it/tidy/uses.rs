//! Which paths a source names: `crate::{a::{B, c}, d}` written out.

/// Every path after `crate::` in `code`, each without that prefix.
pub(super) fn crate_paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let inside_word = code[..at]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        if !inside_word {
            expand(&code[at + word.len()..], "", &mut found);
        }
    }
    found
}

/// Longest run of `super::` in `code`.
pub(super) fn supers(code: &str) -> usize {
    (1..)
        .take_while(|n| code.contains(&"super::".repeat(*n)))
        .last()
        .unwrap_or(0)
}

/// Whether `code` names the crate or module `name` as the first part of a path.
pub(super) fn names(code: &str, name: &str) -> bool {
    let start = format!("{name}::");
    let used = code.match_indices(&start).any(|(at, _)| {
        let before = &code[..at];
        // `::name::` is an absolute path, `a::name::` is not the crate.
        let before = match before.strip_suffix("::") {
            Some(rest) if rest.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                return false;
            }
            Some(rest) => rest,
            None => before,
        };
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    });
    used || code.contains(&format!("use {name};")) || code.contains(&format!("use {name} as "))
}

/// Reads one path or group at the start of `text`; returns what it took.
fn expand(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    if text.starts_with('{') {
        return expand_group(text, prefix, found);
    }
    let word = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*'))
        .unwrap_or(text.len());
    let path = match (prefix, &text[..word]) {
        ("", name) => name.to_owned(),
        (before, name) => format!("{before}::{name}"),
    };
    let follows = text[word..].strip_prefix("::").filter(|rest| {
        rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '{' || c == '*')
    });
    match follows {
        Some(rest) => word + 2 + expand(rest, &path, found),
        None => {
            found.push(path);
            word
        }
    }
}

fn expand_group(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '}' => return at + 1,
            // A new name names nothing.
            'a' if text[at..].starts_with("as ") => {
                at += text[at..].find([',', '}']).unwrap_or(text.len() - at);
            }
            c if c.is_alphanumeric() || c == '_' || c == '{' || c == '*' => {
                at += expand(&text[at..], prefix, found).max(1);
            }
            c => at += c.len_utf8(),
        }
    }
    at
}

#[test]
fn paths_are_written_out() {
    let code = "use crate::{\n a::{B, c::{D, E as F}},\n g,\n};\nfn f() { crate::h::i(); }";
    let expected = ["a::B", "a::c::D", "a::c::E", "g", "h::i"];
    assert_eq!(crate_paths(code), expected);
}

#[test]
fn crates_are_told_from_modules() {
    assert!(names("use tokio::sync;", "tokio"));
    assert!(names("let x: ::tokio::X;", "tokio"));
    assert!(names("use tokio;", "tokio"));
    assert!(!names("use my_tokio::sync;", "tokio"));
    assert!(!names("use super::tokio::sync;", "tokio"));
    assert_eq!(supers("use super::super::x; super::y();"), 2);
}
