//! Lines, numbers, positions and pieces of what is on disk.

use super::{
    harness::{Random, World, check, lines},
    writer::{Writer, uid},
};
use crate::{
    domain::time::Timestamp,
    logs::{Gap, GapReason, Logs, OutputStream, Place, Start, limits::*},
    shim::segment::Stream,
};

/// Something that a run or its shim does.
pub(super) fn act(writer: &mut Writer, random: &mut Random, drops: bool) {
    let stream = Stream::ALL[random.below(2)];
    match random.below(24) {
        0 => writer.rotate(),
        1 => {
            writer.end_run();
            writer.begin_run(writer.run_id + 1);
        }
        2 => writer.begin_run(writer.run_id + 1),
        3 if drops => writer.drop_bytes(stream, 1 + random.below(1000) as u64),
        4 => {
            let size = random.below(3 * PIECE_BYTES_MAX) + 1;
            writer.write(stream, &bytes(random, size, &[10_000, 1_000_000]));
        }
        _ => {
            let size = random.below(60) + 1;
            writer.write(stream, &bytes(random, size, &[2, 10, 100, 1000]));
        }
    }
    writer.time.0 += 1;
}

/// With a newline every so many bytes.
fn bytes(random: &mut Random, size: usize, densities: &[usize]) -> Vec<u8> {
    let density = densities[random.below(densities.len())];
    (0..size)
        .map(|_| match random.below(density) {
            0 => b'\n',
            _ => b'a' + u8::try_from(random.below(26)).unwrap(),
        })
        .collect()
}

