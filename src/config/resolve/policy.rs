//! Policies.

use crate::{config::raw, grpc::proto};

impl From<raw::RestartPolicy> for proto::RestartPolicy {
    fn from(raw: raw::RestartPolicy) -> Self {
        Self {
            mode: raw
                .mode
                .map_or(0, |raw| proto::RestartMode::from(raw).into()),
            initial_backoff: raw.initial_backoff.map(Into::into),
            max_backoff: raw.max_backoff.map(Into::into),
            stable_after: raw.stable_after.map(Into::into),
            max_consecutive_failures: raw.max_consecutive_failures.unwrap_or_default(),
            success_exit_codes: raw.success_exit_codes,
            start_grace: raw.start_grace.map(Into::into),
            jitter_ratio: raw.jitter_ratio,
            budget: raw.budget.map(Into::into),
            no_restart_exit_codes: raw.no_restart_exit_codes,
        }
    }
}

impl From<raw::RestartMode> for proto::RestartMode {
    fn from(raw: raw::RestartMode) -> Self {
        match raw {
            raw::RestartMode::Never => Self::Never,
            raw::RestartMode::OnFailure => Self::OnFailure,
            raw::RestartMode::Always => Self::Always,
        }
    }
}

impl From<raw::RestartBudget> for proto::RestartBudget {
    fn from(raw: raw::RestartBudget) -> Self {
        Self {
            max_restarts: raw.max_restarts,
            window: raw.window.map(Into::into),
        }
    }
}

impl From<raw::StopPolicy> for proto::StopPolicy {
    fn from(raw: raw::StopPolicy) -> Self {
        Self {
            signal: raw.signal.map_or(0, |signal| signal.0.into()),
            grace_period: raw.grace_period.map(Into::into),
            scope: raw
                .scope
                .map_or(0, |raw| proto::SignalScope::from(raw).into()),
            kill_timeout: raw.kill_timeout.map(Into::into),
        }
    }
}

impl From<raw::SignalScope> for proto::SignalScope {
    fn from(raw: raw::SignalScope) -> Self {
        match raw {
            raw::SignalScope::MainProcess => Self::MainProcess,
            raw::SignalScope::ProcessGroup => Self::ProcessGroup,
            raw::SignalScope::Cgroup => Self::Cgroup,
            raw::SignalScope::Tree => Self::Tree,
        }
    }
}

impl From<raw::DependencyEntry> for proto::Dependency {
    fn from(raw: raw::DependencyEntry) -> Self {
        match raw {
            raw::DependencyEntry::Name(name) => Self {
                name,
                ..Self::default()
            },
            raw::DependencyEntry::Table(raw) => Self {
                name: raw.name,
                condition: raw
                    .condition
                    .map_or(0, |raw| proto::WaitCondition::from(raw).into()),
                restart_with: raw.restart_with,
                optional: raw.optional,
            },
        }
    }
}

impl From<raw::DependencyCondition> for proto::WaitCondition {
    fn from(raw: raw::DependencyCondition) -> Self {
        match raw {
            raw::DependencyCondition::Running => Self::Running,
            raw::DependencyCondition::Ready => Self::Ready,
            raw::DependencyCondition::Exited => Self::Exited,
            raw::DependencyCondition::Succeeded => Self::Succeeded,
        }
    }
}

impl From<raw::Hooks> for proto::Hooks {
    fn from(raw: raw::Hooks) -> Self {
        Self {
            pre_start: raw.pre_start.map(Into::into),
            post_start: raw.post_start.map(Into::into),
            pre_stop: raw.pre_stop.map(Into::into),
            post_stop: raw.post_stop.map(Into::into),
        }
    }
}

impl From<raw::Hook> for proto::HookCommand {
    fn from(raw: raw::Hook) -> Self {
        match raw {
            raw::Hook::Command(command) => Self {
                command: command.0,
                timeout: None,
            },
            raw::Hook::Table(raw) => Self {
                command: raw.command.0,
                timeout: raw.timeout.map(Into::into),
            },
        }
    }
}

impl From<raw::ReloadAction> for proto::ReloadAction {
    fn from(raw: raw::ReloadAction) -> Self {
        use proto::reload_action::Action;
        let signal = raw.signal.map(|signal| Action::Signal(signal.0.into()));
        Self {
            timeout: raw.timeout.map(Into::into),
            action: signal.or_else(|| raw.command.map(|hook| Action::Command(hook.into()))),
        }
    }
}

impl From<raw::Schedule> for proto::Schedule {
    fn from(raw: raw::Schedule) -> Self {
        use proto::schedule::When;
        let interval = raw.interval.map(|interval| When::Interval(interval.into()));
        Self {
            time_zone: raw.time_zone.unwrap_or_default(),
            replace_running: raw.replace_running,
            missed_runs: raw
                .missed_runs
                .map_or(0, |raw| proto::MissedRuns::from(raw).into()),
            max_jitter: raw.max_jitter.map(Into::into),
            run_on_start: raw.run_on_start,
            when: raw.cron.map(When::Cron).or(interval),
        }
    }
}

impl From<raw::MissedRuns> for proto::MissedRuns {
    fn from(raw: raw::MissedRuns) -> Self {
        match raw {
            raw::MissedRuns::Skip => Self::Skip,
            raw::MissedRuns::RunOnce => Self::RunOnce,
        }
    }
}

impl From<raw::FileWatch> for proto::FileWatch {
    fn from(raw: raw::FileWatch) -> Self {
        Self {
            paths: raw.paths,
            include: raw.include,
            exclude: raw.exclude,
            debounce: raw.debounce.map(Into::into),
            reload: raw.reload,
        }
    }
}

impl From<raw::ResourceLimits> for proto::ResourceLimits {
    fn from(raw: raw::ResourceLimits) -> Self {
        Self {
            memory_max_bytes: raw.memory_max_bytes.map_or(0, |size| size.0),
            cpu_max_millis: raw.cpu_max_millis.unwrap_or_default(),
            pids_max: raw.pids_max.unwrap_or_default(),
            open_files_max: raw.open_files_max.unwrap_or_default(),
            memory_high_bytes: raw.memory_high_bytes.map_or(0, |size| size.0),
            cpu_weight: raw.cpu_weight.unwrap_or_default(),
            rlimits: raw.rlimits.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<raw::Rlimit> for proto::Rlimit {
    fn from(raw: raw::Rlimit) -> Self {
        Self {
            name: raw.name,
            soft: raw.soft,
            hard: raw.hard,
        }
    }
}
