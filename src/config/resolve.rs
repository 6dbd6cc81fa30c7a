//! `raw` to proto: paths made absolute, short forms written out. Nothing is left
//! to refuse here.

use std::path::{Path, PathBuf};

use super::{Config, raw};
use crate::grpc::proto;

mod policy;
mod probe;
mod stdio;

/// `base` is the absolute directory of the file, in UTF-8.
pub(super) fn resolve(file: raw::File, base: &Path) -> Config {
    let processes = file.processes.into_iter();
    let groups = file.groups.into_iter();
    Config {
        processes: processes
            .map(|(name, raw)| process(name, raw, base))
            .collect(),
        groups: groups.map(|(name, raw)| group(name, raw)).collect(),
    }
}

fn group(name: String, raw: raw::Group) -> proto::ProcessGroup {
    proto::ProcessGroup {
        name,
        restart_budget: raw.restart_budget.map(Into::into),
    }
}

fn process(name: String, mut raw: raw::Process, base: &Path) -> proto::Process {
    proto::Process {
        name,
        labels: std::mem::take(&mut raw.labels).into_iter().collect(),
        annotations: std::mem::take(&mut raw.annotations).into_iter().collect(),
        group: raw.group.take().unwrap_or_default(),
        spec: Some(spec(raw, base)),
        ..proto::Process::default()
    }
}

fn spec(raw: raw::Process, base: &Path) -> proto::ProcessSpec {
    let directory = raw.working_directory.unwrap_or_default();
    proto::ProcessSpec {
        command: raw.command.0,
        env: raw.env.into_iter().collect(),
        clear_env: raw.clear_env,
        working_directory: absolute(base, &directory),
        run_as: raw.run_as.map(Into::into),
        autostart: raw.autostart.unwrap_or(true),
        restart_policy: raw.restart_policy.map(Into::into),
        stop_policy: raw.stop_policy.map(Into::into),
        readiness_probe: raw.readiness_probe.map(Into::into),
        liveness_probe: raw.liveness_probe.map(Into::into),
        dependencies: raw.dependencies.into_iter().map(Into::into).collect(),
        stdio: raw.stdio.map(|raw| stdio::stdio(raw, base)),
        resource_limits: raw.resource_limits.map(Into::into),
        startup_probe: raw.startup_probe.map(Into::into),
        env_files: raw
            .env_files
            .iter()
            .map(|file| absolute(base, file))
            .collect(),
        secret_env: raw.secret_env,
        hooks: raw.hooks.map(Into::into),
        schedule: raw.schedule.map(Into::into),
        umask: raw.umask.unwrap_or_default(),
        nice: raw.nice.unwrap_or_default(),
        sockets: raw.sockets.into_iter().map(Into::into).collect(),
        reload: raw.reload.map(Into::into),
        start_timeout: raw.start_timeout.map(Into::into),
        secrets: raw
            .secrets
            .into_iter()
            .map(|raw| secret(raw, base))
            .collect(),
        exit_with: raw
            .exit_with
            .map_or(0, |raw| proto::ExitWith::from(raw).into()),
        oom_score_adj: raw.oom_score_adj,
        file_watch: raw.file_watch.map(Into::into),
    }
}

fn secret(raw: raw::SecretEnv, base: &Path) -> proto::SecretEnv {
    use proto::secret_env::Source;
    let file = raw.file.map(|file| Source::File(absolute(base, &file)));
    proto::SecretEnv {
        name: raw.name,
        source: file.or_else(|| raw.command.map(|hook| Source::Command(hook.into()))),
    }
}

/// `path` seen from `base`, without `.` components.
fn absolute(base: &Path, path: &str) -> String {
    let joined: PathBuf = base.join(path).components().collect();
    // Both parts are UTF-8, so nothing is lost.
    joined.to_string_lossy().into_owned()
}

// === impl From for small types ===

impl From<raw::ExitWith> for proto::ExitWith {
    fn from(raw: raw::ExitWith) -> Self {
        match raw {
            raw::ExitWith::Failure => Self::Failure,
            raw::ExitWith::End => Self::End,
        }
    }
}

impl From<raw::Identity> for proto::Identity {
    fn from(raw: raw::Identity) -> Self {
        Self {
            user: raw.user.unwrap_or_default(),
            group: raw.group.unwrap_or_default(),
            supplementary_groups: raw.supplementary_groups,
        }
    }
}

impl From<raw::ListenSocket> for proto::ListenSocket {
    fn from(raw: raw::ListenSocket) -> Self {
        Self {
            name: raw.name,
            address: raw.address,
            r#type: raw
                .kind
                .map_or(0, |raw| proto::SocketType::from(raw).into()),
            backlog: raw.backlog.unwrap_or_default(),
            file_mode: raw.file_mode.unwrap_or_default(),
            file_owner: raw.file_owner.map(Into::into),
        }
    }
}

impl From<raw::SocketType> for proto::SocketType {
    fn from(raw: raw::SocketType) -> Self {
        match raw {
            raw::SocketType::Stream => Self::Stream,
            raw::SocketType::Datagram => Self::Datagram,
        }
    }
}

/// At most 10,000 years by its grammar, so it always fits.
impl From<raw::Duration> for prost_types::Duration {
    fn from(raw: raw::Duration) -> Self {
        Self {
            seconds: i64::try_from(raw.0.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(raw.0.subsec_nanos()).unwrap_or_default(),
        }
    }
}
