//! Streams that outlive their connections: nothing shown twice, nothing left out,
//! and every gap told.

use procession::{
    cli::ExitCode,
    grpc::proto::{
        self, OutputStream, ProcessEventKind, ProcessState, ResetReason, WatchMode,
        tail_logs_response::Payload as Log, watch_processes_response::Payload,
    },
};
use tonic::Status;

use super::fake::{Fake, Setup, ago, listed, process};

/// Ends a watch for good: the script is over.
const OVER: ExitCode = ExitCode::Failed;

fn cut() -> Option<Status> {
    Some(Status::unavailable("cut by the test"))
}

fn message(from: i64, to: i64, payload: Payload) -> proto::WatchProcessesResponse {
    proto::WatchProcessesResponse {
        from_revision: from,
        to_revision: to,
        payload: Some(payload),
        ..Default::default()
    }
}

fn opened(at: i64, resumed: bool) -> proto::WatchProcessesResponse {
    let opened = proto::WatchOpened {
        epoch: "e1".into(),
        scope: "s1".into(),
        resumed,
        ..Default::default()
    };
    message(at, at, Payload::Opened(opened))
}

fn at(name: &str, state: ProcessState, version: i64) -> proto::Process {
    proto::Process {
        version,
        revision: version,
        ..process(name, state)
    }
}

fn snapshot(revision: i64, processes: Vec<proto::Process>) -> Vec<proto::WatchProcessesResponse> {
    vec![
        message(0, 0, Payload::Snapshot(proto::SnapshotPart { processes })),
        message(0, revision, Payload::Synced(proto::WatchSynced::default())),
    ]
}

fn event(from: i64, to: i64, process: proto::Process) -> proto::WatchProcessesResponse {
    let event = proto::ProcessEvent {
        kind: ProcessEventKind::Changed.into(),
        revision: to,
        process: Some(process),
        event_time: ago(0),
        ..Default::default()
    };
    message(
        from,
        to,
        Payload::Events(proto::ProcessEvents {
            events: vec![event],
        }),
    )
}

fn first_stream(fake: &Fake) {
    let mut script = vec![opened(0, false)];
    script.extend(snapshot(5, vec![at("web", ProcessState::Stopped, 5)]));
    script.push(event(5, 6, at("web", ProcessState::Starting, 6)));
    fake.watch(script, cut());
}

#[test]
fn a_watch_goes_on_where_it_was_cut() {
    let fake = Fake::start();
    first_stream(&fake);
    let script = vec![
        opened(6, true),
        message(6, 8, Payload::Progress(proto::WatchProgress::default())),
        event(8, 9, at("web", ProcessState::Running, 7)),
    ];
    fake.watch(script, cut());
    let ran = fake.run(&["watch", "web"]);
    let expected = "\
r5  web  STOPPED
2026-11-25T08:00:00.000Z  r6  web  STOPPED -> STARTING
2026-11-25T08:00:00.000Z  r9  web  STARTING -> RUNNING
";
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (OVER, expected),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("connecting again") && ran.stderr.contains("connected again"));
    let asked = fake.asked::<proto::WatchProcessesRequest>("watch_processes");
    assert_eq!(asked[0].resume_token, None);
    let token = |revision| {
        Some(proto::ResumeToken {
            epoch: "e1".into(),
            revision,
            scope: "s1".into(),
        })
    };
    assert_eq!(asked[1].resume_token, token(6));
    assert_eq!(asked[2].resume_token, token(9));
    assert!(
        asked
            .windows(2)
            .all(|pair| pair[0].selector == pair[1].selector)
    );
}

