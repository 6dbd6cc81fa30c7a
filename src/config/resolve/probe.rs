//! Probes.

use crate::{
    config::raw,
    grpc::proto::{self, probe::Check},
};

impl From<raw::Probe> for proto::Probe {
    fn from(raw: raw::Probe) -> Self {
        let checks = [
            raw.exec.map(|raw| Check::Exec(raw.into())),
            raw.http.map(|raw| Check::Http(raw.into())),
            raw.tcp.map(|raw| Check::Tcp(raw.into())),
            raw.grpc.map(|raw| Check::Grpc(raw.into())),
            raw.log_pattern.map(Check::LogPattern),
            raw.notify.map(|raw| Check::Notify(raw.into())),
        ];
        Self {
            initial_delay: raw.initial_delay.map(Into::into),
            period: raw.period.map(Into::into),
            timeout: raw.timeout.map(Into::into),
            success_threshold: raw.success_threshold.unwrap_or_default(),
            failure_threshold: raw.failure_threshold.unwrap_or_default(),
            check: checks.into_iter().flatten().next(),
        }
    }
}

impl From<raw::ExecCheck> for proto::ExecCheck {
    fn from(raw: raw::ExecCheck) -> Self {
        Self {
            command: raw.command.0,
        }
    }
}

impl From<raw::HttpCheck> for proto::HttpCheck {
    fn from(raw: raw::HttpCheck) -> Self {
        Self {
            url: raw.url,
            expected_status_codes: raw.expected_status_codes,
            headers: raw.headers.into_iter().collect(),
            method: raw.method.unwrap_or_default(),
            skip_tls_verify: raw.skip_tls_verify,
        }
    }
}

impl From<raw::TcpCheck> for proto::TcpCheck {
    fn from(raw: raw::TcpCheck) -> Self {
        Self {
            address: raw.address,
        }
    }
}

impl From<raw::GrpcCheck> for proto::GrpcCheck {
    fn from(raw: raw::GrpcCheck) -> Self {
        Self {
            address: raw.address,
            service: raw.service.unwrap_or_default(),
            tls: raw.tls,
            skip_tls_verify: raw.skip_tls_verify,
        }
    }
}

impl From<raw::NotifyCheck> for proto::NotifyCheck {
    fn from(raw: raw::NotifyCheck) -> Self {
        Self {
            notification_fd: raw.notification_fd.unwrap_or_default(),
            from_any_process: raw.from_any_process,
        }
    }
}
