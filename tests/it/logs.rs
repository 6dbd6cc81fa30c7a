//! Real children writing, from their pipes to a client.
#![allow(clippy::print_stdout, reason = "figures")]

use std::time::Instant;

use procession::grpc::proto::{self, tail_logs_response::Payload};
use serde_json::Value;

use crate::daemon::support::{Client, Daemon, PATIENCE, eventually, sh};

mod forward;
mod policy;

async fn create(client: &mut Client, process: proto::Process) {
    let request = proto::CreateProcessRequest {
        process: Some(process),
        ..Default::default()
    };
    client.create_process(request).await.unwrap();
}

/// What `procession logs` shows as JSON.
fn shown(daemon: &Daemon, args: &[&str]) -> Vec<Value> {
    let ran = daemon.cli([&["logs", "-o", "json"], args].concat());
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn texts<'a>(lines: &'a [Value], stream: &str) -> Vec<&'a str> {
    let of_stream = lines.iter().filter(|line| line["stream"] == stream);
    of_stream
        .map(|line| line["text"].as_str().unwrap())
        .filter(|text| !text.is_empty())
        .collect()
}

#[tokio::test]
async fn both_streams_of_a_child_are_kept_to_their_end() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let script = "echo out; echo err >&2; printf 'no newline'";
    create(&mut client, sh("web", script)).await;
    let lines = eventually("all of it", || {
        let lines = shown(&daemon, &["web"]);
        let whole = lines.iter().filter(|line| line["partial"] == false);
        (whole.count() == 3).then_some(lines)
    });
    assert_eq!(texts(&lines, "stdout"), ["out", "no newline"]);
    assert_eq!(texts(&lines, "stderr"), ["err"]);
    assert_eq!(shown(&daemon, &["web", "--stream", "stderr"]).len(), 1);
    assert_eq!(shown(&daemon, &["web", "--run", "1"]), lines);
    assert_eq!(shown(&daemon, &["web", "--run", "2"]).len(), 0);
    daemon.ended().await;
}

#[tokio::test]
async fn fifty_children_write_at_once_and_no_line_is_lost() {
    const CHILDREN: u32 = 50;
    const LINES: usize = 2000;
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    for number in 0..CHILDREN {
        let script = format!("seq 1 {LINES}");
        create(&mut client, sh(&format!("w{number}"), &script)).await;
    }
    for number in 0..CHILDREN {
        let name = format!("w{number}");
        let lines = eventually("all lines", || {
            let lines = shown(&daemon, &[&name]);
            (lines.len() == LINES).then_some(lines)
        });
        for (line, want) in lines.iter().zip(1..) {
            assert_eq!(line["sequence"], want);
            assert_eq!(line["text"], want.to_string());
        }
    }
    daemon.ended().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_blocks_nobody_and_then_gets_one_gap() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let request = proto::TailLogsRequest {
        follow: true,
        ..Default::default()
    };
    let mut stalled = client.tail_logs(request).await.unwrap().into_inner();
    let script = "yes 'a line of thirty-one characters' | head -n 1000000; echo end";
    let policy = proto::LogPolicy {
        max_bytes: 1024 * 1024,
        ..Default::default()
    };
    create(&mut client, policy::keeping(sh("web", script), policy)).await;
    eventually("the child ends although nobody reads", || {
        let lines = shown(&daemon, &["web", "-n", "1"]);
        lines.iter().any(|line| line["text"] == "end").then_some(())
    });
    let (mut next, mut lost) = (1, 0);
    while next <= 1_000_001 {
        let message = tokio::time::timeout(PATIENCE, stalled.message()).await;
        match message.unwrap().unwrap().unwrap().payload.unwrap() {
            Payload::Gap(gap) => {
                assert_eq!(gap.first_sequence, next);
                assert_eq!(gap.reason(), proto::LogGapReason::Trimmed);
                next = gap.last_sequence + 1;
                lost += 1;
            }
            Payload::Entries(entries) => {
                for entry in entries.entries {
                    if entry.line_offset == 0 {
                        assert_eq!(entry.sequence, next);
                        next += 1;
                    }
                }
            }
            _ => {}
        }
    }
    assert!(lost >= 1);
    drop((stalled, client));
    daemon.ended().await;
}

/// `MEGABYTES=1000 cargo test --release --test it tail_rate -- --nocapture`
#[tokio::test]
async fn tail_rate_of_lines_of_100_bytes() {
    let asked = std::env::var("MEGABYTES")
        .ok()
        .and_then(|text| text.parse().ok());
    let megabytes: u64 = asked.unwrap_or(20);
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let request = proto::TailLogsRequest {
        follow: true,
        ..Default::default()
    };
    let mut tail = client.tail_logs(request).await.unwrap().into_inner();
    let start = Instant::now();
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -c {megabytes}000000; echo end");
    create(&mut client, sh("web", &script)).await;
    let mut seen = 0;
    while seen <= megabytes * 10_000 {
        let message = tokio::time::timeout(PATIENCE, tail.message()).await;
        match message.unwrap().unwrap().unwrap().payload.unwrap() {
            Payload::Gap(gap) => seen = gap.last_sequence.unsigned_abs(),
            Payload::Entries(entries) => {
                let last = entries.entries.iter().map(|entry| entry.sequence).max();
                seen = seen.max(last.unwrap_or_default().unsigned_abs());
            }
            _ => {}
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = megabytes as f64 / seconds;
    println!("{megabytes} MB in {seconds:.2} s: {rate:.0} MB/s");
    drop((tail, client));
    daemon.ended().await;
}
