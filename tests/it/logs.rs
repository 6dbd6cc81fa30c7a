//! Real children writing to captured pipes.
#![allow(
    clippy::unwrap_used,
    reason = "clippy only takes functions marked as tests for tests"
)]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use procession::{
    domain::id::{ProcessName, Uid},
    logs::{Batch, Entry, Gap, Limits, Logs, OutputStream, Reader, Slot, Start},
};

/// Long enough for a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn uid(number: u32) -> Uid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Uid::from_bytes(bytes)
}

fn logs() -> Logs {
    Logs::new(Limits::default()).unwrap()
}

/// Runs `script` by the shell with its output captured; our copies of the write
/// ends are closed.
fn run(logs: &Logs, number: u32, script: &str) -> Child {
    let name = ProcessName::new("child").unwrap();
    let writers = logs.open(uid(number), &name, 1, false, 0).unwrap();
    Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::from(writers.stdout))
        .stderr(Stdio::from(writers.stderr))
        .spawn()
        .unwrap()
}

fn attach(logs: &Logs, number: u32, start: Start) -> (Reader, Slot) {
    let mut reader = logs.reader();
    let slot = reader.attach(uid(number), start).unwrap().slot;
    (reader, slot)
}

/// Reads until `enough`.
fn read(
    reader: &mut Reader,
    slot: Slot,
    enough: impl Fn(&[Entry]) -> bool,
) -> (Vec<Entry>, Vec<Gap>) {
    let deadline = Instant::now() + PATIENCE;
    let (mut entries, mut gaps) = (Vec::new(), Vec::new());
    while !enough(&entries) {
        assert!(Instant::now() < deadline, "{} entries", entries.len());
        let Batch {
            gap, entries: more, ..
        } = reader.read(slot, 64 * 1024, u64::MAX);
        gaps.extend(gap);
        if more.is_empty() {
            std::thread::yield_now();
        }
        entries.extend(more);
    }
    (entries, gaps)
}

fn ends_with(entries: &[Entry], text: &str) -> bool {
    entries
        .last()
        .is_some_and(|entry| entry.data == text.as_bytes())
}

#[test]
fn both_streams_of_a_child_are_captured_to_their_end() {
    let logs = logs();
    let mut child = run(&logs, 1, "echo out; echo err >&2; printf 'no newline'");
    assert!(child.wait().unwrap().success());
    let (mut reader, slot) = attach(&logs, 1, Start::Oldest);
    let (entries, gaps) = read(&mut reader, slot, |entries| {
        entries.iter().filter(|entry| !entry.partial).count() == 3
    });
    assert_eq!(gaps, []);
    let of = |stream| -> Vec<&[u8]> {
        let entries = entries.iter().filter(|entry| entry.stream == stream);
        entries
            .map(|entry| &entry.data[..])
            .filter(|data| !data.is_empty())
            .collect()
    };
    assert_eq!(of(OutputStream::Stdout), [&b"out"[..], b"no newline"]);
    assert_eq!(of(OutputStream::Stderr), [b"err"]);
}

#[test]
fn two_hundred_children_write_at_once_and_no_line_is_lost() {
    const CHILDREN: u32 = 200;
    const LINES: usize = 2000;
    let logs = logs();
    let script = format!("seq 1 {LINES}");
    let mut children: Vec<Child> = (0..CHILDREN).map(|n| run(&logs, n, &script)).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    for number in 0..CHILDREN {
        let (mut reader, slot) = attach(&logs, number, Start::After(0));
        let (entries, gaps) = read(&mut reader, slot, |entries| entries.len() == LINES);
        assert_eq!(gaps, []);
        for (entry, want) in entries.iter().zip(1..) {
            assert_eq!(entry.sequence, want);
            assert_eq!(entry.data, want.to_string().as_bytes());
        }
    }
}

#[test]
fn a_reader_that_never_reads_blocks_nobody_and_then_gets_one_gap() {
    let logs = logs();
    // A hundred times what is retained.
    let script = "yes 'a line of thirty-one characters' | head -n 3000000; echo end";
    let mut child = run(&logs, 1, script);
    let (mut stalled, slot) = attach(&logs, 1, Start::Oldest);
    let mut quiet = run(&logs, 2, "echo quiet");
    // The child ends although nobody read a byte.
    assert!(child.wait().unwrap().success());
    assert!(quiet.wait().unwrap().success());
    let (mut last, last_slot) = attach(&logs, 1, Start::End);
    let deadline = Instant::now() + PATIENCE;
    while !ends_with(
        &last.peek(last_slot, last.window(last_slot).end - 1, u64::MAX),
        "end",
    ) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    last.seek(last_slot, Start::End);
    assert!(logs.used_bytes() < 3 * 1024 * 1024, "{}", logs.used_bytes());
    let (entries, gaps) = read(&mut stalled, slot, |entries| ends_with(entries, "end"));
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].first_sequence, 1);
    assert_eq!(gaps[0].lost_bytes, gaps[0].last_sequence * 31);
    assert_eq!(entries[0].sequence, gaps[0].last_sequence + 1);
    assert_eq!(entries.last().unwrap().sequence, 3_000_001);
    let (mut other, other_slot) = attach(&logs, 2, Start::Oldest);
    read(&mut other, other_slot, |entries| {
        ends_with(entries, "quiet")
    });
}

#[test]
fn a_grandchild_that_keeps_the_pipe_is_captured_after_its_parent() {
    let logs = logs();
    // The grandchild writes once its parent is gone, which closes the fifo.
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("gate");
    let gate = fifo.to_str().unwrap();
    let script = format!("mkfifo {gate}; (read line < {gate}; echo late) & echo early");
    let mut child = run(&logs, 1, &script);
    let (mut reader, slot) = attach(&logs, 1, Start::Oldest);
    assert!(child.wait().unwrap().success());
    read(&mut reader, slot, |entries| ends_with(entries, "early"));
    std::fs::write(&fifo, "go\n").unwrap();
    read(&mut reader, slot, |entries| ends_with(entries, "late"));
}

/// `MEGABYTES=1000 cargo test --release --test it capture_rate -- --nocapture`
#[test]
fn capture_rate_of_lines_of_100_bytes() {
    let asked = std::env::var("MEGABYTES")
        .ok()
        .and_then(|text| text.parse().ok());
    let megabytes: u64 = asked.unwrap_or(50);
    let logs = logs();
    let start = Instant::now();
    let script = format!(
        "yes {} | head -c {megabytes}000000; echo end",
        "x".repeat(99)
    );
    let mut child = run(&logs, 1, &script);
    let (mut reader, slot) = attach(&logs, 1, Start::End);
    assert!(child.wait().unwrap().success());
    let (entries, _) = read(&mut reader, slot, |entries| ends_with(entries, "end"));
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{megabytes} MB in {seconds:.2} s: {:.0} MB/s",
        megabytes as f64 / seconds
    );
    let lines = i64::try_from(megabytes * 10_000).unwrap();
    assert_eq!(entries.last().unwrap().sequence, lines + 1);
}
