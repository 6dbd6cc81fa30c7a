//! Disks that are full and calls that fail.

use std::{
    fs,
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::statvfs::statvfs,
};

use super::*;

const SMALL: Policy = Policy {
    max_bytes: MIB,
    segment_bytes: 1024,
    ..KEEP_ALL
};
const DROP: Policy = Policy {
    drop_when_full: true,
    ..KEEP_ALL
};

fn from_now_on(call: Option<&'static str>, after: u32) -> Option<Plan> {
    Some(Plan {
        call,
        after,
        fail: u32::MAX,
        errno: Errno::ENOSPC,
    })
}

/// Some of all: two streams, rotation, a takeover, an end.
fn script(bench: &mut Bench) {
    for round in 0..9 {
        bench.moved(Stream::Stdout, format!("{round}\n").repeat(120));
        bench.moved(Stream::Stderr, "a\n\nb");
        bench.retry();
    }
    bench.begin(Begin::Adopted);
    bench.retry();
    bench.moved(Stream::Stderr, "c\n");
    bench.output.finish(bench.now);
}

/// How many calls the script makes.
fn calls_of_script() -> u32 {
    let mut bench = Bench::new(SMALL);
    faults::plan(from_now_on(None, u32::MAX));
    script(&mut bench);
    let left = faults::plan(None).unwrap().after;
    let contents = bench.check();
    assert!(contents.segments.len() > 3);
    u32::MAX - left
}

#[test]
fn every_call_may_fail_once() {
    for after in 0..calls_of_script() {
        for (fail, errno) in [(1, Errno::EIO), (2, Errno::ENOSPC), (7, Errno::EACCES)] {
            let mut bench = Bench::new(SMALL);
            faults::plan(Some(Plan {
                call: None,
                after,
                fail,
                errno,
            }));
            script(&mut bench);
            faults::plan(None);
            while !bench.output.finish(bench.now) {
                // Once more, or until no process that is just being started
                // holds a lock of ours.
                wait_for_lock(&bench.path());
            }
            let contents = bench.check();
            assert_eq!(contents.lines.len() as i64, contents.next - 1);
            assert_eq!(of_kind(&contents, Kind::RunEnded).len(), 1);
        }
    }
}

#[test]
fn every_call_may_be_the_last_one() {
    for after in 0..calls_of_script() {
        let mut bench = Bench::new(SMALL);
        faults::plan(from_now_on(None, after));
        script(&mut bench);
        faults::plan(None);
        bench.begin(Begin::Adopted);
        assert!(bench.output.finish(bench.now));
        let contents = bench.check();
        assert_eq!(contents.lines.len() as i64, contents.next - 1);
    }
}

#[test]
fn nothing_more_is_moved_before_what_was_moved_has_its_record() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.moved(Stream::Stdout, "first\n");
    faults::plan(from_now_on(Some("pwrite"), 0));
    bench.moved(Stream::Stdout, "second\n");
    let full = OutputState::Blocked {
        errno: libc::ENOSPC,
    };
    assert_eq!(bench.output.health(), full);
    assert!(bench.output.polls().is_empty(), "the run is left waiting");
    bench.write(Stream::Stdout, "third\n");
    bench.write(Stream::Stderr, "other\n");
    for _ in 0..5 {
        bench.retry();
    }
    assert_eq!(bench.waiting(Stream::Stdout), 6);
    assert_eq!(bench.waiting(Stream::Stderr), 6);
    bench.settle();
    assert_eq!(bench.output.health(), OutputState::Intact);
    let contents = bench.check();
    assert!(contents.records.iter().all(|(_, r)| !r.approximate));
}

#[test]
fn pauses_grow_and_are_short_again_after_success() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.retry();
    faults::plan(from_now_on(Some("splice"), 0));
    let mut waits = Vec::new();
    for _ in 0..9 {
        bench.moved(Stream::Stdout, "x\n");
        bench.retry();
        let pause = bench.output.pause.unwrap();
        assert!(bench.output.timeout().unwrap() <= pause.wait);
        waits.push(pause.wait.as_millis());
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    bench.settle();
    bench.check();
    faults::plan(from_now_on(Some("splice"), 0));
    bench.moved(Stream::Stdout, "x\n");
    assert_eq!(bench.output.pause.unwrap().wait, PAUSE_MIN);
    faults::plan(None);
}

