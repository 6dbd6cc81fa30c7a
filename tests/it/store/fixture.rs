//! Databases that earlier versions wrote can be read for ever.
//!
//! With `BLESS` in the environment the fixture of the newest version is written
//! anew; one of a version that was released never is.

use std::{env, fs, path::Path, sync::Arc};

use procession::{
    domain::{
        id::Revision,
        label, // The grammar that its labels follow.
        run::{Exit, Outcome},
        status::{
            Cause, Condition, ConditionKind, Desired, Details, Reason, RunRecord, State, Status,
        },
        time::Timestamp,
    },
    store::{Intent, Observation, Request, Store, Wish},
};

use super::support::{by, desire, gone, named, observe, open, put, spec, uid, until_durable};

const V1: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/fixtures/store-v1/store.db"
);

/// A status with something in every field that a run leaves behind.
fn failed() -> Status {
    let record = RunRecord {
        run_id: 3,
        exit: Exit {
            outcome: Outcome::Code(41),
            core_dumped: false,
            oom_killed: true,
            at: Timestamp(1_700_000_000_000_000_009),
            cpu_time: std::time::Duration::from_millis(1500),
            max_rss_bytes: 4096,
        },
        stop_requested: true,
        start_time: Timestamp(1_700_000_000_000_000_001),
        cause: by("uid:3"),
    };
    let condition = Condition {
        kind: ConditionKind::ConfigCurrent,
        holds: false,
        reason: "RESTART_NEEDED",
        message: "the run was started with an earlier generation".into(),
        since: Timestamp(17),
    };
    Status {
        state: State::Failed,
        reason: Reason::OomKilled,
        consecutive_failures: 2,
        run_id: 3,
        run_generation: 1,
        restart_count: 2,
        start_time: Timestamp(1_700_000_000_000_000_001),
        end_time: Timestamp(1_700_000_000_000_000_009),
        details: Arc::new(Details {
            message: "ran out of memory".into(),
            waiting_on: vec![named("p-2")],
            surviving_pids: vec![77],
            cgroup_path: "/procession/p-1".into(),
            history: vec![Arc::new(record)],
            conditions: vec![condition],
        }),
        ..Status::new(Desired::Running, by("uid:4"), Timestamp(19))
    }
}

fn observation() -> Observation {
    Observation {
        uid: uid(1),
        version: 12,
        revision: Revision::new(40),
        created: Revision::new(21),
        intent: 1,
        status: failed(),
        cause: Cause::KERNEL,
        time: Timestamp(1_700_000_000_000_000_010),
        deleted: false,
    }
}

fn request() -> Request {
    Request {
        principal: "uid:2".into(),
        method: "UpdateProcess".into(),
        id: [9; 16],
        fingerprint: 0xfeed_face_cafe_beef,
        uid: uid(1),
        name: named("p-1"),
        run_id: 3,
        revision: Revision::new(39),
        time: Timestamp(999_000_000_000),
    }
}

fn edited() -> procession::domain::spec::Spec {
    let mut spec = spec(1, 2);
    spec.config.labels = [("tier".to_owned(), "web".to_owned())].into();
    spec.config.env = [("KEY".to_owned(), "a value".to_owned())].into();
    spec.config.stop.signal = Some(2);
    assert!(spec.config.labels.keys().all(|key| label::is_key(key)));
    spec
}

fn write(store: &Store) {
    store.begin_epoch("first-run", "boot-1").wait().unwrap();
    let intents = (1..=3).map(|number| put(number, 1, Desired::Running));
    store.intend(intents.collect()).wait().unwrap();
    let edit = Intent {
        uid: uid(1),
        wish: Wish::Put {
            spec: Arc::new(edited()),
            desired: Desired::Running,
        },
        number: 1,
        begin: true,
        instead_of: 3,
        cause: by("uid:2"),
        request: Some(request()),
    };
    let intents = vec![
        edit,
        desire(2, Desired::Stopped),
        desire(3, Desired::Deleted),
    ];
    store.intend(intents).wait().unwrap();
    observe(store, vec![observation(), gone(3, 5, 41)]);
    until_durable(store, 41);
    store.begin_epoch("second-run", "boot-1").wait().unwrap();
}

#[test]
fn a_database_of_version_1_opens_with_exactly_what_was_written() {
    if env::var_os("BLESS").is_some() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        write(&store);
        store.close(true).unwrap();
        fs::create_dir_all(Path::new(V1).parent().unwrap()).unwrap();
        fs::copy(dir.path().join("store.db"), V1).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    fs::copy(V1, dir.path().join("store.db")).unwrap();
    let (store, found) = open(dir.path());
    assert!(found.read_only.is_none() && found.clean, "{found:?}");
    assert_eq!(found.durable_revision, Revision::new(41));
    let lineage = [
        ("first-run".into(), Revision::new(41)),
        ("second-run".into(), Revision::new(41)),
    ];
    assert_eq!(found.lineage, lineage);
    assert_eq!(found.requests, [request()]);
    let [first, second] = &*found.processes else {
        panic!("{:?}", found.processes);
    };
    assert_eq!((first.uid, &first.spec), (uid(1), &edited()));
    assert_eq!(
        (first.desired, &first.intent_cause),
        (Desired::Running, &by("uid:2"))
    );
    let observed = first.observed.as_ref().unwrap();
    let expected = observation();
    assert_eq!(observed.status, expected.status);
    assert_eq!(observed.cause, expected.cause);
    assert_eq!(observed.time, expected.time);
    assert_eq!(
        (observed.version, observed.revision),
        (12, Revision::new(40))
    );
    assert_eq!((observed.created, observed.intent), (Revision::new(21), 1));
    assert_eq!((first.number, first.begin, first.instead_of), (1, true, 3));
    assert_eq!(found.boot_id.as_deref(), Some("boot-1"));
    assert!(found.stopped_all);
    assert_eq!((second.uid, second.desired), (uid(2), Desired::Stopped));
    assert_eq!((&second.spec, &second.observed), (&spec(2, 1), &None));
    let [tombstone] = &*found.tombstones else {
        panic!("{:?}", found.tombstones);
    };
    assert_eq!((tombstone.uid, tombstone.revision().get()), (uid(3), 41));
    // It can go on from here.
    store
        .intend(vec![desire(2, Desired::Running)])
        .wait()
        .unwrap();
    store.close(false).unwrap();
}

#[test]
fn a_database_of_a_later_version_is_refused_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    fs::copy(V1, &path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The user version of an SQLite header.
    assert_eq!(bytes[60..64], [0, 0, 0, 1]);
    bytes[63] = 9;
    fs::write(&path, &bytes).unwrap();
    let refused = super::support::try_open(dir.path())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("version 9"), "{refused}");
    assert!(refused.contains("knows 1"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "it was changed");

    // The application id.
    bytes[63] = 1;
    bytes[68] = 0;
    fs::write(&path, &bytes).unwrap();
    let refused = super::support::try_open(dir.path())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("another program"), "{refused}");
}
