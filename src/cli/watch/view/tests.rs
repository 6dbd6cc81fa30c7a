//! The chain is proven and the view follows.

use super::*;
use crate::grpc::proto::{
    ProcessEvent, ProcessEvents, ResumeToken, SnapshotPart, WatchOpened, WatchProgress, WatchReset,
    WatchSynced,
};

fn process(name: &str, uid: &str, version: i64) -> Process {
    Process {
        name: name.into(),
        uid: uid.into(),
        version,
        ..Default::default()
    }
}

fn message(from: i64, to: i64, payload: Payload) -> WatchProcessesResponse {
    WatchProcessesResponse {
        from_revision: from,
        to_revision: to,
        payload: Some(payload),
        ..Default::default()
    }
}

fn opened(at: i64, resumed: bool, epoch: &str) -> WatchProcessesResponse {
    let opened = WatchOpened {
        epoch: epoch.into(),
        scope: "s".into(),
        resumed,
        ..Default::default()
    };
    message(at, at, Payload::Opened(opened))
}

fn part(processes: Vec<Process>) -> WatchProcessesResponse {
    message(0, 0, Payload::Snapshot(SnapshotPart { processes }))
}

fn synced(at: i64) -> WatchProcessesResponse {
    message(0, at, Payload::Synced(WatchSynced::default()))
}

fn progress(from: i64, to: i64) -> WatchProcessesResponse {
    message(from, to, Payload::Progress(WatchProgress::default()))
}

fn events(from: i64, to: i64, events: Vec<ProcessEvent>) -> WatchProcessesResponse {
    message(from, to, Payload::Events(ProcessEvents { events }))
}

fn event(kind: ProcessEventKind, revision: i64, process: Process) -> ProcessEvent {
    ProcessEvent {
        kind: kind.into(),
        revision,
        process: Some(process),
        ..Default::default()
    }
}

fn changed(revision: i64, process: Process) -> ProcessEvent {
    event(ProcessEventKind::Changed, revision, process)
}

/// A view that is complete at r5 with `a` and `b`.
fn view() -> View {
    let mut view = View::default();
    view.accept(&opened(0, false, "e1")).unwrap();
    view.accept(&part(vec![process("a", "ua", 1)])).unwrap();
    view.accept(&progress(0, 0)).unwrap();
    view.accept(&part(vec![process("b", "ub", 1)])).unwrap();
    let news = view.accept(&synced(5)).unwrap();
    assert!(
        matches!(&news[..], [News::Found(a), News::Found(b)] if a.name == "a" && b.name == "b")
    );
    view
}

fn names(view: &View) -> Vec<&str> {
    view.processes()
        .map(|process| process.name.as_str())
        .collect()
}

#[test]
fn events_and_progress_move_the_token() {
    let mut view = view();
    let news = view
        .accept(&events(5, 7, vec![changed(6, process("a", "ua", 2))]))
        .unwrap();
    assert!(
        matches!(&news[..], [News::Event { old: Some(old), new, .. }]
        if old.version == 1 && new.version == 2)
    );
    view.accept(&progress(7, 9)).unwrap();
    let token = ResumeToken {
        epoch: "e1".into(),
        revision: 9,
        scope: "s".into(),
    };
    assert_eq!(view.token(), Some(token));
}

#[test]
fn every_break_of_the_contract_is_found() {
    let ok = || changed(6, process("a", "ua", 2));
    let cases: Vec<(WatchProcessesResponse, Broken)> = vec![
        (
            progress(6, 7),
            Broken::Chain {
                expected: 5,
                got: 6,
            },
        ),
        (
            progress(4, 7),
            Broken::Chain {
                expected: 5,
                got: 4,
            },
        ),
        (progress(5, 4), Broken::Backwards { from: 5, to: 4 }),
        (
            events(5, 6, vec![changed(7, process("a", "ua", 2))]),
            Broken::Outside {
                revision: 7,
                from: 5,
                to: 6,
            },
        ),
        (
            events(5, 8, vec![ok(), ok()]),
            Broken::Outside {
                revision: 6,
                from: 6,
                to: 8,
            },
        ),
        (
            events(
                5,
                6,
                vec![ProcessEvent {
                    process: None,
                    ..ok()
                }],
            ),
            Broken::NoProcess,
        ),
        (
            message(5, 5, Payload::Snapshot(SnapshotPart::default())),
            Broken::OutOfOrder("snapshot"),
        ),
        (
            message(5, 6, Payload::Synced(WatchSynced::default())),
            Broken::OutOfOrder("synced"),
        ),
        (opened(5, true, "e1"), Broken::OutOfOrder("second opened")),
    ];
    for (message, broken) in cases {
        let mut view = view();
        assert_eq!(view.accept(&message), Err(broken));
        assert_eq!(view.revision(), Some(5), "as before");
        assert_eq!(names(&view), ["a", "b"]);
    }
    assert_eq!(
        View::default().accept(&progress(0, 0)),
        Err(Broken::OutOfOrder("first"))
    );
    assert_eq!(
        View::default().accept(&opened(3, true, "e")),
        Err(Broken::OutOfOrder("resumed"))
    );
}

