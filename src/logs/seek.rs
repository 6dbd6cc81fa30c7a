//! Where in a log to start. Looks at indexes only, never at data.

use std::{io, path::Path};

use super::{
    index::{self, Index},
    limits::{BACK_BYTES, WINDOW_RECORDS_MAX},
    place::{Cursor, End, Place, Start, sequence_before},
};
use crate::{domain::time::Timestamp, shim::segment::Record};

/// Looking again because the segment that was found has just been removed.
const TRIES_MAX: usize = 8;

/// The end of what is recorded now. An unreadable last record is not there yet.
pub(super) fn end(dir: &Path) -> io::Result<End> {
    let nothing = End {
        place: Place::MIN,
        next_sequence: 0,
    };
    for _ in 0..TRIES_MAX {
        let Some(newest) = index::segments(dir)?.pop() else {
            return Ok(nothing);
        };
        let Some(index) = Index::open(dir, newest)? else {
            continue;
        };
        let mut records = index.records();
        if records > 0 && index.record(records - 1)?.is_none() {
            records -= 1;
        }
        let place = match index.has_header() {
            true => Place {
                segment: newest,
                unit: records + 1,
            },
            false => Place::header(newest),
        };
        return Ok(End {
            place,
            next_sequence: next_sequence(&index, records)?,
        });
    }
    Ok(nothing)
}

/// The cursor that stands there.
pub(super) fn find(dir: &Path, start: Start) -> io::Result<Cursor> {
    match start {
        Start::Oldest => Ok(Cursor::at(Place::MIN, 0)),
        Start::End => {
            let end = end(dir)?;
            Ok(Cursor::at(end.place, end.next_sequence))
        }
        Start::From(line) => {
            let cursor = find_line(dir, line, end(dir)?)?;
            if cursor.place == Place::GONE {
                return Ok(Cursor::at(Place::MIN, 0));
            }
            let until = cursor.place.next();
            Ok(cursor.without(line.saturating_sub(1), until))
        }
        Start::After(sequence) => {
            let end = end(dir)?;
            if sequence >= end.next_sequence && sequence > 0 {
                return Ok(Cursor::at(Place::MIN, 0));
            }
            let cursor = find_line(dir, sequence.saturating_add(1), end)?;
            Ok(cursor.without(sequence, Place::MAX))
        }
    }
}

/// A line further back than `line` (at most the next new one), by a bounded amount
/// of output; `None` if no line begins further back.
pub(super) fn back(dir: &Path, line: i64) -> io::Result<Option<i64>> {
    let mut place = find_line(dir, line, end(dir)?)?.place;
    let (mut bytes, mut records) = (0, 0);
    let mut found = None;
    for segment in index::segments(dir)?.into_iter().rev() {
        let Some(index) = Index::open(dir, segment)? else {
            break;
        };
        if segment > place.segment {
            continue;
        }
        if segment < place.segment {
            place = Place {
                segment,
                unit: index.records() + 1,
            };
        }
        for record in (0..place.unit.saturating_sub(1)).rev() {
            let Some(record) = index.record(record)? else {
                continue;
            };
            let first = sequence_before(&record);
            if first < line {
                found = Some(first);
            }
            bytes += record.bytes;
            records += 1;
            if found.is_some() && (bytes >= BACK_BYTES || records >= WINDOW_RECORDS_MAX) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// When the log was begun, if its beginning is still there.
pub(super) fn begun(dir: &Path) -> io::Result<Option<Timestamp>> {
    let Some(index) = Index::open(dir, 1)? else {
        return Ok(None);
    };
    Ok(index.header()?.map(|header| header.time))
}

/// Stands at the record in which `line` begins.
fn find_line(dir: &Path, line: i64, end: End) -> io::Result<Cursor> {
    if end.next_sequence > 0 && line >= end.next_sequence {
        return Ok(Cursor::at(end.place, end.next_sequence));
    }
    for segment in index::segments(dir)?.into_iter().rev() {
        let Some(index) = Index::open(dir, segment)? else {
            break;
        };
        let first = match index.header()? {
            Some(header) => header.next_sequence,
            None => match readable(&index, 0)? {
                Some((_, record)) => sequence_before(&record),
                None => continue,
            },
        };
        if first <= line {
            let record = record_of_line(&index, line)?;
            // What is unreadable from there on was not seen either.
            let next = match readable(&index, record)? {
                Some((_, record)) => sequence_before(&record).min(line),
                None => line,
            };
            return Ok(Cursor::at(Place::record(segment, record), next));
        }
    }
    Ok(Cursor::at(Place::GONE, line))
}

/// The first record after which `line` has begun: numbers only rise.
fn record_of_line(index: &Index, line: i64) -> io::Result<u64> {
    let (mut low, mut high) = (0, index.records());
    while low < high {
        let middle = low + (high - low) / 2;
        match readable(index, middle)? {
            Some((at, record)) if at < high && record.next_sequence <= line => low = at + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first record that can be read, from `at` on.
fn readable(index: &Index, at: u64) -> io::Result<Option<(u64, Record)>> {
    for at in at..index.records() {
        if let Some(record) = index.record(at)? {
            return Ok(Some((at, record)));
        }
    }
    Ok(None)
}

/// What the next new line gets behind `records` records.
fn next_sequence(index: &Index, records: u64) -> io::Result<i64> {
    for record in (0..records).rev() {
        if let Some(record) = index.record(record)? {
            return Ok(record.next_sequence);
        }
    }
    Ok(index.header()?.map_or(0, |header| header.next_sequence))
}
