//! What a shim finds that another one left.

use std::fs::{self, OpenOptions};

use proptest::prelude::*;

use super::*;
use crate::shim::segment::{HEADER_BYTES, RECORD_BYTES, data_name, index_name};

const SMALL: Policy = Policy {
    max_bytes: MIB,
    segment_bytes: 2048,
    ..KEEP_ALL
};

/// A log of a run that was not finished.
fn left(policy: Policy, rounds: usize) -> Bench {
    let mut bench = Bench::new(policy);
    for round in 0..rounds {
        bench.moved(Stream::Stdout, format!("out {round}\nand"));
        bench.moved(Stream::Stderr, format!("err {round}"));
    }
    bench
}

fn index(bench: &Bench, segment: u64) -> PathBuf {
    bench.path().join(index_name(segment))
}

fn data(bench: &Bench, segment: u64, stream: Stream) -> PathBuf {
    bench.path().join(data_name(segment, stream))
}

fn cut(path: &std::path::Path, len: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(len).unwrap();
}

#[test]
fn an_index_may_end_at_any_byte() {
    let len = fs::metadata(index(&left(KEEP_ALL, 3), 1)).unwrap().len();
    assert_eq!(len as usize, HEADER_BYTES + 7 * RECORD_BYTES);
    for end in HEADER_BYTES as u64..=len {
        let mut bench = left(KEEP_ALL, 3);
        cut(&index(&bench, 1), end);
        bench.begin(Begin::Adopted);
        bench.retry();
        let unrecorded = bench.output.approximate_bytes();
        bench.moved(Stream::Stdout, " on\n");
        bench.moved(Stream::Stderr, " on\n");
        let contents = bench.check();
        assert_eq!((contents.lines.len(), contents.next), (5, 6), "{end}");
        let found = contents.records.iter().map(|(_, record)| record);
        let found: u64 = found.filter(|r| r.approximate).map(|r| r.bytes).sum();
        assert_eq!(found, unrecorded);
        assert_eq!(found == 0, end == len, "{end}");
    }
}

#[test]
fn an_index_without_its_header_is_left_alone() {
    for end in 0..HEADER_BYTES as u64 {
        let mut bench = left(KEEP_ALL, 3);
        let lines = bench.check().next;
        cut(&index(&bench, 1), end);
        bench.begin(Begin::Adopted);
        bench.moved(Stream::Stdout, "on\n");
        assert_eq!(bench.output.health(), OutputState::Intact);
        assert_eq!(fs::metadata(index(&bench, 1)).unwrap().len(), end);
        fs::remove_file(index(&bench, 1)).unwrap();
        let contents = bench.read();
        assert_eq!(contents.bytes[0], b"on\n");
        assert!(*contents.lines.keys().next().unwrap() >= lines);
    }
}

#[test]
fn bytes_without_a_record_belong_to_the_run_that_wrote_them() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.moved(Stream::Stdout, "told\nhal");
    faults::plan(Some(Plan {
        call: Some("pwrite"),
        after: 0,
        fail: u32::MAX,
        errno: Errno::ENOSPC,
    }));
    bench.moved(Stream::Stdout, "f\nuntold");
    faults::plan(None);
    bench.next_run();
    bench.retry();
    assert_eq!(bench.output.approximate_bytes(), 8);
    bench.moved(Stream::Stdout, "next\n");
    let contents = bench.check();
    let lines: Vec<_> = contents
        .lines
        .values()
        .map(|l| (l.run_id, l.bytes.as_slice()))
        .collect();
    let expected = [
        (1, &b"told"[..]),
        (1, b"half"),
        (1, b"untold"),
        (2, b"next"),
    ];
    assert_eq!(lines, expected);
    let approximate: Vec<_> = contents
        .records
        .iter()
        .map(|(_, r)| r.approximate)
        .collect();
    assert_eq!(approximate, [false, false, true, false, false]);
}

