//! What the promises of `output` are worth, on real files and real pipes.

mod failing;
pub(super) mod faults;
mod killed;
mod property;
mod reader;
mod retention;
mod takeover;

use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};

use self::{
    faults::Plan,
    reader::{Contents, of_kind, read},
};
use super::*;
use crate::shim::segment::{Kind, Record, index_name, segment_of_data};

const MIB: u64 = 1024 * 1024;

const KEEP_ALL: Policy = Policy {
    max_bytes: 64 * MIB,
    segment_bytes: 0,
    max_segments: 0,
    max_age: Duration::ZERO,
    drop_when_full: false,
};

/// A run whose shim can be killed: the pipes stay.
struct Bench {
    dir: tempfile::TempDir,
    policy: Policy,
    run_id: i64,
    now: Timestamp,
    pipes: Vec<(OwnedFd, File)>,
    output: Output,
    written: [Vec<u8>; 2],
}

// === impl Bench ===

impl Bench {
    fn new(policy: Policy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_dir(dir, policy)
    }

    fn in_dir(dir: tempfile::TempDir, policy: Policy) -> Self {
        let pipes = (0..2)
            .map(|_| pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap())
            .map(|(read_end, write_end)| (read_end, File::from(write_end)))
            .collect();
        let mut bench = Self {
            output: Output::new(PathBuf::new(), 0, policy, Begin::Run),
            dir,
            policy,
            run_id: 1,
            now: Timestamp(1_000_000_000),
            pipes,
            written: Default::default(),
        };
        std::fs::create_dir_all(bench.dir.path().join("logs")).unwrap();
        bench.begin(Begin::Run);
        bench
    }

    fn path(&self) -> PathBuf {
        self.dir
            .path()
            .join("logs/00000001-0000-0000-0000-000000000000")
    }

    /// The shim there was is dead, if it still lived, and there is a new one.
    fn begin(&mut self, begin: Begin) {
        self.output = Output::new(PathBuf::new(), 0, self.policy, begin); // lets go of the lock
        wait_for_lock(&self.path());
        self.output = Output::new(self.path(), self.run_id, self.policy, begin);
        for (stream, (read_end, _)) in Stream::ALL.into_iter().zip(&self.pipes) {
            self.output.watch(stream, read_end.try_clone().unwrap());
        }
    }

    fn next_run(&mut self) {
        self.run_id += 1;
        self.begin(Begin::Run);
    }

    fn write(&mut self, stream: Stream, bytes: impl AsRef<[u8]>) {
        let at = stream.index();
        self.pipes[at].1.write_all(bytes.as_ref()).unwrap();
        self.written[at].extend_from_slice(bytes.as_ref());
    }

    fn ready(&mut self, stream: Stream) {
        self.now.0 += 1_000_000;
        self.output.ready(stream, self.now);
    }

    /// Writes and moves.
    fn moved(&mut self, stream: Stream, bytes: impl AsRef<[u8]>) {
        self.write(stream, bytes);
        self.ready(stream);
    }

    /// The time of the pause is over.
    fn retry(&mut self) {
        self.now.0 += 1_000_000;
        retry(&mut self.output, self.now);
    }

    /// Nothing fails any more, and all is moved.
    fn settle(&mut self) {
        faults::plan(None);
        self.retry();
        let mut before = None;
        while before != Some(self.stored()) {
            before = Some(self.stored());
            for stream in Stream::ALL {
                self.ready(stream);
            }
        }
        assert_eq!(self.output.pause.map(|pause| pause.error), None);
    }

    /// Bytes of each stream in data files.
    fn stored(&self) -> [u64; 2] {
        let plan = faults::plan(None);
        let files = kernel::list(&self.path()).unwrap();
        faults::plan(plan);
        let mut stored = [0; 2];
        for (name, bytes) in files {
            if let Some((_, stream)) = segment_of_data(&name) {
                stored[stream.index()] += bytes;
            }
        }
        stored
    }

    /// Bytes that are in a pipe still, if all others are stored and kept.
    fn waiting(&self, stream: Stream) -> usize {
        let at = stream.index();
        self.written[at].len() - self.stored()[at] as usize
    }

    fn read(&self) -> Contents {
        read(&self.path())
    }

    /// All that was written is there, once.
    fn check(&self) -> Contents {
        let contents = self.read();
        for stream in Stream::ALL {
            let (found, written) = (
                &contents.bytes[stream.index()],
                &self.written[stream.index()],
            );
            let same = found
                .iter()
                .zip(written)
                .take_while(|(a, b)| a == b)
                .count();
            assert!(
                found == written,
                "{stream}: {} bytes are not {}, from byte {same} on",
                found.len(),
                written.len()
            );
        }
        contents
    }
}

fn retry(output: &mut Output, now: Timestamp) {
    if let Some(pause) = &mut output.pause {
        pause.until = Instant::now();
    }
    output.retry(now);
}

/// Other tests start processes, and until such a one has executed its program
/// it holds the locks that were held here.
fn wait_for_lock(dir: &Path) {
    let plan = faults::plan(None);
    let newest = directory::list(dir)
        .unwrap_or_default()
        .into_keys()
        .next_back();
    if let Some(index) = newest.and_then(|segment| File::open(dir.join(index_name(segment))).ok()) {
        while is_locked(&index) {
            std::thread::yield_now();
        }
    }
    faults::plan(plan);
}

