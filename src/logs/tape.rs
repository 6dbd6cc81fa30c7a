//! What the indexes say from one place on, as one sequence over all segments.
//!
//! Loaded as far as it is looked at, up to [`WINDOW_RECORDS_MAX`]. A record that
//! is short or unreadable is not there yet if it is the very last one, and else
//! corrupt. A segment is complete once the next one is there.

use std::{io, path::Path};

use super::{
    index::{self, Index},
    limits::WINDOW_RECORDS_MAX,
    place::Place,
};
use crate::shim::segment::{Header, Record};

/// Records loaded at first; then ever more.
const CHUNK_RECORDS: usize = 16;

/// Loads in a row that may bring nothing, while files come and go.
const TRIES_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Tape<'a> {
    dir: &'a Path,
    /// Nothing is loaded from here on.
    before: Place,
    items: Vec<(Place, Item)>,
    /// What is to be loaded next.
    next: Place,
    index: Option<Index>,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    Header {
        header: Header,
        /// Something that lay between is not there any more.
        jumped: bool,
    },
    Record(Record),
    /// Something unreadable.
    Corrupt,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    At(Place, Item),
    /// Nothing more is recorded.
    End,
    /// There may be more, but not on this tape.
    Full,
}

// === impl Tape ===

impl<'a> Tape<'a> {
    pub(super) fn new(dir: &'a Path, start: Place, before: Place) -> Self {
        Self {
            dir,
            before,
            items: Vec::new(),
            next: start,
            index: None,
            ended: false,
        }
    }

    /// Item number `at`; not further than one behind those that were seen.
    pub(super) fn look(&mut self, at: usize) -> io::Result<Look> {
        let mut tries = 0;
        while self.items.len() <= at {
            if self.items.len() >= WINDOW_RECORDS_MAX {
                return Ok(Look::Full);
            }
            tries += 1;
            if self.ended || tries > TRIES_MAX || !self.load()? {
                self.ended = true;
                return Ok(Look::End);
            }
        }
        let (place, item) = self.items[at];
        Ok(Look::At(place, item))
    }

    /// Loads some more; whether it came any further.
    fn load(&mut self) -> io::Result<bool> {
        if self.next >= self.before {
            return Ok(false);
        }
        if self.index.is_none() {
            self.index = Index::open(self.dir, self.next.segment)?;
        }
        let Some(index) = self.index.take() else {
            return self.jump();
        };
        if self.next.unit == 0 {
            return self.load_header(index);
        }
        let record = self.next.unit - 1;
        let left = index.records().saturating_sub(record);
        if left == 0 {
            return self.finish_segment(index);
        }
        self.load_records(index, record, left)
    }

    fn load_header(&mut self, mut index: Index) -> io::Result<bool> {
        let item = match index.header()? {
            Some(header) => Item::Header {
                header,
                jumped: false,
            },
            None if index.has_header() && index.records() > 0 => Item::Corrupt,
            None if self.has_successor(&mut index)? => Item::Corrupt,
            None => return Ok(false),
        };
        self.push(item);
        self.index = Some(index);
        Ok(true)
    }

    fn load_records(&mut self, mut index: Index, record: u64, left: u64) -> io::Result<bool> {
        let room = WINDOW_RECORDS_MAX - self.items.len();
        let mut count = CHUNK_RECORDS.max(self.items.len()).min(room);
        count = count.min(usize::try_from(left).unwrap_or(count));
        if self.next.segment == self.before.segment {
            let allowed = self.before.unit - self.next.unit;
            count = count.min(usize::try_from(allowed).unwrap_or(count));
        }
        let loaded = index.load(record, count)?;
        let mut came = false;
        for found in loaded {
            let is_last = self.next.unit >= index.records();
            let item = match found {
                Some(record) => Item::Record(record),
                None if is_last && !self.has_successor(&mut index)? => return Ok(came),
                None => Item::Corrupt,
            };
            self.push(item);
            came = true;
        }
        self.index = Some(index);
        Ok(came)
    }

    /// All whole records of `index` were loaded.
    fn finish_segment(&mut self, mut index: Index) -> io::Result<bool> {
        let records = index.records();
        if !self.has_successor(&mut index)? {
            return Ok(false);
        }
        if index.records() > records {
            self.index = Some(index);
            return Ok(true);
        }
        if index.is_torn() {
            self.push(Item::Corrupt);
        }
        self.next = Place::header(index.segment.saturating_add(1));
        Ok(true)
    }

    /// Whether there is a next segment; if so, the length of this one is final.
    fn has_successor(&self, index: &mut Index) -> io::Result<bool> {
        let there = index::exists(self.dir, index.segment.saturating_add(1))?;
        if there {
            index.refresh()?;
        }
        Ok(there)
    }

    /// The segment that comes next is not there: goes on at the first one behind.
    fn jump(&mut self) -> io::Result<bool> {
        let segments = index::segments(self.dir)?;
        let wanted = self.next;
        let Some(segment) = segments.into_iter().find(|s| *s >= wanted.segment) else {
            return Ok(false);
        };
        if segment == wanted.segment {
            // Made in between.
            return Ok(true);
        }
        let Some(index) = Index::open(self.dir, segment)? else {
            return Ok(true);
        };
        self.next = Place::header(segment);
        // Even if it is behind the end: that something is gone is to be told.
        if let Some(header) = index.header()? {
            self.push(Item::Header {
                header,
                jumped: wanted != Place::MIN,
            });
        }
        self.index = Some(index);
        Ok(true)
    }

    fn push(&mut self, item: Item) {
        self.items.push((self.next, item));
        self.next = self.next.next();
    }
}
