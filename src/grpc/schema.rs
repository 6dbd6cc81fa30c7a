//! The contract as data: which fields a message has, read once from the compiled
//! descriptor set, and what can be done to an encoded message with that knowledge.
//!
//! Working on the encoding keeps masks and digests generic: a field added to the
//! contract needs no line here. Deliberately absent: values of fields.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint, encode_varint},
};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Label,
};

use super::proto;

/// Messages by full name with a leading dot, as descriptors refer to them.
#[derive(Debug, Default)]
pub(super) struct Schema {
    messages: HashMap<String, Message>,
}

/// The fields of one message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) fields: BTreeMap<String, Field>,
    names: HashMap<u32, String>,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) kind: Kind,
}

/// What a field holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A scalar, or several.
    Scalar,
    /// One message of this name.
    One(String),
    /// Several messages of this name.
    Many(String),
    /// A map; entries are messages of this name.
    Map(String),
}

/// Fields of a message, by number; each whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Tree {
    /// All of it.
    Whole,
    /// Only these.
    Part(BTreeMap<u32, Tree>),
}

/// One field as it stands in an encoded message.
struct Chunk<'a> {
    number: u32,
    wire_type: WireType,
    /// Key, length and value.
    all: &'a [u8],
    /// The value alone.
    value: &'a [u8],
}

/// Iterates over the fields of an encoded message; ends early on a broken one,
/// which what prost encoded is not.
struct Chunks<'a>(&'a [u8]);

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::read(proto::DESCRIPTOR_SET));

/// The contract's schema.
pub(super) fn schema() -> &'static Schema {
    &SCHEMA
}

/// A digest of `message`, which has type `name`, that does not depend on the order
/// in which its maps are held. Stable within one build only.
pub(super) fn digest(name: &str, message: &impl prost::Message) -> u64 {
    schema().digest(name, &message.encode_to_vec())
}

// === impl Schema ===

impl Schema {
    /// Empty if `set` does not decode, which a test excludes for our own.
    fn read(set: &[u8]) -> Self {
        let mut schema = Self::default();
        for file in FileDescriptorSet::decode(set).unwrap_or_default().file {
            let scope = format!(".{}", file.package());
            for message in &file.message_type {
                schema.add(&scope, message);
            }
        }
        schema
    }

    fn add(&mut self, scope: &str, descriptor: &DescriptorProto) {
        let full = format!("{scope}.{}", descriptor.name());
        let mut message = Message::default();
        for field in &descriptor.field {
            let number = u32::try_from(field.number()).unwrap_or_default();
            let kind = Kind::of(field, descriptor);
            message.names.insert(number, field.name().to_owned());
            let name = field.name().to_owned();
            message.fields.insert(name, Field { number, kind });
        }
        self.messages.insert(full.clone(), message);
        for nested in &descriptor.nested_type {
            self.add(&full, nested);
        }
    }

    /// The message of this name.
    pub(super) fn message(&self, name: &str) -> Option<&Message> {
        self.messages.get(name)
    }

    fn digest(&self, name: &str, bytes: &[u8]) -> u64 {
        let message = self.message(name);
        let mut hasher = DefaultHasher::new();
        let mut maps: BTreeMap<u32, u64> = BTreeMap::new();
        for chunk in Chunks(bytes) {
            let kind = message
                .and_then(|m| Some(&m.fields.get(m.names.get(&chunk.number)?)?.kind))
                .unwrap_or(&Kind::Scalar);
            match kind {
                Kind::Scalar => chunk.all.hash(&mut hasher),
                Kind::One(inner) | Kind::Many(inner) => {
                    (chunk.number, self.digest(inner, chunk.value)).hash(&mut hasher);
                }
                // A sum does not depend on the order of its terms.
                Kind::Map(entry) => {
                    let sum = maps.entry(chunk.number).or_default();
                    *sum = sum.wrapping_add(self.digest(entry, chunk.value));
                }
            }
        }
        maps.hash(&mut hasher);
        hasher.finish()
    }
}

impl Kind {
    fn of(field: &FieldDescriptorProto, parent: &DescriptorProto) -> Self {
        let many = field.label() == Label::Repeated;
        let name = field.type_name();
        // Enums have a type name too, but no message of that name.
        if field.r#type() != prost_types::field_descriptor_proto::Type::Message {
            return Self::Scalar;
        }
        let is_map = parent.nested_type.iter().any(|nested| {
            nested.options.as_ref().is_some_and(|o| o.map_entry())
                && name.rsplit('.').next() == Some(nested.name())
        });
        match (is_map, many) {
            (true, _) => Self::Map(name.to_owned()),
            (false, true) => Self::Many(name.to_owned()),
            (false, false) => Self::One(name.to_owned()),
        }
    }
}

