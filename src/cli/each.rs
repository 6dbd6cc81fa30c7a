//! One call per process, a few at a time, told in the order of the names.

use futures_util::StreamExt as _;

use super::{
    errors::{self, CliError},
    exit_code::ExitCode,
    session::Session,
};

/// Bound: calls in flight at once.
const IN_FLIGHT_MAX: usize = 16;

/// Calls `call` for each of `names` and hands each answer to `tell`. An error of
/// one process is told and does not keep the others from being asked.
pub(crate) async fn each<'s, T, F>(
    names: &[String],
    call: impl Fn(String) -> F,
    session: &mut Session<'s>,
    tell: impl Fn(T, &mut Session<'s>) -> Result<ExitCode, CliError>,
) -> Result<ExitCode, CliError>
where
    F: Future<Output = Result<T, CliError>>,
{
    let calls = names.iter().map(|name| {
        let answer = call(name.clone());
        async move { (name, answer.await) }
    });
    let mut answers = futures_util::stream::iter(calls).buffered(IN_FLIGHT_MAX);
    let mut code = ExitCode::Ok;
    while let Some((name, answer)) = answers.next().await {
        code = code.or(match answer {
            Ok(answer) => tell(answer, session)?,
            Err(CliError::Rpc(status)) => {
                let error = CliError::Rpc(status);
                // Nobody to tell when stderr is gone.
                let _: std::io::Result<()> = errors::render_item(name, &error, session.err.0);
                error.exit_code()
            }
            // The connection or the output is gone: so is everything that follows.
            Err(error) => return Err(error),
        });
    }
    Ok(code)
}
