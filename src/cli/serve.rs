//! `serve`: the daemon in the foreground.

use super::{
    CliError, Console, ExitCode, apply,
    args::{GlobalArgs, ServeArgs},
    foreground::{self, Signals},
};
use crate::telemetry;

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
        let daemon = foreground::start(options, &args.listen)?;
        tracing::info!(addresses = %daemon.addresses(), "serving");
        if let Some(config) = config
            && let Err(status) = daemon.apply(config).await
        {
            daemon.end().await;
            return Err(status.into());
        }
        // As PID 1 it is there for its processes; elsewhere it outlives them.
        let essential = std::process::id() == 1;
        let trigger = foreground::trigger(&daemon, &mut signals, essential).await;
        tracing::info!(?trigger, "stopping every process");
        let left = foreground::stop_all(&daemon, &mut signals).await;
        let (code, text) = foreground::verdict(&trigger, &left);
        if let Some(text) = text {
            tracing::info!("{text}");
        }
        daemon.end().await;
        tracing::info!("ended");
        Ok(code)
    })
}