#[test]
fn what_is_dropped_is_counted_once_per_stretch() {
    let mut bench = Bench::new(DROP);
    bench.moved(Stream::Stdout, "kept");
    faults::plan(from_now_on(Some("splice"), 0));
    let mut expected = [0; 2];
    for round in 0..20 {
        for stream in Stream::ALL {
            bench.pipes[stream.index()]
                .1
                .write_all(b"lost\nlost")
                .unwrap();
            bench.ready(stream);
            expected[stream.index()] += 9;
        }
        if round % 5 == 4 {
            // Nothing waits in the pipe now.
            faults::plan(from_now_on(Some("fallocate"), 0));
            bench.retry();
            faults::plan(from_now_on(Some("splice"), 0));
        }
        assert_eq!(bench.output.polls().len(), 2, "the run goes on");
    }
    let dropped = OutputState::Dropped { bytes: 360 };
    assert_eq!(bench.output.health(), dropped);
    bench.settle();
    bench.moved(Stream::Stdout, "kept again\n");
    assert_eq!(bench.output.health(), dropped);
    let contents = bench.check();
    let records = of_kind(&contents, Kind::Dropped);
    let counts: Vec<_> = records
        .iter()
        .map(|r| (r.stream.index(), r.bytes))
        .collect();
    assert_eq!(counts, [(0, expected[0]), (1, expected[1])]);
    let lines: Vec<_> = contents
        .lines
        .iter()
        .map(|(n, l)| (*n, l.bytes.len()))
        .collect();
    assert_eq!(lines, [(1, 4), (4, 10)], "each stretch took one number");
}

#[test]
fn what_was_dropped_is_told_though_nothing_comes_any_more() {
    let mut bench = Bench::new(DROP);
    faults::plan(from_now_on(None, 0));
    bench.retry();
    bench.pipes[1].1.write_all(b"lost").unwrap();
    bench.ready(Stream::Stderr);
    faults::plan(None);
    bench.retry();
    let contents = bench.check();
    let records = of_kind(&contents, Kind::Dropped);
    assert_eq!(records.iter().map(|r| r.bytes).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_directory_that_cannot_be_made_is_tried_again() {
    let mut bench = Bench::new(KEEP_ALL);
    let in_the_way = bench.path();
    fs::write(&in_the_way, "").unwrap();
    bench.moved(Stream::Stdout, "patience\n");
    let OutputState::Blocked { errno } = bench.output.health() else {
        panic!("{:?}", bench.output.health());
    };
    assert!([libc::ENOTDIR, libc::EEXIST].contains(&errno));
    assert!(!bench.output.finish(bench.now), "not stored yet");
    fs::remove_file(&in_the_way).unwrap();
    assert!(bench.output.finish(bench.now));
    bench.check();
    let mode = fs::metadata(bench.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn nothing_is_moved_after_the_end_of_a_run() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.moved(Stream::Stdout, "in time\n");
    faults::plan(from_now_on(Some("pwrite"), 0));
    assert!(!bench.output.finish(bench.now));
    assert!(bench.output.polls().is_empty());
    bench.pipes[0].1.write_all(b"too late\n").unwrap();
    bench.retry();
    faults::plan(None);
    bench.retry();
    bench.ready(Stream::Stdout);
    assert!(bench.output.finish(bench.now));
    assert_eq!(bench.check().records.last().unwrap().1.kind, Kind::RunEnded);
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let mut bench = Bench::new(SMALL);
    bench.moved(Stream::Stdout, "gone\n");
    fs::remove_dir_all(bench.path()).unwrap();
    for _ in 0..30 {
        bench.moved(Stream::Stdout, "more than one segment\n".repeat(5));
    }
    assert_eq!(bench.output.health(), OutputState::Intact);
    let contents = bench.read();
    assert!(bench.written[0].ends_with(&contents.bytes[0]));
    assert!(contents.segments.len() > 1);
}

#[test]
fn a_directory_that_was_moved_away_is_waited_for() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.moved(Stream::Stdout, "out\n");
    let (logs, aside) = (
        bench.dir.path().join("logs"),
        bench.dir.path().join("aside"),
    );
    fs::rename(&logs, &aside).unwrap();
    // The first of this stream, which has no file yet.
    bench.moved(Stream::Stderr, "err\n");
    let enoent = libc::ENOENT;
    assert_eq!(
        bench.output.health(),
        OutputState::Blocked { errno: enoent }
    );
    assert!(!bench.output.finish(bench.now));
    assert!(!logs.exists(), "nothing is made in its place");
    fs::rename(&aside, &logs).unwrap();
    bench.retry();
    assert!(bench.output.finish(bench.now));
    bench.check();
}

#[test]
fn a_log_that_was_removed_is_not_waited_for() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.moved(Stream::Stdout, "out\n");
    fs::remove_dir_all(bench.dir.path().join("logs")).unwrap();
    bench.moved(Stream::Stderr, "err\n");
    assert!(bench.output.finish(bench.now));
}

#[test]
fn a_second_writer_waits_until_the_first_has_gone() {
    let mut first = Bench::new(Policy {
        drop_when_full: true,
        ..SMALL
    });
    first.moved(Stream::Stdout, "first\n");
    let mut second = Output::new(first.path(), 2, DROP, Begin::Run);
    let (read_end, mut write_end) = std::io::pipe().unwrap();
    second.watch(Stream::Stdout, read_end.into());
    write_end.write_all(b"second\n").unwrap();
    second.ready(Stream::Stdout, first.now);
    let held = OutputState::Blocked { errno: libc::EBUSY };
    assert_eq!(second.health(), held);
    assert!(second.polls().is_empty(), "and drops nothing meanwhile");
    // The newest index is another one now.
    first.moved(Stream::Stdout, "line\n".repeat(400));
    for _ in 0..3 {
        retry(&mut second, first.now);
        assert_eq!(second.health(), held);
    }
    first.check();
    let (path, written) = (first.path(), first.written[0].clone());
    let _dir = first.dir; // the rest goes
    drop(first.output);
    wait_for_lock(&path);
    retry(&mut second, Timestamp(5));
    assert_eq!(second.health(), OutputState::Intact);
    assert_eq!(read(&path).bytes[0], [&written[..], b"second\n"].concat());
}

/// A file system of 256 KiB that only this thread sees.
fn small_disk() -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let none = None::<&str>;
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            let options = Some("size=256k,mode=700");
            mount(
                Some("tmpfs"),
                dir.path(),
                Some("tmpfs"),
                MsFlags::empty(),
                options,
            )
        });
    if let Err(errno) = mounted {
        println!("not checked on a full disk: this user may not mount one: {errno}");
        return None;
    }
    Some(dir)
}

