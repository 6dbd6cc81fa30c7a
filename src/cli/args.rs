//! What may be written on the command line: clap types only. Nothing here reads a
//! file, the environment or the clock.

mod client;
mod daemon;
pub(crate) mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use client::{
    ApplyArgs, AttachArgs, ControlArgs, DeleteArgs, DiffArgs, DownArgs, ExplainArgs, GetArgs,
    LogsArgs, PsArgs, ScaleArgs, SelectArgs, SignalArgs, StartArgs, StopArgs, StopOverride,
    UpgradeArgs, WaitArgs, WaitChoice, WatchArgs,
};
pub(crate) use client::{RolloutArg, ScopeArg, StreamArg, WaitFor};
pub use daemon::{DoctorArgs, ListenArgs, OnTerm, ServeArgs, UpArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, `diff` found differences, or `doctor` problems
  2    the command line or the file cannot be understood
  3    `ps NAME`: something it lists is not running
  4    no such process
  5    cannot reach the daemon
  124  a wait ran out of time

Targets of most commands:
  web          one process
  'web*'       names by glob: * and ?
  group:web    the members of a group; also web:*
  'group:*'    the members of any group
  all          every process; also --all
  -l tier=db   only those with these labels

Environment:
  PROCESSION_SOCKET  socket of the daemon, unless --socket is given
  NO_COLOR           no colours";

/// Runs and supervises processes and tells the truth about them.
#[derive(Debug, Parser)]
#[command(name = "procession", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// Unix socket of the daemon [default: $PROCESSION_SOCKET, else under
    /// $XDG_RUNTIME_DIR].
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How to print: aligned columns, all columns, or the JSON form of the API.
    #[arg(short, long, global = true, value_enum, default_value_t = OutputFormat::Table)]
    #[arg(value_name = "FORMAT")]
    pub output: OutputFormat,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns.
    Table,
    /// As `table`, with every column.
    Wide,
    /// Canonical JSON of the API's messages, one object per response; `logs`: one
    /// per line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon in the foreground.
    Serve(ServeArgs),
    /// Runs the daemon with a file of processes and shows their output; ends with them.
    Up(UpArgs),
    /// Examines the durable state, with or without a daemon.
    Doctor(DoctorArgs),
    /// Lists processes.
    #[command(visible_alias = "status", aliases = ["ls", "list"])]
    Ps(PsArgs),
    /// Shows one process, all of it.
    #[command(aliases = ["describe", "show"])]
    Get(GetArgs),
    /// Says why a process is in its state and what happens next.
    Explain(ExplainArgs),
    /// Starts processes and waits until they run.
    Start(StartArgs),
    /// Stops processes and waits until every process of the run is gone.
    Stop(StopArgs),
    /// Stops and starts processes and waits until they run again.
    Restart(ControlArgs),
    /// Asks running processes to reload their own configuration.
    Reload(ControlArgs),
    /// Freezes processes.
    Pause(SelectArgs),
    /// Undoes `pause`.
    Resume(SelectArgs),
    /// Clears failure counters and budgets; FAILED becomes STOPPED.
    #[command(alias = "reset-failed")]
    Reset(SelectArgs),
    /// Sends a signal; the process stays wanted.
    Signal(SignalArgs),
    /// Connects this terminal to a running process.
    Attach(AttachArgs),
    /// Makes NAME-0 to NAME-(N-1) exist, and none above.
    Scale(ScaleArgs),
    /// Waits until a condition holds.
    Wait(WaitArgs),
    /// Shows every change as it happens: a live table, or a line each on a pipe.
    Watch(WatchArgs),
    /// Shows captured output.
    Logs(LogsArgs),
    /// Makes the processes equal to a file.
    Apply(ApplyArgs),
    /// Shows what `apply` would do. Exit code 1: there are differences.
    Diff(DiffArgs),
    /// Stops and removes processes.
    #[command(alias = "rm")]
    Delete(DeleteArgs),
    /// Shows who is answering, and what it can do.
    Info,
    /// Replaces the daemon by the program now installed; processes run on.
    Upgrade(UpgradeArgs),
    /// Stops every process, then the daemon.
    #[command(alias = "shutdown")]
    Down(DownArgs),
}

#[cfg(test)]
mod tests;
