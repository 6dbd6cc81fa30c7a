//! Each row of the error model that can happen, and the list of reasons.

use std::collections::BTreeSet;

use tonic_types::StatusExt;

use super::*;
use crate::{
    domain::{
        id::{Revision, Uid},
        status::State,
        wait::RunTooOld,
    },
    grpc::convert::Unacceptable,
};

const EPOCH: &str = "e0";

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

fn denied(denied: Denied) -> Refused {
    Refused::Denied {
        name: name("web"),
        denied,
    }
}

/// Checks what every error has, and tells its metadata as `key=value` text.
fn check(status: &Status, code: Code, reason: Reason) -> String {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(reason.code(), code);
    assert!(!status.message().is_empty());
    assert!(
        status.details().len() < 4096,
        "{} bytes",
        status.details().len()
    );
    let details = status.get_error_details();
    let info = details.error_info().expect("ErrorInfo is always there");
    assert_eq!(info.domain, DOMAIN);
    assert_eq!(info.reason, reason.as_str());
    let pairs: BTreeSet<_> = info
        .metadata
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    pairs.into_iter().collect::<Vec<_>>().join(" ")
}

fn row(error: &Refused, reason: Reason, metadata: &str) -> ErrorDetails {
    let status = refused(error, EPOCH);
    assert_eq!(check(&status, reason.code(), reason), metadata);
    status.get_error_details()
}

#[test]
fn a_process_that_is_not_there_or_is_already() {
    let details = row(&Refused::NotFound(name("web")), Reason::ProcessNotFound, "");
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (&*resource.resource_type, &*resource.resource_name),
        ("process", "web")
    );
    let uid = Uid::from_bytes([1; 16]);
    let taken = Refused::Exists {
        name: name("web"),
        uid,
    };
    let details = row(&taken, Reason::ProcessExists, &format!("uid={uid}"));
    assert_eq!(details.resource_info().unwrap().resource_name, "web");
}

