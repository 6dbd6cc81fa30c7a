//! Stores in temporary directories, and short ways to say what is written.

use std::{fs, path::Path, sync::Arc, time::Duration};

use procession::{
    domain::{
        id::{ProcessName, Revision, Uid},
        spec::{Config, Spec},
        status::{Caller, Cause, Desired, Origin, State, Status},
        time::Timestamp,
    },
    grpc::convert::durable::ProtoCodec,
    store::{Health, Intent, Observation, OpenError, Options, Recovered, Store, Stored, Wish},
};

/// Longest wait for anything; a test that reaches it fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Quick to write behind and to heal.
pub(super) fn options() -> Options {
    Options {
        now: || Timestamp(1_000_000_000_000),
        write_behind: Duration::from_micros(100),
        heal_pause: (Duration::from_millis(5), Duration::from_millis(40)),
        ..Options::default()
    }
}

pub(super) fn open(dir: &Path) -> (Store, Recovered) {
    try_open(dir).unwrap()
}

pub(super) fn try_open(dir: &Path) -> Result<(Store, Recovered), OpenError> {
    Store::open(dir, Arc::new(ProtoCodec), options())
}

pub(super) fn uid(number: u64) -> Uid {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Uid::from_bytes(bytes)
}

pub(super) fn named(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

pub(super) fn by(principal: &str) -> Cause {
    let caller = Caller {
        principal: principal.into(),
        request_id: Box::default(),
        once: None,
    };
    Cause {
        origin: Origin::Api,
        caller: Some(Arc::new(caller)),
    }
}

/// Process `number`, called `p-NUMBER`, in this generation, which its command
/// tells too.
pub(super) fn spec(number: u64, generation: i64) -> Spec {
    Spec {
        name: named(&format!("p-{number}")),
        generation,
        created: Timestamp(5),
        config: Config {
            command: vec!["run".into(), generation.to_string()],
            ..Config::default()
        },
    }
}

pub(super) fn put(number: u64, generation: i64, desired: Desired) -> Intent {
    Intent {
        uid: uid(number),
        wish: Wish::Put {
            spec: Arc::new(spec(number, generation)),
            desired,
        },
        number: 0,
        begin: false,
        instead_of: 0,
        cause: by("uid:1"),
        request: None,
    }
}

pub(super) fn desire(number: u64, desired: Desired) -> Intent {
    Intent {
        uid: uid(number),
        wish: Wish::Desired(desired),
        number: 0,
        begin: false,
        instead_of: 0,
        cause: by("uid:2"),
        request: None,
    }
}

/// Version and revision are told by the status too, so that a mix shows.
pub(super) fn seen(number: u64, version: i64, revision: i64) -> Observation {
    let mut status = Status::new(Desired::Running, Cause::KERNEL, Timestamp(revision));
    status.state = State::Running;
    status.run_id = version;
    status.pid = i32::try_from(number).unwrap();
    Observation {
        uid: uid(number),
        version,
        revision: Revision::new(revision),
        created: Revision::new(1),
        intent: 0,
        status,
        cause: Cause::SUPERVISOR,
        time: Timestamp(revision),
        deleted: false,
    }
}

pub(super) fn gone(number: u64, version: i64, revision: i64) -> Observation {
    Observation {
        deleted: true,
        ..seen(number, version, revision)
    }
}

pub(super) fn observe(store: &Store, batch: Vec<Observation>) {
    let upto = batch.iter().map(|seen| seen.revision).max().unwrap();
    store.observe(batch, upto);
}

/// Blocks until everything up to `revision` is recorded.
pub(super) fn until_durable(store: &Store, revision: i64) {
    let mut durable = store.durable_revision();
    wait(async move {
        durable
            .wait_for(|durable| durable.get() >= revision)
            .await
            .unwrap();
    });
}

/// Blocks until the health is as asked.
pub(super) fn until_health(store: &Store, is: impl FnMut(&Health) -> bool) -> Health {
    let mut health = store.health();
    wait(async move { health.wait_for(is).await.unwrap().clone() })
}

pub(super) fn wait<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, what).await })
        .expect("in time")
}

/// The process `number` among what was recovered.
pub(super) fn find(recovered: &Recovered, number: u64) -> Option<&Stored> {
    let found = |stored: &&Stored| stored.uid == uid(number);
    recovered.processes.iter().find(found)
}

/// The files of a store as they are at one moment, as if its daemon were killed
/// then: nothing was moved from the log into the database meanwhile.
pub(super) fn copy(from: &Path, to: &Path) {
    const HEADER: usize = 32;
    let read = |file: &str| fs::read(from.join(file)).unwrap_or_default();
    loop {
        let (database, log) = (read("store.db"), read("store.db-wal"));
        let header = log.get(..HEADER);
        if read("store.db") == database && read("store.db-wal").get(..HEADER) == header {
            fs::write(to.join("store.db"), database).unwrap();
            fs::write(to.join("store.db-wal"), log).unwrap();
            return;
        }
    }
}

/// Changes what the closed store in `dir` says of process 2, behind its back.
pub(super) fn change_row_of_2(dir: &Path) {
    let path = dir.join("store.db");
    let mut bytes = fs::read(&path).unwrap();
    let places = 0..bytes.len() - 3;
    for at in places
        .filter(|at| bytes[*at..].starts_with(b"p-2"))
        .collect::<Vec<_>>()
    {
        bytes[at] = b'q';
    }
    fs::write(&path, bytes).unwrap();
}
