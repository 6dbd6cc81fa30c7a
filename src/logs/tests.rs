//! Real pipes against what a reader gets.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use super::*;

/// Long enough for a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// Reads `slot` until `enough` says so; fails after [`PATIENCE`].
fn read_until(
    reader: &mut Reader,
    slot: Slot,
    mut enough: impl FnMut(&[Entry], &[Gap]) -> bool,
) -> (Vec<Entry>, Vec<Gap>) {
    let deadline = Instant::now() + PATIENCE;
    let (mut entries, mut gaps) = (Vec::new(), Vec::new());
    while !enough(&entries, &gaps) {
        assert!(
            Instant::now() < deadline,
            "got {} entries, last {:?}",
            entries.len(),
            entries.last()
        );
        let batch = reader.read(slot, 256 * 1024, u64::MAX);
        gaps.extend(batch.gap);
        entries.extend(batch.entries);
        if !batch.more {
            std::thread::yield_now();
        }
    }
    (entries, gaps)
}

#[test]
fn lines_of_both_streams_are_numbered_densely() {
    let logs = logs();
    let (mut out, mut err) = files(logs.open(uid(1), &name(), 7, false, 0).unwrap());
    let mut reader = logs.reader();
    let slot = reader.attach(uid(1), Start::Oldest).unwrap().slot;
    out.write_all(b"one\ntwo\n").unwrap();
    read_until(&mut reader, slot, |entries, _| entries.len() == 2);
    err.write_all(b"oops\n").unwrap();
    let (entries, gaps) = read_until(&mut reader, slot, |entries, _| entries.len() == 1);
    assert_eq!(gaps, []);
    assert_eq!(entries[0].sequence, 3);
    assert_eq!(entries[0].run_id, 7);
    assert_eq!(entries[0].stream, OutputStream::Stderr);
    assert_eq!(&entries[0].data[..], b"oops");
}
