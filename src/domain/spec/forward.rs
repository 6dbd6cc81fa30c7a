//! Where copies of the output go, and what makes such a target valid.
//!
//! Texts are kept as the user wrote them; the accessors give the effective value.
//! Deliberately absent: whether a target is there, and how it is spoken to.

use std::collections::HashSet;

use super::FieldError;
use crate::domain::limits::{FORWARD_TAG_CHARS_MAX, FORWARD_TEXT_BYTES_MAX, LOG_FORWARDS_MAX};

/// Where one copy of the captured output goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogForward {
    /// Who gets it.
    pub target: ForwardTarget,
    /// What of it; empty: all.
    pub streams: Vec<ForwardStream>,
}

/// Who gets a copy of the output.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardTarget {
    /// A syslog daemon, by RFC 5424.
    Syslog(SyslogTarget),
    /// The systemd journal of this machine.
    Journald(JournaldTarget),
    /// An OpenTelemetry collector, by OTLP over gRPC.
    Otlp(OtlpTarget),
}

/// A syslog daemon; empty texts take the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SyslogTarget {
    /// `unix:/path`, `udp:host:port` or `tcp:host:port`. Default `unix:/dev/log`.
    pub address: String,
    /// A name of RFC 5427. Default `daemon`.
    pub facility: String,
    /// APP-NAME, at most 48 printable ASCII characters. Default: the process name.
    pub tag: String,
}

/// The systemd journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct JournaldTarget {
    /// SYSLOG_IDENTIFIER. Default: the process name.
    pub identifier: String,
}

/// An OpenTelemetry collector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct OtlpTarget {
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
}

/// A stream of output that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardStream {
    /// Standard output, and standard error where both share one pipe.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a syslog daemon is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyslogAddress<'a> {
    /// A socket of this machine: datagrams, else a stream.
    Unix(&'a str),
    /// `host:port`, one message per datagram (RFC 5426).
    Udp(&'a str),
    /// `host:port`, with octet counting (RFC 6587).
    Tcp(&'a str),
}

/// Keywords of the facilities by their numbers (RFC 5427, section 3).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "console", "cron2", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Bytes of a path in the address of a socket, `sun_path` without its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

// === impl LogForward ===

impl LogForward {
    /// Checks all forwards of a spec; every fault names its field.
    pub(super) fn check(forwards: &[Self]) -> Vec<FieldError> {
        let list = "spec.stdio.log_forwards";
        let mut faults = Vec::new();
        if forwards.len() > LOG_FORWARDS_MAX {
            let problem = format!("{} forwards; at most {LOG_FORWARDS_MAX}", forwards.len());
            faults.push(fault(list, problem));
        }
        let mut targets = HashSet::new();
        for (at, forward) in forwards.iter().enumerate() {
            let at = format!("{list}[{at}]");
            faults.extend(forward.target.check(&at));
            let streams: HashSet<_> = forward.streams.iter().collect();
            if streams.len() < forward.streams.len() {
                let problem = "names a stream twice; keep one of each";
                faults.push(fault(format!("{at}.streams"), problem));
            }
            if !targets.insert(forward.target.key()) {
                let problem = "has the target of an earlier forward; join their streams";
                faults.push(fault(at, problem));
            }
        }
        faults
    }
}

// === impl ForwardTarget ===

impl ForwardTarget {
    /// What tells two targets of one process apart: one line of text, with defaults
    /// filled in.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Syslog(target) => format!(
                "syslog {} {} {}",
                target.address_text(),
                target.facility_text(),
                target.tag
            ),
            Self::Journald(target) => format!("journald {}", target.identifier),
            Self::Otlp(target) => format!("otlp {}", target.endpoint),
        }
    }

    fn check(&self, at: &str) -> Option<FieldError> {
        let (field, checked) = match self {
            Self::Syslog(target) => return target.check(&format!("{at}.syslog")),
            Self::Journald(target) => (
                format!("{at}.journald.identifier"),
                identifier(&target.identifier),
            ),
            Self::Otlp(target) => (format!("{at}.otlp.endpoint"), endpoint(&target.endpoint)),
        };
        checked.err().map(|problem| fault(field, problem))
    }
}

