//! The store on a disk that fails where a test wants it to.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rusqlite::ffi::{SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR_FSYNC};

use super::{
    fault::{Cut, Faults},
    *,
};
use crate::{
    domain::{
        id::{ProcessName, Uid},
        spec::{Config, Spec},
        status::{Cause, Desired, Status},
        time::Timestamp,
    },
    grpc::convert::durable::ProtoCodec,
};

/// What each point of the disk answers, in order; then all goes well.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    planned: VecDeque<(Cut, i32)>,
    /// Fails at the nth point from now, whichever that is.
    nth: Option<usize>,
    probes: Vec<Instant>,
}

// === impl Script ===

impl Script {
    fn plan(&self, cut: Cut, code: i32, times: usize) {
        let planned = std::iter::repeat_n((cut, code), times);
        self.0.lock().unwrap().planned.extend(planned);
    }

    fn plan_nth(&self, nth: usize) {
        self.0.lock().unwrap().nth = Some(nth);
    }

    fn probes(&self) -> Vec<Instant> {
        self.0.lock().unwrap().probes.clone()
    }

    fn faults(&self) -> Faults {
        let lines = Arc::clone(&self.0);
        Faults {
            hook: Some(Arc::new(move |cut| lines.lock().unwrap().answer(cut))),
        }
    }
}

impl Lines {
    fn answer(&mut self, cut: Cut) -> Option<i32> {
        if cut == Cut::Probe {
            self.probes.push(Instant::now());
        }
        if let Some(nth) = &mut self.nth {
            *nth = nth.saturating_sub(1);
            if *nth == 0 {
                self.nth = None;
                return Some(SQLITE_IOERR_FSYNC);
            }
        }
        let (planned, code) = *self.planned.front()?;
        (planned == cut).then(|| {
            self.planned.pop_front();
            code
        })
    }
}

fn options() -> Options {
    Options {
        write_behind: Duration::from_micros(100),
        heal_pause: (Duration::from_millis(4), Duration::from_millis(16)),
        ..Options::default()
    }
}

fn open(dir: &Path, script: &Script) -> (Store, Recovered) {
    Store::open_with(dir, Arc::new(ProtoCodec), options(), script.faults()).unwrap()
}

fn uid(number: u8) -> Uid {
    Uid::from_bytes([number; 16])
}

fn put(number: u8, generation: i64, padding: usize) -> Intent {
    let spec = Spec {
        name: ProcessName::new(&format!("p-{number}")).unwrap(),
        generation,
        created: Timestamp(1),
        config: Config {
            command: vec!["x".repeat(padding + 1)],
            ..Config::default()
        },
    };
    Intent {
        uid: uid(number),
        wish: Wish::Put {
            spec: Arc::new(spec),
            desired: Desired::Running,
        },
        number: 0,
        begin: false,
        instead_of: 0,
        cause: Cause::CONFIG,
        request: None,
    }
}

fn seen(number: u8, version: i64) -> Observation {
    Observation {
        uid: uid(number),
        version,
        revision: Revision::new(version),
        created: Revision::new(1),
        intent: 0,
        status: Status::new(Desired::Running, Cause::KERNEL, Timestamp(version)),
        cause: Cause::KERNEL,
        time: Timestamp(version),
        deleted: false,
    }
}

fn observe(store: &Store, number: u8, version: i64) {
    store.observe(vec![seen(number, version)], Revision::new(version));
}

fn wait<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), what).await })
        .expect("in time")
}

fn until_writable(store: &Store) {
    let mut health = store.health();
    wait(async move {
        let writable = health.wait_for(|health| *health == Health::Writable);
        writable.await.map(|_| ()).unwrap();
    });
}

fn until_durable(store: &Store, revision: i64) {
    let mut durable = store.durable_revision();
    wait(async move {
        let reached = durable.wait_for(|durable| durable.get() >= revision);
        reached.await.map(|_| ()).unwrap();
    });
}

fn generation(recovered: &Recovered, number: u8) -> Option<i64> {
    let mut all = recovered.processes.iter();
    let found = all.find(|stored| stored.uid == uid(number))?;
    Some(found.spec.generation)
}