// === impl Tree ===

impl Tree {
    /// Nothing yet.
    pub(super) fn empty() -> Self {
        Self::Part(BTreeMap::new())
    }

    /// Adds the field reached by `numbers`.
    pub(super) fn insert(&mut self, numbers: &[u32]) {
        match (self, numbers) {
            (Self::Whole, _) => {}
            (tree @ Self::Part(_), []) => *tree = Self::Whole,
            (Self::Part(fields), [first, rest @ ..]) => {
                fields
                    .entry(*first)
                    .or_insert_with(Self::empty)
                    .insert(rest);
            }
        }
    }

    /// The part of an encoded message that is in the tree.
    pub(super) fn keep(&self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len());
        self.filter(message, true, &mut out);
        out
    }

    /// The part of an encoded message that is not in the tree.
    pub(super) fn drop_from(&self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len());
        self.filter(message, false, &mut out);
        out
    }

    fn filter(&self, message: &[u8], keep: bool, out: &mut Vec<u8>) {
        let Self::Part(fields) = self else {
            if keep {
                out.extend_from_slice(message);
            }
            return;
        };
        for chunk in Chunks(message) {
            match fields.get(&chunk.number) {
                Some(part @ Self::Part(_)) if chunk.wire_type == WireType::LengthDelimited => {
                    let mut inner = Vec::with_capacity(chunk.value.len());
                    part.filter(chunk.value, keep, &mut inner);
                    let head = chunk.all.len() - chunk.value.len() - varint_len(chunk.value.len());
                    out.extend_from_slice(&chunk.all[..head]);
                    encode_varint(inner.len() as u64, out);
                    out.extend_from_slice(&inner);
                }
                in_tree => {
                    if in_tree.is_some() == keep {
                        out.extend_from_slice(chunk.all);
                    }
                }
            }
        }
    }
}

// === impl Chunks ===

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let start = self.0;
        let mut rest = start;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let length = match wire_type {
            WireType::Varint => {
                let mut after = rest;
                decode_varint(&mut after).ok()?;
                rest.len() - after.len()
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            // Groups are not in proto3.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let value = rest.get(..length)?;
        let all = &start[..start.len() - rest.len() + length];
        self.0 = &rest[length..];
        Some(Chunk {
            number,
            wire_type,
            all,
            value,
        })
    }
}

fn varint_len(number: usize) -> usize {
    prost::encoding::encoded_len_varint(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_known() {
        let process = schema().message(".procession.v1.Process").unwrap();
        assert_eq!(process.fields["name"].number, 1);
        assert_eq!(process.fields["name"].kind, Kind::Scalar);
        assert!(matches!(process.fields["labels"].kind, Kind::Map(_)));
        assert_eq!(
            process.fields["status"].kind,
            Kind::One(".procession.v1.ProcessStatus".into())
        );
    }

    #[test]
    fn a_digest_sees_content_and_not_the_order_of_maps() {
        let name = ".procession.v1.Process";
        let pairs = |n: u32| (0..n).map(|i| (format!("k{i}"), format!("v{i}")));
        let spec = |pairs: Vec<(String, String)>| proto::Process {
            spec: Some(proto::ProcessSpec {
                env: pairs.into_iter().collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let first = digest(name, &spec(pairs(40).collect()));
        for _ in 0..20 {
            assert_eq!(digest(name, &spec(pairs(40).collect())), first);
        }
        assert_ne!(digest(name, &spec(pairs(39).collect())), first);
    }

    #[test]
    fn keep_and_drop_are_complements() {
        let process = proto::Process {
            name: "web".into(),
            uid: "u".into(),
            spec: Some(proto::ProcessSpec {
                command: vec!["a".into(), "b".into()],
                nice: 3,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut tree = Tree::empty();
        tree.insert(&[1]);
        tree.insert(&[9, 1]);
        let bytes = process.encode_to_vec();
        let kept = proto::Process::decode(&*tree.keep(&bytes)).unwrap();
        assert_eq!((&*kept.name, &*kept.uid), ("web", ""));
        assert_eq!(kept.spec.as_ref().unwrap().nice, 0);
        let both = [tree.drop_from(&bytes), tree.keep(&bytes)].concat();
        assert_eq!(proto::Process::decode(&*both).unwrap(), process);
    }
}
