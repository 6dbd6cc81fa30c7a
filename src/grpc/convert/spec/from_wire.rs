//! What a client wants, checked.

use crate::{
    domain::limits::DEPENDENCIES_MAX,
    domain::spec::{
        Config, Dependency, DependencyCondition, ExitWith, Identity, LogPolicy, RestartBudget,
        RestartMode, RestartPolicy, Rlimit, Stdio, StopPolicy,
    },
    grpc::{
        convert::{Faults, signal},
        proto,
    },
};

/// Takes labels, annotations, group and spec of `process`. Faults go to `faults`;
/// what cannot be taken is left at its default.
pub fn config(process: proto::Process, faults: &mut Faults) -> Config {
    let spec = process.spec.unwrap_or_default();
    absent(&spec, faults);
    let group = (!process.group.is_empty())
        .then(|| faults.name("group", &process.group))
        .flatten();
    let limits = spec.resource_limits.unwrap_or_default();
    Config {
        labels: process.labels.into_iter().collect(),
        annotations: process.annotations.into_iter().collect(),
        group,
        command: spec.command,
        env: spec.env.into_iter().collect(),
        clear_env: spec.clear_env,
        env_files: spec.env_files,
        working_directory: some_text(spec.working_directory),
        run_as: spec.run_as.map(identity),
        autostart: spec.autostart,
        restart: restart_policy(&spec.restart_policy.unwrap_or_default(), faults),
        stop: stop_policy(
            &spec.stop_policy.unwrap_or_default(),
            "spec.stop_policy",
            faults,
        ),
        dependencies: dependencies(&spec.dependencies, faults),
        stdio: stdio(spec.stdio.unwrap_or_default(), faults),
        rlimits: limits.rlimits.into_iter().map(rlimit).collect(),
        open_files_max: limits.open_files_max,
        umask: umask(&spec.umask, faults),
        nice: spec.nice,
        oom_score_adj: spec.oom_score_adj,
        start_timeout: faults.duration("spec.start_timeout", spec.start_timeout.as_ref()),
        exit_with: exit_with(spec.exit_with, faults),
    }
}

/// A stop policy that stands at `at`.
pub fn stop_policy(policy: &proto::StopPolicy, at: &str, faults: &mut Faults) -> StopPolicy {
    let field = |name: &str| format!("{at}.{name}");
    StopPolicy {
        signal: faults
            .known(&field("signal"), policy.signal)
            .and_then(signal::number),
        grace_period: faults.duration(&field("grace_period"), policy.grace_period.as_ref()),
        scope: faults
            .known(&field("scope"), policy.scope)
            .and_then(signal::scope),
        kill_timeout: faults.duration(&field("kill_timeout"), policy.kill_timeout.as_ref()),
    }
}

/// Refuses what this daemon has no behaviour for yet.
fn absent(spec: &proto::ProcessSpec, faults: &mut Faults) {
    let table = [
        (spec.readiness_probe.is_some(), "probes", "readiness_probe"),
        (spec.liveness_probe.is_some(), "probes", "liveness_probe"),
        (spec.startup_probe.is_some(), "probes", "startup_probe"),
        (spec.hooks.is_some(), "hooks", "hooks"),
        (spec.schedule.is_some(), "schedule", "schedule"),
        (!spec.sockets.is_empty(), "sockets", "sockets"),
        (spec.reload.is_some(), "reload", "reload"),
        (!spec.secrets.is_empty(), "secrets", "secrets"),
        (!spec.secret_env.is_empty(), "secrets", "secret_env"),
        (spec.file_watch.is_some(), "file_watch", "file_watch"),
    ];
    for (is_set, capability, field) in table {
        faults.absent(is_set, capability, &format!("spec.{field}"));
    }
    if let Some(limits) = &spec.resource_limits {
        absent_limits(limits, faults);
    }
}

/// What only a cgroup can hold a whole tree to.
fn absent_limits(limits: &proto::ResourceLimits, faults: &mut Faults) {
    let table = [
        (limits.memory_max_bytes != 0, "memory_max_bytes"),
        (limits.cpu_max_millis != 0, "cpu_max_millis"),
        (limits.pids_max != 0, "pids_max"),
        (limits.memory_high_bytes != 0, "memory_high_bytes"),
        (limits.cpu_weight != 0, "cpu_weight"),
    ];
    for (is_set, field) in table {
        faults.absent(
            is_set,
            "resource_limits",
            &format!("spec.resource_limits.{field}"),
        );
    }
}

fn identity(identity: proto::Identity) -> Identity {
    Identity {
        user: identity.user,
        group: identity.group,
        supplementary_groups: identity.supplementary_groups,
    }
}