#[test]
fn a_failure_is_told_as_what_it_is_and_heals() {
    let kinds = [
        (SQLITE_FULL, ReasonKind::Full),
        (SQLITE_IOERR_FSYNC, ReasonKind::Io),
        (SQLITE_CORRUPT, ReasonKind::Corrupt),
    ];
    for cut in [Cut::Begin, Cut::Commit, Cut::Committed] {
        for (code, kind) in kinds {
            let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
            let (store, _) = open(dir.path(), &script);
            store.intend(vec![put(1, 1, 0)]).wait().unwrap();
            script.plan(cut, code, 1);
            script.plan(Cut::Probe, SQLITE_IOERR_FSYNC, 2);
            let refused = store.intend(vec![put(1, 2, 0)]).wait();
            let Err(NotDurable::ReadOnly(reason)) = refused else {
                panic!("{cut:?} {code}: {refused:?}");
            };
            assert_eq!(reason.kind, kind);
            // The seat of what was not written is kept; newer states move into it.
            observe(&store, 1, 1);
            observe(&store, 1, 2);
            until_writable(&store);
            assert_eq!(*store.durable_revision().borrow(), Revision::new(2));
            assert_eq!(store.stats().failures, 1);
            store.intend(vec![put(2, 1, 0)]).wait().unwrap();
            drop(store);

            let (_store, found) = open(dir.path(), &script);
            let possible = if cut == Cut::Committed { 2 } else { 1 };
            assert_eq!(generation(&found, 1), Some(possible), "{cut:?} {code}");
            assert_eq!(generation(&found, 2), Some(1));
            let observed = found.processes[0].observed.as_ref().unwrap();
            assert_eq!(observed.version, 2);
        }
    }
}

#[test]
fn whichever_point_fails_nothing_false_is_acknowledged() {
    for nth in 1..40 {
        let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
        let (store, _) = open(dir.path(), &script);
        script.plan_nth(nth);
        let mut acked = 0;
        for generation in 1..=8 {
            match store.intend(vec![put(1, generation, 0)]).wait() {
                Ok(()) => acked = generation,
                Err(_) => until_writable(&store),
            }
            if acked > 0 {
                observe(&store, 1, generation);
                until_durable(&store, generation);
            }
        }
        // What failed once works again.
        store.intend(vec![put(2, 1, 0)]).wait().unwrap();
        let closed = store.close(false);
        let (_store, found) = open(dir.path(), &Script::default());
        assert!(found.read_only.is_none(), "{nth}");
        assert!(found.clean || closed.is_err(), "{nth}");
        assert!(generation(&found, 1) >= Some(acked), "{nth}");
        assert_eq!(generation(&found, 2), Some(1), "{nth}");
        let observed = found.processes[0].observed.as_ref().unwrap();
        assert_eq!(observed.version, 8, "{nth}");
    }
}

#[test]
fn a_store_whose_file_is_gone_is_read_only_until_it_is_back() {
    let root = tempfile::tempdir().unwrap();
    let (state, elsewhere) = (root.path().join("state"), root.path().join("elsewhere"));
    fs::create_dir(&state).unwrap();
    let (store, _) = open(&state, &Script::default());
    store.intend(vec![put(1, 1, 0)]).wait().unwrap();
    // The file stays open, so every write to it succeeds.
    fs::rename(&state, &elsewhere).unwrap();
    let refused = store.intend(vec![put(1, 2, 0)]).wait();
    let Err(NotDurable::ReadOnly(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(reason.kind, ReasonKind::Io);
    fs::rename(&elsewhere, &state).unwrap();
    until_writable(&store);
    store.intend(vec![put(1, 3, 0)]).wait().unwrap();
    drop(store);
    let (_store, found) = open(&state, &Script::default());
    assert_eq!(generation(&found, 1), Some(3));
}

#[test]
fn attempts_to_heal_come_at_growing_pauses() {
    let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
    let (store, _) = open(dir.path(), &script);
    script.plan(Cut::Commit, SQLITE_IOERR_FSYNC, 1);
    script.plan(Cut::Probe, SQLITE_IOERR_FSYNC, 5);
    let since = Instant::now();
    store.intend(vec![put(1, 1, 0)]).wait().unwrap_err();
    until_writable(&store);
    let probes = script.probes();
    let ends = std::iter::once(&since).chain(&probes);
    let pauses: Vec<_> = ends.zip(&probes).map(|(from, to)| *to - *from).collect();
    let least = [4, 4, 8, 16, 16, 16].map(Duration::from_millis);
    assert_eq!(pauses.len(), least.len());
    for (pause, least) in pauses.iter().zip(least) {
        assert!(*pause >= least, "{pauses:?}");
    }
}

#[test]
fn a_log_that_cannot_be_moved_makes_the_store_read_only() {
    let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
    let (store, _) = open(dir.path(), &script);
    script.plan(Cut::Checkpoint, SQLITE_IOERR_FSYNC, 1);
    let mut acked = 0;
    // Some 30 pages each; the log is moved at a thousand.
    while store.stats().failures == 0 {
        match store.intend(vec![put(1, acked + 1, 100_000)]).wait() {
            Ok(()) => acked += 1,
            Err(_) => break,
        }
        assert!(acked < 200, "the log is never moved");
    }
    assert!(acked > 20, "moved after {acked} already");
    until_writable(&store);
    drop(store);
    let (_store, found) = open(dir.path(), &script);
    assert_eq!(generation(&found, 1), Some(acked));
}

#[test]
fn the_log_is_moved_and_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &Script::default());
    for generation in 1..=400 {
        let intent = put(1, generation, 100_000);
        store.intend(vec![intent]).wait().unwrap();
    }
    let log = dir.path().join("store.db-wal");
    let bytes = fs::metadata(log).unwrap().len();
    assert!(bytes < 10 << 20, "{bytes} bytes after 40 MB");
    drop(store);
    // What is left of earlier rounds of the log is not taken for a break.
    let (_store, found) = open(dir.path(), &Script::default());
    assert_eq!(found.log_break, None);
    assert_eq!(generation(&found, 1), Some(400));
}

