//! What label keys and values look like; Kubernetes' grammar.

use super::limits::{LABEL_CHARS_MAX, LABEL_PREFIX_CHARS_MAX};

/// Whether `text` is a key: `[dns.prefix/]name`.
#[must_use]
pub fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && is_name(name),
        None => is_name(text),
    }
}

/// Whether `text` is a value; it may be empty.
#[must_use]
pub fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

fn is_prefix(text: &str) -> bool {
    text.len() <= LABEL_PREFIX_CHARS_MAX
        && text.split('.').all(|part| {
            is_name(part) && !part.contains(|c: char| c == '_' || c.is_ascii_uppercase())
        })
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= LABEL_CHARS_MAX
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_follow_the_grammar() {
        let long = "x".repeat(LABEL_CHARS_MAX + 1);
        for good in ["a", "a.b_c-D", "example.com/a", &long[1..]] {
            assert!(is_key(good), "{good}");
        }
        for bad in [
            "", "-a", "a.", "a b", "/a", "a/", "A.com/a", "a_b/c", "a..b/c", "a/b/c", &long,
        ] {
            assert!(!is_key(bad), "{bad}");
        }
        assert!(is_value("") && is_value("1.0") && !is_value("a/b") && !is_value(&long));
    }
}
