//! `start`, `stop`, `restart`, `reload`, `pause`, `resume`, `reset`.
//!
//! One exact name is one call. Several are one `BatchControlProcesses`, which the
//! daemon carries out in dependency order; options that the batch cannot express
//! make it one call per process, a few at a time.

mod one;
pub(crate) mod outcome;

use std::time::Duration;

use super::{
    args::{ControlArgs, SelectArgs, StartArgs, StopArgs, StopOverride, WaitChoice},
    client, each,
    errors::CliError,
    exit_code::ExitCode,
    list,
    render::{json, time},
    selector::{Empty, Selection},
    session::Session,
};
use crate::grpc::proto::{self, ControlAction, WaitCondition};
pub(crate) use one::one;

/// What to do to each process.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) action: ControlAction,
    /// For what to wait, and how long; none: not at all.
    pub(crate) wait: Option<(WaitCondition, Duration)>,
    pub(crate) stop_policy: Option<proto::StopPolicy>,
    /// With dependencies (start) or dependents (stop).
    pub(crate) with_related: bool,
}

// === impl Control ===

impl Control {
    fn plain(action: ControlAction) -> Self {
        Self {
            action,
            wait: None,
            stop_policy: None,
            with_related: false,
        }
    }

    fn waiting(action: ControlAction, condition: WaitCondition, choice: &WaitChoice) -> Self {
        let wait = (!choice.no_wait).then_some((condition, choice.timeout));
        Self {
            wait,
            ..Self::plain(action)
        }
    }

    pub(crate) fn wait_options(&self) -> Option<proto::WaitOptions> {
        self.wait
            .map(|(condition, timeout)| wait_options(condition, timeout))
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.wait.map(|(_, timeout)| timeout)
    }

    /// What the batch has no field for.
    fn needs_single_calls(&self) -> bool {
        self.stop_policy.is_some() || self.with_related
    }
}

pub(crate) async fn start(
    args: &StartArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let mut control = Control::waiting(ControlAction::Start, WaitCondition::Running, &args.wait);
    control.with_related = args.with_dependencies;
    run(&args.select, &control, session).await
}

pub(crate) async fn stop(args: &StopArgs, session: &mut Session<'_>) -> Result<ExitCode, CliError> {
    let mut control = Control::waiting(ControlAction::Stop, WaitCondition::Settled, &args.wait);
    control.stop_policy = stop_policy(&args.stop);
    control.with_related = args.with_dependents;
    run(&args.select, &control, session).await
}

/// `restart` and `reload`.
pub(crate) async fn until_running(
    action: ControlAction,
    args: &ControlArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let control = Control::waiting(action, WaitCondition::Running, &args.wait);
    run(&args.select, &control, session).await
}

/// `pause`, `resume` and `reset`.
pub(crate) async fn at_once(
    action: ControlAction,
    select: &SelectArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    run(select, &Control::plain(action), session).await
}

/// The wire form of the overrides; none where nothing is overridden.
pub(crate) fn stop_policy(stop: &StopOverride) -> Option<proto::StopPolicy> {
    (stop.signal.is_some() || stop.grace.is_some()).then(|| proto::StopPolicy {
        signal: stop.signal.unwrap_or_default().into(),
        grace_period: stop.grace.map(time::wire),
        ..proto::StopPolicy::default()
    })
}

/// The wire form of a wait.
pub(crate) fn wait_options(condition: WaitCondition, timeout: Duration) -> proto::WaitOptions {
    proto::WaitOptions {
        condition: condition.into(),
        timeout: Some(time::wire(timeout)),
    }
}

async fn run(
    select: &SelectArgs,
    control: &Control,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let selection = Selection::parse(select, Empty::Refused)?;
    if let Some(name) = selection.single_name() {
        let done = one(session.client.clone(), control, name, session.out.is_json()).await?;
        return outcome::report(&done, control.timeout(), session);
    }
    if control.needs_single_calls() {
        let selector = selection.resolve(&mut session.client).await?;
        let names = list::names(&mut session.client, &selection, &selector).await?;
        return one_by_one(&names, control, session).await;
    }
    batch(&selection, control, session).await
}

async fn one_by_one(
    names: &[String],
    control: &Control,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let (client, json) = (session.client.clone(), session.out.is_json());
    let call = |name: String| {
        let client = client.clone();
        async move { one(client, control, &name, json).await }
    };
    each::each(names, call, session, |done, session| {
        outcome::report(&done, control.timeout(), session)
    })
    .await
}

async fn batch(
    selection: &Selection,
    control: &Control,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let request = proto::BatchControlProcessesRequest {
        selector: Some(selection.resolve(&mut session.client).await?),
        action: control.action.into(),
        request_id: client::request_id(),
        wait: control.wait_options(),
        ..proto::BatchControlProcessesRequest::default()
    };
    let call = client::waiting_call(request, control.timeout());
    let mut response = session
        .client
        .batch_control_processes(call)
        .await?
        .into_inner();
    if session.out.is_json() {
        for status in response
            .results
            .iter_mut()
            .filter_map(|result| result.status.as_mut())
        {
            json::keep_known_details(status);
        }
        session.out.json(&response)?;
    }
    let mut code = ExitCode::Ok;
    for result in &response.results {
        let item = outcome::Item {
            name: &result.name,
            status: result.status.as_ref(),
            outcome: result.wait_outcome(),
            done: past_tense(control.action),
            done_anyway: false,
        };
        code = code.or(outcome::report_item(&item, control.timeout(), session)?);
    }
    let found = response
        .results
        .iter()
        .map(|result| result.name.as_str())
        .collect();
    selection.require(&found)?;
    Ok(code)
}

fn past_tense(action: ControlAction) -> &'static str {
    match action {
        ControlAction::Unspecified => "done",
        ControlAction::Start => "started",
        ControlAction::Stop => "stopped",
        ControlAction::Restart => "restarted",
        ControlAction::Reload => "reloaded",
        ControlAction::Pause => "paused",
        ControlAction::Resume => "resumed",
        ControlAction::Reset => "reset",
    }
}
