//! What is removed, and what never is.

use std::fs;

use super::*;
use crate::shim::segment::{data_name, index_name};

fn bytes_on_disk(bench: &Bench) -> u64 {
    let segments = directory::list(&bench.path()).unwrap();
    segments.values().map(|files| files.bytes).sum()
}

fn write_lines(bench: &mut Bench, lines: u32) {
    for line in 0..lines {
        bench.moved(Stream::Stdout, format!("line {line}\n").repeat(10));
        bench.moved(Stream::Stderr, "problem\n");
    }
}

/// What is left is the end of what was written.
fn check_end(bench: &Bench) -> Contents {
    let contents = bench.read();
    for (found, written) in contents.bytes.iter().zip(&bench.written) {
        assert!(written.ends_with(found));
    }
    let numbers = contents.segments.windows(2).all(|two| two[0] + 1 == two[1]);
    assert!(numbers, "{:?}", contents.segments);
    contents
}

#[test]
fn never_more_bytes_than_allowed_are_kept() {
    let mut bench = Bench::new(Policy {
        max_bytes: 16 * 1024,
        segment_bytes: 4096,
        ..KEEP_ALL
    });
    for _ in 0..40 {
        write_lines(&mut bench, 10);
        let bytes = bytes_on_disk(&bench);
        assert!(bytes <= 16 * 1024, "{bytes}");
    }
    let contents = check_end(&bench);
    assert!(bytes_on_disk(&bench) > 11 * 1024);
    assert!((3..=4).contains(&contents.segments.len()));
}

#[test]
fn a_number_of_segments_is_kept() {
    let mut bench = Bench::new(Policy {
        max_bytes: MIB,
        segment_bytes: 4096,
        max_segments: 2,
        ..KEEP_ALL
    });
    write_lines(&mut bench, 100);
    assert_eq!(check_end(&bench).segments.len(), 2);
    // A new shim may be told otherwise.
    bench.policy.max_segments = 1;
    bench.begin(Begin::Adopted);
    bench.retry();
    assert_eq!(check_end(&bench).segments.len(), 1);
}

#[test]
fn output_that_is_too_old_goes_with_its_segment() {
    let minute = 60_000_000_000;
    let mut bench = Bench::new(Policy {
        max_age: Duration::from_secs(600),
        ..KEEP_ALL
    });
    for _ in 0..60 {
        write_lines(&mut bench, 1);
        bench.now.0 += minute;
    }
    let contents = check_end(&bench);
    let oldest = contents.records[0].1.time;
    let age = (bench.now.0 - oldest.0) / minute;
    assert!((10..=13).contains(&age), "{age} minutes");
    bench.now.0 += 100 * minute;
    bench.next_run();
    bench.retry();
    assert_eq!(check_end(&bench).segments.len(), 1, "the newest stays");
}

#[test]
fn a_clock_that_goes_back_removes_nothing() {
    let mut bench = Bench::new(Policy {
        max_age: Duration::from_secs(600),
        ..KEEP_ALL
    });
    bench.now = Timestamp(i64::MAX / 2);
    write_lines(&mut bench, 10);
    bench.now = Timestamp(1);
    write_lines(&mut bench, 10);
    bench.next_run();
    write_lines(&mut bench, 10);
    bench.check();
}

#[test]
fn a_removal_that_was_cut_short_is_finished_and_never_looks_like_damage() {
    let policy = Policy {
        max_bytes: MIB,
        segment_bytes: 4096,
        ..KEEP_ALL
    };
    for after in 0..12 {
        let mut bench = Bench::new(policy);
        write_lines(&mut bench, 60);
        assert!(bench.read().segments.len() > 2);
        bench.policy.max_segments = 1;
        bench.begin(Begin::Adopted);
        faults::plan(Some(Plan {
            call: Some("unlink"),
            after,
            fail: u32::MAX,
            errno: Errno::EIO,
        }));
        bench.retry();
        faults::plan(None);
        assert_eq!(bench.output.health(), OutputState::Intact);
        let contents = check_end(&bench);
        for segment in &contents.segments {
            assert!(
                bench
                    .path()
                    .join(data_name(*segment, Stream::Stdout))
                    .exists()
            );
        }
        bench.begin(Begin::Adopted);
        bench.retry();
        check_end(&bench);
        assert_eq!(fs::read_dir(bench.path()).unwrap().count(), 3);
    }
}

#[test]
fn a_segment_that_somebody_else_removed_is_no_error() {
    let mut bench = Bench::new(Policy {
        max_bytes: 16 * 1024,
        segment_bytes: 4096,
        ..KEEP_ALL
    });
    write_lines(&mut bench, 60);
    let oldest = bench.read().segments[0];
    fs::remove_file(bench.path().join(index_name(oldest))).unwrap();
    write_lines(&mut bench, 60);
    check_end(&bench);
    assert_eq!(bench.output.health(), OutputState::Intact);
}
