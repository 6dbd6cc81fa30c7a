//! Policies: restart, stop, dependencies, hooks, reload, schedule, file watch,
//! resource limits.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{ByteSize, Command, Duration, Signal, SignalScope};

/// When and how fast to restart.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RestartPolicy {
    /// Default: on_failure; never when there is a schedule.
    pub(crate) mode: Option<RestartMode>,
    /// First delay; doubles per failure in a row. Default 100ms.
    pub(crate) initial_backoff: Option<Duration>,
    /// Longest delay. Default 30s.
    pub(crate) max_backoff: Option<Duration>,
    /// A run this long resets the count of failures. Default 10s.
    pub(crate) stable_after: Option<Duration>,
    /// Failures in a row after which it stays failed. Default 0: never give up.
    #[schemars(range(min = 0))]
    pub(crate) max_consecutive_failures: Option<i32>,
    /// Exit codes that count as success. Default: 0.
    #[schemars(inner(range(min = 0, max = 255)))]
    pub(crate) success_exit_codes: Vec<i32>,
    /// A run must stay up this long to count as started. Default 0s.
    pub(crate) start_grace: Option<Duration>,
    /// Random share of each delay, 0.0 to 1.0. Default 0.1.
    #[schemars(range(min = 0, max = 1))]
    pub(crate) jitter_ratio: Option<f64>,
    /// Automatic restarts allowed in a window; absent: no limit.
    pub(crate) budget: Option<RestartBudget>,
    /// Exit codes after which it is never restarted, whatever the mode.
    #[schemars(inner(range(min = 0, max = 255)))]
    pub(crate) no_restart_exit_codes: Vec<i32>,
}

/// At most `max_restarts` within any `window`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestartBudget {
    /// Restarts allowed.
    #[schemars(range(min = 1))]
    pub(crate) max_restarts: i32,
    /// Default 60s.
    pub(crate) window: Option<Duration>,
}

/// When to restart.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RestartMode {
    /// Not at all.
    Never,
    /// After a run that did not succeed.
    OnFailure,
    /// After every run.
    Always,
}

/// How to stop.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StopPolicy {
    /// First signal. Default term.
    pub(crate) signal: Option<Signal>,
    /// Then SIGKILL to every process of the run. Default 10s.
    pub(crate) grace_period: Option<Duration>,
    /// Whom the first signal goes to. Default process_group.
    pub(crate) scope: Option<SignalScope>,
    /// After SIGKILL; then the stop has failed. Default 5s.
    pub(crate) kill_timeout: Option<Duration>,
}

/// A dependency: its name, or a table.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum DependencyEntry {
    /// Its name, with the default condition.
    Name(#[schemars(extend("x-type" = "name"))] String),
    /// With a condition.
    Table(Dependency),
}

/// Something to wait for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dependency {
    /// Name of the other process.
    #[schemars(extend("x-type" = "name"))]
    pub(crate) name: String,
    /// What must hold of it. Default ready.
    pub(crate) condition: Option<DependencyCondition>,
    /// Restart this process whenever that one starts a new run.
    #[serde(default)]
    pub(crate) restart_with: bool,
    /// Order only: if it is missing or failed, this one starts all the same.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// What must hold of a dependency.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DependencyCondition {
    /// It is up and started.
    Running,
    /// It is running, and its readiness probe holds if it has one.
    Ready,
    /// A run of it ended, whatever the outcome.
    Exited,
    /// A run of it ended with success.
    Succeeded,
}

/// Commands run around a run. A failing `pre_start` fails the start; others are
/// only reported.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hooks {
    /// Before it is started.
    pub(crate) pre_start: Option<Hook>,
    /// After it is started.
    pub(crate) post_start: Option<Hook>,
    /// Before it is asked to stop.
    pub(crate) pre_stop: Option<Hook>,
    /// After it ended.
    pub(crate) post_stop: Option<Hook>,
}

/// A command run once: the command alone, or a table with a timeout.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Hook {
    /// The command, with the default timeout.
    Command(Command),
    /// With a timeout.
    Table(HookCommand),
}

/// A command and how long it may take.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookCommand {
    /// What to run; no shell is involved.
    pub(crate) command: Command,
    /// Then it is killed. Default 10s.
    pub(crate) timeout: Option<Duration>,
}

/// How a reload is asked for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = json!([{"required": ["signal"]}, {"required": ["command"]}])))]
pub(crate) struct ReloadAction {
    /// Signal to the main process.
    pub(crate) signal: Option<Signal>,
    /// Command to run.
    pub(crate) command: Option<Hook>,
    /// Longest time a reload may take. Default 30s.
    pub(crate) timeout: Option<Duration>,
}

/// When to run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = json!([{"required": ["cron"]}, {"required": ["interval"]}])))]
pub(crate) struct Schedule {
    /// Cron expression of five or six fields.
    #[schemars(length(min = 1))]
    pub(crate) cron: Option<String>,
    /// From the start of one run to the start of the next.
    pub(crate) interval: Option<Duration>,
    /// IANA name such as "Europe/Paris". Default UTC.
    #[schemars(length(min = 1))]
    pub(crate) time_zone: Option<String>,
    /// Stop a run that is still up when the next is due; default: skip the next.
    #[serde(default)]
    pub(crate) replace_running: bool,
    /// Runs due while the daemon was down or the process paused. Default skip.
    pub(crate) missed_runs: Option<MissedRuns>,
    /// Each start is delayed by a random part of this. Default 0s.
    pub(crate) max_jitter: Option<Duration>,
    /// Also run at once when it is started.
    #[serde(default)]
    pub(crate) run_on_start: bool,
}

/// What becomes of runs that were missed.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MissedRuns {
    /// Nothing.
    Skip,
    /// One run for all of them.
    RunOnce,
}

/// Changes under these paths lead to one action per quiet period.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileWatch {
    /// Absolute, or relative to `working_directory`; directories recursively.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub(crate) paths: Vec<String>,
    /// Glob patterns on the path below a watched one; empty: all.
    #[serde(default)]
    pub(crate) include: Vec<String>,
    /// Glob patterns of what to leave out.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// Quiet time before acting. Default 300ms.
    pub(crate) debounce: Option<Duration>,
    /// Reload instead of restart.
    #[serde(default)]
    pub(crate) reload: bool,
}

/// Limits; absent: none.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ResourceLimits {
    /// Memory of all its processes together.
    pub(crate) memory_max_bytes: Option<ByteSize>,
    /// Processor time; 1000 is one core.
    #[schemars(range(min = 1))]
    pub(crate) cpu_max_millis: Option<i64>,
    /// Processes and threads together.
    #[schemars(range(min = 1))]
    pub(crate) pids_max: Option<i64>,
    /// Open files of each process.
    #[schemars(range(min = 1))]
    pub(crate) open_files_max: Option<i64>,
    /// Memory above which it is throttled; cgroup v2 only.
    pub(crate) memory_high_bytes: Option<ByteSize>,
    /// Share of the processor under contention, 1 to 10000; cgroup v2 only.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) cpu_weight: Option<i32>,
    /// Limits as of setrlimit.
    pub(crate) rlimits: Vec<Rlimit>,
}

/// One limit of setrlimit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rlimit {
    /// Lower case without RLIMIT_: "core", "nofile", "memlock", ...
    #[schemars(length(min = 1))]
    pub(crate) name: String,
    /// -1: unlimited.
    #[schemars(range(min = -1))]
    pub(crate) soft: i64,
    /// -1: unlimited. Default: as `soft`.
    #[schemars(range(min = -1))]
    pub(crate) hard: Option<i64>,
}
