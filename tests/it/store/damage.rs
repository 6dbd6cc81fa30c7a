//! The bytes change while nobody looks: cut off, or flipped.
//!
//! `STORE_STRIDE` in the environment: bytes from one place that is tried to the
//! next; 1 tries them all, and takes half an hour.

use std::{fs, path::Path};

use procession::{
    domain::{id::Revision, status::Desired},
    store::{NotDurable, ReasonKind, Recovered},
};

use super::{
    ledger::{Known, Ledger, Step},
    support::{change_row_of_2, find, observe, open, put, seen, try_open, until_durable},
};

/// Bytes from one place that is tried to the next; prime, so that it comes to all
/// parts of a page.
const STRIDE: usize = 509;
/// Bytes of a page in the log, with its header.
const FRAME: usize = 24 + 4096;
/// As [`STRIDE`], where only bytes in use are tried.
const USED_STRIDE: usize = 5;

/// A database and its log, and what was known when the log had which length.
struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
    ledger: Ledger,
    known: Vec<(usize, Known)>,
}

// === impl Files ===

impl Files {
    /// A short history that is all in the log.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut ledger = Ledger::default();
        let mut known = vec![(0, ledger.known(Revision::ZERO))];
        let steps = [
            Step::Put(0, true),
            Step::Put(1, false),
            Step::Change(0),
            Step::Want(1, true),
            Step::Put(0, true),
            Step::Delete(1),
            Step::Put(1, true),
            Step::Change(1),
        ];
        let log = dir.path().join("store.db-wal");
        for step in steps {
            let said = ledger.say(step);
            if let Some((intent, ticket)) = said.intent {
                store.intend(vec![intent]).wait().unwrap();
                ledger.ack(ticket);
            }
            if !said.seen.is_empty() {
                observe(&store, said.seen);
                until_durable(&store, ledger.revision);
            }
            let length = fs::metadata(&log).unwrap().len() as usize;
            let durable = *store.durable_revision().borrow();
            known.push((length, ledger.known(durable)));
        }
        Self {
            database: fs::read(dir.path().join("store.db")).unwrap(),
            log: fs::read(&log).unwrap(),
            ledger,
            known,
        }
    }

    /// The same, all in the database.
    fn closed() -> Self {
        let mut files = Self::new();
        let dir = tempfile::tempdir().unwrap();
        put_down(dir.path(), &files.database, &files.log);
        open(dir.path()).0.close(false).unwrap();
        files.database = fs::read(dir.path().join("store.db")).unwrap();
        files.log.clear();
        files
    }

    /// What is known from the first `length` bytes of the log.
    fn known(&self, length: usize) -> &Known {
        let fits = self.known.iter().rev().find(|known| known.0 <= length);
        &fits.unwrap().1
    }

    fn last(&self) -> &Known {
        &self.known.last().unwrap().1
    }
}

fn put_down(dir: &Path, database: &[u8], log: &[u8]) {
    fs::write(dir.join("store.db"), database).unwrap();
    fs::write(dir.join("store.db-wal"), log).unwrap();
}

fn stride() -> usize {
    let given = std::env::var("STORE_STRIDE").ok();
    given.map_or(STRIDE, |given| given.parse().unwrap())
}

#[test]
fn a_log_cut_anywhere_keeps_what_was_acknowledged_before() {
    let files = Files::new();
    for length in (0..=files.log.len()).step_by(stride()) {
        let dir = tempfile::tempdir().unwrap();
        put_down(dir.path(), &files.database, &files.log[..length]);
        let (_store, found) = open(dir.path());
        assert_eq!(found.log_break, None, "cut at {length}");
        if let Err(error) = files.ledger.check(&found, files.known(length)) {
            panic!("cut at {length} of {}: {error}", files.log.len());
        }
    }
}

#[test]
fn a_flipped_bit_in_the_log_takes_away_no_more_than_what_follows() {
    let files = Files::new();
    for at in (0..files.log.len()).step_by(stride()) {
        let mut log = files.log.clone();
        log[at] ^= 1 << (at % 8);
        let dir = tempfile::tempdir().unwrap();
        put_down(dir.path(), &files.database, &log);
        let (_store, found) = open(dir.path());
        if let Err(error) = files.ledger.check(&found, files.known(at)) {
            panic!("bit {} of byte {at}: {error}", at % 8);
        }
        // Only in the very last frame it cannot be told from a write cut off.
        let last = files.log.len() - FRAME;
        let lost = files.ledger.check(&found, files.last()).is_err();
        assert!(
            !lost || found.log_break.is_some() || at >= last,
            "byte {at}: silent"
        );
    }
}

