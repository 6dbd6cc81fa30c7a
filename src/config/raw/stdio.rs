//! Standard streams and what is kept of the output.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{ByteSize, Duration};

/// Standard streams.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Stdio {
    /// Give it a terminal; stderr is then merged into stdout.
    pub(crate) tty: bool,
    /// Keep stdin open as a pipe, to write to it.
    pub(crate) open_stdin: bool,
    /// What is kept of the output.
    pub(crate) log_policy: Option<LogPolicy>,
    /// stdout and stderr through one pipe: exact order, all of it as stdout.
    pub(crate) merge_stderr: bool,
    /// File opened as stdin, relative to the configuration file. Default
    /// /dev/null.
    #[schemars(length(min = 1))]
    pub(crate) stdin_file: Option<String>,
    /// Copies of the output sent elsewhere, to 8 targets at most.
    pub(crate) log_forwards: Vec<LogForward>,
}

/// What is kept of the output. Whole segments are dropped, oldest first, when
/// another one is begun. A change holds at once, also for a run that goes on.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogPolicy {
    /// Bytes kept per process. Default 64MiB.
    pub(crate) max_bytes: Option<ByteSize>,
    /// A segment is closed at this size; from 1KiB and a 1024th of `max_bytes` up
    /// to `max_bytes`. Default: an eighth of it.
    pub(crate) segment_bytes: Option<ByteSize>,
    /// Segments kept. Default 0: no limit by count.
    #[schemars(range(min = 0))]
    pub(crate) max_segments: Option<i32>,
    /// Age kept. Default 0s: no limit by age.
    pub(crate) max_age: Option<Duration>,
    /// When output cannot be stored. Default block.
    pub(crate) full_action: Option<LogFullAction>,
}

/// When output cannot be stored.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFullAction {
    /// The run blocks on its output; nothing is lost.
    Block,
    /// Discard, leaving a counted gap.
    Drop,
}

/// Where a copy of the output goes: exactly one target. A change takes effect at
/// once; a target that is added later gets what is written from then on.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = json!([
    {"required": ["syslog"]}, {"required": ["journald"]}, {"required": ["otlp"]},
])))]
pub(crate) struct LogForward {
    /// To syslog.
    pub(crate) syslog: Option<SyslogTarget>,
    /// To the systemd journal.
    pub(crate) journald: Option<JournaldTarget>,
    /// To an OpenTelemetry collector.
    pub(crate) otlp: Option<OtlpTarget>,
    /// Empty: all.
    pub(crate) streams: Vec<OutputStream>,
}

/// A stream of output.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// To syslog.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SyslogTarget {
    /// unix:/absolute/path, udp:host:port or tcp:host:port. Default unix:/dev/log.
    #[schemars(length(min = 1))]
    pub(crate) address: Option<String>,
    /// Keyword of RFC 5427, such as "user" or "local0". Default "daemon".
    #[schemars(length(min = 1))]
    pub(crate) facility: Option<String>,
    /// APP-NAME: at most 48 printable ASCII characters. Default: the name of the
    /// process.
    #[schemars(length(min = 1))]
    pub(crate) tag: Option<String>,
}

/// To the systemd journal.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JournaldTarget {
    /// SYSLOG_IDENTIFIER; default: the name of the process.
    #[schemars(length(min = 1))]
    pub(crate) identifier: Option<String>,
}

/// To an OpenTelemetry collector.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtlpTarget {
    /// URL of its OTLP/gRPC endpoint: http://host:port or https://host:port.
    #[schemars(length(min = 1))]
    pub(crate) endpoint: String,
}
