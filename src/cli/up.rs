//! `up`: the daemon with a file of processes, and their output.

use super::{
    CliError, Console, ExitCode,
    args::{GlobalArgs, UpArgs},
};

pub(crate) fn up(
    _args: &UpArgs,
    _global: &GlobalArgs,
    _console: &mut Console<'_>,
) -> Result<ExitCode, CliError> {
    Err(CliError::Refused("this build has no daemon".to_owned()))
}
