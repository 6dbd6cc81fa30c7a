//! `serve`: the daemon in the foreground.

use super::{
    CliError, Console, ExitCode,
    args::{GlobalArgs, ServeArgs},
};

pub(crate) fn serve(
    _args: &ServeArgs,
    _global: &GlobalArgs,
    _console: &mut Console<'_>,
) -> Result<ExitCode, CliError> {
    Err(CliError::Refused("this build has no daemon".to_owned()))
}