// === impl SyslogTarget ===

impl SyslogTarget {
    /// How it is reached; `None` if that is not valid.
    #[must_use]
    pub fn address(&self) -> Option<SyslogAddress<'_>> {
        let (scheme, rest) = self.address_text().split_once(':')?;
        match scheme {
            "unix" if is_socket_path(rest) => Some(SyslogAddress::Unix(rest)),
            "udp" if is_host_port(rest) => Some(SyslogAddress::Udp(rest)),
            "tcp" if is_host_port(rest) => Some(SyslogAddress::Tcp(rest)),
            _ => None,
        }
    }

    /// Number of the facility; `None` if its name is unknown.
    #[must_use]
    pub fn facility(&self) -> Option<u8> {
        let name = self.facility_text();
        let number = FACILITIES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok()
    }

    fn address_text(&self) -> &str {
        or(&self.address, "unix:/dev/log")
    }

    fn facility_text(&self) -> &str {
        or(&self.facility, "daemon")
    }

    fn check(&self, at: &str) -> Option<FieldError> {
        if self.address.len() > FORWARD_TEXT_BYTES_MAX || self.address().is_none() {
            let problem = "must be unix:/absolute/path, udp:host:port or tcp:host:port";
            return Some(fault(format!("{at}.address"), problem));
        }
        if self.facility().is_none() {
            let names = FACILITIES.join(", ");
            let problem = format!("{:?} is unknown; use one of {names}", self.facility);
            return Some(fault(format!("{at}.facility"), problem));
        }
        let is_printable = self.tag.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_printable || self.tag.len() > FORWARD_TAG_CHARS_MAX {
            let problem = format!(
                "must be at most {FORWARD_TAG_CHARS_MAX} printable ASCII characters without blanks"
            );
            return Some(fault(format!("{at}.tag"), problem));
        }
        None
    }
}

// === free functions ===

fn fault(field: impl Into<String>, problem: impl Into<String>) -> FieldError {
    FieldError {
        field: field.into(),
        problem: problem.into(),
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn is_socket_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= SOCKET_PATH_BYTES_MAX && !path.contains(char::is_control)
}

/// `name:port`, `1.2.3.4:port` or `[::1]:port`; the port is 1 to 65535.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let is_host = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.len() <= 253 && host.bytes().all(is_part)
        }
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && is_number && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn identifier(text: &str) -> Result<(), String> {
    let chars = text.chars().count();
    if chars > FORWARD_TAG_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "must be at most {FORWARD_TAG_CHARS_MAX} characters without control characters"
        ));
    }
    Ok(())
}

