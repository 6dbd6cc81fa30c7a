//! Calls against logs on disk and a registry that is a list.

mod harness;

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use proto::tail_logs_response::Payload;
use tonic::Code;
use tonic_types::StatusExt;

use self::harness::{
    Child, Harness, at, entries, follow, next, one_name, payload, position, synced,
};
use super::*;
use crate::domain::time::Timestamp;

/// Makes a request of a default one.
type Change = fn(&mut proto::TailLogsRequest);

#[tokio::test]
async fn bad_requests_name_the_field() {
    let bad: [(&str, Change); 12] = [
        ("streams", |r| r.streams = vec![0]),
        ("streams", |r| r.streams = vec![99]),
        ("backlog_entries", |r| r.backlog_entries = -1),
        ("run_id", |r| r.run_id = -1),
        ("run_id", |r| r.run_id = 1),
        ("run_id", |r| {
            r.run_id = 1;
            let mut selector = one_name("web");
            selector.groups.push("g".into());
            r.selector = Some(selector);
        }),
        ("pattern", |r| r.pattern = "(".into()),
        ("pattern", |r| r.pattern = "x".repeat(5000)),
        ("pattern", |r| r.pattern = "(a{1000}){1000}".into()),
        ("since_time", |r| {
            r.since_time = Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            });
        }),
        ("after_sequences", |r| {
            r.after_sequences.insert("web".into(), -1);
        }),
        ("resume_positions", |r| {
            r.resume_positions.push(proto::LogPosition::default());
        }),
    ];
    let harness = Harness::new();
    for (field, spoil) in bad {
        let mut request = proto::TailLogsRequest::default();
        spoil(&mut request);
        let status = harness.try_tail(request.clone()).err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (&*info.reason, &*info.domain),
            ("FIELD_INVALID", "procession.v1")
        );
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field, "{request:?}");
    }
    let mut request = follow();
    request.selector = Some(proto::ProcessSelector {
        label_selector: "!".into(),
        ..Default::default()
    });
    assert!(harness.try_tail(request).is_err(), "what resolve refuses");
}

#[tokio::test]
async fn without_follow_the_filters_decide_and_the_stream_ends() {
    static CLOCK: AtomicI64 = AtomicI64::new(0);
    let harness = Harness::with_clock(|| Timestamp(CLOCK.fetch_add(10, Ordering::Relaxed)));
    let mut child = harness.child("web", 1);
    // Captured at 0, 10, 20, ...
    harness.print(&mut child, &["one", "err:two", "three"]);
    child.log.begin_run(2);
    harness.print(&mut child, &["four", "err:five", "six"]);
    let all = ["one", "err:two", "three", "four", "err:five", "six"];
    let cases: &[(Change, &[&str])] = &[
        (|_| {}, &all),
        (|r| r.backlog_entries = 2, &all[4..]),
        (|r| r.backlog_entries = 99, &all),
        (|r| r.streams = vec![2], &["err:two", "err:five"]),
        (|r| r.streams = vec![2, 1], &all),
        (
            |r| (r.streams, r.backlog_entries) = (vec![2], 1),
            &["err:five"],
        ),
        (|r| r.pattern = "^[a-z]{3}$".into(), &["one", "six"]),
        (
            |r| (r.pattern, r.backlog_entries) = ("e$".into(), 2),
            &["three", "err:five"],
        ),
        (
            |r| (r.run_id, r.selector) = (2, Some(one_name("web"))),
            &all[3..],
        ),
        (|r| r.since_time = at(20), &all[2..]),
        (
            |r| (r.since_time, r.until_time) = (at(11), at(30)),
            &all[2..3],
        ),
        (
            |r| r.after_sequences = [("web".into(), 4)].into(),
            &all[4..],
        ),
        (|r| r.resume_positions = vec![position(1, 5)], &all[5..]),
        (
            |r| r.resume_positions = vec![position(9, 900), position(1, 5)],
            &all[5..],
        ),
        (|r| r.resume_positions = vec![position(9, 5)], &all),
        (|r| r.selector = Some(one_name("other")), &[]),
    ];
    for (change, want) in cases {
        let mut request = proto::TailLogsRequest::default();
        change(&mut request);
        assert_eq!(harness.lines(request.clone()).await, *want, "{request:?}");
    }
}

