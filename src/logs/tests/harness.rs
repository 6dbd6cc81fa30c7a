//! A directory of logs, a reader with patience, and what must hold of all it got.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::writer::Writer;
use crate::{
    domain::id::Uid,
    logs::{Entry, Gap, Limits, Logs, OutputStream, Place, Reader, Slot, Start, limits::*},
};

/// Long enough for a loaded machine; a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct World {
    pub(super) directory: tempfile::TempDir,
    pub(super) logs: Logs,
}

/// What one reader got of one log.
pub(super) struct Follower {
    pub(super) reader: Reader,
    pub(super) slot: Slot,
    pub(super) entries: Vec<Entry>,
    pub(super) gaps: Vec<Gap>,
    waited: usize,
}

/// Small, seeded, replayable.
pub(super) struct Random(u64);

impl World {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::new(directory.path().into(), Limits::default()).unwrap();
        Self { directory, logs }
    }

    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn follow(&self, uid: Uid, start: Start) -> Follower {
        Follower::new(&self.logs, uid, start)
    }
}

impl Follower {
    pub(super) fn new(logs: &Logs, uid: Uid, start: Start) -> Self {
        let mut reader = logs.reader();
        let slot = reader.attach(uid, start).unwrap().unwrap().slot;
        Self {
            reader,
            slot,
            entries: Vec::new(),
            gaps: Vec::new(),
            waited: 0,
        }
    }

    /// One read.
    pub(super) fn read(&mut self, budget: usize, before: Place) -> bool {
        let batch = self.reader.read(self.slot, budget, before).unwrap();
        let bytes: usize = batch.entries.iter().map(|entry| entry.data.len()).sum();
        assert!(bytes <= budget + PIECE_BYTES_MAX);
        assert!(batch.entries.len() <= READ_ENTRIES_MAX);
        let has_new = !batch.entries.is_empty() || !batch.gaps.is_empty();
        self.gaps.extend(batch.gaps);
        self.entries.extend(batch.entries);
        batch.more || has_new
    }

    /// What is complete now.
    pub(super) fn drain(&mut self) -> &mut Self {
        while self.read(64 * 1024, Place::MAX) {}
        self
    }

    /// All that is recorded now.
    pub(super) fn drain_all(&mut self, budget: usize) -> &mut Self {
        let end = self.reader.end(self.slot).unwrap().place;
        while self.read(budget, end) {}
        self
    }

    /// Waits to be woken until `text` has come, after what was waited for before.
    pub(super) async fn until_text(&mut self, text: &str) -> &mut Self {
        let is_meant = |entry: &Entry| entry.data == text.as_bytes();
        self.drain();
        while !self.entries.iter().skip(self.waited).any(is_meant) {
            let ready = tokio::time::timeout(PATIENCE, self.reader.ready());
            assert!(ready.await.is_ok(), "no {text:?} after {:?}", self.texts());
            while self.reader.next_ready().is_some() {
                self.drain();
            }
        }
        self.waited = self.entries.len();
        self
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.entries
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.data).into_owned())
            .collect()
    }

    pub(super) fn take_texts(&mut self) -> Vec<String> {
        let texts = self.texts();
        self.entries.clear();
        self.waited = 0;
        texts
    }
}

impl Random {
    pub(super) fn from_env() -> Self {
        let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed: u64 = seed.unwrap_or(now.subsec_nanos().into());
        println!("replay with SEED={seed}");
        Self(seed | 1 << 40)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Whether a reader that began after line `after` got just what was written: each
/// byte at most once and where it belongs, first pieces in order, and whatever is
/// missing is in a gap.
pub(super) fn check(writer: &Writer, after: i64, entries: &[Entry], gaps: &[Gap]) {
    let mut ends: BTreeMap<i64, (usize, bool)> = BTreeMap::new();
    let mut newest = after;
    let is_lost = |sequence: i64| {
        let within = |gap: &Gap| (gap.first_sequence..=gap.last_sequence).contains(&sequence);
        gaps.iter().any(within)
    };
    for entry in entries {
        let truth = &writer.lines[&entry.sequence];
        let offset = usize::try_from(entry.line_offset).unwrap();
        assert!(entry.sequence > after, "{entry:?}");
        assert_eq!(truth.dropped, 0);
        assert_eq!((entry.stream, entry.run_id), (truth.stream, truth.run_id));
        assert_eq!(
            entry.data,
            truth.bytes[offset..offset + entry.data.len()],
            "{entry:?}"
        );
        let (end, ended) = ends.entry(entry.sequence).or_default();
        assert!(!*ended, "after the end of its line: {entry:?}");
        assert!(
            offset == *end || (offset > *end && is_lost(entry.sequence)),
            "at {end}: {entry:?}"
        );
        if entry.line_offset == 0 {
            assert!(entry.sequence > newest, "{entry:?} after {newest}");
            newest = entry.sequence;
        }
        *end = offset + entry.data.len();
        *ended = !entry.partial;
        if *ended {
            assert_eq!(*end, truth.bytes.len(), "ended too early: {entry:?}");
        }
    }
    for (sequence, truth) in writer.lines.range(after + 1..) {
        let got = ends.get(sequence).copied().unwrap_or_default();
        assert!(
            got == (truth.bytes.len(), truth.ended) && truth.dropped == 0 || is_lost(*sequence),
            "{sequence}: {got:?} of {} bytes, ended: {}",
            truth.bytes.len(),
            truth.ended
        );
    }
    for gap in gaps {
        assert!(gap.first_sequence > after && gap.first_sequence <= gap.last_sequence);
        assert!(gap.last_sequence < writer.next, "{gap:?}");
    }
}

/// Of one stream, whole lines.
pub(super) fn lines(follower: &Follower, stream: OutputStream) -> Vec<&[u8]> {
    let of_stream = follower.entries.iter().filter(|e| e.stream == stream);
    of_stream.map(|entry| &entry.data[..]).collect()
}