#[test]
fn a_reset_is_told_and_its_differences_are_lines() {
    let fake = Fake::start();
    first_stream(&fake);
    let reset = proto::WatchReset {
        reason: ResetReason::HistoryTrimmed.into(),
        epoch: "e1".into(),
        ..Default::default()
    };
    let mut script = vec![opened(0, false), message(0, 0, Payload::Reset(reset))];
    script.extend(snapshot(
        40,
        vec![
            at("db", ProcessState::Running, 33),
            at("web", ProcessState::Starting, 6),
        ],
    ));
    fake.watch(script, cut());
    let ran = fake.run(&["watch"]);
    let expected = "\
r5  web  STOPPED
2026-11-25T08:00:00.000Z  r6  web  STOPPED -> STARTING
-- reset: HISTORY_TRIMMED; comparing with a new snapshot --
r33  db  RUNNING  (found after reset)
";
    assert_eq!(ran.stdout, expected, "web is as it was: no line");
}

#[test]
fn a_broken_chain_is_told_and_starts_from_a_snapshot() {
    let fake = Fake::start();
    let mut script = vec![opened(0, false)];
    script.extend(snapshot(5, vec![at("web", ProcessState::Stopped, 5)]));
    // r6 is missing.
    script.push(event(6, 7, at("web", ProcessState::Running, 7)));
    script.push(event(7, 8, at("web", ProcessState::Stopping, 8)));
    fake.watch(script, None);
    let mut script = vec![opened(0, false)];
    script.extend(snapshot(9, vec![at("web", ProcessState::Failed, 9)]));
    fake.watch(script, cut());
    let ran = fake.run(&["watch"]);
    let expected = "\
r5  web  STOPPED
r9  web  STOPPED -> FAILED  (found after reset)
";
    assert_eq!(ran.stdout, expected);
    let warning = "warning: the chain of revisions is broken: expected a message from r5, got r6";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
    let asked = fake.asked::<proto::WatchProcessesRequest>("watch_processes");
    assert_eq!(
        asked[1].resume_token, None,
        "a token of a broken stream proves nothing"
    );
}

#[test]
fn a_snapshot_that_is_cut_off_is_begun_again() {
    let fake = Fake::start();
    let processes = vec![at("web", ProcessState::Stopped, 5)];
    let part = message(0, 0, Payload::Snapshot(proto::SnapshotPart { processes }));
    fake.watch(vec![opened(0, false), part], cut());
    first_stream(&fake);
    let ran = fake.run(&["watch"]);
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
    let asked = fake.asked::<proto::WatchProcessesRequest>("watch_processes");
    assert_eq!(asked[1].resume_token, None);
}

#[test]
fn a_planned_end_is_no_news() {
    let fake = Fake::start();
    let mut script = vec![opened(0, false)];
    script.extend(snapshot(5, vec![]));
    let closing = proto::WatchClosing {
        retry_delay: Some(prost_types::Duration {
            seconds: 0,
            nanos: 1,
        }),
        ..Default::default()
    };
    script.push(message(5, 5, Payload::Closing(closing)));
    fake.watch(script, cut());
    fake.watch(
        vec![
            opened(5, true),
            event(5, 6, at("a", ProcessState::Running, 6)),
        ],
        cut(),
    );
    let ran = fake.run(&["watch"]);
    assert_eq!(ran.stdout, "2026-11-25T08:00:00.000Z  r6  a  RUNNING\n");
    assert_eq!(
        ran.stderr.matches("connecting again").count(),
        1,
        "the second only: {}",
        ran.stderr
    );
}

#[test]
fn a_watch_that_cannot_begin_is_an_error() {
    let fake = Fake::start();
    fake.watch(vec![], Some(Status::invalid_argument("bad selector")));
    let ran = fake.run(&["watch", "-l", "a in (b)"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (ExitCode::Failed, ""));
    assert_eq!(ran.stderr, "error: bad selector\n");
}

#[test]
fn json_lines_are_the_messages_and_merged_versions_are_shown() {
    let fake = Fake::start();
    first_stream(&fake);
    let ran = fake.run(&["watch", "-o", "json", "--every-change"]);
    let lines: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["opened"]["scope"], "s1");
    assert_eq!(lines[3]["fromRevision"], "5");
    assert_eq!(
        lines[3]["events"]["events"][0]["kind"],
        "PROCESS_EVENT_KIND_CHANGED"
    );
    let asked = &fake.asked::<proto::WatchProcessesRequest>("watch_processes")[0];
    assert_eq!(
        (asked.mode(), asked.read_mask.clone()),
        (WatchMode::EveryChange, None)
    );
}

