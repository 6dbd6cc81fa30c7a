//! Real pipes against what a reader gets.

use std::{
    collections::{BTreeMap, HashSet},
    env,
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use super::*;
use limits::{BUFFER_BYTES_MIN, ENTRY_COST_BYTES, PIECE_BYTES_MAX};

/// Long enough for a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn uid(number: u32) -> Uid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Uid::from_bytes(bytes)
}

fn name() -> ProcessName {
    ProcessName::new("web").unwrap()
}

fn logs() -> Logs {
    Logs::new(Limits::default()).unwrap()
}

fn files(writers: Writers) -> (File, File) {
    (File::from(writers.stdout), File::from(writers.stderr))
}

/// What one reader got of one buffer.
struct Follower {
    reader: Reader,
    slot: Slot,
    entries: Vec<Entry>,
    gaps: Vec<Gap>,
}

impl Follower {
    fn new(logs: &Logs, uid: Uid, start: Start) -> Self {
        let mut reader = logs.reader();
        let slot = reader.attach(uid, start).unwrap().slot;
        Self {
            reader,
            slot,
            entries: Vec::new(),
            gaps: Vec::new(),
        }
    }

    fn until(&mut self, enough: impl Fn(&Self) -> bool) -> &mut Self {
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            let last = self.entries.last().map(|entry| entry.sequence);
            assert!(Instant::now() < deadline, "stuck after {last:?}");
            let batch = self.reader.read(self.slot, 256 * 1024, u64::MAX);
            self.gaps.extend(batch.gap);
            if batch.entries.is_empty() {
                std::thread::yield_now();
            }
            self.entries.extend(batch.entries);
        }
        self
    }

    /// Until the newest entry is `text`.
    fn until_text(&mut self, text: &str) -> &mut Self {
        self.until(|got| {
            got.entries
                .last()
                .is_some_and(|entry| entry.data == text.as_bytes())
        })
    }

    fn texts(&self) -> Vec<String> {
        self.entries
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.data).into_owned())
            .collect()
    }
}

/// Small, seeded, replayable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn from_env() -> Self {
        let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| wall_clock().0.unsigned_abs());
        println!("replay with SEED={seed}");
        Self(seed)
    }
}

#[test]
fn any_chunking_on_both_streams_gives_the_lines_written_with_dense_sequences() {
    let mut random = Random::from_env();
    let logs = logs();
    for round in 1..=20 {
        let writers = logs.open(uid(round), &name(), 1, false, limits::BUFFER_BYTES_MAX);
        let (out, err) = files(writers.unwrap());
        let mut streams = [(out, Vec::new()), (err, Vec::new())];
        for _ in 0..random.below(200) {
            let (file, written) = &mut streams[random.below(2)];
            let size = match random.below(10) {
                0 => random.below(3 * PIECE_BYTES_MAX),
                1..4 => random.below(5000),
                _ => random.below(30),
            };
            let density = 1 + random.below(200);
            let bytes: Vec<u8> = (0..size)
                .map(|_| match random.below(density) {
                    0 => b'\n',
                    _ => u8::try_from(random.below(256)).unwrap(),
                })
                .collect();
            file.write_all(&bytes).unwrap();
            written.extend_from_slice(&bytes);
        }
        let want = streams.map(|(_, written)| lines_of(&written));
        let mut follower = Follower::new(&logs, uid(round), Start::After(0));
        let count = want.iter().map(Vec::len).sum::<usize>();
        follower.until(|got| {
            let ends = got.entries.iter().filter(|entry| !entry.partial);
            ends.count() == count
        });
        assert_eq!(follower.gaps, []);
        check(&follower.entries, &want);
        logs.remove(uid(round));
    }
}

