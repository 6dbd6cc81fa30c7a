//! Writes segments as a shim does, byte by byte on purpose, and knows what a
//! reader must get.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    domain::{id::Uid, time::Timestamp},
    logs::OutputStream,
    shim::segment::{
        HEADER_BYTES, Header, Kind, OpenLine, RECORD_BYTES, Record, Stream, data_name, index_name,
    },
};

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    pub(crate) segment: u64,
    pub(crate) run_id: i64,
    /// Of what is written from now on.
    pub(crate) time: Timestamp,
    pub(crate) approximate: bool,
    /// Number of the next new line.
    pub(crate) next: i64,
    /// What was written, by number.
    pub(crate) lines: BTreeMap<i64, Truth>,
    open: [Option<OpenLine>; 2],
    ends: [u64; 2],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) stream: OutputStream,
    pub(crate) run_id: i64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ended: bool,
    /// Bytes that were dropped; then it is no line.
    pub(crate) dropped: u64,
}

pub(crate) fn uid(number: u32) -> Uid {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Uid::from_bytes(bytes)
}

impl Writer {
    /// A log that begins with run 1.
    pub(crate) fn new(root: &Path, uid: Uid) -> Self {
        Self::at(root, uid, Timestamp(1))
    }

    pub(crate) fn at(root: &Path, uid: Uid, time: Timestamp) -> Self {
        let dir = root.join(uid.to_string());
        fs::create_dir_all(&dir).unwrap();
        let mut writer = Self {
            dir,
            segment: 0,
            run_id: 1,
            time,
            approximate: false,
            next: 1,
            lines: BTreeMap::new(),
            open: [None; 2],
            ends: [0; 2],
        };
        writer.new_segment();
        writer.begin_run(1);
        writer
    }

    pub(crate) fn out(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(Stream::Stdout, bytes.as_ref());
    }

    pub(crate) fn err(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(Stream::Stderr, bytes.as_ref());
    }

    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let record = self.unrecorded(stream, bytes);
        self.push(&record);
    }

    /// Writes the data, and returns the record that is missing.
    pub(crate) fn unrecorded(&mut self, stream: Stream, bytes: &[u8]) -> Record {
        let at = stream.index();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(data_name(self.segment, stream)))
            .unwrap();
        file.write_all(bytes).unwrap();
        let mut record = Record {
            stream,
            offset: self.ends[at],
            bytes: bytes.len() as u64,
            ..self.event(Kind::Data)
        };
        self.ends[at] += record.bytes;
        let mut following = None;
        for (index, byte) in bytes.iter().enumerate() {
            let is_new = self.open[at].is_none();
            let line = self.open[at].get_or_insert(OpenLine {
                sequence: self.next,
                bytes: 0,
            });
            if is_new {
                self.next += 1;
            }
            if index == 0 {
                (record.sequence, record.line_offset) = (line.sequence, line.bytes);
            } else if is_new {
                following.get_or_insert(line.sequence);
            }
            let truth = self.lines.entry(line.sequence).or_insert_with(|| Truth {
                stream: stream.into(),
                run_id: self.run_id,
                bytes: Vec::new(),
                ended: false,
                dropped: 0,
            });
            if *byte == b'\n' {
                truth.ended = true;
                self.open[at] = None;
            } else {
                truth.bytes.push(*byte);
                line.bytes += 1;
            }
        }
        record.following = following.unwrap_or(self.next);
        record.next_sequence = self.next;
        record
    }

    pub(crate) fn drop_bytes(&mut self, stream: Stream, bytes: u64) {
        self.end_line(stream);
        let record = Record {
            stream,
            bytes,
            sequence: self.next,
            ..self.event(Kind::Dropped)
        };
        self.lines.insert(
            self.next,
            Truth {
                stream: stream.into(),
                run_id: self.run_id,
                bytes: Vec::new(),
                ended: true,
                dropped: bytes,
            },
        );
        self.next += 1;
        self.push(&Record {
            next_sequence: self.next,
            ..record
        });
    }

    pub(crate) fn end_run(&mut self) {
        Stream::ALL.iter().for_each(|stream| self.end_line(*stream));
        self.push(&self.event(Kind::RunEnded));
    }

    pub(crate) fn begin_run(&mut self, run_id: i64) {
        Stream::ALL.iter().for_each(|stream| self.end_line(*stream));
        self.run_id = run_id;
        self.push(&self.event(Kind::RunBegan));
    }

    pub(crate) fn rotate(&mut self) {
        self.push(&self.event(Kind::Closed));
        self.new_segment();
    }

    /// As retention does it.
    pub(crate) fn remove_segment(&self, segment: u64) {
        fs::remove_file(self.dir.join(index_name(segment))).unwrap();
        for stream in Stream::ALL {
            let _ = fs::remove_file(self.dir.join(data_name(segment, stream)));
        }
    }

    pub(crate) fn push(&self, record: &Record) {
        self.append(&record.encode());
    }

    /// Appends bytes to the index.
    pub(crate) fn append(&self, bytes: &[u8]) {
        let index = self.index(self.segment);
        let end = index.metadata().unwrap().len();
        index.write_all_at(bytes, end).unwrap();
    }

    /// Whole records of a segment.
    pub(crate) fn records(&self, segment: u64) -> u64 {
        (self.index(segment).metadata().unwrap().len() - HEADER_BYTES as u64) / RECORD_BYTES as u64
    }

    /// Spoils record number `at`.
    pub(crate) fn spoil(&self, segment: u64, at: u64) {
        let offset = HEADER_BYTES as u64 + at * RECORD_BYTES as u64;
        self.index(segment)
            .write_all_at(b"spoilt", offset + 7)
            .unwrap();
    }

    pub(crate) fn index(&self, segment: u64) -> File {
        let path = self.dir.join(index_name(segment));
        OpenOptions::new().write(true).open(path).unwrap()
    }

    fn new_segment(&mut self) {
        self.segment += 1;
        self.ends = [0; 2];
        let header = Header {
            segment: self.segment,
            next_sequence: self.next,
            run_id: self.run_id,
            time: self.time,
            open: self.open,
        };
        let temporary = self.dir.join("new");
        fs::write(&temporary, header.encode()).unwrap();
        fs::rename(temporary, self.dir.join(index_name(self.segment))).unwrap();
    }

    fn end_line(&mut self, stream: Stream) {
        if let Some(line) = self.open[stream.index()].take()
            && let Some(truth) = self.lines.get_mut(&line.sequence)
        {
            truth.ended = true;
        }
    }

    fn event(&self, kind: Kind) -> Record {
        Record {
            kind,
            stream: Stream::Stdout,
            approximate: self.approximate,
            time: self.time,
            run_id: self.run_id,
            offset: 0,
            bytes: 0,
            sequence: self.next,
            line_offset: 0,
            following: self.next,
            next_sequence: self.next,
        }
    }
}
