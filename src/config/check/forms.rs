//! What a value must look like, for machines and in words.

use serde_json::Value as Json;

use crate::{
    config::{
        scalar::{self, BYTES_FORM, DURATION_FORM},
        schema::deref,
    },
    domain::id::ProcessName,
};

/// Checks a text whose schema has this `x-type`.
pub(super) fn check(kind: &str, text: &str) -> Result<(), String> {
    match kind {
        "name" => match ProcessName::new(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the name {error}")),
        },
        "env_name" => scalar::parse_env_name(text),
        "octal" => scalar::parse_octal(text),
        "duration" => scalar::parse_duration(text).map(drop),
        "byte_size" => scalar::parse_bytes(text).map(drop),
        "signal" => scalar::parse_signal(text).map(drop),
        _ => Ok(()),
    }
}

/// The texts an enum takes; `None` where the schema is none.
pub(super) fn choices(schema: &Json) -> Option<Vec<&str>> {
    if let Some(texts) = schema["enum"].as_array() {
        return Some(texts.iter().filter_map(Json::as_str).collect());
    }
    let choices = schema["oneOf"].as_array()?.iter();
    let choices: Vec<_> = choices.filter_map(|c| c["const"].as_str()).collect();
    (!choices.is_empty()).then_some(choices)
}

/// Smallest and largest integer.
pub(super) fn bounds(schema: &Json) -> (i128, i128) {
    let (min, max) = match schema["format"].as_str() {
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    (
        schema["minimum"].as_i64().map_or(min, i128::from),
        schema["maximum"].as_i64().map_or(max, i128::from),
    )
}

/// What is allowed, as it follows "must be".
pub(super) fn describe(root: &Json, schema: &Json) -> String {
    let schema = deref(root, schema);
    if let Some(choices) = choices(schema) {
        let quoted: Vec<_> = choices.iter().map(|c| format!("{c:?}")).collect();
        return format!("one of {}", quoted.join(", "));
    }
    match schema["x-type"].as_str() {
        Some("command") => return "a string or a list of strings".into(),
        Some("duration") => return DURATION_FORM.into(),
        Some("byte_size") => return BYTES_FORM.into(),
        Some("signal") => return r#"a signal such as "term""#.into(),
        Some("octal") => return r#"octal digits in quotes such as "022""#.into(),
        _ => {}
    }
    if let Some(branches) = schema["anyOf"].as_array() {
        let branches: Vec<_> = branches.iter().map(|b| describe(root, b)).collect();
        let text = branches.join(" or ");
        let commas = text.matches(" or ").count().saturating_sub(1);
        return text.replacen(" or ", ", ", commas);
    }
    match schema["type"].as_str() {
        Some("string") => "a string".into(),
        Some("boolean") => "true or false".into(),
        Some("integer") => {
            let (min, max) = bounds(schema);
            format!("an integer from {min} to {max}")
        }
        Some("number") => match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
            (Some(min), Some(max)) => format!("a number from {min} to {max}"),
            _ => "a number".into(),
        },
        Some("array") => "a list".into(),
        _ => "a table".into(),
    }
}