#[tokio::test]
async fn entries_say_whose_they_are() {
    let harness = Harness::new();
    let mut child = harness.child("web", 1);
    harness.print(&mut child, &["err:x"]);
    let mut call = harness.tail(proto::TailLogsRequest::default());
    let Payload::Entries(entries) = payload(&mut call).await else {
        panic!("no entries");
    };
    let want = proto::LogEntry {
        name: "web".into(),
        uid: child.uid.to_string(),
        sequence: 1,
        run_id: 1,
        stream: 2,
        log_time: at(1),
        data: "err:x".into(),
        ..Default::default()
    };
    assert_eq!(entries.entries, [want]);
    assert!(next(&mut call).await.is_none());
}

#[tokio::test]
async fn history_of_several_processes_is_merged_by_time() {
    static CLOCK: AtomicI64 = AtomicI64::new(0);
    let harness = Harness::with_clock(|| Timestamp(CLOCK.fetch_add(1, Ordering::Relaxed)));
    let mut children: Vec<Child> = (1..=5)
        .map(|number| harness.child(&format!("p{number}"), number))
        .collect();
    let mut want = Vec::new();
    for number in 0..500 {
        let line = format!("{number:04}");
        harness.print(&mut children[number * 7 % 5], &[&line]);
        want.push(line);
    }
    assert_eq!(harness.lines(proto::TailLogsRequest::default()).await, want);
}

#[tokio::test]
async fn follow_gives_history_synced_and_what_is_new() {
    let harness = Harness::new();
    let mut child = harness.child("web", 1);
    harness.print(&mut child, &["old", "last"]);
    let mut tailing = harness.tail(proto::TailLogsRequest {
        backlog_entries: 1,
        ..follow()
    });
    let mut fresh = harness.tail(follow());
    // Written after the call and before its stream is read: new.
    harness.print(&mut child, &["new"]);
    assert_eq!(entries(&mut tailing, 1).await, ["last"]);
    synced(&mut tailing).await;
    synced(&mut fresh).await;
    for call in [&mut tailing, &mut fresh] {
        assert_eq!(entries(call, 1).await, ["new"]);
    }
    harness.print(&mut child, &["newer"]);
    for call in [&mut tailing, &mut fresh] {
        assert_eq!(entries(call, 1).await, ["newer"]);
    }
}

#[tokio::test]
async fn processes_that_appear_later_are_followed_from_their_first_entry() {
    let harness = Harness::new();
    let mut first = harness.child("web", 1);
    harness.print(&mut first, &["before"]);
    let mut call = harness.tail(follow());
    synced(&mut call).await;
    // Created, listed before it has output.
    harness.list("new", Uid::from_bytes([2; 16]));
    let mut second = harness.run(2);
    harness.print(&mut second, &["hello"]);
    assert_eq!(entries(&mut call, 1).await, ["hello"]);
    // Re-created under the same name, after it printed.
    let mut third = harness.run(3);
    harness.print(&mut third, &["again"]);
    harness.logs.remove(first.uid);
    harness.list("web", third.uid);
    assert_eq!(entries(&mut call, 1).await, ["again"]);
}

#[tokio::test]
async fn a_process_that_matches_again_goes_on_where_it_stood() {
    let harness = Harness::new();
    let mut child = harness.child("web", 1);
    let mut other = harness.child("other", 2);
    let mut call = harness.tail(follow());
    synced(&mut call).await;
    harness.print(&mut child, &["one"]);
    assert_eq!(entries(&mut call, 1).await, ["one"]);
    harness.unlist("web");
    // The other one is resolved anew at the same time, which shows when.
    let mut late = harness.child("late", 3);
    harness.print(&mut late, &["late"]);
    assert_eq!(entries(&mut call, 1).await, ["late"]);
    harness.print(&mut child, &["unseen"]);
    harness.print(&mut other, &["other"]);
    assert_eq!(entries(&mut call, 1).await, ["other"]);
    harness.list("web", child.uid);
    assert_eq!(entries(&mut call, 1).await, ["unseen"]);
    // Deleted: its last words come, then nothing of it is held.
    harness.print(&mut child, &["bye"]);
    harness.unlist("web");
    assert_eq!(entries(&mut call, 1).await, ["bye"]);
}