#[test]
fn a_bug_in_the_thread_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults {
        hook: Some(Arc::new(|_| panic!("a bug, on purpose"))),
    };
    let codec = Arc::new(ProtoCodec);
    let (store, _) = Store::open_with(dir.path(), codec, options(), faults).unwrap();
    let receipts: Vec<_> = (1..=3)
        .map(|number| store.intend(vec![put(number, 1, 0)]))
        .collect();
    for receipt in receipts {
        assert_eq!(receipt.wait(), Err(NotDurable::Closed));
    }
    let later = store.intend(vec![put(4, 1, 0)]).wait();
    assert_eq!(later, Err(NotDurable::Closed));
    assert!(matches!(*store.health().borrow(), Health::ReadOnly { .. }));
    assert_eq!(store.close(false), Err(NotDurable::Closed));
}

#[test]
fn what_cannot_be_written_at_the_end_is_told() {
    let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
    let (store, _) = open(dir.path(), &script);
    store.intend(vec![put(1, 1, 0)]).wait().unwrap();
    script.plan(Cut::Begin, SQLITE_IOERR_FSYNC, 1);
    script.plan(Cut::Probe, SQLITE_IOERR_FSYNC, 1000);
    observe(&store, 1, 1);
    assert!(store.close(false).is_err());
    let (_store, found) = open(dir.path(), &Script::default());
    assert!(!found.clean && found.processes[0].observed.is_none());
}

#[test]
fn tombstones_are_forgotten_beyond_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        tombstones_max: 2,
        ..options()
    };
    let codec = Arc::new(ProtoCodec);
    let opened = Store::open_with(dir.path(), codec, options, Faults::default());
    let (store, _) = opened.unwrap();
    for number in 1..=5 {
        store.intend(vec![put(number, 1, 0)]).wait().unwrap();
        let gone = Observation {
            deleted: true,
            revision: Revision::new(number.into()),
            ..seen(number, 2)
        };
        store.observe(vec![gone], Revision::new(number.into()));
    }
    until_durable(&store, 5);
    drop(store);
    let (_store, found) = open(dir.path(), &Script::default());
    let kept: Vec<_> = found.tombstones.iter().map(|gone| gone.uid).collect();
    assert_eq!(kept, [uid(4), uid(5)]);
    assert_eq!(found.forgotten, Revision::new(3));
}

mod migrations {
    //! From a version to the next.

    use rusqlite::{Connection, Error, Transaction};

    use super::{super::database, *};

    fn add_column(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("ALTER TABLE epochs ADD COLUMN host TEXT")
    }

    fn add_table(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("CREATE TABLE hosts (id INTEGER PRIMARY KEY) STRICT")
    }

    fn half_done(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("DROP TABLE requests")?;
        Err(Error::InvalidQuery)
    }

    fn version(path: &Path) -> i64 {
        let connection = Connection::open(path).unwrap();
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn each_step_is_whole_or_not_there_and_leaves_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), &Script::default());
        store.intend(vec![put(1, 1, 0)]).wait().unwrap();
        drop(store);
        let path = dir.path().join(DATABASE);
        let failed = database::open_current(&path, &[add_column, half_done]);
        assert!(failed.is_err());
        let copy = dir.path().join("store.db.v1");
        assert_eq!((version(&copy), version(&path)), (1, 2));
        // The first is done; only the second is carried out.
        let opened = database::open_current(&path, &[half_done, add_table]);
        drop(opened.unwrap());
        assert_eq!(version(&path), 3);
        let refused = database::open_current(&path, &[]).unwrap_err();
        assert!(refused.to_string().contains("version 3"), "{refused}");
        fs::remove_file(&path).unwrap();
        fs::rename(&copy, &path).unwrap();
        let (_store, found) = open(dir.path(), &Script::default());
        assert_eq!(generation(&found, 1), Some(1));
    }
}