#[test]
fn any_interleaving_gives_the_lines_written_and_each_position_the_rest() {
    let mut random = Random::from_env();
    let world = World::new();
    for round in 1..=30 {
        let mut writer = Writer::new(world.root(), uid(round));
        for _ in 0..random.below(120) {
            act(&mut writer, &mut random, true);
        }
        let budget = [1, 1000, 64 * 1024][random.below(3)];
        let mut whole = world.follow(uid(round), Start::Oldest);
        whole.drain_all(budget);
        check(&writer, 0, &whole.entries, &whole.gaps);
        let dropped = |gap: &Gap| {
            gap.reason == GapReason::Dropped
                && writer.lines[&gap.first_sequence].dropped == gap.lost_bytes as u64
        };
        assert!(whole.gaps.iter().all(dropped), "{:?}", whole.gaps);
        for after in 0..writer.next.min(60) {
            let mut rest = world.follow(uid(round), Start::After(after));
            rest.drain_all(64 * 1024);
            check(&writer, after, &rest.entries, &rest.gaps);
            assert_eq!(
                rest.gaps.len(),
                writer
                    .lines
                    .range(after + 1..)
                    .filter(|(_, line)| line.dropped > 0)
                    .count()
            );
            let mut from = world.follow(uid(round), Start::From(after + 1));
            from.drain_all(64 * 1024);
            let wanted = from.entries.iter().filter(|e| e.sequence > after);
            assert!(wanted.eq(rest.entries.iter()), "from {}", after + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_follows_sees_the_same_whenever_it_looks() {
    let mut random = Random::from_env();
    let world = World::new();
    for round in 1..=20 {
        let mut writer = Writer::new(world.root(), uid(round));
        let mut follower = world.follow(uid(round), Start::Oldest);
        for _ in 0..150 {
            act(&mut writer, &mut random, true);
            match random.below(4) {
                0 => {
                    follower.read(1 + random.below(5000), Place::MAX);
                }
                1 => {
                    follower.drain();
                    tokio::time::advance(QUIET).await;
                    follower.drain();
                }
                _ => {}
            }
        }
        writer.end_run();
        follower.drain();
        check(&writer, 0, &follower.entries, &follower.gaps);
    }
}

#[test]
fn bytes_come_as_written() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out(b"50%\r100%\r\n\0\xff\xfe\n\n\xc3");
    writer.time = Timestamp(2);
    // The other half of the character, later.
    writer.out(b"\xa9 end");
    writer.end_run();
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    assert_eq!(
        lines(&follower, OutputStream::Stdout),
        [
            &b"50%\r100%\r"[..],
            b"\0\xff\xfe",
            b"",
            "\u{e9} end".as_bytes()
        ]
    );
    assert!(follower.entries.iter().all(|entry| !entry.partial));
    let times: Vec<_> = follower.entries.iter().map(|e| e.time.0).collect();
    assert_eq!(times, [1, 1, 1, 2], "when the last byte came");
}

#[test]
fn times_found_later_are_marked() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("exact\nbegun");
    writer.approximate = true;
    writer.out(" found\n");
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    let got: Vec<_> = follower
        .entries
        .iter()
        .map(|e| e.approximate_time)
        .collect();
    assert_eq!(got, [false, true]);
}

#[test]
fn a_line_that_goes_on_behind_the_other_stream_is_put_together() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("out one, ");
    writer.err("err\nerr two, ");
    writer.rotate();
    writer.out("still one\nout three\n");
    writer.err("still two\n");
    let mut follower = world.follow(uid(1), Start::Oldest);
    follower.drain();
    let got: Vec<_> = follower.entries.iter().map(|e| e.sequence).collect();
    assert_eq!(
        follower.texts(),
        [
            "out one, still one",
            "err",
            "err two, still two",
            "out three"
        ]
    );
    assert_eq!(got, [1, 2, 3, 4]);
    assert!(follower.entries.iter().all(|entry| !entry.partial));
}

#[test]
fn a_line_of_64_mib_comes_in_pieces() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    // As the writer does it, but without a step per byte.
    let record = writer.unrecorded(Stream::Stdout, b"x");
    let path = writer.dir.join("0000000001.out");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let mut bytes = vec![b'x'; 1024 * 1024];
    writer.push(&record);
    let mut at = 1;
    while at < LENGTH {
        let count = bytes.len().min(LENGTH - at);
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..count], at as u64).unwrap();
        let (offset, line_offset) = (at as u64, i64::try_from(at).unwrap());
        writer.push(&crate::shim::segment::Record {
            offset,
            bytes: count as u64,
            line_offset,
            ..record
        });
        at += count;
    }
    bytes.clear();
    std::os::unix::fs::FileExt::write_all_at(&file, b"\nend\n", LENGTH as u64).unwrap();
    writer.push(&crate::shim::segment::Record {
        offset: LENGTH as u64,
        bytes: 5,
        line_offset: i64::try_from(LENGTH).unwrap(),
        following: 2,
        next_sequence: 3,
        ..record
    });
    let mut reader = world.logs.reader();
    let slot = reader.attach(uid(1), Start::Oldest).unwrap().unwrap().slot;
    let (mut next, mut ended) = (0, false);
    loop {
        let batch = reader.read(slot, 64 * 1024, Place::MAX).unwrap();
        assert_eq!(batch.gaps, []);
        for entry in batch.entries {
            if entry.sequence == 2 {
                assert_eq!((&entry.data[..], ended), (&b"end"[..], true));
                assert_eq!(next, i64::try_from(LENGTH).unwrap());
                return;
            }
            assert_eq!((entry.sequence, entry.line_offset), (1, next));
            assert_eq!(entry.data.len(), PIECE_BYTES_MAX);
            next += i64::try_from(entry.data.len()).unwrap();
            ended = !entry.partial;
        }
        assert!(batch.more);
    }
}

#[test]
fn trimming_gives_one_gap_with_the_right_numbers() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    let mut early = world.follow(uid(1), Start::Oldest);
    writer.out("first\n");
    early.drain();
    for _ in 0..4 {
        writer.out("a line\n".repeat(100));
        writer.rotate();
    }
    writer.out("last\n");
    for segment in 1..=3 {
        writer.remove_segment(segment);
    }
    let mut late = world.follow(uid(1), Start::Oldest);
    late.drain();
    assert_eq!(
        late.gaps,
        [],
        "who asks for what is retained misses nothing"
    );
    assert_eq!(late.entries[0].sequence, 302);
    early.drain();
    let gap = Gap {
        first_sequence: 2,
        last_sequence: 301,
        lost_bytes: 0,
        reason: GapReason::Trimmed,
    };
    assert_eq!(early.gaps, [gap]);
    assert_eq!(early.entries[1..], late.entries[..]);
    for seen in [0, 100, 300] {
        let mut resumed = world.follow(uid(1), Start::After(seen));
        resumed.drain();
        let gap = Gap {
            first_sequence: seen + 1,
            ..gap
        };
        assert_eq!(resumed.gaps, [gap], "after {seen}");
        assert_eq!(resumed.entries, late.entries);
    }
    for (seen, left) in [
        (301, 101),
        (302, 100),
        (402, 0),
        (403, 101),
        (i64::MAX, 101),
    ] {
        let mut resumed = world.follow(uid(1), Start::After(seen));
        resumed.drain();
        let got = (resumed.gaps.len(), resumed.entries.len());
        assert_eq!(got, (0, left), "after {seen}");
    }
}

