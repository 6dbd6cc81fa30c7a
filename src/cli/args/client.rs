//! Options of the commands that talk to a running daemon.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    super::attach::{DETACH_KEYS, detach_keys, keys::DetachKeys},
    values::{self, SignalArg, Since},
};
use crate::grpc::proto;

/// Which processes: shared by the commands that take several.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectArgs {
    /// Names, globs ('web*'), group:NAME or `all`.
    #[arg(value_name = "NAME|SELECTOR")]
    pub targets: Vec<String>,
    /// Only those with these labels: app=web,tier in (a,b),!debug.
    #[arg(short = 'l', long = "labels", value_name = "SELECTOR")]
    pub labels: Option<String>,
    /// Every process.
    #[arg(long)]
    pub all: bool,
}

/// Whether and how long to wait.
#[derive(Debug, Clone, Args)]
pub struct WaitChoice {
    /// Return as soon as the request is recorded.
    #[arg(long)]
    pub no_wait: bool,
    /// Wait at most this long, then exit with 124.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = values::duration)]
    #[arg(conflicts_with = "no_wait")]
    pub timeout: Duration,
}

/// Replaces the stop policy of the process, this once.
#[derive(Debug, Clone, Default, Args)]
pub struct StopOverride {
    /// Signal that asks it to stop, instead of the configured one.
    #[arg(long, value_name = "SIGNAL", value_parser = values::named_signal)]
    pub signal: Option<proto::Signal>,
    /// Time between that signal and KILL, instead of the configured one.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub grace: Option<Duration>,
}

/// `procession ps`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
AGE is the time since the run started, else since the state was entered.

Examples:
  procession ps
  procession ps web db          # exit code 3 unless both are running
  procession ps -l tier=front -o wide
  procession ps -o json | jq -r '.processes[].name'")]
pub struct PsArgs {
    /// Which processes; none: all.
    #[command(flatten)]
    pub select: SelectArgs,
}

/// `procession get`.
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// Name of the process.
    pub name: String,
}

/// `procession explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Name of the process.
    pub name: String,
    /// Show at most this many past changes.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=100))]
    pub max_events: i32,
}

/// `procession start`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  procession start web
  procession start 'web*' --timeout 30s
  procession start web --with-dependencies")]
pub struct StartArgs {
    /// Which processes.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitChoice,
    /// Also start what it depends on, all the way.
    #[arg(long)]
    pub with_dependencies: bool,
}

/// `procession stop`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  procession stop web
  procession stop group:workers --grace 30s
  procession stop db --with-dependents")]
pub struct StopArgs {
    /// Which processes.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitChoice,
    /// How to stop, this once.
    #[command(flatten)]
    pub stop: StopOverride,
    /// First stop what depends on it, all the way.
    #[arg(long)]
    pub with_dependents: bool,
}

/// `procession restart` and `procession reload`.
#[derive(Debug, Clone, Args)]
pub struct ControlArgs {
    /// Which processes.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitChoice,
}

/// `procession signal`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  procession signal web HUP
  procession signal 'web*' USR1 --scope tree
  procession signal web 34               # a kernel number, for real-time signals")]
pub struct SignalArgs {
    /// Name, glob or group:NAME.
    #[arg(value_name = "NAME|SELECTOR")]
    pub target: String,
    /// HUP, SIGHUP or a kernel number.
    #[arg(value_name = "SIGNAL", value_parser = values::signal)]
    pub signal: SignalArg,
    /// Who gets it [default: the main process].
    #[arg(long, value_enum)]
    pub scope: Option<ScopeArg>,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// The main process.
    Main,
    /// Its process group.
    Group,
    /// Everything in the cgroup of the run.
    Cgroup,
    /// Every descendant.
    Tree,
}

/// `procession attach`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Ends with the exit code of the process, or 128 and the number of the signal that
ended it. The detach keys leave it running; so does Ctrl-C, unless the process has
a terminal of its own.

Examples:
  procession attach console
  echo reload | procession attach console   # closes its stdin at the end
  procession attach web --no-stdin          # only looks")]
pub struct AttachArgs {
    /// The process.
    pub name: String,
    /// Only show what it writes.
    #[arg(long)]
    pub no_stdin: bool,
    /// First show so much of what it wrote before.
    #[arg(long, value_name = "BYTES")]
    pub backlog: Option<u32>,
    /// Keys that leave it running.
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS, value_parser = detach_keys)]
    pub detach_keys: DetachKeys,
}

/// `procession scale`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
New replicas are copies of NAME-0; those that exist are left alone. The highest
is removed first.

Example:
  procession scale worker 4     # worker-0 to worker-3")]
pub struct ScaleArgs {
    /// Name without the number.
    pub name: String,
    /// How many.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitChoice,
}

/// `procession wait`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Every change counts: a run that was up for a millisecond satisfies `running`.

Examples:
  procession wait web --for ready --timeout 30s
  procession wait migrate --for succeeded")]