fn restart_policy(policy: &proto::RestartPolicy, faults: &mut Faults) -> RestartPolicy {
    let field = |name: &str| format!("spec.restart_policy.{name}");
    let mode = faults.known(&field("mode"), policy.mode);
    let budget = policy.budget.as_ref().map(|budget| RestartBudget {
        max_restarts: budget.max_restarts,
        window: faults.duration(&field("budget.window"), budget.window.as_ref()),
    });
    let mut duration = |name: &str, value: &Option<prost_types::Duration>| {
        faults.duration(&field(name), value.as_ref())
    };
    RestartPolicy {
        mode: match mode.unwrap_or(proto::RestartMode::Unspecified) {
            proto::RestartMode::Unspecified => RestartMode::Unspecified,
            proto::RestartMode::Never => RestartMode::Never,
            proto::RestartMode::OnFailure => RestartMode::OnFailure,
            proto::RestartMode::Always => RestartMode::Always,
        },
        initial_backoff: duration("initial_backoff", &policy.initial_backoff),
        max_backoff: duration("max_backoff", &policy.max_backoff),
        stable_after: duration("stable_after", &policy.stable_after),
        max_consecutive_failures: policy.max_consecutive_failures,
        success_exit_codes: policy.success_exit_codes.clone(),
        start_grace: duration("start_grace", &policy.start_grace),
        jitter_ratio: policy.jitter_ratio,
        budget,
        no_restart_exit_codes: policy.no_restart_exit_codes.clone(),
    }
}

fn dependencies(list: &[proto::Dependency], faults: &mut Faults) -> Vec<Dependency> {
    let mut taken = Vec::with_capacity(list.len());
    // One more than allowed is enough to be refused for.
    for (i, dependency) in list.iter().take(DEPENDENCIES_MAX + 1).enumerate() {
        let name = faults.name(&format!("spec.dependencies[{i}].name"), &dependency.name);
        let condition = condition(
            &format!("spec.dependencies[{i}].condition"),
            dependency.condition,
            faults,
        );
        taken.extend(name.map(|name| Dependency {
            name,
            condition,
            restart_with: dependency.restart_with,
            optional: dependency.optional,
        }));
    }
    taken
}

fn condition(field: &str, number: i32, faults: &mut Faults) -> Option<DependencyCondition> {
    match faults.known(field, number)? {
        proto::WaitCondition::Unspecified => None,
        proto::WaitCondition::Running => Some(DependencyCondition::Running),
        proto::WaitCondition::Ready => Some(DependencyCondition::Ready),
        proto::WaitCondition::Exited => Some(DependencyCondition::Exited),
        proto::WaitCondition::Succeeded => Some(DependencyCondition::Succeeded),
        proto::WaitCondition::Settled | proto::WaitCondition::Deleted => {
            faults.add(field, "must be RUNNING, READY, EXITED or SUCCEEDED");
            None
        }
    }
}

fn stdio(stdio: proto::Stdio, faults: &mut Faults) -> Stdio {
    let log_policy = stdio.log_policy.map(|policy| {
        let field = "spec.stdio.log_policy.full_action";
        let action = faults
            .known(field, policy.full_action)
            .unwrap_or(proto::LogFullAction::Unspecified);
        LogPolicy {
            max_bytes: policy.max_bytes,
            segment_bytes: policy.segment_bytes,
            max_segments: policy.max_segments,
            max_age: faults.duration("spec.stdio.log_policy.max_age", policy.max_age.as_ref()),
            drop_when_full: match action {
                proto::LogFullAction::Unspecified => None,
                proto::LogFullAction::Block => Some(false),
                proto::LogFullAction::Drop => Some(true),
            },
        }
    });
    Stdio {
        merge_stderr: stdio.merge_stderr,
        tty: stdio.tty,
        open_stdin: stdio.open_stdin,
        stdin_file: some_text(stdio.stdin_file),
        log_policy,
        log_forwards: super::forward::from_wire(stdio.log_forwards, faults),
    }
}

fn rlimit(limit: proto::Rlimit) -> Rlimit {
    Rlimit {
        name: limit.name,
        soft: limit.soft,
        hard: limit.hard,
    }
}

fn umask(text: &str, faults: &mut Faults) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    // from_str_radix takes a sign.
    let digits = text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mask = u32::from_str_radix(text, 8).ok().filter(|_| digits);
    if mask.is_none() {
        faults.add(
            "spec.umask",
            "must be octal text such as \"022\", up to \"777\"",
        );
    }
    mask
}

fn exit_with(number: i32, faults: &mut Faults) -> ExitWith {
    match faults.known("spec.exit_with", number) {
        None | Some(proto::ExitWith::Unspecified) => ExitWith::Never,
        Some(proto::ExitWith::Failure) => ExitWith::Failure,
        Some(proto::ExitWith::End) => ExitWith::End,
    }
}

fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