#[test]
fn a_line_of_which_nothing_is_left_is_in_one_gap() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("one\n");
    let mut early = world.follow(uid(1), Start::Oldest);
    early.drain();
    writer.out("two\nthree ");
    writer.rotate();
    writer.remove_segment(1);
    early.drain();
    // Nothing of the rest of the third line is looked at before it is gone, too.
    writer.out("rest\nfour\nfive ");
    writer.rotate();
    writer.remove_segment(2);
    early.drain();
    writer.out("rest\n");
    early.drain();
    let gap = |first_sequence, last_sequence| Gap {
        first_sequence,
        last_sequence,
        lost_bytes: 0,
        reason: GapReason::Trimmed,
    };
    assert_eq!(early.gaps, [gap(2, 3), gap(4, 5)]);
    assert_eq!(early.texts(), ["one", "rest"]);
    check(&writer, 0, &early.entries, &early.gaps);
}

#[test]
fn the_rest_of_a_line_whose_start_was_trimmed_has_its_place() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("one\ntwo ");
    let mut early = world.follow(uid(1), Start::Oldest);
    early.drain_all(1000);
    assert_eq!(early.take_texts(), ["one", "two "]);
    writer.out("gone ");
    writer.rotate();
    writer.out("rest\n");
    writer.remove_segment(1);
    let gap = Gap {
        first_sequence: 2,
        last_sequence: 2,
        lost_bytes: 5,
        reason: GapReason::Trimmed,
    };
    early.drain();
    assert_eq!(early.gaps, [gap]);
    for start in [Start::Oldest, Start::After(1)] {
        let mut late = world.follow(uid(1), start);
        late.drain();
        let entry = &late.entries[0];
        assert_eq!((&entry.data[..], entry.line_offset), (&b"rest"[..], 9));
        assert_eq!((entry.sequence, entry.partial), (2, false));
        assert_eq!(early.entries, late.entries);
    }
}

#[test]
fn a_new_daemon_goes_on_at_an_old_position() {
    let world = World::new();
    let mut writer = Writer::new(world.root(), uid(1));
    writer.out("one\ntwo\n");
    writer.rotate();
    writer.out("three\n");
    let mut before = world.follow(uid(1), Start::Oldest);
    before.drain();
    let position = before.entries[1].sequence;
    let again = Logs::new(world.root().into(), Limits::default()).unwrap();
    writer.out("four\n");
    let mut after = super::harness::Follower::new(&again, uid(1), Start::After(position));
    after.drain();
    assert_eq!(after.texts(), ["three", "four"]);
    assert_eq!(after.gaps, []);
}

/// `MEGABYTES=1000 cargo test --release --lib reading_rate -- --nocapture`
#[test]
fn reading_rate_of_lines_of_100_bytes() {
    let asked = std::env::var("MEGABYTES")
        .ok()
        .and_then(|text| text.parse().ok());
    let megabytes: usize = asked.unwrap_or(10);
    let line = "x".repeat(99) + "\n";
    for lines_per_record in [650, 1] {
        let world = World::new();
        let mut writer = Writer::new(world.root(), uid(1));
        for _ in 0..megabytes * 10_000 / lines_per_record {
            writer.out(line.repeat(lines_per_record));
            writer.lines.clear();
        }
        let mut reader = world.logs.reader();
        let slot = reader.attach(uid(1), Start::Oldest).unwrap().unwrap().slot;
        let start = std::time::Instant::now();
        let (mut count, mut more) = (0, true);
        while more {
            let batch = reader.read(slot, 256 * 1024, Place::MAX).unwrap();
            count += batch.entries.len();
            more = batch.more;
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = count as f64 / 10_000.0 / seconds;
        println!("{lines_per_record} lines a record: {rate:.0} MB/s");
        assert_eq!(count as i64, writer.next - 1);
    }
}
