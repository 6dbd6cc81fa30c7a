//! The schema against the contract, and the committed files against the schema.
//! `BLESS=1` writes those files anew.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use prost::Message;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type,
};

use super::*;
use crate::grpc::proto;

const BEGIN: &str = "<!-- reference: made from the schema; BLESS=1 cargo test config::schema -->\n";
const END: &str = "<!-- end of reference -->\n";

#[test]
fn committed_schema_is_current() {
    committed("docs/config.schema.json", |_| json_schema());
}

#[test]
fn committed_reference_is_current() {
    committed("docs/configuration.md", |text| {
        let (before, rest) = text.split_once(BEGIN).expect("the reference begins");
        let (_, after) = rest.split_once(END).expect("the reference ends");
        format!("{before}{BEGIN}\n{}{END}{after}", reference())
    });
}

/// Compares a committed file with what it should be.
fn committed(file: &str, make: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let made = make(&text);
    if env::var_os("BLESS").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert!(
            text == made,
            "{file} is out of date; write it anew with BLESS=1"
        );
    }
}

/// Every field of the contract has its key, and every key but the short forms
/// its field.
#[test]
fn keys_are_the_fields_of_the_contract() {
    let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).unwrap();
    let messages: Vec<_> = set
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .collect();
    let find = |name: &str| *messages.iter().find(|m| m.name() == name).expect(name);
    let mut seen = BTreeSet::new();
    let process = &schema()["$defs"]["Process"];
    compare(
        "processes.NAME",
        find("ProcessSpec"),
        process,
        &find,
        &mut seen,
    );
    compare(
        "groups.NAME",
        find("ProcessGroup"),
        &schema()["$defs"]["Group"],
        &find,
        &mut seen,
    );
    assert!(
        seen.contains("HttpCheck") && seen.contains("JournaldTarget"),
        "{seen:?}"
    );
}

/// Every value of an enum of the contract can be written, and no other. A
/// dependency takes fewer conditions; signals have a grammar of their own.
#[test]
fn choices_are_the_values_of_the_contract() {
    let contract = contract();
    let mut checked = 0;
    for (name, table) in schema()["$defs"].as_object().unwrap() {
        let Some(choices) = table["oneOf"]
            .as_array()
            .filter(|c| c[0]["const"].is_string())
        else {
            continue;
        };
        let choices: Vec<_> = choices.iter().filter_map(|c| c["const"].as_str()).collect();
        let found = contract.enum_type.iter().find(|e| e.name() == name);
        let Some(found) = found else {
            assert_eq!(name, "DependencyCondition");
            continue;
        };
        let unspecified = found.value[0].name();
        let prefix = unspecified.strip_suffix("UNSPECIFIED").unwrap();
        let values = found.value[1..]
            .iter()
            .map(|v| v.name().strip_prefix(prefix).unwrap());
        let values: Vec<_> = values.map(str::to_ascii_lowercase).collect();
        assert_eq!(choices, values, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 7);
    let signals = contract
        .enum_type
        .iter()
        .find(|e| e.name() == "Signal")
        .unwrap();
    let about = schema()["$defs"]["Signal"]["description"].as_str().unwrap();
    for value in &signals.value[1..] {
        let name = value
            .name()
            .strip_prefix("SIGNAL_")
            .unwrap()
            .to_ascii_lowercase();
        assert!(about.contains(&name), "{name}");
    }
}

fn contract() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).unwrap();
    let ours = |file: &FileDescriptorProto| file.package() == "procession.v1";
    set.file.into_iter().find(ours).unwrap()
}

