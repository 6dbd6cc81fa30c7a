//! What a configuration file may say: one struct per message of the contract,
//! read by serde and turned into the JSON Schema by schemars.
//!
//! Field names are those of `ProcessSpec`; a test holds the two together. Doc
//! comments become the descriptions of the schema and of `docs/configuration.md`.
//! Rules about single values and tables stand in the schema (also `x-type` for
//! texts with a grammar of their own) and are applied by `check`, so that by the
//! time serde runs nothing is left to refuse. Deliberately absent: defaults that
//! the daemon applies; what is not in the file is not in the request.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

mod policy;
mod probe;
mod scalar;
mod stdio;

pub(super) use policy::*;
pub(super) use probe::*;
pub(super) use scalar::*;
pub(super) use stdio::*;

/// Processes for the procession daemon.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Address of the JSON Schema, for editors. Ignored.
    #[serde(rename = "$schema")]
    #[allow(dead_code, reason = "only editors read it")]
    pub(super) schema: Option<String>,
    /// The processes by name: 1 to 63 of A-Z a-z 0-9 . _ -, starting and ending
    /// with a letter or a digit.
    #[schemars(extend("propertyNames" = json!({"x-type": "name"})))]
    pub(super) processes: BTreeMap<String, Process>,
    /// Policies shared by the processes whose `group` is this name.
    #[schemars(extend("propertyNames" = json!({"x-type": "name"})))]
    pub(super) groups: BTreeMap<String, Group>,
}

/// Policy of a group.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Group {
    /// Automatic restarts allowed over all members together.
    pub(super) restart_budget: Option<RestartBudget>,
}

/// What to run and how to keep it running.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    /// What to run; the first word is looked up in PATH unless it has a slash. A
    /// relative path with a slash is relative to `working_directory`.
    pub(super) command: Command,
    /// Keys and values as in Kubernetes; selectable.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Free-form metadata, not selectable.
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    /// Name of a group with a shared restart budget.
    #[schemars(extend("x-type" = "name"))]
    pub(super) group: Option<String>,
    /// Whether it is to run once it is created; afterwards the last start or
    /// stop counts. Default in a file: true.
    pub(super) autostart: Option<bool>,
    /// Environment variables, added to (and overriding) the inherited ones.
    #[serde(default)]
    #[schemars(extend("propertyNames" = json!({"x-type": "env_name"})))]
    pub(super) env: BTreeMap<String, String>,
    /// Start from an empty environment.
    #[serde(default)]
    pub(super) clear_env: bool,
    /// Files of KEY=VALUE lines read at each start; `env` overrides them.
    /// Relative to the configuration file.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    pub(super) env_files: Vec<String>,
    /// Names in `env` whose values no call returns and no log shows.
    #[serde(default)]
    #[schemars(extend("items" = json!({"type": "string", "x-type": "env_name"})))]
    pub(super) secret_env: Vec<String>,
    /// Variables read at each start from where they are kept; neither stored nor
    /// returned. They override `env`.
    #[serde(default)]
    pub(super) secrets: Vec<SecretEnv>,
    /// Where it runs. Relative to the configuration file; default: the directory
    /// of the configuration file.
    #[schemars(length(min = 1))]
    pub(super) working_directory: Option<String>,
    /// User and groups to run as; default: the daemon's.
    pub(super) run_as: Option<Identity>,
    /// When and how fast to restart.
    pub(super) restart_policy: Option<RestartPolicy>,
    /// How to stop.
    pub(super) stop_policy: Option<StopPolicy>,
    /// What it needs before it is started: names, or tables with a condition.
    #[serde(default)]
    pub(super) dependencies: Vec<DependencyEntry>,
    /// When a run counts as started; absent: once it is up and outlived
    /// `restart_policy.start_grace`.
    pub(super) startup_probe: Option<Probe>,
    /// When a run counts as ready; absent: as soon as it is running.
    pub(super) readiness_probe: Option<Probe>,
    /// When it fails, the process is restarted.
    pub(super) liveness_probe: Option<Probe>,
    /// From start to RUNNING at most this long, hooks included. Default 90s.
    pub(super) start_timeout: Option<Duration>,
    /// Commands run around a run.
    pub(super) hooks: Option<Hooks>,
    /// How it is asked to reload its own configuration.
    pub(super) reload: Option<ReloadAction>,
    /// Run on a schedule instead of continuously.
    pub(super) schedule: Option<Schedule>,
    /// Restart or reload when files change.
    pub(super) file_watch: Option<FileWatch>,
    /// Standard streams and what is kept of the output.
    pub(super) stdio: Option<Stdio>,
    /// Limits on what it may use; absent: none.
    pub(super) resource_limits: Option<ResourceLimits>,
    /// Listening sockets opened for it and passed as in systemd socket
    /// activation; they survive its restarts.
    #[serde(default)]
    pub(super) sockets: Vec<ListenSocket>,
    /// File-creation mask, octal text such as "022"; default: the daemon's.
    #[schemars(extend("x-type" = "octal"))]
    pub(super) umask: Option<String>,
    /// Scheduling priority, -20 (first) to 19. Default 0.
    #[schemars(range(min = -20, max = 19))]
    pub(super) nice: Option<i32>,
    /// Kernel's out-of-memory preference, -1000 (never) to 1000; default: the
    /// daemon's.
    #[schemars(range(min = -1000, max = 1000))]
    pub(super) oom_score_adj: Option<i32>,
    /// Whether its end ends the daemon, with its exit code.
    pub(super) exit_with: Option<ExitWith>,
}

/// One environment variable by reference.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = json!([{"required": ["file"]}, {"required": ["command"]}])))]
pub(super) struct SecretEnv {
    /// Name of the variable.
    #[schemars(extend("x-type" = "env_name"))]
    pub(super) name: String,
    /// File with the value, relative to the configuration file; one trailing
    /// newline is cut.
    #[schemars(length(min = 1))]
    pub(super) file: Option<String>,
    /// Command that prints the value; one trailing newline is cut.
    pub(super) command: Option<Hook>,
}

/// When the end of a process ends the daemon.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExitWith {
    /// When it has failed for good.
    Failure,
    /// When it has failed for good or succeeded.
    End,
}

/// POSIX identity.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Identity {
    /// Name or decimal uid.
    #[schemars(length(min = 1))]
    pub(super) user: Option<String>,
    /// Name or decimal gid; default: the primary group of the user.
    #[schemars(length(min = 1))]
    pub(super) group: Option<String>,
    /// Names or decimal gids.
    #[schemars(inner(length(min = 1)))]
    pub(super) supplementary_groups: Vec<String>,
}

/// A listening socket.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenSocket {
    /// Passed in LISTEN_FDNAMES.
    #[schemars(length(min = 1))]
    pub(super) name: String,
    /// host:port, [v6]:port or unix:/path.
    #[schemars(length(min = 1))]
    pub(super) address: String,
    /// Default: stream.
    #[serde(rename = "type")]
    pub(super) kind: Option<SocketType>,
    /// Connections that may wait. Default 4096.
    #[schemars(range(min = 1))]
    pub(super) backlog: Option<i32>,
    /// unix only: mode of the file, octal text. Default "0600".
    #[schemars(extend("x-type" = "octal"))]
    pub(super) file_mode: Option<String>,
    /// unix only: owner of the file; default: `run_as`.
    pub(super) file_owner: Option<Identity>,
}

/// Kind of a listening socket.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SocketType {
    /// A byte stream.
    Stream,
    /// Datagrams.
    Datagram,
}
