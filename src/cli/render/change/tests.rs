//! Lines of changes.

use super::*;
use crate::grpc::proto::{
    EventCause, ExitStatus, ProcessEvent, ProcessState, exit_status::Outcome,
};

fn process(state: ProcessState, version: i64) -> Process {
    Process {
        name: "web".into(),
        uid: "u".into(),
        version,
        revision: 10 + version,
        generation: 1,
        status: Some(ProcessStatus {
            state: state.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn event(kind: ProcessEventKind) -> ProcessEvent {
    ProcessEvent {
        kind: kind.into(),
        revision: 17,
        ..Default::default()
    }
}

fn told(event: &ProcessEvent, old: Option<&Process>, new: &Process) -> String {
    line(Change::Event(event), old, new, Palette::Plain)
}

#[test]
fn a_line_tells_what_is_different() {
    let old = process(ProcessState::Starting, 1);
    let mut new = process(ProcessState::Backoff, 2);
    new.generation = 2;
    let status = new.status.as_mut().unwrap();
    (status.run_id, status.pid, status.restart_count) = (3, 42, 1);
    status.readiness = Readiness::Ready.into();
    status.reason = "EXIT_CODE".into();
    status.notify_status = "loading\x1b[2J".into();
    status.last_exit = Some(ExitStatus {
        outcome: Some(Outcome::ExitCode(1)),
        ..Default::default()
    });
    let mut event = event(ProcessEventKind::Changed);
    event.skipped_versions = 2;
    event.cause = Some(EventCause {
        origin: "API".into(),
        principal: "uid:1000".into(),
        ..Default::default()
    });
    assert_eq!(
        told(&event, Some(&old), &new),
        "r17  web  STARTING -> BACKOFF  ready  pid 42  run 3  restarts 1  exit 1  EXIT_CODE  \
         \"loading\\x1b[2J\"  configuration 1 -> 2  [2 changes merged]  (API uid:1000)"
    );
}

#[test]
fn removal_and_leaving_are_not_the_same() {
    let known = process(ProcessState::Running, 3);
    let deleted = event(ProcessEventKind::Deleted);
    assert_eq!(told(&deleted, Some(&known), &known), "r17  web  deleted");
    let left = event(ProcessEventKind::Left);
    assert_eq!(
        told(&left, Some(&known), &known),
        "r17  web  left the selection"
    );
}

#[test]
fn a_new_incarnation_is_not_compared_with_the_old_one() {
    let old = process(ProcessState::Failed, 9);
    let mut new = process(ProcessState::Pending, 1);
    new.uid = "v".into();
    assert_eq!(
        told(&event(ProcessEventKind::Added), Some(&old), &new),
        "r17  web  PENDING"
    );
}

#[test]
fn what_a_snapshot_tells() {
    let process = process(ProcessState::Running, 3);
    assert_eq!(
        line(Change::Found, None, &process, Palette::Plain),
        "r13  web  RUNNING"
    );
    assert_eq!(
        line(
            Change::Resynced { gone: true },
            None,
            &process,
            Palette::Plain
        ),
        "r13  web  deleted  (found after reset)"
    );
}
