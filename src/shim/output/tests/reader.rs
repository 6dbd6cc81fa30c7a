//! Reads a log back byte by byte and checks every number on the way.

use std::{collections::BTreeMap, fs, path::Path};

use crate::shim::segment::{
    HEADER_BYTES, Header, Kind, OpenLine, RECORD_BYTES, Record, Stream, data_name, index_name,
    segment_of_index,
};

/// All that a log holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) bytes: [Vec<u8>; 2],
    /// By number: which stream and run, the bytes so far, whether it was ended
    /// by a newline.
    pub(crate) lines: BTreeMap<i64, Line>,
    pub(crate) records: Vec<(u64, Record)>,
    pub(crate) segments: Vec<u64>,
    pub(crate) next: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) stream: Stream,
    pub(crate) run_id: i64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ended: bool,
    /// Bytes of it that were removed with older segments.
    before: i64,
}

// === impl Line ===

impl Line {
    fn new(stream: Stream, run_id: i64, before: i64) -> Self {
        Self {
            stream,
            run_id,
            bytes: Vec::new(),
            ended: false,
            before,
        }
    }

    fn len(&self) -> i64 {
        self.before + self.bytes.len() as i64
    }
}

#[derive(Default)]
struct Reading {
    contents: Contents,
    open: [Option<i64>; 2],
}

/// # Panics
/// If anything in it is not as the format says.
pub(crate) fn read(dir: &Path) -> Contents {
    let mut reading = Reading::default();
    let segments = segments(dir);
    for segment in &segments {
        reading.segment(dir, *segment, Some(segment) == segments.last());
    }
    let mut contents = reading.contents;
    contents.segments = segments;
    contents
}

pub(crate) fn segments(dir: &Path) -> Vec<u64> {
    let mut segments: Vec<u64> = fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| segment_of_index(entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    segments.sort_unstable();
    segments
}

/// The records of one kind.
pub(crate) fn of_kind(contents: &Contents, kind: Kind) -> Vec<Record> {
    let records = contents.records.iter().map(|(_, record)| *record);
    records.filter(|record| record.kind == kind).collect()
}

// === impl Reading ===

impl Reading {
    fn segment(&mut self, dir: &Path, segment: u64, last: bool) {
        let index = fs::read(dir.join(index_name(segment))).unwrap();
        let header = Header::decode(&index[..HEADER_BYTES]).unwrap();
        assert_eq!(header.segment, segment);
        if self.contents.next == 0 {
            self.contents.next = header.next_sequence; // older ones may be gone
            self.open = header.open.map(|open| open.map(|line| line.sequence));
            for (stream, open) in Stream::ALL.into_iter().zip(header.open) {
                if let Some(open) = open {
                    let line = Line::new(stream, header.run_id, open.bytes);
                    self.contents.lines.insert(open.sequence, line);
                }
            }
        } else {
            assert_eq!(header.next_sequence, self.contents.next, "{segment}");
            assert_eq!(header.open, self.open_lines(), "{segment}");
        }
        let data =
            Stream::ALL.map(|s| fs::read(dir.join(data_name(segment, s))).unwrap_or_default());
        let mut ends = [0; 2];
        let records = &index[HEADER_BYTES..];
        assert_eq!(records.len() % RECORD_BYTES, 0, "no torn record");
        let count = records.len() / RECORD_BYTES;
        for (at, bytes) in records.chunks(RECORD_BYTES).enumerate() {
            let record = Record::decode(bytes).unwrap();
            let is_closed = record.kind == Kind::Closed;
            assert_eq!(
                is_closed,
                at + 1 == count && (is_closed || !last),
                "{segment}"
            );
            self.record(&record, &data, &mut ends);
            self.contents.records.push((segment, record));
        }
        let lens = data.map(|data| data.len() as u64);
        assert_eq!(ends, lens, "each byte of segment {segment} has a record");
    }

    fn open_lines(&self) -> [Option<OpenLine>; 2] {
        self.open.map(|open| {
            open.map(|sequence| OpenLine {
                sequence,
                bytes: self.contents.lines[&sequence].len(),
            })
        })
    }

    fn record(&mut self, record: &Record, data: &[Vec<u8>; 2], ends: &mut [u64; 2]) {
        let at = record.stream.index();
        match record.kind {
            Kind::Data => {
                assert_eq!(record.offset, ends[at], "{record:?}");
                assert!(record.bytes > 0);
                ends[at] += record.bytes;
                let bytes = &data[at][record.offset as usize..ends[at] as usize];
                self.contents.bytes[at].extend_from_slice(bytes);
                self.lines(record, bytes);
            }
            Kind::RunBegan | Kind::RunEnded => self.open = [None; 2],
            Kind::Dropped => {
                assert!(record.bytes > 0);
                assert_eq!(record.sequence, self.contents.next);
                self.open[at] = None;
                self.contents.next += 1;
            }
            Kind::Closed => {}
        }
        assert_eq!(record.next_sequence, self.contents.next, "{record:?}");
    }

    fn lines(&mut self, record: &Record, bytes: &[u8]) {
        let open = &mut self.open[record.stream.index()];
        let next = &mut self.contents.next;
        let mut following = None;
        for (position, piece) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let begins = open.is_none();
            let sequence = *open.get_or_insert_with(|| {
                *next += 1;
                *next - 1
            });
            let line = self
                .contents
                .lines
                .entry(sequence)
                .or_insert_with(|| Line::new(record.stream, record.run_id, 0));
            assert_eq!((line.stream, line.ended), (record.stream, false));
            if position == 0 {
                let first = (record.sequence, record.line_offset);
                assert_eq!(first, (sequence, line.len()));
            } else {
                assert!(begins);
                following.get_or_insert(sequence);
            }
            let text = piece.strip_suffix(b"\n");
            line.bytes.extend_from_slice(text.unwrap_or(piece));
            if text.is_some() {
                line.ended = true;
                *open = None;
            }
        }
        assert_eq!(record.following, following.unwrap_or(*next), "{record:?}");
    }
}
