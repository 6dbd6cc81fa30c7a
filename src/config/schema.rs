//! The JSON Schema of a configuration file, made from `raw`.

use std::sync::LazyLock;

use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Value, map::Map};

use super::raw;

#[cfg(test)]
mod tests;

static SCHEMA: LazyLock<Value> = LazyLock::new(generate);

/// The schema as it stands in `docs/config.schema.json`, for editors and other
/// tools.
#[must_use]
pub fn json_schema() -> String {
    // A tree of JSON values always has a text.
    let mut text = serde_json::to_string_pretty(schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema that `check` applies.
pub(super) fn schema() -> &'static Value {
    &SCHEMA
}

/// What a schema means: itself, or what it refers to.
pub(super) fn deref<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    schema["$ref"]
        .as_str()
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        .unwrap_or(schema)
}

fn generate() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with_transform(RecursiveTransform(tidy));
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<raw::File>();
    schema.insert("title".into(), "procession configuration".into());
    schema.to_value()
}

/// Makes a schema say what is meant for people: a key may be left out, but is
/// not written as null; paragraphs are one line.
fn tidy(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("default");
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
        branches.retain(|branch| branch["type"] != "null");
        if let [Value::Object(only)] = &mut branches[..] {
            let only = std::mem::take(only);
            object.remove("anyOf");
            object.extend(only);
        }
    }
    join_lines(object);
}

fn join_lines(object: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}
