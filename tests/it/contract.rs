//! The contract only grows: every field, value and method that was ever served is
//! still served, with its number and type.
//!
//! `golden/procession.v1.txt` lists them, one a line. `BLESS=1` adds what is new;
//! nothing removes a line.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use procession::grpc::proto;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, field_descriptor_proto::Label,
};

const PACKAGE: &str = "procession.v1";

#[test]
fn the_contract_only_grows() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/procession.v1.txt");
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let golden: BTreeSet<_> = golden.lines().map(str::to_owned).collect();
    let current = contract();
    let gone: Vec<_> = golden.difference(&current).collect();
    assert!(gone.is_empty(), "clients rely on what is gone: {gone:#?}");
    if env::var_os("BLESS").is_some() {
        let mut text = current.iter().cloned().collect::<Vec<_>>().join("\n");
        text.push('\n');
        fs::write(&path, text).unwrap();
        return;
    }
    let new: Vec<_> = current.difference(&golden).collect();
    assert!(
        new.is_empty(),
        "not in the list yet; run again with BLESS=1: {new:#?}"
    );
}

#[test]
fn the_list_tells_numbers_types_and_presence() {
    let current = contract();
    for line in [
        "enum .procession.v1.Signal 7 SIGNAL_TERM",
        "field .procession.v1.Process 1 name: string",
        "field .procession.v1.Process 7 labels: map<string, string>",
        "field .procession.v1.Precondition 2 version: optional int64",
        "field .procession.v1.ExitStatus 2 exit_code: int32 in oneof outcome",
        "field .procession.v1.ListProcessesResponse 2 processes: repeated .procession.v1.Process",
        "rpc WatchProcesses(.procession.v1.WatchProcessesRequest) returns (stream .procession.v1.WatchProcessesResponse)",
    ] {
        assert!(current.contains(line), "{line}");
    }
}

fn contract() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).unwrap_or_default();
    let ours = set.file.iter().filter(|file| file.package() == PACKAGE);
    ours.flat_map(file).collect()
}

fn file(file: &FileDescriptorProto) -> Vec<String> {
    let mut lines = Vec::new();
    let scope = format!(".{}", file.package());
    for descriptor in &file.enum_type {
        enumeration(&scope, descriptor, &mut lines);
    }
    for descriptor in &file.message_type {
        message(&scope, descriptor, &mut lines);
    }
    for method in file.service.iter().flat_map(|service| &service.method) {
        let stream = |streaming| if streaming { "stream " } else { "" };
        lines.push(format!(
            "rpc {}({}{}) returns ({}{})",
            method.name(),
            stream(method.client_streaming()),
            method.input_type(),
            stream(method.server_streaming()),
            method.output_type(),
        ));
    }
    lines
}

fn enumeration(scope: &str, descriptor: &EnumDescriptorProto, lines: &mut Vec<String>) {
    for value in &descriptor.value {
        lines.push(format!(
            "enum {scope}.{} {} {}",
            descriptor.name(),
            value.number(),
            value.name()
        ));
    }
}

fn message(scope: &str, descriptor: &DescriptorProto, lines: &mut Vec<String>) {
    let full = format!("{scope}.{}", descriptor.name());
    lines.push(format!("message {full}"));
    for descriptor in &descriptor.enum_type {
        enumeration(&full, descriptor, lines);
    }
    for nested in &descriptor.nested_type {
        if !nested.options.as_ref().is_some_and(|o| o.map_entry()) {
            message(&full, nested, lines);
        }
    }
    for field in &descriptor.field {
        let (number, name) = (field.number(), field.name());
        let kind = kind(&full, field, descriptor);
        lines.push(format!("field {full} {number} {name}: {kind}"));
    }
}

fn kind(full: &str, field: &FieldDescriptorProto, parent: &DescriptorProto) -> String {
    let scalar = |field: &FieldDescriptorProto| match field.type_name() {
        "" => field.r#type().as_str_name()["TYPE_".len()..].to_lowercase(),
        name => name.to_owned(),
    };
    let entry = parent
        .nested_type
        .iter()
        .find(|nested| field.type_name() == format!("{full}.{}", nested.name()));
    if let Some(entry) = entry.filter(|e| e.options.as_ref().is_some_and(|o| o.map_entry())) {
        return format!(
            "map<{}, {}>",
            scalar(&entry.field[0]),
            scalar(&entry.field[1])
        );
    }
    let kind = scalar(field);
    match (field.label(), field.proto3_optional(), field.oneof_index) {
        (Label::Repeated, ..) => format!("repeated {kind}"),
        (_, true, _) => format!("optional {kind}"),
        (_, false, Some(index)) => {
            let oneof = usize::try_from(index).unwrap_or(usize::MAX);
            format!("{kind} in oneof {}", parent.oneof_decl[oneof].name())
        }
        (_, false, None) => kind,
    }
}