fn is_locked(index: &File) -> bool {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(index, FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
    lock.l_type != libc::F_UNLCK as libc::c_short
}

#[test]
fn output_is_in_the_log_with_its_lines_its_run_and_its_time() {
    let mut bench = Bench::new(KEEP_ALL);
    assert_eq!(bench.output.timeout(), Some(Duration::ZERO));
    bench.retry();
    assert_eq!(bench.output.timeout(), None, "nothing wakes an idle shim");
    bench.moved(Stream::Stdout, "one\ntw");
    bench.moved(Stream::Stderr, "problem\n");
    bench.moved(Stream::Stdout, "o\n\nthree");
    bench.write(Stream::Stderr, "last\n");
    assert!(bench.output.finish(bench.now));
    assert_eq!(bench.output.timeout(), None);
    assert!(bench.output.polls().is_empty());
    let contents = bench.check();
    let lines: Vec<_> = contents
        .lines
        .iter()
        .map(|(n, line)| (*n, String::from_utf8_lossy(&line.bytes), line.ended))
        .collect();
    let expected = [
        (1, "one", true),
        (2, "two", true),
        (3, "problem", true),
        (4, "", true),
        (5, "three", false),
        (6, "last", true),
    ];
    assert_eq!(lines, expected.map(|(n, s, ended)| (n, s.into(), ended)));
    let kinds: Vec<_> = contents.records.iter().map(|(_, r)| r.kind).collect();
    assert_eq!(kinds.first(), Some(&Kind::RunBegan));
    assert_eq!(kinds.last(), Some(&Kind::RunEnded));
    for (_, record) in &contents.records {
        assert!(record.time > Timestamp(1_000_000_000) && record.time <= bench.now);
        assert_eq!((record.run_id, record.approximate), (1, false));
    }
    assert_eq!(bench.output.health(), OutputState::Intact);
}

#[test]
fn a_new_run_goes_on_in_the_same_segment_and_ends_open_lines() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.moved(Stream::Stdout, "open");
    bench.next_run();
    bench.moved(Stream::Stdout, "new\n");
    bench.begin(Begin::Adopted);
    bench.moved(Stream::Stdout, "more");
    let contents = bench.check();
    assert_eq!(contents.segments, [1]);
    assert_eq!(of_kind(&contents, Kind::RunBegan).len(), 2);
    let lines: Vec<_> = contents
        .lines
        .values()
        .map(|l| (l.run_id, l.bytes.as_slice()))
        .collect();
    assert_eq!(lines, [(1, &b"open"[..]), (2, b"new"), (2, b"more")]);
}

#[test]
fn a_pipe_without_writers_ends() {
    let mut bench = Bench::new(KEEP_ALL);
    bench.write(Stream::Stdout, "x");
    bench.pipes.remove(0);
    bench.ready(Stream::Stdout);
    assert_eq!(bench.output.polls().len(), 2);
    bench.ready(Stream::Stdout);
    let polled: Vec<_> = bench
        .output
        .polls()
        .iter()
        .map(|(stream, _)| *stream)
        .collect();
    assert_eq!(polled, [Stream::Stderr]);
    assert!(!bench.output.ended());
    bench.pipes.clear();
    bench.ready(Stream::Stderr);
    assert!(bench.output.ended());
    bench.check();
}

#[test]
fn a_turn_is_bounded_and_a_busy_pipe_is_enlarged() {
    let mut bench = Bench::new(KEEP_ALL);
    let half = vec![b'x'; 64 * 1024];
    bench.moved(Stream::Stdout, &half);
    let size = fcntl(&bench.pipes[0].0, FcntlArg::F_GETPIPE_SZ).unwrap();
    if size != PIPE_BYTES {
        println!("not checked with a large pipe: this user may not have one");
    }
    for _ in 0..size / (64 * 1024) {
        bench.write(Stream::Stdout, &half);
    }
    bench.ready(Stream::Stdout);
    let moved: u64 = bench
        .read()
        .records
        .iter()
        .map(|(_, record)| record.bytes)
        .sum();
    assert!(moved <= 64 * 1024 + turn::TURN_BYTES);
    bench.settle();
    bench.check();
}

#[test]
fn a_turn_is_a_number_of_stretches() {
    let mut bench = Bench::new(Policy {
        segment_bytes: 1024,
        max_bytes: MIB,
        ..KEEP_ALL
    });
    bench.moved(Stream::Stdout, vec![b'x'; 60_000]);
    let contents = bench.read();
    assert_eq!(of_kind(&contents, Kind::Data).len(), 16);
    while bench.waiting(Stream::Stdout) > 0 {
        bench.ready(Stream::Stdout);
    }
    bench.check();
}

#[test]
fn segments_end_at_the_end_of_a_line_if_one_is_near() {
    let policy = Policy {
        segment_bytes: 4096,
        max_bytes: MIB,
        ..KEEP_ALL
    };
    let mut bench = Bench::new(policy);
    for i in 0..200 {
        bench.moved(Stream::Stdout, format!("line {i:05}"));
        bench.moved(Stream::Stdout, " of two hundred\n");
    }
    let contents = bench.check();
    assert!(contents.segments.len() > 4);
    for segment in &contents.segments[1..] {
        let records = contents.records.iter().filter(|(of, _)| of == segment);
        let first = records.map(|(_, record)| record).next();
        assert!(first.is_none_or(|record| record.line_offset == 0));
    }
    // A line that does not end is cut.
    for _ in 0..10 {
        bench.moved(Stream::Stderr, [b'x'; 1000]);
    }
    bench.moved(Stream::Stdout, "end\n");
    let contents = bench.check();
    let cut =
        |(_, r): &&(u64, Record)| r.stream == Stream::Stderr && r.offset == 0 && r.line_offset > 0;
    assert!(contents.records.iter().filter(cut).count() >= 2);
    for segment in contents.segments {
        let bytes: u64 = directory::list(&bench.path()).unwrap()[&segment].bytes;
        assert!(bytes <= 4096, "{bytes}");
    }
}