/// The lines of a stream at its end.
fn lines_of(written: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = written.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

fn check(entries: &[Entry], want: &[Vec<Vec<u8>>; 2]) {
    let mut newest = 0;
    let mut lines: BTreeMap<i64, (OutputStream, Vec<u8>, bool)> = BTreeMap::new();
    for entry in entries {
        assert!(entry.data.len() <= PIECE_BYTES_MAX);
        let line = lines
            .entry(entry.sequence)
            .or_insert_with(|| (entry.stream, Vec::new(), false));
        assert_eq!(
            line.0, entry.stream,
            "line {} is of one stream",
            entry.sequence
        );
        assert!(
            !line.2,
            "nothing follows the end of line {}",
            entry.sequence
        );
        assert_eq!(line.1.len(), usize::try_from(entry.line_offset).unwrap());
        if entry.line_offset == 0 {
            assert_eq!(entry.sequence, newest + 1, "dense in order of arrival");
            newest = entry.sequence;
        }
        line.1.extend_from_slice(&entry.data);
        line.2 = !entry.partial;
    }
    for (stream, want) in [OutputStream::Stdout, OutputStream::Stderr]
        .iter()
        .zip(want)
    {
        let got: Vec<&Vec<u8>> = lines
            .values()
            .filter(|line| line.0 == *stream)
            .map(|line| &line.1)
            .collect();
        assert_eq!(got.len(), want.len());
        assert!(got.into_iter().eq(want), "{stream:?}");
    }
}

#[test]
fn bytes_come_as_written() {
    let logs = logs();
    let (mut out, _err) = files(logs.open(uid(1), &name(), 1, false, 0).unwrap());
    let written = b"50%\r100%\r\n\0\xff\xfe\n\n\xc3";
    out.write_all(written).unwrap();
    // The other half of the character, later.
    out.write_all(b"\xa9 end").unwrap();
    drop(out);
    let mut follower = Follower::new(&logs, uid(1), Start::Oldest);
    follower.until_text("\u{e9} end");
    let data: Vec<&[u8]> = follower.entries.iter().map(|e| &e.data[..]).collect();
    assert_eq!(
        data,
        [
            &b"50%\r100%\r"[..],
            b"\0\xff\xfe",
            b"",
            "\u{e9} end".as_bytes()
        ]
    );
    assert!(follower.entries.iter().all(|entry| !entry.partial));
}

#[test]
fn a_prompt_is_seen_before_its_newline_and_ended_at_eof() {
    let logs = logs();
    let (mut out, err) = files(logs.open(uid(1), &name(), 1, false, 0).unwrap());
    let mut follower = Follower::new(&logs, uid(1), Start::Oldest);
    out.write_all(b"password: ").unwrap();
    follower.until_text("password: ");
    assert!(follower.entries[0].partial);
    // Another line in between does not disturb the open one.
    (&err).write_all(b"note\n").unwrap();
    follower.until_text("note");
    assert_eq!(follower.entries[1].sequence, 2);
    out.write_all(b"x").unwrap();
    drop(out);
    follower.until(|got| got.entries.iter().filter(|e| !e.partial).count() == 2);
    let rest = &follower.entries[2..];
    assert!(rest.iter().all(|e| e.sequence == 1 && e.line_offset >= 10));
    assert_eq!(rest[0].data, "x");
    assert_eq!(rest[0].line_offset, 10);
}

#[test]
fn a_line_of_64_mib_comes_in_pieces_and_memory_stays_bounded() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let logs = logs();
    let (mut out, _err) = files(
        logs.open(uid(1), &name(), 1, false, BUFFER_BYTES_MIN)
            .unwrap(),
    );
    let mut follower = Follower::new(&logs, uid(1), Start::Oldest);
    let writer = std::thread::spawn(move || {
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..LENGTH / chunk.len() {
            out.write_all(&chunk).unwrap();
        }
        out.write_all(b"\nend\n").unwrap();
    });
    let mut most = 0;
    while !writer.is_finished() {
        most = most.max(logs.used_bytes());
        std::thread::yield_now();
    }
    writer.join().unwrap();
    follower.until_text("end");
    assert!(most <= BUFFER_BYTES_MIN, "{most}");
    let (end, pieces) = follower.entries.split_last().unwrap();
    assert_eq!(end.sequence, 2);
    let mut next = pieces[0].line_offset;
    for piece in pieces {
        assert_eq!((piece.sequence, piece.line_offset), (1, next));
        next += i64::try_from(piece.data.len()).unwrap();
    }
    assert_eq!(next, i64::try_from(LENGTH).unwrap());
    assert!(!pieces.last().unwrap().partial);
    let lost: i64 = follower.gaps.iter().map(|gap| gap.lost_bytes).sum();
    assert_eq!(lost, pieces[0].line_offset, "what is not here is declared");
    assert_eq!(follower.gaps.len(), 1);
    assert_eq!(follower.gaps[0].first_sequence, 1);
    assert_eq!(follower.gaps[0].last_sequence, 1);
}