fn endpoint(text: &str) -> Result<(), String> {
    let problem = "must be http://host:port or https://host:port, without user, path or query";
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let authority = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let is_valid = authority.is_some_and(|authority| {
        // Without a port the one of the scheme is meant.
        is_host_port(authority) || is_host_port(&format!("{authority}:443"))
    });
    if is_valid && text.len() <= FORWARD_TEXT_BYTES_MAX {
        Ok(())
    } else {
        Err(problem.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syslog(address: &str, facility: &str, tag: &str) -> LogForward {
        LogForward {
            target: ForwardTarget::Syslog(SyslogTarget {
                address: address.into(),
                facility: facility.into(),
                tag: tag.into(),
            }),
            streams: Vec::new(),
        }
    }

    fn otlp(endpoint: &str) -> LogForward {
        LogForward {
            target: ForwardTarget::Otlp(OtlpTarget {
                endpoint: endpoint.into(),
            }),
            streams: Vec::new(),
        }
    }

    fn journald(identifier: &str) -> LogForward {
        LogForward {
            target: ForwardTarget::Journald(JournaldTarget {
                identifier: identifier.into(),
            }),
            streams: Vec::new(),
        }
    }

    #[track_caller]
    fn faulty(forwards: &[LogForward], field: &str) {
        let faults = LogForward::check(forwards);
        let fields: Vec<_> = faults.iter().map(|fault| &*fault.field).collect();
        assert_eq!(fields, [format!("spec.stdio.log_forwards{field}")]);
    }

    #[test]
    fn defaults_are_filled_in() {
        let target = SyslogTarget::default();
        assert_eq!(target.address(), Some(SyslogAddress::Unix("/dev/log")));
        assert_eq!(target.facility(), Some(3));
        let forwards = [syslog("", "", ""), journald(""), otlp("http://otel:4317")];
        assert_eq!(LogForward::check(&forwards), []);
    }

    #[test]
    fn addresses_have_one_of_three_forms() {
        for good in [
            "unix:/run/log",
            "udp:log.example:514",
            "udp:10.0.0.1:1",
            "tcp:[::1]:65535",
        ] {
            assert_eq!(LogForward::check(&[syslog(good, "", "")]), [], "{good}");
        }
        let long = format!("unix:/{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        for bad in [
            "/dev/log",
            "unix:log",
            "unix:",
            "udp:",
            "udp:log",
            "udp::514",
            "tcp:log:0",
            "tcp:log:65536",
            "tcp:log:+1",
            "tcp:::1:514",
            "tcp:[x]:1",
            "tcp:a b:1",
            "tls:log:1",
            "unix:/a\n",
            &long,
        ] {
            faulty(&[syslog(bad, "", "")], "[0].syslog.address");
        }
    }

    #[test]
    fn texts_are_bounded_and_printable() {
        let all = FACILITIES.map(|facility| syslog("", facility, "a"));
        for forward in all {
            assert_eq!(LogForward::check(&[forward]), []);
        }
        let longest = "x".repeat(FORWARD_TAG_CHARS_MAX);
        assert_eq!(
            LogForward::check(&[syslog("", "", &longest), journald(&longest)]),
            []
        );
        let longer = longest + "x";
        faulty(&[syslog("", "DAEMON", "")], "[0].syslog.facility");
        for bad in ["a b", "\u{e9}", "a\n", &longer] {
            faulty(&[syslog("", "", bad)], "[0].syslog.tag");
        }
        for bad in ["a\n", &longer] {
            faulty(&[journald(""), journald(bad)], "[1].journald.identifier");
        }
    }

    #[test]
    fn endpoints_are_urls_without_secrets() {
        for good in ["http://otel:4317", "https://otel", "http://[::1]:4317/"] {
            assert_eq!(LogForward::check(&[otlp(good)]), [], "{good}");
        }
        let long = format!("http://{}", "x".repeat(FORWARD_TEXT_BYTES_MAX));
        for bad in [
            "",
            "otel:4317",
            "http://",
            "ftp://otel",
            "http://user:pw@otel:4317",
            "http://otel/v1/logs",
            "http://otel?x",
            "http://otel:x",
            &long,
        ] {
            faulty(&[otlp(bad)], "[0].otlp.endpoint");
        }
    }

    #[test]
    fn forwards_are_few_and_differ() {
        let distinct = |count| {
            (0..count)
                .map(|n| syslog("", "", &format!("t{n}")))
                .collect()
        };
        let most: Vec<_> = distinct(LOG_FORWARDS_MAX);
        assert_eq!(LogForward::check(&most), []);
        let more: Vec<_> = distinct(LOG_FORWARDS_MAX + 1);
        faulty(&more, "");
        // The same in other words.
        faulty(
            &[syslog("", "", ""), syslog("unix:/dev/log", "daemon", "")],
            "[1]",
        );
        let mut twice = journald("");
        twice.streams = vec![ForwardStream::Stdout, ForwardStream::Stdout];
        faulty(&[twice], "[0].streams");
    }
}
