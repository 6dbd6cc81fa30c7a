//! Values with a grammar of their own: commands, durations, sizes, signals.
//!
//! Each carries `x-type` in its schema, by which `check` finds its grammar.

use std::{borrow::Cow, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::{
    config::scalar::{parse_bytes, parse_duration, parse_signal},
    grpc::proto,
};

/// argv; `check` has split the one-line form into words.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Command(pub(crate) Vec<String>);

/// A length of time.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Duration(pub(crate) time::Duration);

/// A number of bytes, 0 to `i64::MAX`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub(crate) struct ByteSize(pub(crate) i64);

/// A signal by name.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Signal(pub(crate) proto::Signal);

/// Whom a signal goes to.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SignalScope {
    /// The main process.
    MainProcess,
    /// The process group of the main process.
    ProcessGroup,
    /// Everything in the cgroup of the run; refused where there is none.
    Cgroup,
    /// Every descendant.
    Tree,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl TryFrom<String> for Duration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_duration(&text).map(Self)
    }
}

impl TryFrom<NumberOrText> for ByteSize {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        match value {
            NumberOrText::Number(bytes) if bytes >= 0 => Ok(Self(bytes)),
            NumberOrText::Number(bytes) => Err(format!("must not be negative; found {bytes}")),
            NumberOrText::Text(text) => parse_bytes(&text).map(Self),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_signal(&text).map(Self)
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One line, split into words as a shell does, or a list of words. No \
                shell is run.",
            "x-type": "command",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string"}},
            ],
        })
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whole numbers with a unit, largest first: d, h, m, s, ms, us, ns.",
            "x-type": "duration",
            "type": "string",
            "examples": ["10s", "1m30s", "500ms"],
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes, or a text with a unit: B, KiB, MiB, GiB, TiB, kB, \
                MB, GB, TB.",
            "x-type": "byte_size",
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
            "examples": [1_048_576, "64MiB"],
        })
    }
}

impl JsonSchema for Signal {
    fn schema_name() -> Cow<'static, str> {
        "Signal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A signal by name: hup, int, quit, kill, usr1, usr2, term, cont, stop, \
                winch, abrt, alrm, ttin, ttou, tstp, pipe or pwr; SIGTERM and so on are the same.",
            "x-type": "signal",
            "type": "string",
            "examples": ["term", "SIGTERM"],
        })
    }
}
