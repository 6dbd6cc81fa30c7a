//! The newest segment and the only one that writes to it.
//!
//! Invariants: `recorded <= len` for each data file, and what is between them was
//! moved and is not yet told of; nothing is moved before that is recorded and
//! written, so that at most one stretch per stream can be found without a
//! record; a record is in `queue` from the moment its numbers are given, and is
//! written whole at its place however often that takes.

use std::{
    collections::VecDeque,
    fs::File,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use super::{
    OutputError, directory, kernel,
    lines::{Lines, Numbers},
    policy::Policy,
    takeover::{self, Data, Found},
};
use crate::{
    domain::time::Timestamp,
    shim::segment::{HEADER_BYTES, Header, Kind, RECORD_BYTES, Record, Stream, data_name},
};

/// Most bytes of one record.
const STRETCH_BYTES: u64 = 1024 * 1024;
/// Room for the record of what is moved, and for `Closed`.
const RESERVED_BYTES: u64 = 2 * RECORD_BYTES as u64;

/// The log as its writer has it.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    policy: Policy,
    /// The run that records are of.
    run_id: i64,
    /// Whether that is told of.
    begun: bool,
    lines: Lines,
    /// Records that are not written yet: a few at most, since nothing is moved
    /// meanwhile.
    queue: VecDeque<[u8; RECORD_BYTES]>,
    segment: Segment,
}

/// What was moved out of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing: it has no writer any more.
    End,
    /// All that was in it.
    All(u64),
    /// As much as was wanted.
    Some(u64),
}

/// The newest segment.
#[derive(Debug)]
struct Segment {
    number: u64,
    made: Timestamp,
    /// Locked for as long as it is open.
    index: File,
    index_end: u64,
    data: [Data; 2],
    /// Nothing more is to be moved to it.
    over: bool,
    /// `Closed` is written or queued.
    closed: bool,
}

// === impl Segment ===

impl Segment {
    fn empty(number: u64, index: File, made: Timestamp) -> Self {
        Self {
            number,
            made,
            index,
            index_end: HEADER_BYTES as u64,
            data: Default::default(),
            over: false,
            closed: false,
        }
    }

    fn found(number: u64, index: File, found: Found) -> Self {
        let empty = Self::empty(number, index, Timestamp(0));
        let Some(header) = found.header else {
            // It may be of another format: it is left alone.
            return Self {
                over: true,
                closed: true,
                ..empty
            };
        };
        Self {
            made: header.time,
            index_end: found.index_end,
            data: found.data,
            over: found.damaged,
            closed: found.closed,
            ..empty
        }
    }
}

// === impl Log: opening ===

impl Log {
    /// Opens the newest segment and becomes its writer, or makes the first one.
    ///
    /// # Errors
    /// What the kernel says; `Held` if another shim is the writer.
    pub(super) fn open(
        dir: &Path,
        policy: Policy,
        run_id: i64,
        now: Timestamp,
        buffer: &mut [u8],
    ) -> Result<Self, OutputError> {
        if let Some((number, index)) = directory::open_newest(dir)? {
            return Ok(Self::take_over(dir, policy, run_id, number, index, buffer)?);
        }
        let lines = Lines::FIRST;
        let index = directory::create_index(dir, &header(1, lines, run_id, now))?;
        Ok(Self {
            dir: dir.to_owned(),
            policy,
            run_id,
            begun: false,
            lines,
            queue: VecDeque::new(),
            segment: Segment::empty(1, index, now),
        })
    }

    fn take_over(
        dir: &Path,
        policy: Policy,
        run_id: i64,
        number: u64,
        index: File,
        buffer: &mut [u8],
    ) -> nix::Result<Self> {
        let found = takeover::read(dir, number, &index, buffer)?;
        let lines = match found.lines {
            Some(lines) => lines,
            None => Lines {
                next: takeover::safe_sequence(dir, buffer)?.unwrap_or(1),
                ..Lines::FIRST
            },
        };
        if found.header.is_some() && kernel::len(&index)? > found.index_end {
            // Half a record, of which nobody was told.
            kernel::set_len(&index, found.index_end)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            policy,
            run_id: found.run_id.unwrap_or(run_id),
            begun: found.begun,
            lines,
            queue: VecDeque::new(),
            segment: Segment::found(number, index, found),
        })
    }
}

