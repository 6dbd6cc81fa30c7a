//! What a run wrote before somebody attached to it.

use std::{collections::VecDeque, io};

use crate::logs::{End, Entry, Reader, Slot, Start};

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;
/// Steps back; each is a bounded amount of output.
const STEPS_MAX: usize = 64;

/// The last entries of `run_id` before `end`, so many that they have `bytes` or a
/// little more (or as many as there are). The reader then stands at `end`.
pub(super) fn replay(
    reader: &mut Reader,
    slot: Slot,
    end: End,
    run_id: i64,
    bytes: usize,
) -> io::Result<VecDeque<Entry>> {
    let mut line = end.next_sequence;
    for _ in 0..STEPS_MAX {
        let before = reader.back(slot, line)?;
        let Some(before) = before else { break };
        line = before;
        reader.seek(slot, Start::From(line))?;
        let entries = read(reader, slot, end, run_id, bytes)?;
        let enough = entries.iter().map(|entry| entry.data.len()).sum::<usize>() >= bytes;
        if enough || entries.front().is_none_or(|entry| entry.run_id != run_id) {
            return Ok(entries);
        }
    }
    reader.seek(slot, Start::From(line))?;
    read(reader, slot, end, run_id, bytes)
}

/// Reads to `end` and keeps the last ones.
fn read(
    reader: &mut Reader,
    slot: Slot,
    end: End,
    run_id: i64,
    bytes: usize,
) -> io::Result<VecDeque<Entry>> {
    // BOUND: `bytes` and one entry.
    let mut kept: VecDeque<Entry> = VecDeque::new();
    let mut size = 0;
    loop {
        let batch = reader.read(slot, READ_BYTES, end.place)?;
        for entry in batch.entries.into_iter().filter(|e| e.run_id == run_id) {
            size += entry.data.len();
            kept.push_back(entry);
            while let Some(first) = kept.front()
                && size - first.data.len() >= bytes
            {
                size -= first.data.len();
                kept.pop_front();
            }
        }
        if !batch.more {
            return Ok(kept);
        }
    }
}
