//! From the request to the subscription's options.

use std::time::Duration;

use tonic::Status;

use super::super::{
    proto, selector,
    status::{self, Reason},
    stream::{HEARTBEAT_DEFAULT, HEARTBEAT_MAX, HEARTBEAT_MIN},
};
use crate::{
    domain::{id::Revision, spec::FieldError},
    registry::Mode,
    watch::{Options, Policy, Token},
};

/// Bytes of a token's texts; ours are shorter.
const TOKEN_TEXT_MAX: usize = 256;
/// What a caller may see: everything, as long as there are no roles.
const AUTHORIZATION: &str = "all";

/// Checks every field; `mask` is the canonical text of the read mask.
pub(super) fn options(
    request: &proto::WatchProcessesRequest,
    mask: &str,
    max_age: Duration,
) -> Result<Options, Status> {
    let filter = selector::filter(request.selector.as_ref())?;
    let mut problems = Vec::new();
    let mode = mode(request.mode, &mut problems);
    let policy = policy(request.reset_policy, &mut problems);
    let resume = match &request.resume_token {
        Some(token) => token_of(token, &mut problems),
        None => None,
    };
    let heartbeat = heartbeat(request.heartbeat_interval.as_ref());
    let pace = match &request.min_update_interval {
        None => Some(Duration::ZERO),
        Some(interval) => duration(interval),
    };
    if pace.is_none() {
        problems.push(FieldError {
            field: "min_update_interval".into(),
            problem: "is negative or out of range; give 0 or more".into(),
        });
    }
    if !problems.is_empty() {
        return Err(status::invalid(Reason::FieldInvalid, &problems));
    }
    Ok(Options {
        scope: scope(&filter.to_string(), mask),
        filter,
        mode,
        policy,
        heartbeat,
        // Beyond the heartbeat it would only delay what progress could tell.
        min_update_interval: pace.unwrap_or_default().min(heartbeat),
        skip_snapshot: request.skip_snapshot,
        resume,
        max_age,
    })
}

fn mode(number: i32, problems: &mut Vec<FieldError>) -> Mode {
    match proto::WatchMode::try_from(number) {
        Ok(proto::WatchMode::EveryChange) => Mode::EveryChange,
        Ok(proto::WatchMode::Unspecified | proto::WatchMode::LatestState) => Mode::LatestState,
        Err(_) => {
            problems.push(FieldError {
                field: "mode".into(),
                problem: format!("{number} is no mode; see the enum WatchMode"),
            });
            Mode::LatestState
        }
    }
}

fn policy(number: i32, problems: &mut Vec<FieldError>) -> Policy {
    match proto::ResetPolicy::try_from(number) {
        Ok(proto::ResetPolicy::Fail) => Policy::Fail,
        Ok(proto::ResetPolicy::Unspecified | proto::ResetPolicy::Resnapshot) => Policy::Resnapshot,
        Err(_) => {
            problems.push(FieldError {
                field: "reset_policy".into(),
                problem: format!("{number} is no policy; see the enum ResetPolicy"),
            });
            Policy::Resnapshot
        }
    }
}

fn token_of(token: &proto::ResumeToken, problems: &mut Vec<FieldError>) -> Option<Token> {
    if token.epoch.is_empty() {
        problems.push(FieldError {
            field: "resume_token.epoch".into(),
            problem: "is required; take it from WatchOpened or a response header".into(),
        });
    }
    for (field, text) in [("epoch", &token.epoch), ("scope", &token.scope)] {
        if text.len() > TOKEN_TEXT_MAX {
            problems.push(FieldError {
                field: format!("resume_token.{field}"),
                problem: format!("has {} bytes; hand back what was given", text.len()),
            });
        }
    }
    Some(Token {
        epoch: token.epoch.as_str().into(),
        revision: Revision::new(token.revision),
        scope: token.scope.as_str().into(),
    })
}

/// Clamped, so that a watchdog can rely on it whatever was asked for.
fn heartbeat(asked: Option<&prost_types::Duration>) -> Duration {
    match asked {
        None => HEARTBEAT_DEFAULT,
        Some(d) if d.seconds < 0 || d.nanos < 0 => HEARTBEAT_MIN,
        Some(d) => duration(d)
            .unwrap_or(HEARTBEAT_MAX)
            .clamp(HEARTBEAT_MIN, HEARTBEAT_MAX),
    }
}

/// `None` if it is negative or malformed.
fn duration(d: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(d.nanos).ok().filter(|n| *n < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(d.seconds).ok()?, nanos))
}

/// Digest of what decides which events a stream has. Stable over builds and
/// restarts; not a secret, and lying about it harms only the liar.
fn scope(filter: &str, mask: &str) -> Box<str> {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    // FNV-1a, 128 bits; the separator occurs in none of the texts.
    let mut digest = OFFSET;
    for text in [filter, mask, AUTHORIZATION] {
        for byte in text.bytes().chain([0]) {
            digest = (digest ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
    format!("{digest:032x}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> proto::WatchProcessesRequest {
        proto::WatchProcessesRequest::default()
    }

    fn parse(request: &proto::WatchProcessesRequest) -> Result<Options, Status> {
        options(request, "", Duration::from_secs(1))
    }

    #[test]
    fn heartbeat_is_clamped() {
        let clamped = |seconds, nanos| {
            let mut request = request();
            request.heartbeat_interval = Some(prost_types::Duration { seconds, nanos });
            parse(&request).unwrap().heartbeat
        };
        assert_eq!(parse(&request()).unwrap().heartbeat, HEARTBEAT_DEFAULT);
        for (seconds, nanos, expected) in [
            (0, 0, 1000),
            (-5, 0, 1000),
            (2, 500_000_000, 2500),
            (3600, 0, 60_000),
        ] {
            assert_eq!(clamped(seconds, nanos), Duration::from_millis(expected));
        }
        assert_eq!(clamped(i64::MAX, 0), HEARTBEAT_MAX);
    }

    #[test]
    fn faulty_fields_are_named() {
        let mut request = request();
        request.mode = 99;
        request.reset_policy = -1;
        request.resume_token = Some(proto::ResumeToken::default());
        request.min_update_interval = Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        });
        let status = parse(&request).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let details = tonic_types::StatusExt::get_error_details(&status);
        let fields: Vec<_> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(
            fields,
            [
                "mode",
                "reset_policy",
                "resume_token.epoch",
                "min_update_interval"
            ]
        );
    }

    #[test]
    fn scope_tells_selector_and_mask_apart_but_not_their_order() {
        let scoped = |names: &[&str], mask: &str| {
            let mut request = request();
            request.selector = Some(proto::ProcessSelector {
                names: names.iter().map(|n| (*n).into()).collect(),
                ..Default::default()
            });
            options(&request, mask, Duration::ZERO).unwrap().scope
        };
        assert_eq!(scoped(&["a", "b"], "x"), scoped(&["b", "a", "b"], "x"));
        assert_ne!(scoped(&["a"], "x"), scoped(&["b"], "x"));
        assert_ne!(scoped(&["a"], "x"), scoped(&["a"], "y"));
        assert_ne!(scoped(&[], ""), scoped(&["a"], ""));
    }
}