fn compare<'a>(
    at: &str,
    message: &DescriptorProto,
    schema: &Value,
    find: &impl Fn(&str) -> &'a DescriptorProto,
    seen: &mut BTreeSet<String>,
) {
    if !seen.insert(message.name().to_owned()) {
        return;
    }
    let is_map = |name: &str| message.nested_type.iter().any(|m| name.ends_with(m.name()));
    let properties = schema["properties"]
        .as_object()
        .unwrap_or_else(|| panic!("{at}"));
    let mut keys: BTreeSet<_> = properties.keys().map(String::as_str).collect();
    for field in &message.field {
        let (name, at) = (field.name(), format!("{at}.{}", field.name()));
        if (message.name(), name) == ("ProcessGroup", "name") {
            continue;
        }
        assert!(keys.remove(name), "{at} has no key");
        let type_name = field.type_name();
        if field.r#type() == Type::Message && !is_map(type_name) {
            let Some(type_name) = type_name.strip_prefix(".procession.v1.") else {
                continue;
            };
            let table = table_of(&properties[name]).unwrap_or_else(|| panic!("{at} is no table"));
            compare(&at, find(type_name), table, find, seen);
        }
    }
    if message.name() == "ProcessSpec" {
        for key in ["labels", "annotations", "group"] {
            assert!(keys.remove(key), "{key}");
        }
    }
    assert!(keys.is_empty(), "{at} has keys without a field: {keys:?}");
}

/// The table a key holds, also in a list or beside a short form.
fn table_of(property: &Value) -> Option<&Value> {
    let property = deref(schema(), property);
    if property["properties"].is_object() {
        return Some(property);
    }
    if property["items"].is_object() {
        return table_of(&property["items"]);
    }
    property["anyOf"].as_array()?.iter().find_map(table_of)
}

// === the reference ===

fn reference() -> String {
    let mut text = String::new();
    let tables = schema()["$defs"].as_object().unwrap();
    section(&mut text, "File", schema());
    section(&mut text, "Process", &tables["Process"]);
    for (name, table) in tables {
        if table["properties"].is_object() && name != "Process" {
            section(&mut text, name, table);
        }
    }
    text
}

fn section(text: &mut String, name: &str, table: &Value) {
    let about = table["description"].as_str().unwrap();
    write!(
        text,
        "### {name}\n\n{about}\n\n| key | value | meaning |\n|---|---|---|\n"
    )
    .unwrap();
    let required = table["required"].as_array().into_iter().flatten();
    let required: BTreeSet<_> = required.filter_map(Value::as_str).collect();
    for (key, property) in table["properties"].as_object().unwrap() {
        let note = if required.contains(key.as_str()) {
            "**Required.** "
        } else {
            ""
        };
        let about = property["description"].as_str().expect(key);
        let value = value(property);
        writeln!(text, "| `{key}` | {value} | {note}{about} |").unwrap();
    }
    text.push('\n');
}

/// What a key takes, for the reference.
fn value(property: &Value) -> String {
    if let Some(name) = property["$ref"]
        .as_str()
        .and_then(|r| r.strip_prefix("#/$defs/"))
    {
        let target = deref(schema(), property);
        if target["properties"].is_object() {
            return format!("[{name}](#{})", name.to_ascii_lowercase());
        }
        return value(target);
    }
    match property["x-type"].as_str() {
        Some("byte_size") => return "size".into(),
        Some("env_name") => return "name of a variable".into(),
        Some("octal") => return "octal text".into(),
        Some(kind) => return kind.into(),
        None => {}
    }
    if let Some(choices) = property["oneOf"].as_array() {
        let choices = choices.iter().filter_map(|choice| choice["const"].as_str());
        return choices
            .map(|c| format!("`{c}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(branches) = property["anyOf"].as_array() {
        return branches.iter().map(value).collect::<Vec<_>>().join(" or ");
    }
    match property["type"].as_str().unwrap() {
        "array" => format!("list of {}", value(&property["items"])),
        "object" => format!("{} by name", value(&property["additionalProperties"])),
        "boolean" => "`true`, `false`".into(),
        "string" => "text".into(),
        kind => match (&property["minimum"], &property["maximum"]) {
            (Value::Null, Value::Null) => kind.to_owned(),
            (min, Value::Null) => format!("{kind} from {min}"),
            (min, max) => format!("{kind}, {min} to {max}"),
        },
    }
}
