//! Standard input that is written to: what is taken is in the pipe, whoever dies.

use std::time::Duration;

use nix::sys::signal::Signal;
use procession::{
    domain::run::{Outcome, SignalScope},
    runner::{Run, Stdin, Stopped, WRITE_BYTES_MAX, Write, Written},
};

use super::support::*;

async fn write(run: &dyn Run, offset: Option<u64>, bytes: &[u8], close: bool) -> Written {
    loop {
        let write = Write {
            offset,
            bytes: bytes.to_vec(),
            close,
        };
        match run.write(write).await.unwrap() {
            Ok(written) => return written,
            // Its shim has just died.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn taken(total: u64) -> Written {
    Written {
        total,
        stopped: None,
    }
}

fn stopped(total: u64, why: Stopped) -> Written {
    Written {
        total,
        stopped: Some(why),
    }
}

/// Whatever still runs is killed.
async fn end(mut running: Running) {
    running.run.stop(plan(SignalScope::Tree, Duration::ZERO));
    running.finish().await;
}

fn open(argv: &[&str]) -> procession::runner::Launch {
    let mut launch = launch(argv);
    launch.stdin = Stdin::Pipe;
    launch
}

#[tokio::test]
async fn what_is_written_is_read_once_and_the_end_is_the_end() {
    let mut running = begin(&runner(), open(&["cat"]));
    running.started().await;
    assert_eq!(
        write(&*running.run, Some(0), b"one\n", false).await,
        taken(4)
    );
    // The same write again, as by who has not heard the answer.
    assert_eq!(
        write(&*running.run, Some(0), b"one\n", false).await,
        stopped(4, Stopped::Offset)
    );
    assert_eq!(write(&*running.run, None, b"two\n", true).await, taken(8));
    assert_eq!(running.finish().await, Outcome::Code(0));
    assert_eq!(running.output(), "one\ntwo\n");
}

#[tokio::test]
async fn a_closed_stdin_takes_nothing_more() {
    let script = "exec <&-; echo ready; while :; do sleep 1000; done";
    for (launch, errno) in [
        (open(&["sh", "-c", script]), Stopped::Refused(libc::EPIPE)),
        (self::launch(&["sh", "-c", script]), Stopped::NotOpen),
    ] {
        let mut running = begin(&runner(), launch);
        running.ready(1).await;
        let written = write(&*running.run, None, b"x", false).await;
        assert_eq!(written, stopped(0, errno));
        end(running).await;
    }
}

#[tokio::test]
async fn what_has_no_room_is_not_taken() {
    let script = "echo ready; read go; cat >/dev/null; exit 7";
    let mut running = begin(&runner(), open(&["sh", "-c", script]));
    running.ready(1).await;
    let piece = vec![b'x'; WRITE_BYTES_MAX];
    let mut total = 0;
    let full = loop {
        let written = write(&*running.run, Some(total), &piece, false).await;
        assert!(written.total <= 1024 * 1024, "{written:?}");
        total = written.total;
        if written.stopped.is_some() {
            break written;
        }
    };
    assert_eq!(full.stopped, Some(Stopped::NoRoom));
    end(running).await;
}

#[tokio::test]
async fn a_killed_shim_is_no_end_of_input_and_the_count_goes_on() {
    let mut running = begin(&runner(), open(&["cat"]));
    running.started().await;
    assert_eq!(write(&*running.run, None, b"one\n", false).await, taken(4));
    let before = running.owner().unwrap();
    kill(before, Signal::SIGKILL);
    eventually("it has another shim", || {
        running.owner().is_some_and(|pid| pid != before)
    })
    .await;
    assert_eq!(
        write(&*running.run, Some(4), b"two\n", true).await,
        taken(8)
    );
    // The end of a process that is nobody's child is told as it is known.
    running.exited().await;
    assert_eq!(running.output(), "one\ntwo\n");
    running.finish().await;
}

#[tokio::test]
async fn a_killed_shim_hangs_no_terminal_up() {
    let script = "trap 'echo hup' HUP; stty -echo; echo ready; \
                  while read line; do echo \"got $line\"; done";
    let mut launch = launch(&["sh", "-c", script]);
    launch.stdin = Stdin::Tty;
    let mut running = begin(&runner(), launch);
    running.started().await;
    assert_eq!(running.line().await, "ready\r");
    let before = running.owner().unwrap();
    kill(before, Signal::SIGKILL);
    eventually("it has another shim", || {
        running.owner().is_some_and(|pid| pid != before)
    })
    .await;
    assert_eq!(
        write(&*running.run, Some(0), b"one\n", false).await,
        taken(4)
    );
    assert_eq!(running.line().await, "got one\r");
    running.run.resize(10, 20).await.unwrap().unwrap();
    write(&*running.run, None, b"", true).await;
    running.exited().await;
    assert_eq!(running.output(), "ready\r\ngot one\r\n");
    running.finish().await;
}

#[tokio::test]
async fn a_terminal_loses_no_output_of_a_run_that_writes_much() {
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done; read go";
    let mut launch = launch(&["sh", "-c", script]);
    launch.stdin = Stdin::Tty;
    let mut running = begin(&runner(), launch);
    running.started().await;
    let wanted: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    eventually("all was written", || running.output().len() >= wanted.len()).await;
    assert!(running.output() == wanted);
    assert_eq!(write(&*running.run, None, b"go\n", false).await, taken(3));
    assert_eq!(running.finish().await, Outcome::Code(0));
}