#[test]
fn a_terminal_gets_a_live_table() {
    let fake = Fake::start();
    first_stream(&fake);
    let setup = Setup {
        terminal: true,
        ..Setup::default()
    };
    let ran = fake.run_in(&setup, &["watch"]);
    assert!(ran.stdout.starts_with("\x1b[2J\x1b[H"), "{:?}", ran.stdout);
    assert!(ran.stdout.contains("1 processes at r6"), "{:?}", ran.stdout);
    let asked = &fake.asked::<proto::WatchProcessesRequest>("watch_processes")[0];
    assert!(asked.min_update_interval.is_some());
}

fn entry(name: &str, sequence: i64, data: &'static [u8]) -> proto::LogEntry {
    proto::LogEntry {
        name: name.into(),
        uid: format!("uid-{name}"),
        sequence,
        stream: OutputStream::Stdout.into(),
        log_time: ago(1),
        data: data.into(),
        ..Default::default()
    }
}

fn entries(entries: Vec<proto::LogEntry>) -> proto::TailLogsResponse {
    proto::TailLogsResponse {
        payload: Some(Log::Entries(proto::LogEntries { entries })),
    }
}

fn synced() -> proto::TailLogsResponse {
    proto::TailLogsResponse {
        payload: Some(Log::Synced(proto::LogSynced {})),
    }
}

fn there(fake: &Fake, names: &[&str]) {
    let processes = names
        .iter()
        .map(|name| process(name, ProcessState::Running))
        .collect();
    fake.answer("list_processes", &listed(processes));
}

#[test]
fn logs_of_one_are_its_bytes_on_a_pipe_and_safe_on_a_terminal() {
    for (terminal, args, expected) in [
        (false, vec!["logs", "web"], "a\x1b[31m\tb\nc\n"),
        (true, vec!["logs", "web"], "a\\x1b[31m\tb\nc\n"),
        (true, vec!["logs", "web", "--raw"], "a\x1b[31m\tb\nc\n"),
    ] {
        let fake = Fake::start();
        there(&fake, &["web"]);
        let lines = vec![entry("web", 1, b"a\x1b[31m\tb"), entry("web", 2, b"c")];
        fake.tail(vec![entries(lines)], Some(Status::ok("")));
        let ran = fake.run_in(
            &Setup {
                terminal,
                ..Setup::default()
            },
            &args,
        );
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (ExitCode::Ok, expected),
            "{}",
            ran.stderr
        );
        let asked = &fake.asked::<proto::TailLogsRequest>("tail_logs")[0];
        assert_eq!(
            (asked.backlog_entries, asked.follow),
            (0, false),
            "all that is kept"
        );
    }
}