// === impl Log: what it holds ===

impl Log {
    /// Whether this run is told of and is the last one.
    pub(super) fn has_begun(&self, run_id: i64) -> bool {
        self.begun && self.run_id == run_id
    }

    /// Whether somebody has removed what is written to.
    pub(super) fn is_removed(&self) -> bool {
        kernel::is_removed(&self.segment.index) == Ok(true)
    }

    /// Bytes that no record tells of.
    pub(super) fn unrecorded(&self) -> u64 {
        let beyond = |data: &Data| data.len.saturating_sub(data.recorded);
        self.segment.data.iter().map(beyond).sum()
    }

    /// Whether the next segment is due.
    pub(super) fn is_full(&self, now: Timestamp) -> bool {
        if self.segment.over || self.segment.closed || self.room() == 0 {
            return true;
        }
        let has_data = self.segment.data.iter().any(|data| data.len > 0);
        let at_line_end = self.lines.open == [None; 2];
        has_data
            && (self.policy.segment_is_old(self.segment.made, now)
                || at_line_end && self.used() >= self.policy.segment_soft_limit())
    }

    fn used(&self) -> u64 {
        let data: u64 = self.segment.data.iter().map(|data| data.len).sum();
        let queued = (self.queue.len() * RECORD_BYTES) as u64;
        self.segment.index_end + queued + data
    }

    /// Bytes that may still be moved.
    fn room(&self) -> u64 {
        let used = self.used() + RESERVED_BYTES;
        self.policy.segment_limit().saturating_sub(used)
    }
}

// === impl Log: writing ===

impl Log {
    /// Moves one stretch out of a pipe, which must be recorded before the next
    /// one is moved.
    pub(super) fn splice(&mut self, stream: Stream, pipe: BorrowedFd<'_>) -> nix::Result<Moved> {
        let wanted = self.room().min(STRETCH_BYTES);
        self.make_data(stream)?;
        let data = &mut self.segment.data[stream.index()];
        let file = data.file.as_ref().ok_or(Errno::EBADF)?;
        let moved = kernel::splice(pipe, file, data.len, wanted)? as u64;
        data.len += moved;
        Ok(match moved {
            0 => Moved::End,
            bytes if bytes < wanted => Moved::All(bytes),
            bytes => Moved::Some(bytes),
        })
    }

    /// Writes what is queued.
    pub(super) fn flush(&mut self) -> nix::Result<()> {
        while let Some(record) = self.queue.front() {
            kernel::write_at(&self.segment.index, record, self.segment.index_end)?;
            self.segment.index_end += RECORD_BYTES as u64;
            self.queue.pop_front();
        }
        Ok(())
    }

    /// Records what was moved. `approximate` if it was not moved just now.
    pub(super) fn record_moved(
        &mut self,
        now: Timestamp,
        approximate: bool,
        buffer: &mut [u8],
    ) -> nix::Result<()> {
        self.flush()?;
        for stream in Stream::ALL {
            while let Some(record) = self.next_stretch(stream, buffer)? {
                self.push(&Record {
                    time: now,
                    approximate,
                    ..record
                });
                self.flush()?;
            }
        }
        Ok(())
    }

    fn next_stretch(&mut self, stream: Stream, buffer: &mut [u8]) -> nix::Result<Option<Record>> {
        let data = &mut self.segment.data[stream.index()];
        let (offset, bytes) = (
            data.recorded,
            data.len.saturating_sub(data.recorded).min(STRETCH_BYTES),
        );
        let (Some(file), 1..) = (&data.file, bytes) else {
            return Ok(None);
        };
        let stretch = takeover::stretch(file, offset, bytes, buffer)?;
        data.recorded += bytes;
        let numbers = self.lines.add(stream, stretch);
        Ok(Some(Record {
            offset,
            bytes,
            stream,
            ..self.record(Kind::Data, numbers)
        }))
    }

