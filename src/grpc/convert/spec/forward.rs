//! Where copies of the output go, both ways.

use proto::log_forward::Target;

use crate::{
    domain::{
        limits::LOG_FORWARDS_MAX,
        spec::{
            ForwardStream, ForwardTarget, JournaldTarget, LogForward, OtlpTarget, SyslogTarget,
        },
    },
    grpc::{convert::Faults, proto},
};

/// What a client wants; one more than allowed is enough to be refused for.
pub(super) fn from_wire(list: Vec<proto::LogForward>, faults: &mut Faults) -> Vec<LogForward> {
    let wanted = list.into_iter().take(LOG_FORWARDS_MAX + 1).enumerate();
    wanted
        .filter_map(|(at, forward)| {
            let at = format!("spec.stdio.log_forwards[{at}]");
            let streams = streams(&format!("{at}.streams"), &forward.streams, faults);
            let Some(wanted) = forward.target else {
                faults.add(&at, "has no target; give one of syslog, journald and otlp");
                return None;
            };
            Some(LogForward {
                target: target(wanted),
                streams,
            })
        })
        .collect()
}

/// What was stored, as it was written.
pub(super) fn to_wire(forwards: &[LogForward]) -> Vec<proto::LogForward> {
    let stream = |stream: &ForwardStream| {
        match stream {
            ForwardStream::Stdout => proto::OutputStream::Stdout,
            ForwardStream::Stderr => proto::OutputStream::Stderr,
        }
        .into()
    };
    let wire = |forward: &LogForward| proto::LogForward {
        streams: forward.streams.iter().map(stream).collect(),
        target: Some(match &forward.target {
            ForwardTarget::Syslog(target) => Target::Syslog(proto::SyslogTarget {
                address: target.address.clone(),
                facility: target.facility.clone(),
                tag: target.tag.clone(),
            }),
            ForwardTarget::Journald(target) => Target::Journald(proto::JournaldTarget {
                identifier: target.identifier.clone(),
            }),
            ForwardTarget::Otlp(target) => Target::Otlp(proto::OtlpTarget {
                endpoint: target.endpoint.clone(),
            }),
        }),
    };
    forwards.iter().map(wire).collect()
}

fn target(target: Target) -> ForwardTarget {
    match target {
        Target::Syslog(wire) => ForwardTarget::Syslog(SyslogTarget {
            address: wire.address,
            facility: wire.facility,
            tag: wire.tag,
        }),
        Target::Journald(wire) => ForwardTarget::Journald(JournaldTarget {
            identifier: wire.identifier,
        }),
        Target::Otlp(wire) => ForwardTarget::Otlp(OtlpTarget {
            endpoint: wire.endpoint,
        }),
    }
}

fn streams(field: &str, numbers: &[i32], faults: &mut Faults) -> Vec<ForwardStream> {
    let mut streams = Vec::new();
    // Only two differ, so a third one is a fault whatever it is.
    for number in numbers.iter().take(3) {
        match faults.known(field, *number) {
            None => {}
            Some(proto::OutputStream::Stdout) => streams.push(ForwardStream::Stdout),
            Some(proto::OutputStream::Stderr) => streams.push(ForwardStream::Stderr),
            Some(proto::OutputStream::Unspecified) => {
                faults.add(field, "must name STDOUT or STDERR; empty means both");
            }
        }
    }
    streams
}