#[test]
fn a_guard_tells_the_current_value() {
    let guard = denied(Denied::Precondition {
        field: "version",
        expected: "3".into(),
        actual: "5".into(),
    });
    let details = row(&guard, Reason::PreconditionMismatch, "version=5");
    let violation = &details.precondition_failure().unwrap().violations[0];
    assert_eq!(
        (&*violation.r#type, &*violation.subject),
        ("VERSION", "web")
    );
}

#[test]
fn a_state_that_does_not_allow_it_is_a_failed_precondition() {
    let table = [
        (
            denied(Denied::NotRunning(State::Stopped)),
            Reason::NotRunning,
            "state=STOPPED",
        ),
        (denied(Denied::Deleting), Reason::Deleting, ""),
        (
            denied(Denied::StillRunning(State::Running)),
            Reason::StillRunning,
            "state=RUNNING",
        ),
        (
            denied(Denied::Survivors(vec![7, 8])),
            Reason::Survivors,
            "pids=7, 8",
        ),
        (Refused::NoCgroup(name("web")), Reason::NoCgroup, ""),
        (
            Refused::StopFailed {
                name: name("web"),
                pids: vec![9],
            },
            Reason::StopFailed,
            "pids=9",
        ),
        (
            Refused::Signal {
                name: name("web"),
                number: 15,
                errno: 1,
            },
            Reason::SignalRefused,
            "errno=1 signal=15",
        ),
    ];
    for (error, reason, metadata) in table {
        let details = row(&error, reason, metadata);
        let violation = &details.precondition_failure().unwrap().violations[0];
        assert_eq!(
            (&*violation.r#type, &*violation.subject),
            (reason.as_str(), "web")
        );
    }
}

#[test]
fn a_graph_that_cannot_stand_names_its_edges() {
    let cycle = GraphError::Cycle(vec![name("a"), name("b"), name("a")]);
    let details = row(&cycle.into(), Reason::DependencyCycle, "");
    let violations = &details.precondition_failure().unwrap().violations;
    let edges: Vec<_> = violations.iter().map(|v| &*v.subject).collect();
    assert_eq!(edges, ["a -> b", "b -> a"]);
    let missing = GraphError::Missing {
        process: name("a"),
        missing: name("b"),
    };
    let details = row(&missing.into(), Reason::DependencyMissing, "");
    assert_eq!(
        details.precondition_failure().unwrap().violations[0].subject,
        "a -> b"
    );
}

#[test]
fn positions_that_are_gone_or_not_yet_there() {
    let old = RunTooOld {
        run_id: 1,
        oldest: 4,
    };
    row(&old.into(), Reason::RunTooOld, "oldest=4");
    let future = Refused::InFuture {
        asked: Revision::new(9),
        head: Revision::new(7),
    };
    row(
        &future,
        Reason::RevisionInFuture,
        "epoch=e0 head_revision=7",
    );
}

#[test]
fn shortages_say_when_to_try_again() {
    let quota = Refused::Quota {
        limit: "processes_max",
        max: 3,
    };
    let details = row(&quota, Reason::QuotaProcesses, "limit=processes_max max=3");
    assert_eq!(
        details.quota_failure().unwrap().violations[0].subject,
        "processes_max"
    );
    for (error, reason, metadata) in [
        (quota, Reason::QuotaProcesses, "limit=processes_max max=3"),
        (
            Refused::Overloaded(name("web")),
            Reason::Overloaded,
            "name=web",
        ),
        (Refused::ShuttingDown, Reason::ShuttingDown, ""),
    ] {
        let details = row(&error, reason, metadata);
        assert!(details.retry_info().unwrap().retry_delay.is_some());
        let status = refused(&error, EPOCH);
        assert!(status.metadata().contains_key(PUSHBACK), "{error}");
    }
}

#[test]
fn faulty_fields_and_absent_features() {
    let faults: Vec<_> = (0..200)
        .map(|i| FieldError {
            field: format!("processes[{i}].spec.command"),
            problem: "is required ".repeat(40),
        })
        .collect();
    let status = unacceptable(&Unacceptable::Fields(faults.clone()));
    check(&status, Code::InvalidArgument, Reason::FieldInvalid);
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, faults[0].field);
    assert!(status.message().len() <= 400);

    let status = unacceptable(&Unacceptable::missing("hooks", "spec.hooks"));
    let metadata = check(&status, Code::Unimplemented, Reason::CapabilityMissing);
    assert_eq!(metadata, "capability=hooks");
    assert!(status.message().contains("spec.hooks"));
}

#[test]
fn the_rest_of_the_table() {
    let status = list_expired();
    check(&status, Code::Aborted, Reason::ListExpired);
    let status = request_id_reused(Some(12));
    let metadata = check(&status, Code::InvalidArgument, Reason::RequestIdReused);
    assert_eq!(metadata, "first_revision=12");
    let status = mismatch("web", "epoch", "a", "b");
    assert_eq!(
        check(&status, Code::Aborted, Reason::PreconditionMismatch),
        "epoch=b"
    );
    let status = response_too_large(5);
    assert_eq!(
        check(&status, Code::ResourceExhausted, Reason::ResponseTooLarge),
        "limit=5"
    );
    check(&deadline(), Code::DeadlineExceeded, Reason::DeadlinePassed);
    let status = internal("some-id");
    check(&status, Code::Internal, Reason::Internal);
    assert_eq!(
        status
            .get_error_details()
            .request_info()
            .unwrap()
            .request_id,
        "some-id"
    );
    let many: Vec<_> = (0..1000).map(|i| format!("process-{i}")).collect();
    let status = not_found(many.iter().map(String::as_str));
    check(&status, Code::NotFound, Reason::ProcessNotFound);
    assert!(status.message().contains("and 994 more"));
}

#[test]
fn every_reason_is_documented_with_its_code() {
    let table = include_str!("../../../docs/errors.md");
    let mut documented = BTreeSet::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        documented.insert((cells[1].trim_matches('`').to_owned(), cells[2].to_owned()));
    }
    let known: BTreeSet<_> = Reason::ALL
        .iter()
        .map(|reason| {
            let code = format!("{:?}", reason.code());
            let mut upper = String::new();
            for (i, c) in code.char_indices() {
                if i > 0 && c.is_ascii_uppercase() {
                    upper.push('_');
                }
                upper.push(c.to_ascii_uppercase());
            }
            (reason.as_str().to_owned(), upper)
        })
        .collect();
    assert_eq!(documented, known, "docs/errors.md and Reason differ");
}