#[test]
fn several_have_a_prefix_and_broken_lines_are_put_together() {
    let fake = Fake::start();
    there(&fake, &["db", "worker"]);
    let piece = |sequence, line_offset, data, partial| proto::LogEntry {
        line_offset,
        partial,
        ..entry("db", sequence, data)
    };
    fake.tail(
        vec![
            entries(vec![
                piece(1, 0, b"one ", true),
                piece(1, 4, b"line", false),
            ]),
            entries(vec![piece(2, 0, b"be", true), entry("worker", 1, b"x")]),
            entries(vec![piece(2, 2, b"gun", false)]),
        ],
        Some(Status::ok("")),
    );
    let ran = fake.run(&["logs", "db", "worker", "-t"]);
    let expected = "\
2026-11-25T07:59:59.000Z db     | one line
2026-11-25T07:59:59.000Z db     | be
2026-11-25T07:59:59.000Z worker | x
2026-11-25T07:59:59.000Z db     | gun
";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn follow_goes_on_behind_the_last_line_and_tells_gaps() {
    let fake = Fake::start();
    there(&fake, &["quiet", "web"]);
    fake.tail(
        vec![entries(vec![entry("web", 7, b"seven")]), synced()],
        cut(),
    );
    let gap = proto::LogGap {
        name: "web".into(),
        uid: "uid-web".into(),
        first_sequence: 8,
        last_sequence: 9,
        lost_bytes: 12,
        ..Default::default()
    };
    let gap = proto::TailLogsResponse {
        payload: Some(Log::Gap(gap)),
    };
    let again = vec![entry("web", 7, b"seven"), entry("web", 10, b"ten")];
    fake.tail(vec![gap, entries(again)], cut());
    let ran = fake.run(&["logs", "-f", "-n", "0", "quiet", "web"]);
    assert_eq!(ran.stdout, "web   | seven\nweb   | ten\n");
    assert!(
        ran.stderr
            .contains("-- web: lines 8 to 9 are missing: lost, 12 bytes --")
    );
    let asked = fake.asked::<proto::TailLogsRequest>("tail_logs");
    assert_eq!(
        (asked[0].backlog_entries, asked[0].resume_positions.len()),
        (0, 0)
    );
    let position = &asked[1].resume_positions[0];
    assert_eq!((position.name.as_str(), position.sequence), ("web", 7));
    assert_eq!(
        asked[1].since_time,
        ago(0),
        "what a silent process wrote meanwhile is new"
    );
    assert_eq!(asked[2].resume_positions[0].sequence, 10);
}

#[test]
fn logs_ask_for_a_time_a_run_and_a_stream() {
    let fake = Fake::start();
    there(&fake, &["web"]);
    fake.tail(vec![], Some(Status::ok("")));
    let args = "logs web --since 1h --until 10m --run 3 --stream stderr --grep x$ -n 5";
    let ran = fake.run(&args.split(' ').collect::<Vec<_>>());
    assert_eq!(ran.code, ExitCode::Ok, "{}", ran.stderr);
    let asked = &fake.asked::<proto::TailLogsRequest>("tail_logs")[0];
    assert_eq!(asked.since_time, ago(3600));
    assert_eq!(asked.until_time, ago(600));
    assert_eq!((asked.run_id, &asked.streams[..]), (3, &[2][..]));
    assert_eq!((asked.pattern.as_str(), asked.backlog_entries), ("x$", 5));
    there(&fake, &["web", "db"]);
    let ran = fake.run(&["logs", "web", "db", "--run", "3"]);
    assert_eq!(ran.code, ExitCode::Usage);
    assert!(ran.stderr.contains("--run"), "{}", ran.stderr);
}

#[test]
fn logs_as_json_are_a_line_per_entry_and_per_gap() {
    let fake = Fake::start();
    there(&fake, &["web"]);
    let gap = proto::LogGap {
        name: "web".into(),
        uid: "uid-web".into(),
        first_sequence: 1,
        last_sequence: 6,
        reason: 1,
        ..Default::default()
    };
    let gap = proto::TailLogsResponse {
        payload: Some(Log::Gap(gap)),
    };
    let lines = vec![entry("web", 7, b"a"), entry("web", 8, b"b\xff")];
    fake.tail(vec![gap, entries(lines), synced()], Some(Status::ok("")));
    let ran = fake.run(&["logs", "web", "-o", "json"]);
    let got: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(got.len(), 3, "{}", ran.stdout);
    assert_eq!(got[0]["gap"]["last_sequence"], 6);
    assert_eq!(
        (&got[1]["sequence"], &got[1]["text"]),
        (&7.into(), &"a".into())
    );
    assert_eq!(got[2]["base64"], "Yv8=");
}

#[test]
fn logs_of_what_does_not_exist_are_4() {
    let fake = Fake::start();
    there(&fake, &[]);
    assert_eq!(fake.run(&["logs", "nope"]).code, ExitCode::NotFound);
    assert_eq!(fake.run(&["logs", "web", "-n", "0"]).code, ExitCode::Usage);
}
