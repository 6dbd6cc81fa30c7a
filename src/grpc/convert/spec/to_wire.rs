//! What was stored, as it was written.

use std::time::Duration;

use crate::{
    domain::spec::{
        Config, Dependency, DependencyCondition, ExitWith, Identity, RestartMode, RestartPolicy,
        Stdio, StopPolicy,
    },
    grpc::{
        convert::{self, signal},
        proto,
    },
};

/// The spec of a configuration; labels, annotations and group stand beside it.
#[must_use]
pub fn spec(config: &Config) -> proto::ProcessSpec {
    proto::ProcessSpec {
        command: config.command.clone(),
        env: config.env.clone().into_iter().collect(),
        clear_env: config.clear_env,
        working_directory: config.working_directory.clone().unwrap_or_default(),
        run_as: config.run_as.as_ref().map(identity),
        autostart: config.autostart,
        restart_policy: some_unless_default(restart_policy(&config.restart)),
        stop_policy: some_unless_default(stop_policy(&config.stop)),
        dependencies: config.dependencies.iter().map(dependency).collect(),
        stdio: some_unless_default(stdio(&config.stdio)),
        resource_limits: some_unless_default(limits(config)),
        env_files: config.env_files.clone(),
        umask: config.umask.map(|m| format!("{m:03o}")).unwrap_or_default(),
        nice: config.nice,
        start_timeout: duration(config.start_timeout),
        exit_with: match config.exit_with {
            ExitWith::Never => proto::ExitWith::Unspecified,
            ExitWith::Failure => proto::ExitWith::Failure,
            ExitWith::End => proto::ExitWith::End,
        }
        .into(),
        oom_score_adj: config.oom_score_adj,
        ..Default::default()
    }
}

fn identity(identity: &Identity) -> proto::Identity {
    proto::Identity {
        user: identity.user.clone(),
        group: identity.group.clone(),
        supplementary_groups: identity.supplementary_groups.clone(),
    }
}

fn restart_policy(policy: &RestartPolicy) -> proto::RestartPolicy {
    proto::RestartPolicy {
        mode: match policy.mode {
            RestartMode::Unspecified => proto::RestartMode::Unspecified,
            RestartMode::Never => proto::RestartMode::Never,
            RestartMode::OnFailure => proto::RestartMode::OnFailure,
            RestartMode::Always => proto::RestartMode::Always,
        }
        .into(),
        initial_backoff: duration(policy.initial_backoff),
        max_backoff: duration(policy.max_backoff),
        stable_after: duration(policy.stable_after),
        max_consecutive_failures: policy.max_consecutive_failures,
        success_exit_codes: policy.success_exit_codes.clone(),
        start_grace: duration(policy.start_grace),
        jitter_ratio: policy.jitter_ratio,
        budget: policy.budget.as_ref().map(|budget| proto::RestartBudget {
            max_restarts: budget.max_restarts,
            window: duration(budget.window),
        }),
        no_restart_exit_codes: policy.no_restart_exit_codes.clone(),
    }
}

fn stop_policy(policy: &StopPolicy) -> proto::StopPolicy {
    proto::StopPolicy {
        signal: policy
            .signal
            .map_or(proto::Signal::Unspecified, signal::name)
            .into(),
        grace_period: duration(policy.grace_period),
        scope: signal::scope_wire(policy.scope).into(),
        kill_timeout: duration(policy.kill_timeout),
    }
}

fn dependency(dependency: &Dependency) -> proto::Dependency {
    proto::Dependency {
        name: dependency.name.as_str().to_owned(),
        condition: match dependency.condition {
            None => proto::WaitCondition::Unspecified,
            Some(DependencyCondition::Running) => proto::WaitCondition::Running,
            Some(DependencyCondition::Ready) => proto::WaitCondition::Ready,
            Some(DependencyCondition::Exited) => proto::WaitCondition::Exited,
            Some(DependencyCondition::Succeeded) => proto::WaitCondition::Succeeded,
        }
        .into(),
        restart_with: dependency.restart_with,
        optional: dependency.optional,
    }
}

fn stdio(stdio: &Stdio) -> proto::Stdio {
    proto::Stdio {
        merge_stderr: stdio.merge_stderr,
        tty: stdio.tty,
        open_stdin: stdio.open_stdin,
        stdin_file: stdio.stdin_file.clone().unwrap_or_default(),
        log_policy: stdio.log_policy.as_ref().map(|policy| proto::LogPolicy {
            max_bytes: policy.max_bytes,
            segment_bytes: policy.segment_bytes,
            max_segments: policy.max_segments,
            max_age: duration(policy.max_age),
            full_action: match policy.drop_when_full {
                None => proto::LogFullAction::Unspecified,
                Some(false) => proto::LogFullAction::Block,
                Some(true) => proto::LogFullAction::Drop,
            }
            .into(),
        }),
        log_forwards: super::forward::to_wire(&stdio.log_forwards),
    }
}

fn limits(config: &Config) -> proto::ResourceLimits {
    let rlimit = |limit: &crate::domain::spec::Rlimit| proto::Rlimit {
        name: limit.name.clone(),
        soft: limit.soft,
        hard: limit.hard,
    };
    proto::ResourceLimits {
        open_files_max: config.open_files_max,
        rlimits: config.rlimits.iter().map(rlimit).collect(),
        ..Default::default()
    }
}

fn duration(value: Option<Duration>) -> Option<prost_types::Duration> {
    value.map(convert::duration)
}

fn some_unless_default<T: Default + PartialEq>(message: T) -> Option<T> {
    (message != T::default()).then_some(message)
}
