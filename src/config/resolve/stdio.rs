//! Standard streams.

use std::path::Path;

use crate::{
    config::raw,
    grpc::proto::{self, log_forward::Target},
};

pub(super) fn stdio(raw: raw::Stdio, base: &Path) -> proto::Stdio {
    let stdin_file = raw.stdin_file.map(|file| super::absolute(base, &file));
    proto::Stdio {
        tty: raw.tty,
        open_stdin: raw.open_stdin,
        log_policy: raw.log_policy.map(Into::into),
        merge_stderr: raw.merge_stderr,
        stdin_file: stdin_file.unwrap_or_default(),
        log_forwards: raw.log_forwards.into_iter().map(Into::into).collect(),
    }
}

impl From<raw::LogPolicy> for proto::LogPolicy {
    fn from(raw: raw::LogPolicy) -> Self {
        Self {
            max_bytes: raw.max_bytes.map_or(0, |size| size.0),
            segment_bytes: raw.segment_bytes.map_or(0, |size| size.0),
            max_segments: raw.max_segments.unwrap_or_default(),
            max_age: raw.max_age.map(Into::into),
            full_action: raw
                .full_action
                .map_or(0, |raw| proto::LogFullAction::from(raw).into()),
        }
    }
}

impl From<raw::LogFullAction> for proto::LogFullAction {
    fn from(raw: raw::LogFullAction) -> Self {
        match raw {
            raw::LogFullAction::Block => Self::Block,
            raw::LogFullAction::Drop => Self::Drop,
        }
    }
}

impl From<raw::LogForward> for proto::LogForward {
    fn from(raw: raw::LogForward) -> Self {
        let targets = [
            raw.syslog.map(|raw| Target::Syslog(raw.into())),
            raw.journald.map(|raw| Target::Journald(raw.into())),
            raw.otlp.map(|raw| Target::Otlp(raw.into())),
        ];
        let streams = raw.streams.into_iter();
        Self {
            streams: streams
                .map(|raw| proto::OutputStream::from(raw).into())
                .collect(),
            target: targets.into_iter().flatten().next(),
        }
    }
}

impl From<raw::OutputStream> for proto::OutputStream {
    fn from(raw: raw::OutputStream) -> Self {
        match raw {
            raw::OutputStream::Stdout => Self::Stdout,
            raw::OutputStream::Stderr => Self::Stderr,
        }
    }
}

impl From<raw::SyslogTarget> for proto::SyslogTarget {
    fn from(raw: raw::SyslogTarget) -> Self {
        Self {
            address: raw.address.unwrap_or_default(),
            facility: raw.facility.unwrap_or_default(),
            tag: raw.tag.unwrap_or_default(),
        }
    }
}

impl From<raw::JournaldTarget> for proto::JournaldTarget {
    fn from(raw: raw::JournaldTarget) -> Self {
        Self {
            identifier: raw.identifier.unwrap_or_default(),
        }
    }
}

impl From<raw::OtlpTarget> for proto::OtlpTarget {
    fn from(raw: raw::OtlpTarget) -> Self {
        Self {
            endpoint: raw.endpoint,
        }
    }
}