#[test]
fn events_before_the_snapshot_is_complete_are_refused() {
    let mut view = View::default();
    view.accept(&opened(0, false, "e1")).unwrap();
    let early = events(0, 6, vec![changed(6, process("a", "ua", 2))]);
    assert_eq!(view.accept(&early), Err(Broken::OutOfOrder("events")));
}

#[test]
fn a_resumed_stream_begins_where_the_token_was() {
    let mut view = view();
    view.token();
    view.accept(&opened(5, true, "e2")).unwrap();
    view.accept(&progress(5, 6)).unwrap();
    let token = view.token().unwrap();
    assert_eq!(
        (token.epoch.as_str(), token.revision),
        ("e2", 6),
        "the epoch goes on"
    );

    view.token();
    let elsewhere = view.accept(&opened(8, true, "e2"));
    assert_eq!(
        elsewhere,
        Err(Broken::Chain {
            expected: 6,
            got: 8
        })
    );
}

#[test]
fn a_reset_tells_the_differences_only() {
    let mut view = view();
    let reset = WatchReset {
        epoch: "e9".into(),
        reason: ResetReason::EpochChanged.into(),
        ..Default::default()
    };
    let news = view.accept(&message(5, 0, Payload::Reset(reset))).unwrap();
    assert_eq!(news, [News::Reset(ResetReason::EpochChanged)]);
    assert_eq!(
        names(&view),
        ["a", "b"],
        "the old view stays until the new one is whole"
    );
    view.accept(&part(vec![process("a", "ua", 1), process("c", "uc", 1)]))
        .unwrap();
    let news = view.accept(&synced(2)).unwrap();
    assert!(matches!(&news[..], [
        News::Resynced { old: None, new: c, gone: false },
        News::Resynced { old: None, new: b, gone: true },
    ] if c.name == "c" && b.name == "b"));
    assert_eq!(names(&view), ["a", "c"]);
    assert_eq!(view.token().map(|token| token.epoch), Some("e9".into()));
}

#[test]
fn no_token_while_a_snapshot_is_coming_in() {
    let mut view = view();
    let reset = message(5, 0, Payload::Reset(WatchReset::default()));
    view.accept(&reset).unwrap();
    view.accept(&part(vec![])).unwrap();
    assert_eq!(view.token(), None);
    assert_eq!(names(&view), ["a", "b"]);
}

#[test]
fn removals_are_for_what_is_held() {
    let mut view = view();
    let gone = vec![
        event(ProcessEventKind::Left, 6, process("never-held", "ux", 4)),
        event(ProcessEventKind::Deleted, 7, process("a", "another uid", 4)),
        event(ProcessEventKind::Deleted, 8, process("b", "ub", 2)),
    ];
    let news = view.accept(&events(5, 8, gone)).unwrap();
    assert!(matches!(&news[..], [News::Event { new, .. }] if new.name == "b"));
    assert_eq!(names(&view), ["a"]);
}

#[test]
fn a_version_that_is_known_is_not_told_again() {
    let mut view = view();
    let again = vec![
        changed(6, process("a", "ua", 1)),
        changed(7, process("a", "new uid", 1)),
    ];
    let news = view.accept(&events(5, 7, again)).unwrap();
    assert!(matches!(&news[..], [News::Event { new, .. }] if new.uid == "new uid"));
}
