//! How the outcome of a request to one process is told, and its exit code.

use std::time::Duration;

use crate::{
    cli::{
        errors::{self, CliError},
        exit_code::ExitCode,
        render::{
            json::{self, Wire},
            process, text, time,
        },
        session::Session,
    },
    grpc::proto::{self, WaitOutcome},
};

/// The answer about one process.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) name: String,
    pub(crate) process: Option<proto::Process>,
    pub(crate) outcome: WaitOutcome,
    /// The whole response, where JSON is wanted.
    json: Option<String>,
}

/// One result of a batch.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub(crate) name: &'a str,
    pub(crate) status: Option<&'a tonic_types::Status>,
    pub(crate) outcome: WaitOutcome,
    /// What to say when all went well.
    pub(crate) done: &'a str,
    /// Whether `done` is true whatever the wait came to.
    pub(crate) done_anyway: bool,
}

// === impl Done ===

impl Done {
    pub(crate) fn new(
        name: &str,
        response: &impl Wire,
        process: Option<proto::Process>,
        outcome: WaitOutcome,
        json: bool,
    ) -> Result<Self, CliError> {
        let json = json.then(|| json::to_json(response, false)).transpose()?;
        Ok(Self {
            name: name.to_owned(),
            process,
            outcome,
            json,
        })
    }
}

/// Tells the state after the request.
pub(crate) fn report(
    done: &Done,
    timeout: Option<Duration>,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    if let Some(json) = &done.json {
        session.out.line(json)?;
    }
    let name = text::line(&done.name);
    let state = done.process.as_ref().map_or_else(String::new, describe);
    let told = match done.process {
        Some(_) => format!("{name}: {state}"),
        None => name,
    };
    match done.outcome {
        WaitOutcome::Unspecified | WaitOutcome::Satisfied => {
            if !session.out.is_json() {
                session.out.line(&told)?;
            }
        }
        WaitOutcome::TimedOut | WaitOutcome::Unsatisfiable => {
            complain(&format!("{told}, and"), done.outcome, timeout, session);
            let explain = format!(
                "hint: `procession explain {}` says why",
                text::line(&done.name)
            );
            session.err.say(&explain);
        }
    }
    Ok(exit_code(done.outcome))
}

/// Tells one result of a batch.
pub(crate) fn report_item(
    item: &Item<'_>,
    timeout: Option<Duration>,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    if let Some(status) = item.status.filter(|status| status.code != 0) {
        let error = CliError::from(errors::status(status));
        // Nobody to tell when stderr is gone.
        let _: std::io::Result<()> = errors::render_item(item.name, &error, session.err.0);
        return Ok(error.exit_code());
    }
    let name = text::line(item.name);
    let code = exit_code(item.outcome);
    if !session.out.is_json() && (item.done_anyway || code == ExitCode::Ok) {
        session.out.line(&format!("{name}: {}", item.done))?;
    }
    if code != ExitCode::Ok {
        complain(&format!("{name}:"), item.outcome, timeout, session);
        session
            .err
            .say(&format!("hint: `procession explain {name}` says why"));
    }
    Ok(code)
}

/// The exit code a wait leads to.
pub(crate) fn exit_code(outcome: WaitOutcome) -> ExitCode {
    match outcome {
        WaitOutcome::Unspecified | WaitOutcome::Satisfied => ExitCode::Ok,
        WaitOutcome::TimedOut => ExitCode::TimedOut,
        WaitOutcome::Unsatisfiable => ExitCode::Failed,
    }
}

fn complain(
    told: &str,
    outcome: WaitOutcome,
    timeout: Option<Duration>,
    session: &mut Session<'_>,
) {
    let remark = match (outcome, timeout) {
        (WaitOutcome::TimedOut, Some(timeout)) => {
            format!("the wait timed out after {}", length(timeout))
        }
        (WaitOutcome::TimedOut, None) => "the wait timed out".to_owned(),
        _ => "what was waited for can no longer happen".to_owned(),
    };
    session.err.say(&format!("error: {told} {remark}"));
}

/// An age, but that less than a second is not nothing.
fn length(timeout: Duration) -> String {
    match timeout.as_secs() {
        0 => format!("{}ms", timeout.as_millis()),
        _ => time::age(timeout),
    }
}

/// `RUNNING (pid 42, run 3)`, or `FAILED: EXIT_CODE (exit 1)`.
fn describe(process: &proto::Process) -> String {
    let default = proto::ProcessStatus::default();
    let status = process.status.as_ref().unwrap_or(&default);
    let mut text = process::state_name(status.state()).to_owned();
    let because = process::because(status);
    if !because.is_empty() {
        text.push_str(": ");
        text.push_str(&because);
    }
    let detail = match (status.pid, &status.last_exit) {
        // The message says it already, or is about something later.
        (0, Some(exit)) if status.message.is_empty() => process::exit(exit),
        (0, _) => return text,
        (pid, _) => format!("pid {pid}, run {}", status.run_id),
    };
    format!("{text} ({detail})")
}