#[test]
fn trimming_gives_one_gap_with_the_right_numbers() {
    let logs = logs();
    let (mut out, _err) = files(
        logs.open(uid(1), &name(), 1, false, BUFFER_BYTES_MIN)
            .unwrap(),
    );
    let mut early = Follower::new(&logs, uid(1), Start::Oldest);
    out.write_all(b"first\n").unwrap();
    early.until_text("first");
    let count = 10_000;
    for number in 2..=count {
        writeln!(out, "{number:09}").unwrap();
    }
    let last = format!("{count:09}");
    Follower::new(&logs, uid(1), Start::Oldest).until_text(&last);
    let mut late = Follower::new(&logs, uid(1), Start::Oldest);
    late.until_text(&last);
    assert_eq!(
        late.gaps,
        [],
        "who asks for what is retained misses nothing"
    );

    early.entries.clear();
    early.until_text(&last);
    let kept = BUFFER_BYTES_MIN / (9 + ENTRY_COST_BYTES);
    assert_eq!(early.entries.len(), kept);
    let last_sequence = i64::from(count) - i64::try_from(kept).unwrap();
    let want = Gap {
        first_sequence: 2,
        last_sequence,
        lost_bytes: (last_sequence - 1) * 9,
        reason: GapReason::Trimmed,
    };
    assert_eq!(early.gaps, [want]);
    assert_eq!(early.entries[0].sequence, last_sequence + 1);

    for (seen, first_sequence, lost_bytes) in [(0, 1, want.lost_bytes + 5), (100, 101, 0)] {
        let mut resumed = Follower::new(&logs, uid(1), Start::After(seen));
        resumed.until_text(&last);
        let gap = Gap {
            first_sequence,
            lost_bytes,
            ..want
        };
        assert_eq!(resumed.gaps, [gap], "after {seen}");
    }
    let mut resumed = Follower::new(&logs, uid(1), Start::After(last_sequence));
    resumed.until_text(&last);
    assert_eq!((resumed.gaps.len(), resumed.entries.len()), (0, kept));
    let mut foreign = Follower::new(&logs, uid(1), Start::After(i64::MAX));
    foreign.until_text(&last);
    assert_eq!(
        foreign.entries.len(),
        kept,
        "a foreign position gets everything"
    );
}

#[test]
fn a_follower_goes_on_across_runs() {
    let logs = logs();
    let (mut out, err) = files(logs.open(uid(1), &name(), 1, false, 0).unwrap());
    let mut follower = Follower::new(&logs, uid(1), Start::End);
    out.write_all(b"one\nhalf").unwrap();
    drop((out, err));
    follower.until_text("half");
    let (mut out, _err) = files(logs.open(uid(1), &name(), 2, true, 0).unwrap());
    out.write_all(b"two\n").unwrap();
    follower.until_text("two");
    let got: Vec<_> = follower
        .entries
        .iter()
        .map(|e| (e.sequence, e.run_id))
        .collect();
    assert_eq!(got, [(1, 1), (2, 1), (3, 2)]);
}

#[test]
fn merged_streams_keep_their_order_and_count_as_stdout() {
    let logs = logs();
    let (mut out, mut err) = files(logs.open(uid(1), &name(), 1, true, 0).unwrap());
    for _ in 0..100 {
        out.write_all(b"out\n").unwrap();
        err.write_all(b"err\n").unwrap();
    }
    drop((out, err));
    let mut follower = Follower::new(&logs, uid(1), Start::Oldest);
    follower.until(|got| got.entries.len() == 200);
    let want: Vec<String> = ["out", "err"]
        .repeat(100)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(follower.texts(), want);
    assert!(
        follower
            .entries
            .iter()
            .all(|e| e.stream == OutputStream::Stdout)
    );
}

