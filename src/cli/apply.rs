//! `apply` and `diff`: the processes of a file against those there are.

mod plan;

use std::{collections::BTreeSet, path::Path};

use super::{
    args::{ApplyArgs, DiffArgs, RolloutArg},
    client,
    control::{self, outcome},
    errors::{self, CliError},
    exit_code::ExitCode,
    render::json,
    session::Session,
    wait,
};
use crate::{
    config::{self, Config, Environment},
    grpc::proto::{self, ApplyOutcome, ChangeAction, RolloutMode, WaitOutcome},
};

pub(crate) async fn apply(
    args: &ApplyArgs,
    env: &Environment,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let mut request = request(load(&args.file, env)?, args.prune, args.labels.as_deref());
    request.validate_only = args.dry_run;
    request.rollout = rollout(args.rollout).into();
    request.wait = args
        .wait
        .map(|held| control::wait_options(wait::condition(held), args.timeout));
    let idle: BTreeSet<String> = request
        .processes
        .iter()
        .filter(|process| process.spec.as_ref().is_none_or(|spec| !spec.autostart))
        .map(|process| process.name.clone())
        .collect();
    let timeout = args.wait.map(|_| args.timeout);
    let call = client::waiting_call(request, timeout);
    let mut response = session
        .client
        .batch_apply_processes(call)
        .await?
        .into_inner();
    print_json(&mut response, session)?;
    let mut code = ExitCode::Ok;
    for result in &response.results {
        let done = plan::describe(result, args.dry_run);
        let outcome = match result.wait_outcome() {
            // Nothing starts it, so that it does not run is no failure.
            WaitOutcome::Unsatisfiable if idle.contains(&result.name) => WaitOutcome::Unspecified,
            outcome => outcome,
        };
        let item = outcome::Item {
            name: &result.name,
            status: result.status.as_ref(),
            outcome,
            done: &done,
            done_anyway: true,
        };
        code = code.or(outcome::report_item(&item, timeout, session)?);
    }
    Ok(code)
}

pub(crate) async fn diff(
    args: &DiffArgs,
    env: &Environment,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let mut request = request(load(&args.file, env)?, args.prune, args.labels.as_deref());
    request.validate_only = true;
    // What would happen at once is what there is to know.
    request.rollout = RolloutMode::RestartIfNeeded.into();
    let call = client::call(request);
    let mut response = session
        .client
        .batch_apply_processes(call)
        .await?
        .into_inner();
    print_json(&mut response, session)?;
    let mut differences = 0_usize;
    for result in &response.results {
        if let Some(status) = result.status.as_ref().filter(|status| status.code != 0) {
            let error = CliError::from(errors::status(status));
            errors::render_item(&result.name, &error, session.err.0)?;
            differences += 1;
        } else if is_change(result) {
            differences += 1;
            if !session.out.is_json() {
                let line = plan::diff_line(result, session.out.palette());
                session.out.line(&line)?;
            }
        }
    }
    Ok(if differences == 0 {
        ExitCode::Ok
    } else {
        ExitCode::Failed
    })
}

fn is_change(result: &proto::BatchItemResult) -> bool {
    match &result.plan {
        Some(plan) => !matches!(
            (plan.action(), plan.changed_paths.is_empty()),
            (ChangeAction::None | ChangeAction::Unspecified, true)
        ),
        None => !matches!(
            result.outcome(),
            ApplyOutcome::Unchanged | ApplyOutcome::Unspecified
        ),
    }
}

/// What `apply` and `diff` have in common.
fn request(
    Config { processes, groups }: Config,
    prune: bool,
    labels: Option<&str>,
) -> proto::BatchApplyProcessesRequest {
    let prune_selector = prune.then(|| proto::ProcessSelector {
        label_selector: labels.unwrap_or_default().to_owned(),
        ..proto::ProcessSelector::default()
    });
    proto::BatchApplyProcessesRequest {
        processes,
        groups,
        prune_selector,
        request_id: client::request_id(),
        ..proto::BatchApplyProcessesRequest::default()
    }
}

fn print_json(
    response: &mut proto::BatchApplyProcessesResponse,
    session: &mut Session<'_>,
) -> Result<(), CliError> {
    if !session.out.is_json() {
        return Ok(());
    }
    for status in response
        .results
        .iter_mut()
        .filter_map(|result| result.status.as_mut())
    {
        json::keep_known_details(status);
    }
    session.out.json(response)
}

fn rollout(arg: RolloutArg) -> RolloutMode {
    match arg {
        RolloutArg::NextStart => RolloutMode::NextStart,
        RolloutArg::RestartIfNeeded => RolloutMode::RestartIfNeeded,
        RolloutArg::Rolling => RolloutMode::Rolling,
    }
}

/// The processes and groups of `file`, at most as many as one request takes.
pub(super) fn load(file: &Path, env: &Environment) -> Result<Config, CliError> {
    config::load(file, env).map_err(|errors| CliError::Config(errors.to_string()))
}