#[tokio::test]
async fn a_slow_call_gets_a_gap_and_messages_are_bounded() {
    let harness = Harness::new();
    let mut child = harness.child("web", 1);
    let mut call = harness.tail(follow());
    synced(&mut call).await;
    for segment in 1..=5 {
        for _ in 0..100 {
            child.log.out("x".repeat(9_999) + "\n");
        }
        child.log.rotate();
        if segment < 4 {
            child.log.remove_segment(segment);
        }
    }
    let Payload::Gap(gap) = payload(&mut call).await else {
        panic!("no gap");
    };
    assert_eq!((gap.first_sequence, gap.last_sequence), (1, 300));
    assert_eq!(gap.reason(), proto::LogGapReason::Trimmed);
    let mut next_sequence = gap.last_sequence + 1;
    while next_sequence <= 500 {
        let message = next(&mut call).await.unwrap().unwrap();
        assert!(prost::Message::encoded_len(&message) <= message::MESSAGE_BYTES_MAX);
        let Some(Payload::Entries(entries)) = message.payload else {
            panic!("only one gap");
        };
        for entry in entries.entries {
            assert_eq!(entry.sequence, next_sequence);
            next_sequence += 1;
        }
    }
}

#[tokio::test]
async fn a_quiet_call_has_a_heartbeat_even_if_all_is_filtered_out() {
    let harness = Harness::new();
    let mut child = harness.child("web", 1);
    let mut call = harness.tail(proto::TailLogsRequest {
        pattern: "never".into(),
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 1,
        }),
        ..follow()
    });
    synced(&mut call).await;
    let start = std::time::Instant::now();
    let writer = std::thread::spawn(move || {
        for _ in 0..5000 {
            child.log.out("busy\n");
            std::thread::yield_now();
        }
    });
    let payload = payload(&mut call).await;
    assert!(matches!(payload, Payload::Progress(_)), "{payload:?}");
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "clamped to 1 s"
    );
    writer.join().unwrap();
}

#[tokio::test]
async fn shutdown_says_so_and_until_ends_quietly() {
    let harness = Harness::new();
    let _child = harness.child("web", 1);
    let mut past = harness.tail(proto::TailLogsRequest {
        until_time: at(5),
        ..follow()
    });
    synced(&mut past).await;
    assert!(next(&mut past).await.is_none());

    let mut call = harness.tail(follow());
    synced(&mut call).await;
    harness.shutdown.cancel();
    let Payload::Closing(closing) = payload(&mut call).await else {
        panic!("no closing");
    };
    assert_eq!(closing.reason(), proto::CloseReason::Shutdown);
    let status = next(&mut call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "SHUTTING_DOWN");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    assert!(next(&mut call).await.is_none());
}

#[tokio::test]
async fn the_later_pieces_of_a_matching_line_follow() {
    let harness = Harness::new();
    let mut child = harness.child("web", 1);
    let mut line = b"key ".to_vec();
    line.resize(150_000, b'x');
    line.push(b'\n');
    child.log.out(line);
    let request = proto::TailLogsRequest {
        pattern: "^key".into(),
        ..Default::default()
    };
    let got = harness.lines(request).await;
    assert_eq!(got.iter().map(String::len).sum::<usize>(), 150_000);
}

#[tokio::test]
async fn matching_lines_are_found_however_far_back_they_are() {
    let harness = Harness::new();
    let mut child = harness.child("web", 1);
    for block in 0..20 {
        child.log.err(format!("rare {block}, "));
        child.log.out("y\n");
        child.log.out(("x".repeat(99) + "\n").repeat(1000));
        child.log.err("at its end\n");
        if block % 3 == 0 {
            child.log.rotate();
        }
    }
    for (count, first) in [(1, 19), (5, 15), (19, 1), (20, 0), (99, 0)] {
        let request = proto::TailLogsRequest {
            pattern: "rare".into(),
            backlog_entries: count,
            ..Default::default()
        };
        let want: Vec<String> = (first..20)
            .map(|block| format!("rare {block}, at its end"))
            .collect();
        assert_eq!(harness.lines(request).await, want, "{count} back");
    }
}
