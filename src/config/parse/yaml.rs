//! YAML 1.2, so `yes` is a text; so is `022`, since nobody means 22 by it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{
    NonFiniteFloatPolicy, Spanned, UserMessageFormatter, alias_limits, budget, options,
};

use crate::config::{
    errors::Findings,
    tree::{DEPTH_MAX, Node, Value},
};

/// Keys, values, lists and tables of one document, those from aliases included:
/// the most processes with two hundred each.
const NODES_MAX: usize = 200_000;

struct Tree(Node);

struct TreeValue(Value);

struct TreeVisitor;

pub(super) fn parse(text: &str, findings: &mut Findings) -> Option<Node> {
    let options = options! {
        // One anchor with the defaults of hundreds of processes is good style, so
        // the ratio of aliases to anchors says nothing.
        budget: budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: alias_limits! { max_total_replayed_events: NODES_MAX },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    // A file without a document is an empty table.
    match serde_saphyr::from_str_with_options::<Option<Tree>>(text, options) {
        Ok(tree) => Some(tree.map_or_else(
            || Node {
                line: 1,
                value: Value::Table(Vec::new()),
            },
            |tree| tree.0,
        )),
        Err(error) => {
            let line = error.location().map_or(1, |location| line_of(&location));
            let message = error.render_with_formatter(&UserMessageFormatter);
            // The line is told apart from the text.
            let message = message.split(" at line ").next().unwrap_or(&message);
            findings.add(line, "", format!("invalid YAML: {message}"));
            None
        }
    }
}

fn line_of(location: &serde_saphyr::Location) -> u32 {
    u32::try_from(location.line()).unwrap_or(u32::MAX).max(1)
}

// === impl Tree ===

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<TreeValue>::deserialize(deserializer)?;
        Ok(Self(Node {
            line: line_of(&spanned.referenced),
            value: spanned.value.0,
        }))
    }
}

impl<'de> Deserialize<'de> for TreeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Self)
    }
}

// === impl TreeVisitor ===

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Tree(node)) = seq.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let TreeValue(value) = map.next_value()?;
            let line = line_of(&key.referenced);
            entries.push((key.value, Node { line, value }));
        }
        Ok(Value::Table(entries))
    }
}
