//! Torn records, damaged records, missing bytes: a gap, never an invented line.

use std::fs::OpenOptions;

use super::{
    harness::{Random, World, check},
    lines::act,
    writer::{Writer, uid},
};
use crate::{
    logs::{Gap, GapReason, Start},
    shim::segment::{HEADER_BYTES, RECORD_BYTES, Stream, data_name},
};

fn crash(first_sequence: i64, last_sequence: i64, lost_bytes: i64) -> Gap {
    Gap {
        first_sequence,
        last_sequence,
        lost_bytes,
        reason: GapReason::Crash,
    }
}

#[test]
fn a_torn_last_record_is_not_there_yet() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("one\n");
    let record = writer.unrecorded(Stream::Stdout, b"two\n").encode();
    let mut follower = world.follow(uid(1), Start::Oldest);
    let whole = follower.reader.end(follower.slot).unwrap();
    let len = writer.index(1).metadata().unwrap().len();
    for torn in 0..RECORD_BYTES {
        writer.index(1).set_len(len).unwrap();
        writer.append(&record[..torn]);
        assert_eq!(follower.drain().texts(), ["one"], "{torn} bytes of it");
        assert_eq!(follower.reader.end(follower.slot).unwrap(), whole);
    }
    // All of its length, and not yet all of its bytes.
    writer.index(1).set_len(len + RECORD_BYTES as u64).unwrap();
    assert_eq!(follower.drain().texts(), ["one"]);
    assert_eq!(follower.reader.end(follower.slot).unwrap(), whole);
    writer.index(1).set_len(len).unwrap();
    writer.append(&record);
    assert_eq!(follower.drain().texts(), ["one", "two"]);
    assert_eq!(follower.gaps, []);
}

#[test]
fn a_damaged_record_is_a_gap_with_its_numbers() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("one\n");
    writer.out("two\nthree\n");
    writer.out("four\nfi");
    writer.out("ve\nsix\n");
    writer.out("seven\n");
    writer.spoil(1, 2);
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    assert_eq!(follower.texts(), ["one", "four", "five", "six", "seven"]);
    assert_eq!(follower.gaps, [crash(2, 3, 0)]);

    let mut follower = world.follow(uid(1), Start::Oldest);
    writer.spoil(1, 4);
    follower.drain();
    let fi = &follower.entries[2];
    assert_eq!((&fi.data[..], fi.partial), (&b"fi"[..], true));
    // That the rest of line 5 is lost too is part of the same gap.
    assert_eq!(follower.gaps, [crash(2, 3, 0), crash(5, 6, 0)]);
    assert_eq!(follower.texts().last().unwrap(), "seven");

    let mut resumed = world.follow(uid(1), Start::After(5));
    resumed.drain();
    assert_eq!(resumed.gaps, [crash(6, 6, 0)]);
    assert_eq!(resumed.texts(), ["seven"]);
}

#[test]
fn the_middle_of_a_line_is_missed_by_its_bytes() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    for piece in ["ab", "cdefg", "h\n"] {
        writer.out(piece);
    }
    writer.spoil(1, 2);
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    assert_eq!(follower.texts(), ["ab", "h"]);
    assert_eq!(follower.entries[1].line_offset, 7);
    assert_eq!(follower.gaps, [crash(1, 1, 5)]);
}

#[test]
fn an_end_that_may_be_lost_is_not_taken_for_the_end() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("ab");
    writer.out("cd");
    writer.end_run();
    writer.spoil(1, 2);
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    assert_eq!(follower.texts(), ["ab"]);
    assert!(follower.entries[0].partial);
    assert_eq!(follower.gaps, [crash(1, 1, 0)]);
}

#[test]
fn missing_bytes_are_missed_by_their_number() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("one\ntwo\nthree\n");
    writer.err("four\n");
    let data = writer.dir.join(data_name(1, Stream::Stdout));
    let file = OpenOptions::new().write(true).open(&data).unwrap();
    file.set_len(6).unwrap();
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    assert_eq!(follower.texts(), ["one", "tw", "four"]);
    assert_eq!(follower.gaps, [crash(2, 3, 8)]);
    std::fs::remove_file(data).unwrap();
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    assert_eq!(follower.texts(), ["four"]);
    assert_eq!(follower.gaps, [crash(1, 3, 14)]);
}

#[test]
fn a_damaged_header_loses_nothing() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("one\ntwo, ");
    writer.rotate();
    writer.out("still two\nthree\n");
    let header = [0; HEADER_BYTES];
    std::os::unix::fs::FileExt::write_all_at(&writer.index(2), &header, 0).unwrap();
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    check(&writer, 0, &follower.entries, &follower.gaps);
    assert_eq!(follower.gaps, []);
}

#[test]
fn whatever_is_damaged_nothing_is_invented_and_all_that_is_missing_is_told() {
    let mut random = Random::from_env();
    let world = World::new();
    for round in 1..=200 {
        let mut writer = Writer::new(world.root(), uid(round));
        for _ in 0..60 {
            act(&mut writer, &mut random, true);
        }
        writer.out("last\n");
        writer.end_run();
        for _ in 0..1 + random.below(4) {
            let segment = 1 + random.below(usize::try_from(writer.segment).unwrap()) as u64;
            match random.below(4) {
                0 => {
                    let data = data_name(segment, Stream::ALL[random.below(2)]);
                    if let Ok(file) = OpenOptions::new().write(true).open(writer.dir.join(data)) {
                        let len = file.metadata().unwrap().len();
                        file.set_len(len * random.below(100) as u64 / 100).unwrap();
                    }
                }
                _ => {
                    let records = writer.records(segment).saturating_sub(1);
                    if records > 0 {
                        let record = random.below(usize::try_from(records).unwrap());
                        writer.spoil(segment, record as u64);
                    }
                }
            }
        }
        let after = random.below(usize::try_from(writer.next).unwrap()) as i64;
        for start in [0, after] {
            let mut follower = world.follow(uid(round), Start::After(start));
            follower.drain();
            check(&writer, start, &follower.entries, &follower.gaps);
        }
    }
}
