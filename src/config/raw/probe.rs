//! Probes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Command, Duration};

/// A health check, of exactly one kind.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = json!([
    {"required": ["exec"]}, {"required": ["http"]}, {"required": ["tcp"]},
    {"required": ["grpc"]}, {"required": ["log_pattern"]}, {"required": ["notify"]},
])))]
pub(crate) struct Probe {
    /// A command that exits with 0.
    pub(crate) exec: Option<ExecCheck>,
    /// A request that is answered with an expected status.
    pub(crate) http: Option<HttpCheck>,
    /// A connection that is accepted.
    pub(crate) tcp: Option<TcpCheck>,
    /// The gRPC health protocol.
    pub(crate) grpc: Option<GrpcCheck>,
    /// Ready when a line of output matches this regular expression.
    #[schemars(length(min = 1))]
    pub(crate) log_pattern: Option<String>,
    /// The process tells by itself.
    pub(crate) notify: Option<NotifyCheck>,
    /// Time before the first check. Default 0s.
    pub(crate) initial_delay: Option<Duration>,
    /// Time between checks. Default 10s.
    pub(crate) period: Option<Duration>,
    /// Time one check may take. Default 1s.
    pub(crate) timeout: Option<Duration>,
    /// Successes in a row that count. Default 1.
    #[schemars(range(min = 1))]
    pub(crate) success_threshold: Option<i32>,
    /// Failures in a row that count. Default 3.
    #[schemars(range(min = 1))]
    pub(crate) failure_threshold: Option<i32>,
}

/// A command that exits with 0.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecCheck {
    /// What to run; no shell is involved.
    pub(crate) command: Command,
}

/// A request that is answered with an expected status.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpCheck {
    /// http or https URL.
    #[schemars(length(min = 1))]
    pub(crate) url: String,
    /// Default: any 2xx or 3xx.
    #[serde(default)]
    #[schemars(inner(range(min = 100, max = 599)))]
    pub(crate) expected_status_codes: Vec<i32>,
    /// Headers of the request.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Default GET.
    #[schemars(length(min = 1))]
    pub(crate) method: Option<String>,
    /// https: accept any certificate.
    #[serde(default)]
    pub(crate) skip_tls_verify: bool,
}

/// A connection that is accepted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpCheck {
    /// host:port or unix:/path.
    #[schemars(length(min = 1))]
    pub(crate) address: String,
}

/// The gRPC health protocol.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrpcCheck {
    /// host:port or unix:/path.
    #[schemars(length(min = 1))]
    pub(crate) address: String,
    /// Service to ask about; default: the server as a whole.
    pub(crate) service: Option<String>,
    /// Use TLS; default: plaintext.
    #[serde(default)]
    pub(crate) tls: bool,
    /// Accept any certificate.
    #[serde(default)]
    pub(crate) skip_tls_verify: bool,
}

/// The process tells by itself.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NotifyCheck {
    /// 0: sd_notify over NOTIFY_SOCKET. 3 or more: a newline on this descriptor.
    /// Default 0.
    #[schemars(range(min = 0))]
    pub(crate) notification_fd: Option<i32>,
    /// sd_notify from any process of the run, not only the main one.
    pub(crate) from_any_process: bool,
}
