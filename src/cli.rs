//! L5, the command line: `procession VERB ...` over the generated client.
//!
//! ```text
//! arguments -> args (clap) -> one file per verb -> client -> daemon
//!                                  └-> render -> stdout
//! ```
//! Reading order: `args`, this file, `selector`, then any verb. Invariants: stdout
//! carries results only, remarks and errors go to stderr; the process is ended by
//! `main` alone; nothing here decides about processes, the daemon does.

mod apply;
pub mod args;
mod attach;
mod client;
mod control;
mod delete;
mod doctor;
mod down;
mod each;
mod errors;
mod exit_code;
mod explain;
mod follow;
mod foreground;
mod info;
mod list;
mod logs;
pub mod paths;
mod ps;
mod render;
mod scale;
mod selector;
mod serve;
mod session;
mod signal;
mod up;
mod upgrade;
mod wait;
mod watch;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, IsTerminal as _, Write},
    time::SystemTime,
};

use clap::Parser as _;

use crate::grpc::proto::ControlAction;
use args::{Cli, Command};
pub use errors::CliError;
pub use exit_code::ExitCode;
use paths::Surroundings;
use render::{Output, style::Palette};
use session::Session;

/// Where a command reads its surroundings and writes its results.
pub struct Console<'a> {
    /// Results.
    pub stdout: &'a mut dyn Write,
    /// Errors and remarks.
    pub stderr: &'a mut dyn Write,
    /// Whether a person reads `stdout`.
    pub stdout_is_terminal: bool,
    /// The user and the environment.
    pub here: Surroundings<'a>,
    /// The wall clock, for ages.
    pub now: &'a dyn Fn() -> SystemTime,
}

/// Runs the command line `args` (the first is the program) in this process's own
/// surroundings. The code is for [`std::process::ExitCode`].
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    // Not locked: the threads of a daemon in this process log there too.
    let mut console = Console {
        stdout_is_terminal: io::stdout().is_terminal(),
        stdout: &mut io::BufWriter::new(io::stdout()),
        stderr: &mut io::stderr(),
        here: Surroundings {
            uid: nix::unistd::geteuid().as_raw(),
            env: &environment(),
        },
        now: &SystemTime::now,
    };
    run(args, &mut console).code()
}

/// As [`main`], in surroundings of the caller's choice.
pub fn run(args: impl IntoIterator<Item = OsString>, console: &mut Console<'_>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, console),
    };
    let socket = paths::socket(cli.global.socket.clone(), console.here);
    let outcome = dispatch(&cli, console).and_then(|code| {
        console.stdout.flush()?;
        Ok(code)
    });
    outcome.unwrap_or_else(|error| {
        // What was printed before the error is true: it goes out first. Nobody is
        // left to tell when stderr is gone too.
        let _: io::Result<()> = console.stdout.flush();
        let _: io::Result<()> = errors::render(&error, &socket, console.stderr);
        error.exit_code()
    })
}

// === impl Console ===

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("here", &self.here)
            .finish_non_exhaustive()
    }
}

fn dispatch(cli: &Cli, console: &mut Console<'_>) -> Result<ExitCode, CliError> {
    match &cli.command {
        Command::Serve(args) => serve::serve(args, &cli.global, console),
        Command::Up(args) => up::up(args, &cli.global, console),
        Command::Doctor(args) => doctor::doctor(args, &cli.global, console),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(ask(command, cli, console))
        }
    }
}

/// Carries out a verb that talks to a running daemon.
async fn ask(
    command: &Command,
    cli: &Cli,
    console: &mut Console<'_>,
) -> Result<ExitCode, CliError> {
    let socket = paths::socket(cli.global.socket.clone(), console.here);
    let palette = Palette::choose(console.stdout_is_terminal, console.here);
    let output = Output::new(
        console.stdout,
        cli.global.output,
        console.stdout_is_terminal,
        palette,
        console.now,
    );
    let session = &mut Session::open(socket, output, console.stderr).await?;
    match command {
        Command::Ps(args) => ps::ps(args, session).await,
        Command::Get(args) => ps::get(args, session).await,
        Command::Explain(args) => explain::explain(args, session).await,
        Command::Start(args) => control::start(args, session).await,
        Command::Stop(args) => control::stop(args, session).await,
        Command::Restart(args) => {
            control::until_running(ControlAction::Restart, args, session).await
        }
        Command::Reload(args) => control::until_running(ControlAction::Reload, args, session).await,
        Command::Pause(args) => control::at_once(ControlAction::Pause, args, session).await,
        Command::Resume(args) => control::at_once(ControlAction::Resume, args, session).await,
        Command::Reset(args) => control::at_once(ControlAction::Reset, args, session).await,
        Command::Attach(args) => attach::attach(args, session).await,
        Command::Signal(args) => signal::signal(args, session).await,
        Command::Scale(args) => scale::scale(args, session).await,
        Command::Wait(args) => wait::wait(args, session).await,
        Command::Watch(args) => watch::watch(args, session).await,
        Command::Logs(args) => logs::logs(args, session).await,
        Command::Apply(args) => apply::apply(args, console.here.env, session).await,
        Command::Diff(args) => apply::diff(args, console.here.env, session).await,
        Command::Delete(args) => delete::delete(args, session).await,
        Command::Info => info::info(session).await,
        Command::Upgrade(args) => upgrade::upgrade(args, session).await,
        Command::Down(args) => down::down(args, session).await,
        // `dispatch` has carried these out.
        Command::Serve(_) | Command::Up(_) | Command::Doctor(_) => Ok(ExitCode::Ok),
    }
}

fn environment() -> BTreeMap<String, String> {
    let text = |(key, value): (OsString, OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Help goes to stdout and is no failure; a bad command line goes to stderr.
fn refuse(error: &clap::Error, console: &mut Console<'_>) -> ExitCode {
    let (to, code): (&mut dyn Write, _) = match error.use_stderr() {
        true => (console.stderr, ExitCode::Usage),
        false => (console.stdout, ExitCode::Ok),
    };
    let coloured = Palette::choose(console.stdout_is_terminal, console.here) == Palette::Coloured;
    let text = error.render();
    // Help that nobody reads is no failure either.
    let _: io::Result<()> = match coloured {
        true => write!(to, "{}", text.ansi()),
        false => write!(to, "{text}"),
    };
    let _: io::Result<()> = to.flush();
    code
}
