//! `${VAR}` and `${VAR:-default}` in texts; `$$` is a dollar. A dollar before
//! anything else stands for itself.

use std::collections::BTreeMap;

/// Bytes that expansion may add up to in one file.
const EXPANDED_BYTES_MAX: usize = 16 << 20;

/// Defaults within defaults.
const NESTING_MAX: usize = 8;

/// Expands texts from a fixed set of variables.
#[derive(Debug)]
pub(super) struct Expander<'a> {
    env: &'a BTreeMap<String, String>,
    bytes_left: usize,
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error(
        "the environment variable {0} is not set; set it, or give a default as in ${{{0}:-value}}"
    )]
    Unset(String),
    #[error(r#""${{" has no closing "}}"; write "$${{" for the characters themselves"#)]
    Unclosed,
    #[error(
        "\"${{{0}}}\" is neither ${{VAR}} nor ${{VAR:-default}}; write \"$${{\" for the characters \
        themselves"
    )]
    Form(String),
    #[error("defaults are nested too deeply; at most {NESTING_MAX} levels are allowed")]
    Nesting,
    #[error("expands to too much text; at most {EXPANDED_BYTES_MAX} bytes per file are allowed")]
    TooLong,
}

impl<'a> Expander<'a> {
    pub(super) const fn new(env: &'a BTreeMap<String, String>) -> Self {
        Self {
            env,
            bytes_left: EXPANDED_BYTES_MAX,
        }
    }

    pub(super) fn expand(&mut self, text: &str) -> Result<String, ExpandError> {
        let mut out = String::with_capacity(text.len());
        self.expand_into(text, &mut out, NESTING_MAX)?;
        Ok(out)
    }

    fn expand_into(
        &mut self,
        text: &str,
        out: &mut String,
        depth: usize,
    ) -> Result<(), ExpandError> {
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(inner) = after.strip_prefix('{') {
                let end = closing_brace(inner).ok_or(ExpandError::Unclosed)?;
                self.expand_variable(&inner[..end], out, depth)?;
                rest = &inner[end + 1..];
            } else {
                out.push('$');
                rest = after;
            }
        }
        out.push_str(rest);
        Ok(())
    }

    /// `inner` is what stands between the braces.
    fn expand_variable(
        &mut self,
        inner: &str,
        out: &mut String,
        depth: usize,
    ) -> Result<(), ExpandError> {
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_variable_name(name) {
            return Err(ExpandError::Form(inner.to_owned()));
        }
        match (self.env.get(name), default) {
            // As in a shell, `:-` also replaces an empty value.
            (Some(value), _) if !value.is_empty() || default.is_none() => {
                let left = self.bytes_left.checked_sub(value.len());
                self.bytes_left = left.ok_or(ExpandError::TooLong)?;
                out.push_str(value);
                Ok(())
            }
            (_, Some(default)) => {
                let depth = depth.checked_sub(1).ok_or(ExpandError::Nesting)?;
                self.expand_into(default, out, depth)
            }
            (_, None) => Err(ExpandError::Unset(name.to_owned())),
        }
    }
}

/// Position of the brace that closes an already opened `${`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    let mut before = None;
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == Some('$') => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
        // `$$` is a pair: its second half opens nothing.
        before = if c == '$' && before == Some('$') {
            None
        } else {
            Some(c)
        };
    }
    None
}

fn is_variable_name(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, ExpandError> {
        let env = [
            ("HOST", "example"),
            ("EMPTY", ""),
            ("MONEY", "$HOST ${HOST}"),
        ];
        let env = env.map(|(k, v)| (k.to_owned(), v.to_owned()));
        Expander::new(&env.into()).expand(text)
    }

    #[test]
    fn table() {
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("${HOST}", "example"),
            ("a${HOST}b${HOST}c", "aexamplebexamplec"),
            ("${HOST:-other}", "example"),
            ("${NONE:-other}", "other"),
            ("${NONE:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-other}", "other"),
            ("${NONE:-${HOST}}", "example"),
            ("${NONE:-a${NONE:-b${HOST}}c}d", "abexamplecd"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-$$}", "$"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("$$$${HOST}", "$${HOST}"),
            ("$$${HOST}", "$example"),
            ("$HOST $ $1 100$", "$HOST $ $1 100$"),
            // What a variable holds is not expanded again.
            ("${MONEY}", "$HOST ${HOST}"),
            ("é${HOST}é", "éexampleé"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let table = [
            (
                "${NONE}",
                "the environment variable NONE is not set; set it, or give a default as in \
                 ${NONE:-value}",
            ),
            (
                "${HOST",
                r#""${" has no closing "}"; write "$${" for the characters themselves"#,
            ),
            (
                "${HOST-x}",
                "\"${HOST-x}\" is neither ${VAR} nor ${VAR:-default}; write \"$${\" for the \
                 characters themselves",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text).unwrap_err().to_string(), expected, "{text}");
        }
        for text in ["${}", "${1}", "${a b}", "${:-x}", "${é}"] {
            assert!(matches!(expand(text), Err(ExpandError::Form(_))), "{text}");
        }
        let nested = format!("{}x{}", "${N:-".repeat(9), "}".repeat(9));
        assert_eq!(expand(&nested), Err(ExpandError::Nesting));
    }

    #[test]
    fn growth_is_bounded() {
        let env = [("BIG".to_owned(), "x".repeat(1 << 20))].into();
        let mut expander = Expander::new(&env);
        for _ in 0..16 {
            assert_eq!(expander.expand("${BIG}").unwrap().len(), 1 << 20);
        }
        assert_eq!(expander.expand("${BIG}"), Err(ExpandError::TooLong));
    }
}