/// Writes lines for as long as they are taken; all of them, if they are.
fn fill(bench: &mut Bench, lines: std::ops::Range<u32>) -> bool {
    for line in lines {
        let bytes = format!("{line:09}\n");
        match bench.pipes[0].1.write(bytes.as_bytes()) {
            Ok(10) => bench.written[0].extend_from_slice(bytes.as_bytes()),
            Ok(short) => panic!("{short} bytes"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return false;
            }
        }
        if line % 100 == 0 {
            bench.ready(Stream::Stdout);
            bench.retry();
        }
    }
    true
}

#[test]
fn a_full_disk_holds_the_run_up_and_loses_nothing() {
    let Some(disk) = small_disk() else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 128 * 1024]).unwrap();
    let mut bench = Bench::in_dir(disk, KEEP_ALL);
    assert!(!fill(&mut bench, 0..100_000), "it waits");
    let full = OutputState::Blocked {
        errno: libc::ENOSPC,
    };
    assert_eq!(bench.output.health(), full);
    assert_eq!(statvfs(bench.dir.path()).unwrap().blocks_available(), 0);
    // Killed while it is full.
    bench.begin(Begin::Adopted);
    bench.retry();
    bench.retry();
    assert_eq!(bench.output.health(), full);
    fs::remove_file(&ballast).unwrap();
    bench.settle();
    assert!(fill(&mut bench, 0..100), "it goes on");
    assert!(bench.output.finish(bench.now));
    let contents = bench.check();
    assert_eq!(contents.lines.len() * 10, bench.written[0].len());
}

#[test]
fn on_a_full_disk_each_byte_is_kept_or_counted() {
    let Some(disk) = small_disk() else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 128 * 1024]).unwrap();
    let mut bench = Bench::in_dir(disk, DROP);
    assert!(fill(&mut bench, 0..30_000), "it does not wait");
    fs::remove_file(&ballast).unwrap();
    bench.settle();
    assert!(fill(&mut bench, 30_000..30_500));
    assert!(bench.output.finish(bench.now));
    let contents = bench.read();
    let records = of_kind(&contents, Kind::Dropped);
    let dropped: u64 = records.iter().map(|record| record.bytes).sum();
    assert!(dropped > 100_000);
    assert_eq!(
        bench.output.health(),
        OutputState::Dropped { bytes: dropped }
    );
    let kept = contents.bytes[0].len() as u64;
    assert_eq!(kept + dropped, bench.written[0].len() as u64);
    let mut rest = [0; 1];
    assert!(File::from(bench.pipes.remove(0).0).read(&mut rest).is_err());
}
