//! `serve`: the daemon in the foreground.

use std::{os::unix::process::CommandExt, path::PathBuf, process::Command};

use super::{
    CliError, Console, ExitCode, apply,
    args::{GlobalArgs, OnTerm, ServeArgs},
    foreground::{self, Signals},
};
use crate::{
    daemon::{Prune, Shutdown},
    telemetry,
};

pub(crate) fn serve(
    args: &ServeArgs,
    global: &GlobalArgs,
    console: &mut Console<'_>,
) -> Result<ExitCode, CliError> {
    telemetry::init(
        console.here.env.get("PROCESSION_LOG").map(String::as_str),
        "info",
    );
    // Before any socket: a faulty file starts nothing.
    let config = args
        .config
        .as_deref()
        .map(|file| apply::load(file, console.here.env))
        .transpose()?;
    let options = foreground::options(&args.listen, global, console.here)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let daemon = foreground::start(options, &args.listen).await?;
        tracing::info!(addresses = %daemon.addresses(), "serving");
        if let Some(config) = config
            && let Err(status) = daemon.apply(config, Prune::Nothing).await
        {
            daemon.end(Shutdown::Keep).await;
            return Err(status.into());
        }
        // As PID 1 it is there for its processes; elsewhere it outlives them.
        let essential = std::process::id() == 1;
        let trigger = foreground::trigger(&daemon, &mut signals, essential).await;
        let on_term = match args.on_term {
            OnTerm::Stop => Shutdown::Stop,
            OnTerm::Keep => Shutdown::Keep,
        };
        let how = foreground::shutdown(&trigger, on_term);
        let left = if how == Shutdown::Stop {
            tracing::info!(?trigger, "stopping every process");
            foreground::stop_all(&daemon, &mut signals).await
        } else {
            tracing::info!(?trigger, "leaving the processes to the next daemon");
            daemon.announce_shutdown();
            Vec::new()
        };
        let (code, text) = foreground::verdict(&trigger, &left);
        if let Some(text) = text {
            tracing::info!("{text}");
        }
        daemon.end(how).await;
        if how == Shutdown::Reexec {
            return Err(reexec());
        }
        tracing::info!("ended");
        Ok(code)
    })
}

/// Becomes the program that is installed now, with the same arguments; returns
/// only if that fails.
fn reexec() -> CliError {
    let program = match std::env::current_exe() {
        // The kernel's word for a file that was replaced by another.
        Ok(path) => match path
            .to_str()
            .and_then(|text| text.strip_suffix(" (deleted)"))
        {
            Some(replaced) => PathBuf::from(replaced),
            None => path,
        },
        Err(error) => return error.into(),
    };
    tracing::info!(program = %program.display(), "becoming the program installed now");
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .exec();
    CliError::Refused(format!(
        "cannot become {}: {error}; the processes run on: start a daemon to take them over",
        program.display()
    ))
}