/// What is found in a damaged database is told to be damaged, or is all there.
fn judge(files: &Files, dir: &Path, place: &str) -> bool {
    match try_open(dir) {
        Err(_) => true,
        Ok((_, found)) if found.read_only.is_some() => {
            assert!(!found.damage.is_empty(), "{place}: nothing is told");
            files
                .ledger
                .check_part(&found)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            true
        }
        Ok((store, found)) => {
            drop(store);
            files
                .ledger
                .check(&found, files.last())
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            false
        }
    }
}

#[test]
fn a_flipped_bit_in_the_database_is_detected_or_harmless() {
    let files = Files::closed();
    let mut detected = 0;
    // Most of a small database is zeros that nobody reads.
    let used = (0..files.database.len()).filter(|at| files.database[*at] != 0);
    for at in used.step_by(stride().min(USED_STRIDE)) {
        let mut database = files.database.clone();
        database[at] ^= 1 << (at % 8);
        let dir = tempfile::tempdir().unwrap();
        put_down(dir.path(), &database, &[]);
        detected += i32::from(judge(&files, dir.path(), &format!("byte {at}")));
    }
    assert!(detected > 0, "no flip was detected");
}

/// No row is read through it, so only a check of everything finds it.
#[test]
fn a_damaged_index_is_found_at_the_start() {
    let files = Files::closed();
    let mut database = files.database.clone();
    // The kind of the last page: the index of requests by time.
    let at = database.len() - 4096;
    database[at] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    put_down(dir.path(), &database, &[]);
    let (_store, found) = open(dir.path());
    assert!(found.read_only.is_some() && found.processes.len() == 2);
}

#[test]
fn a_database_cut_short_is_detected_or_harmless() {
    let files = Files::closed();
    // Where the last page begins: beyond, only what it does not use may be cut.
    let last = files.database.len() - 4096;
    for length in (0..files.database.len()).step_by(stride().max(64)) {
        let dir = tempfile::tempdir().unwrap();
        put_down(dir.path(), &files.database[..length], &[]);
        let place = format!("cut at {length}");
        let detected = judge(&files, dir.path(), &place);
        assert!(detected || length > last, "{place}: not detected");
    }
}

#[test]
fn a_lost_database_is_not_replaced_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store
        .intend(vec![put(1, 1, Desired::Running)])
        .wait()
        .unwrap();
    drop(store);
    fs::remove_file(dir.path().join("store.db")).unwrap();
    let refused = try_open(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("its log is there"), "{refused}");
    fs::write(dir.path().join("store.db"), "").unwrap();
    let refused = try_open(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("procession doctor"), "{refused}");
}

/// A store with process 1 and a process 2 whose row is changed behind its back.
fn one_bad_row() -> (tempfile::TempDir, Recovered) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let intents = vec![put(1, 1, Desired::Running), put(2, 1, Desired::Running)];
    store.intend(intents).wait().unwrap();
    observe(&store, vec![seen(1, 1, 1), seen(2, 1, 2)]);
    store.close(false).unwrap();
    change_row_of_2(dir.path());
    let (store, found) = open(dir.path());
    let reason = found.read_only.clone().unwrap();
    assert_eq!(reason.kind, ReasonKind::Corrupt);
    let refused = store.intend(vec![put(3, 1, Desired::Running)]).wait();
    assert_eq!(refused, Err(NotDurable::ReadOnly(reason)));
    observe(&store, vec![seen(1, 2, 3)]);
    assert!(store.close(false).is_err());
    (dir, found)
}

#[test]
fn a_damaged_store_is_read_as_far_as_it_goes_and_never_written() {
    let (dir, found) = one_bad_row();
    let before = fs::read(dir.path().join("store.db")).unwrap();
    assert!(find(&found, 1).is_some() && find(&found, 2).is_none());
    assert!(found.damage[0].problem.contains("checksum"), "{found:?}");
    let (_store, again) = open(dir.path());
    assert_eq!(again.processes, found.processes);
    assert_eq!(fs::read(dir.path().join("store.db")).unwrap(), before);
}

#[test]
fn a_lost_page_takes_only_its_own_rows() {
    const PAGE: usize = 4096;
    const TABLE_LEAF: u8 = 13;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let intents = (1..=400).map(|number| put(number, 1, Desired::Running));
    store.intend(intents.collect()).wait().unwrap();
    store.close(false).unwrap();
    let path = dir.path().join("store.db");
    let mut bytes = fs::read(&path).unwrap();
    let mut pages = bytes.chunks_exact_mut(PAGE);
    let has = |page: &[u8]| page.windows(5).any(|text| text == b"p-200");
    let page = pages
        .find(|page| page[0] == TABLE_LEAF && has(page))
        .unwrap();
    page[..100].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let (_store, found) = open(dir.path());
    assert!(found.read_only.is_some() && find(&found, 200).is_none());
    // Both those before the page and those after it.
    assert!(find(&found, 1).is_some() && find(&found, 400).is_some());
    let left = found.processes.len();
    assert!((300..400).contains(&left), "{left} of 400 are left");
}