    /// Queues that `run_id` begins.
    pub(super) fn begin(&mut self, run_id: i64, now: Timestamp) {
        self.run_id = run_id;
        self.begun = true;
        self.lines.end_all();
        self.push_event(Kind::RunBegan, now);
    }

    /// Queues that the run ended.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.lines.end_all();
        self.push_event(Kind::RunEnded, now);
    }

    /// Queues that `bytes` bytes were dropped.
    pub(super) fn dropped(&mut self, stream: Stream, bytes: u64, now: Timestamp) {
        let offset = self.segment.data[stream.index()].recorded;
        let numbers = self.lines.drop(stream);
        self.push(&Record {
            time: now,
            stream,
            offset,
            bytes,
            ..self.record(Kind::Dropped, numbers)
        });
    }

    /// Closes this segment and goes on in the next one, where the unended lines
    /// go on. If it is stopped in between, whoever takes over finds `Closed` and
    /// makes the next one.
    pub(super) fn rotate(&mut self, now: Timestamp) -> Result<(), OutputError> {
        if !self.segment.closed {
            self.segment.closed = true;
            self.push_event(Kind::Closed, now);
        }
        self.flush()?;
        let number = self.segment.number.saturating_add(1);
        let header = header(number, self.lines, self.run_id, now);
        // The old index is let go of when the new one is locked and named.
        let index = directory::create_index(&self.dir, &header)?;
        self.segment = Segment::empty(number, index, now);
        Ok(())
    }

    /// From now on.
    pub(super) fn keep(&mut self, policy: Policy, now: Timestamp) {
        if self.policy != policy {
            self.policy = policy;
            self.retain(now);
        }
    }

    /// Removes segments that are not to be kept. What cannot be removed now is
    /// removed another time.
    pub(super) fn retain(&self, now: Timestamp) {
        let _ = directory::retain(&self.dir, &self.policy, self.segment.number, now);
    }

    /// Whether a further block can be had for a stream.
    pub(super) fn probe(&mut self, stream: Stream) -> nix::Result<()> {
        self.make_data(stream)?;
        let data = &self.segment.data[stream.index()];
        data.file
            .as_ref()
            .map_or(Ok(()), |file| kernel::probe(file, data.len))
    }

    fn make_data(&mut self, stream: Stream) -> nix::Result<()> {
        let data = &mut self.segment.data[stream.index()];
        if data.file.is_none() {
            let path = self.dir.join(data_name(self.segment.number, stream));
            let opened = kernel::open(&path, true);
            // The directory is gone; the next segment makes it again.
            self.segment.over |= opened.as_ref().err() == Some(&Errno::ENOENT);
            data.file = Some(opened?);
        }
        Ok(())
    }

    fn push_event(&mut self, kind: Kind, now: Timestamp) {
        let record = Record {
            time: now,
            ..self.record(kind, self.lines.numbers())
        };
        self.push(&record);
    }

    fn push(&mut self, record: &Record) {
        self.queue.push_back(record.encode());
    }

    fn record(&self, kind: Kind, numbers: Numbers) -> Record {
        Record {
            kind,
            stream: Stream::Stdout,
            approximate: false,
            time: Timestamp(0),
            run_id: self.run_id,
            offset: 0,
            bytes: 0,
            sequence: numbers.sequence,
            line_offset: numbers.line_offset,
            following: numbers.following,
            next_sequence: numbers.next_sequence,
        }
    }
}

fn header(segment: u64, lines: Lines, run_id: i64, time: Timestamp) -> Header {
    Header {
        segment,
        next_sequence: lines.next,
        run_id,
        time,
        open: lines.open,
    }
}