#[test]
fn the_total_is_kept_by_trimming_the_largest() {
    let total = 4 * 1024 * 1024;
    let logs = Logs::new(Limits { total_bytes: total }).unwrap();
    let (mut quiet, _err) = files(logs.open(uid(0), &name(), 1, true, 0).unwrap());
    quiet.write_all(b"still here\n").unwrap();
    let mut small = Follower::new(&logs, uid(0), Start::Oldest);
    small.until_text("still here");
    for number in 1..=4 {
        let writers = logs.open(uid(number), &name(), 1, true, 4 * 1024 * 1024);
        let (mut out, _err) = files(writers.unwrap());
        for _ in 0..40_000 {
            out.write_all(&[[b'x'; 99].as_slice(), b"\n"].concat())
                .unwrap();
        }
        out.write_all(b"end\n").unwrap();
        Follower::new(&logs, uid(number), Start::Oldest).until_text("end");
        assert!(logs.used_bytes() <= total, "{}", logs.used_bytes());
    }
    let mut again = Follower::new(&logs, uid(0), Start::After(0));
    again.until_text("still here");
    assert_eq!(again.gaps, []);
    for number in 0..=4 {
        logs.remove(uid(number));
    }
    drop((small, again));
    let deadline = Instant::now() + PATIENCE;
    while logs.used_bytes() > 0 {
        assert!(Instant::now() < deadline, "{} left", logs.used_bytes());
        std::thread::yield_now();
    }
}

#[test]
fn removal_drains_and_closes_the_pipes_and_a_follower_keeps_the_rest() {
    let logs = logs();
    let (mut out, _err) = files(logs.open(uid(1), &name(), 1, false, 0).unwrap());
    out.write_all(b"last words\n").unwrap();
    let mut follower = Follower::new(&logs, uid(1), Start::Oldest);
    logs.remove(uid(1));
    follower.until_text("last words");
    assert!(follower.reader.is_removed(follower.slot));
    assert!(logs.reader().attach(uid(1), Start::Oldest).is_none());
    let deadline = Instant::now() + PATIENCE;
    while out.write_all(b"x").is_ok() {
        assert!(Instant::now() < deadline, "the pipe is still open");
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_left_of_a_thousand_runs() {
    let logs = logs();
    let mut inodes = HashSet::new();
    for run_id in 1..=1000 {
        let (mut out, err) = files(logs.open(uid(1), &name(), run_id, false, 0).unwrap());
        for file in [&out, &err] {
            inodes.insert(format!("pipe:[{}]", file.metadata().unwrap().ino()));
        }
        out.write_all(b"hello").unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let open: Vec<_> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| inodes.contains(&*target.to_string_lossy()))
            .collect();
        if open.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "still open: {open:?}");
        std::thread::yield_now();
    }
    let mut follower = Follower::new(&logs, uid(1), Start::Oldest);
    follower.until(|got| got.entries.len() == 1000);
}

#[test]
fn a_reader_is_woken_once_and_only_for_what_it_follows() {
    let logs = logs();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let (mut one, _err) = files(logs.open(uid(1), &name(), 1, true, 0).unwrap());
    let (mut two, _err2) = files(logs.open(uid(2), &name(), 1, true, 0).unwrap());
    let mut reader = logs.reader();
    let slot = reader.attach(uid(1), Start::End).unwrap().slot;
    assert_eq!(reader.next_ready(), None);
    two.write_all(b"not followed\n").unwrap();
    for _ in 0..3 {
        one.write_all(b"line\n").unwrap();
        let woken =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, reader.ready()).await });
        woken.unwrap();
        assert_eq!(reader.next_ready(), Some(slot));
        assert_eq!(reader.next_ready(), None);
        assert_eq!(reader.read(slot, 1024, u64::MAX).entries.len(), 1);
    }
    reader.detach(slot);
    one.write_all(b"line\n").unwrap();
    let mut other = Follower::new(&logs, uid(1), Start::Oldest);
    other.until(|got| got.entries.len() == 4);
    assert_eq!(reader.next_ready(), None);
}