#[test]
fn a_huge_stretch_without_a_record_is_recorded_in_pieces() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.moved(Stream::Stderr, "x");
    let lines = format!("{}\n", "y".repeat(99)).repeat(40_000);
    let path = data(&bench, 1, Stream::Stderr);
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    bench.written[1].extend_from_slice(lines.as_bytes());
    bench.begin(Begin::Adopted);
    bench.retry();
    let contents = bench.check();
    assert_eq!(contents.records.len(), 1 + 1 + 4);
    assert!(contents.records.iter().all(|(_, r)| r.bytes <= MIB));
}

#[test]
fn a_rotation_that_was_cut_short_is_finished() {
    for call in ["unlink", "open", "lock", "rename"] {
        let mut bench = left(SMALL, 3);
        faults::plan(Some(Plan {
            call: Some(call),
            after: 0,
            fail: u32::MAX,
            errno: Errno::EIO,
        }));
        // As many as it takes to be stopped.
        for _ in 0..20 {
            if bench.output.pause.is_none() {
                bench.moved(Stream::Stdout, [b'z'; 200]);
            }
        }
        faults::plan(None);
        assert!(bench.output.pause.is_some(), "{call}");
        bench.next_run();
        bench.settle();
        bench.moved(Stream::Stderr, "on\n".repeat(700));
        let contents = bench.check();
        assert!(contents.segments.len() >= 2, "{call}");
        let names = fs::read_dir(bench.path()).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.all(|name| name.len() == 14), "nothing else is left");
    }
}

#[test]
fn records_that_were_never_written_are_overwritten() {
    for zeroes in [1, RECORD_BYTES, 2 * RECORD_BYTES + 7] {
        let mut bench = left(KEEP_ALL, 3);
        let mut file = OpenOptions::new()
            .append(true)
            .open(index(&bench, 1))
            .unwrap();
        file.write_all(&vec![0; zeroes]).unwrap();
        bench.begin(Begin::Adopted);
        bench.moved(Stream::Stdout, "on\n");
        assert_eq!(bench.check().records.len(), 8);
    }
}

#[test]
fn data_that_is_shorter_than_its_records_is_left_and_the_log_goes_on() {
    for finished in [false, true] {
        let mut bench = left(KEEP_ALL, 3);
        let next = bench.check().next;
        if finished {
            assert!(bench.output.finish(bench.now));
        }
        cut(&data(&bench, 1, Stream::Stdout), 5);
        bench.begin(Begin::Adopted);
        bench.moved(Stream::Stdout, "on\n");
        assert_eq!(reader::segments(&bench.path()), [1, 2]);
        let cut_off = fs::metadata(data(&bench, 1, Stream::Stdout)).unwrap();
        assert_eq!(cut_off.len(), 5);
        fs::remove_file(index(&bench, 1)).unwrap();
        let contents = bench.read();
        assert_eq!(contents.bytes[0], b"on\n");
        let (last, line) = contents.lines.iter().next_back().unwrap();
        assert_eq!((*last, line.stream), (next, Stream::Stdout));
    }
}

#[test]
fn data_that_nobody_knows_of_is_not_taken_for_output() {
    let mut bench = left(SMALL, 2);
    fs::write(data(&bench, 2, Stream::Stdout), "stale").unwrap();
    fs::write(bench.path().join("0000000002.idx.new"), "stale").unwrap();
    for _ in 0..30 {
        bench.moved(Stream::Stdout, "more than one segment\n".repeat(5));
    }
    assert!(bench.check().segments.len() > 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_content_of_a_directory_stops_a_run(
        index_bytes in prop::collection::vec(any::<u8>(), 0..400),
        keep in 0usize..700,
        data_bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut bench = left(KEEP_ALL, 3);
        let mut bytes = fs::read(index(&bench, 1)).unwrap();
        bytes.truncate(keep);
        bytes.extend_from_slice(&index_bytes);
        fs::write(index(&bench, 1), bytes).unwrap();
        fs::write(data(&bench, 1, Stream::Stderr), data_bytes).unwrap();
        bench.begin(Begin::Adopted);
        bench.moved(Stream::Stdout, "on\n");
        prop_assert_eq!(bench.output.health(), OutputState::Intact);
        let segments = reader::segments(&bench.path());
        let newest = data(&bench, *segments.last().unwrap(), Stream::Stdout);
        prop_assert!(fs::read(newest).unwrap().ends_with(b"on\n"));
    }
}
