//! A mover that is a process of its own and is killed while it moves.

use std::{
    env,
    io::{self, BufWriter, PipeReader, PipeWriter},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::shim::{segment::data_name, sys::wall_clock};

/// Tells the test binary, which calls itself, that it is the mover.
const DIR: &str = "PROCESSION_TEST_MOVER_DIR";
/// Repeats the distances between kills; the scheduling is the machine's.
const SEED: &str = "PROCESSION_SEED";
/// So many MiB are moved to see how fast that is.
const SPEED_MIB: &str = "PROCESSION_TEST_SPEED_MIB";

const POLICY: Policy = Policy {
    max_bytes: 4096 * MIB,
    segment_bytes: 8 * MIB,
    ..KEEP_ALL
};

/// The mover, until it is killed. As a test by itself it does nothing.
#[test]
fn mover() {
    let Some(dir) = env::var_os(DIR) else { return };
    let mut output = Output::new(dir.into(), 1, POLICY, Begin::Adopted);
    output.watch(
        Stream::Stdout,
        io::stdin().as_fd().try_clone_to_owned().unwrap(),
    );
    while !output.ended() {
        turn(&mut output);
    }
}

/// What the event loop of a shim does.
fn turn(output: &mut Output) {
    let polls = output.polls();
    let fds = polls
        .iter()
        .map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN));
    let mut fds: Vec<_> = fds.collect();
    let timeout = output.timeout().map(|left| left.as_micros().div_ceil(1000));
    let timeout = timeout.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap());
    let _ = poll(&mut fds, timeout);
    let ready: Vec<_> = polls
        .iter()
        .zip(&fds)
        .filter(|(_, fd)| fd.any().unwrap_or(true))
        .map(|((stream, _), _)| *stream)
        .collect();
    output.retry(wall_clock());
    for stream in ready {
        output.ready(stream, wall_clock());
    }
}

fn spawn_mover(dir: &Path, pipe: &PipeReader) -> Child {
    let name = concat!(module_path!(), "::mover");
    let name = name.split_once("::").unwrap().1;
    Command::new(env::current_exe().unwrap())
        .args(["--exact", name])
        .env(DIR, dir)
        .stdin(pipe.try_clone().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Bytes that are in data files.
fn stored(dir: &Path) -> u64 {
    let segments = directory::list(dir).unwrap_or_default();
    segments.values().map(|files| files.bytes).sum()
}

/// Until `done`; fails after a minute.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_mover_that_is_killed_at_full_rate_loses_and_doubles_nothing() {
    let asked = env::var("PROCESSION_KILLS").map_or(0, |n| n.parse::<u64>().unwrap());
    let kills = (asked / 5).max(50);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let (read_end, write_end) = io::pipe().unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let writer = {
        let enough = enough.clone();
        thread::spawn(move || write_numbers(write_end, &enough))
    };
    let given = env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{SEED}={seed}");
    let mut random = seed;
    for _ in 0..kills {
        let mut child = spawn_mover(&dir, &read_end);
        // After some bytes more, at no particular point.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let until = stored(&dir) + 1 + (random >> 33) % 400_000;
        wait_for("output", || stored(&dir) >= until);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    enough.store(true, Ordering::Relaxed);
    let mut output = Output::new(dir.clone(), 1, POLICY, Begin::Adopted);
    output.watch(Stream::Stdout, read_end.into());
    while !output.ended() {
        turn(&mut output);
    }
    assert!(output.finish(wall_clock()));
    let lines = writer.join().unwrap();
    let contents = read(&dir);
    let written: String = (0..lines).map(|line| format!("{line:099}\n")).collect();
    assert!(contents.bytes[0] == written.as_bytes());
    assert_eq!(contents.next, lines + 1);
    let late = contents
        .records
        .iter()
        .filter(|(_, r)| r.approximate)
        .count();
    println!("{lines} lines, {kills} kills, {late} of them before a record was written");
}

/// Lines of 100 bytes through a pipe; the command for figures is
/// `PROCESSION_TEST_SPEED_MIB=1024 cargo test --release --lib killed::speed -- --nocapture`.
#[test]
fn speed() {
    let mib = env::var(SPEED_MIB).map_or(8, |mib| mib.parse().unwrap());
    let (temp, bytes) = (tempfile::tempdir().unwrap(), mib * MIB);
    for floor in [true, false] {
        let dir = temp.path().join(if floor { "floor" } else { "log" });
        let (read_end, write_end) = io::pipe().unwrap();
        let writer = thread::spawn(move || write_lines(write_end, bytes));
        let begun = Instant::now();
        if floor {
            splice_only(&dir, &read_end);
        } else {
            let mut output = Output::new(dir.clone(), 1, POLICY, Begin::Run);
            output.watch(Stream::Stdout, read_end.into());
            while !output.ended() {
                turn(&mut output);
            }
            assert!(output.finish(wall_clock()));
        }
        let rate = mib as f64 / begun.elapsed().as_secs_f64();
        println!(
            "{}: {rate:.0} MiB/s",
            if floor { "splice" } else { "output" }
        );
        writer.join().unwrap();
        if !floor {
            let last = reader::segments(&dir).pop().unwrap();
            assert!(last >= mib / 8);
            assert!(stored(&dir) >= bytes);
            assert!(dir.join(data_name(last, Stream::Stdout)).exists());
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}

/// Numbers from 0 on, as fast as they are taken; how many.
fn write_numbers(pipe: PipeWriter, enough: &AtomicBool) -> i64 {
    let mut out = BufWriter::with_capacity(4096, pipe);
    let mut lines = 0;
    while !enough.load(Ordering::Relaxed) {
        writeln!(out, "{lines:099}").unwrap();
        lines += 1;
    }
    out.flush().unwrap();
    lines
}

fn write_lines(mut pipe: impl Write, bytes: u64) {
    let block = format!("{}\n", "x".repeat(99)).repeat(640);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64);
        pipe.write_all(&block.as_bytes()[..now as usize]).unwrap();
        left -= now;
    }
}

/// What the kernel can do at most.
fn splice_only(dir: &Path, pipe: &PipeReader) {
    std::fs::create_dir(dir).unwrap();
    let _ = kernel::enlarge(pipe.as_fd(), PIPE_BYTES);
    let mut offset = 0;
    let file = kernel::open(&dir.join("data"), true).unwrap();
    loop {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        match kernel::splice(pipe.as_fd(), &file, offset, MIB) {
            Ok(0) => return,
            Ok(bytes) => offset += bytes as u64,
            Err(errno) => assert_eq!(errno, Errno::EAGAIN),
        }
    }
}
