//! Configurations from the store as a file that `apply` takes.
//!
//! JSON, made from the messages by their descriptors: the keys of a configuration
//! file are the names of their fields, enums are written without their prefix, and
//! durations with units. So a field that the contract gains is exported too.
//!
//! Deliberately absent: what the store keeps beside a configuration (desired states,
//! history). Paths are absolute already, but a process without a working directory
//! gets `/`: in a file, none would mean the file's.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use prost::Message;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value as Wire,
};
use serde_json::{Map, Value, json};

use crate::{
    cli::{CliError, render::json::pool},
    grpc::proto,
};

const PROCESS: &str = "procession.v1.Process";
const DURATION: &str = "google.protobuf.Duration";
/// Fields of a process that a file says, beside those of its spec.
const BESIDE_SPEC: [&str; 3] = ["labels", "annotations", "group"];

/// Keys that a file must have, also where they are zero: message and field.
const NEEDED: [(&str, &str); 1] = [("Rlimit", "soft")];

/// Writes `processes` to `file`, which must not exist: it holds environments.
pub(super) fn export(
    processes: impl Iterator<Item = proto::Process>,
    file: &Path,
) -> Result<(), CliError> {
    let mut all = Map::new();
    for process in processes {
        all.insert(process.name.clone(), entry(&process)?);
    }
    let text = serde_json::to_string_pretty(&json!({ "processes": all })).map_err(failed)?;
    let refused = |error| CliError::Refused(format!("{}: {error}", file.display()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(refused)?;
    writeln!(file, "{text}").map_err(refused)
}

/// What a file says of `process`.
fn entry(process: &proto::Process) -> Result<Value, CliError> {
    let descriptor = pool()?
        .get_message_by_name(PROCESS)
        .ok_or_else(|| failed(format!("{PROCESS} is unknown")))?;
    let bytes = process.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(failed)?;
    let mut entry = match message.get_field_by_name("spec").as_deref() {
        Some(Wire::Message(spec)) => table(spec),
        _ => Map::new(),
    };
    for name in BESIDE_SPEC {
        let field = message.descriptor().get_field_by_name(name);
        if let Some(field) = field.filter(|field| message.has_field(field)) {
            entry.insert(name.into(), value(&field, &message.get_field(&field)));
        }
    }
    let spec = process.spec.as_ref();
    // What a file means where it does not say so.
    entry.insert("autostart".into(), spec.is_some_and(|s| s.autostart).into());
    entry
        .entry("working_directory")
        .or_insert_with(|| "/".into());
    Ok(Value::Object(entry))
}

/// The fields of `message` that are set, or that a file must have.
fn table(message: &DynamicMessage) -> Map<String, Value> {
    let kind = message.descriptor();
    let needed = |field: &FieldDescriptor| {
        let name = (kind.name(), field.name());
        message.has_field(field) || NEEDED.contains(&name)
    };
    let fields = kind.fields().filter(needed);
    fields
        .map(|field| {
            let found = value(&field, &message.get_field(&field));
            (field.name().to_owned(), found)
        })
        .collect()
}

fn value(field: &FieldDescriptor, found: &Wire) -> Value {
    match found {
        Wire::Bool(found) => (*found).into(),
        Wire::I32(found) => (*found).into(),
        Wire::I64(found) => (*found).into(),
        Wire::U32(found) => (*found).into(),
        Wire::U64(found) => (*found).into(),
        Wire::F32(found) => (*found).into(),
        Wire::F64(found) => (*found).into(),
        Wire::String(found) => literal(found),
        Wire::Bytes(found) => literal(&String::from_utf8_lossy(found)),
        Wire::EnumNumber(number) => match field.kind() {
            Kind::Enum(kind) => short_name(&kind, *number),
            _ => (*number).into(),
        },
        Wire::Message(message) if message.descriptor().full_name() == DURATION => duration(message),
        Wire::Message(message) => table(message).into(),
        Wire::List(list) => list.iter().map(|found| value(field, found)).collect(),
        Wire::Map(map) => {
            let entries = map.iter().map(|(key, found)| (key_text(key), found));
            let entries = entries.map(|(key, found)| (key, map_value(field, found)));
            entries.collect::<Map<_, _>>().into()
        }
    }
}

/// Values of maps have a field of their own in the descriptor.
fn map_value(field: &FieldDescriptor, found: &Wire) -> Value {
    match field.kind() {
        Kind::Message(entry) => value(&entry.map_entry_value_field(), found),
        _ => value(field, found),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(key) => key.clone(),
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
    }
}

/// A text that stays as it is: dollars would begin a variable.
fn literal(text: &str) -> Value {
    text.replace('$', "$$").into()
}

/// `RESTART_MODE_ON_FAILURE` of `RestartMode` is `on_failure`.
fn short_name(kind: &EnumDescriptor, number: i32) -> Value {
    let Some(found) = kind.get_value(number) else {
        return number.into();
    };
    let mut prefix = String::new();
    for letter in kind.name().chars() {
        if letter.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    let short = found.name().strip_prefix(&prefix).unwrap_or(found.name());
    short.to_ascii_lowercase().into()
}

/// Whole numbers with units.
fn duration(message: &DynamicMessage) -> Value {
    let part = |name: &str| match message.get_field_by_name(name).as_deref() {
        Some(Wire::I64(found)) => *found,
        Some(Wire::I32(found)) => i64::from(*found),
        _ => 0,
    };
    match (part("seconds"), part("nanos")) {
        (seconds, 0) => format!("{seconds}s"),
        (0, nanos) if nanos % 1_000_000 == 0 => format!("{}ms", nanos / 1_000_000),
        (seconds, nanos) => format!("{seconds}s{nanos}ns"),
    }
    .into()
}

fn failed(error: impl ToString) -> CliError {
    CliError::Json(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            id::{ProcessName, Uid},
            spec::Spec,
            time::Timestamp,
        },
        grpc::convert::{Faults, process, spec},
    };
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// A file of it, read as `apply` reads it, says the same.
        #[test]
        fn what_is_exported_is_applied_the_same(
            config in crate::grpc::convert::tests::config(),
            dollars in "[$a{}]{0,6}",
        ) {
            let mut config = config;
            config.command = vec!["run".into(), dollars];
            config.working_directory = Some("/srv".into());
            // The check of a file knows their names.
            for rlimit in &mut config.rlimits {
                rlimit.name = "core".into();
            }
            // Paths are absolute once they came from a file.
            for path in config.env_files.iter_mut().chain(&mut config.stdio.stdin_file) {
                *path = format!("/{}", path.replace('/', "x"));
            }
            if let Some(budget) = &mut config.restart.budget {
                budget.max_restarts += 1;
            }
            let spec_there = Spec {
                name: ProcessName::new("web").unwrap(),
                generation: 1,
                created: Timestamp(1),
                config: config.clone(),
            };
            let mut message = process::configured(Uid::from_bytes([1; 16]), &spec_there);
            message.name = "web".into();
            let entry = entry(&message).unwrap();
            let text = json!({ "processes": { "web": entry } }).to_string();
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("rescued.json");
            std::fs::write(&file, &text).unwrap();
            let loaded = crate::config::load(&file, &Default::default());
            let loaded = match loaded {
                Ok(loaded) => loaded,
                Err(error) => return Err(TestCaseError::fail(format!("{error}\n{text}"))),
            };
            let [read] = &*loaded.processes else {
                return Err(TestCaseError::fail("not one process"));
            };
            let mut faults = Faults::default();
            prop_assert_eq!(spec::config(read.clone(), &mut faults), config, "{}", text);
        }
    }
}