pub struct WaitArgs {
    /// Name of the process.
    pub name: String,
    /// What to wait for.
    #[arg(
        long = "for",
        value_enum,
        value_name = "CONDITION",
        default_value = "running"
    )]
    pub condition: WaitFor,
    /// Wait at most this long, then exit with 124 [default: for ever].
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub timeout: Option<Duration>,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// The main process is up and started.
    Running,
    /// The readiness probe holds.
    Ready,
    /// The main process ended, whatever the outcome.
    Exited,
    /// The run ended with success.
    Succeeded,
    /// STOPPED, SUCCEEDED or FAILED.
    Settled,
    /// Deleted and gone.
    Deleted,
}

/// `procession watch`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A lost connection is taken up again where it broke off. With -o json each line
is a WatchProcessesResponse of the API, positions and heartbeats included.

Examples:
  procession watch
  procession watch 'web*' | grep FAILED
  procession watch --every-change -o json | jq -c 'select(.events) | .events.events[]'")]
pub struct WatchArgs {
    /// Which processes; none: all.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Every version of every process, not only the newest ones.
    #[arg(long)]
    pub every_change: bool,
}

/// `procession logs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
On a terminal control characters are shown escaped; on a pipe the bytes are as
written. Lost lines are reported on stderr. With -o json each line is an object,
and so is each stretch of lost lines.

Examples:
  procession logs web
  procession logs -f -n 100 web db
  procession logs --since 10m 'web*' -t
  procession logs web --run 3 --stream stderr
  procession logs web -o json | jq -r .text")]
pub struct LogsArgs {
    /// Which processes; none: all.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Keep showing new lines.
    #[arg(short, long)]
    pub follow: bool,
    /// Start this many lines back per process [default: all; 10 with --follow].
    #[arg(short = 'n', long = "lines", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    pub lines: Option<i32>,
    /// Only lines since then: 10m, or 2026-11-25T08:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = values::since)]
    pub since: Option<Since>,
    /// Only lines before then; with --follow, ends once that time has passed.
    #[arg(long, value_name = "WHEN", value_parser = values::since)]
    pub until: Option<Since>,
    /// Only lines of this run, as `get` numbers them; needs exactly one name.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub run: Option<i64>,
    /// Only lines of this stream [default: both].
    #[arg(long, value_enum)]
    pub stream: Option<StreamArg>,
    /// Put the time before each line; ~ where it was only found later.
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only lines that match this regular expression (RE2 style).
    #[arg(short, long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// Do not escape control characters on a terminal.
    #[arg(long)]
    pub raw: bool,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamArg {
    /// Standard output, and standard error where both are merged.
    Stdout,
    /// Standard error.
    Stderr,
}

/// `procession apply`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  procession apply procession.yaml
  procession apply procession.yaml --dry-run
  procession apply procession.yaml --prune --wait=ready --rollout restart-if-needed")]
pub struct ApplyArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Delete processes that are not in the file.
    #[arg(long)]
    pub prune: bool,
    /// With --prune: delete only those with these labels.
    #[arg(
        short = 'l',
        long = "labels",
        value_name = "SELECTOR",
        requires = "prune"
    )]
    pub labels: Option<String>,
    /// Check only; print what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until every process holds the condition [default: running].
    #[arg(long, value_enum, value_name = "CONDITION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "running", conflicts_with = "dry_run")]
    pub wait: Option<WaitFor>,
    /// With --wait: at most this long, then exit with 124.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = values::duration)]
    pub timeout: Duration,
    /// What running processes do about changes that need a restart.
    #[arg(long, value_enum, value_name = "MODE", default_value = "next-start")]
    pub rollout: RolloutArg,
}

/// What a running process does about a changed configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RolloutArg {
    /// Takes it up at its next start.
    NextStart,
    /// Restarts now if the change needs it.
    RestartIfNeeded,
    /// As restart-if-needed, one at a time, each ready before the next.
    Rolling,
}

/// `procession diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Also show what --prune would delete.
    #[arg(long)]
    pub prune: bool,
    /// With --prune: only those with these labels.
    #[arg(
        short = 'l',
        long = "labels",
        value_name = "SELECTOR",
        requires = "prune"
    )]
    pub labels: Option<String>,
}

/// `procession delete`.
#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    /// Which processes.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitChoice,
    /// How to stop, this once.
    #[command(flatten)]
    pub stop: StopOverride,
    /// Refuse to delete what is running, instead of stopping it.
    #[arg(long)]
    pub only_if_stopped: bool,
    /// Succeed where there is no such process.
    #[arg(long)]
    pub allow_missing: bool,
}

/// `procession upgrade`.
#[derive(Debug, Clone, Args)]
pub struct UpgradeArgs {
    /// Wait at most this long for the new daemon, then exit with 124.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = values::duration)]
    pub timeout: Duration,
}

/// `procession down`.
#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    /// Wait at most this long for the end of the daemon, then exit with 124.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = values::duration)]
    pub timeout: Duration,
    /// Leave the processes running for the next daemon.
    #[arg(long)]
    pub keep_processes: bool,
}
