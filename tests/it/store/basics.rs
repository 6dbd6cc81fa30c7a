//! What goes in comes out.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use procession::{
    domain::{id::Revision, status::Desired, time::Timestamp},
    store::{Health, Intent, NotDurable, Request, Wish},
};

use super::support::{
    by, desire, find, gone, named, observe, open, put, seen, spec, try_open, uid, until_durable,
    wait,
};

#[test]
fn a_new_store_is_empty_writable_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recovered) = open(dir.path());
    assert!(recovered.processes.is_empty() && recovered.lineage.is_empty());
    assert_eq!(recovered.durable_revision, Revision::ZERO);
    assert!(recovered.read_only.is_none() && recovered.clean);
    assert_eq!(*store.health().borrow(), Health::Writable);
    let log = put(1, 1, Desired::Running);
    store.intend(vec![log]).wait().unwrap();
    for file in ["store.db", "store.db-wal", "store.reserve"] {
        let mode = dir.path().join(file).metadata().unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{file}");
    }
    let refused = try_open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    store.close(false).unwrap();
}

#[test]
fn intents_and_states_come_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.begin_epoch("first", "boot-1").wait().unwrap();
    let intents = vec![put(1, 1, Desired::Running), put(2, 1, Desired::Stopped)];
    store.intend(intents).wait().unwrap();
    observe(&store, vec![seen(1, 1, 1), seen(2, 1, 2)]);
    observe(&store, vec![seen(1, 2, 3)]);
    until_durable(&store, 3);
    let edited = vec![put(2, 2, Desired::Stopped), desire(1, Desired::Stopped)];
    store.intend(edited).wait().unwrap();
    store.close(false).unwrap();

    let (store, recovered) = open(dir.path());
    assert!(recovered.clean && recovered.read_only.is_none());
    assert_eq!(recovered.processes.len(), 2);
    let first = find(&recovered, 1).unwrap();
    assert_eq!(first.spec, spec(1, 1));
    assert_eq!(first.desired, Desired::Stopped);
    assert_eq!(first.intent_cause, by("uid:2"));
    let expected = seen(1, 2, 3);
    let observed = first.observed.as_ref().unwrap();
    assert_eq!(observed.status, expected.status);
    assert_eq!(observed.cause, expected.cause);
    assert_eq!((observed.version, observed.revision.get()), (2, 3));
    assert_eq!(observed.time, Timestamp(3));
    let second = find(&recovered, 2).unwrap();
    assert_eq!(second.spec, spec(2, 2));
    assert_eq!(second.observed.as_ref().unwrap().version, 1);
    assert_eq!(recovered.durable_revision, Revision::new(3));
    assert_eq!(recovered.lineage, [("first".into(), Revision::new(3))]);
    store.begin_epoch("second", "boot-1").wait().unwrap();
    observe(&store, vec![seen(1, 3, 4)]);
    until_durable(&store, 4);
    drop(store);

    let (_store, recovered) = open(dir.path());
    assert!(!recovered.clean);
    let lineage = [
        ("first".into(), Revision::new(3)),
        ("second".into(), Revision::new(4)),
    ];
    assert_eq!(recovered.lineage, lineage);
}

#[test]
fn a_deleted_process_is_a_tombstone_until_its_name_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let intents = (1..=3).map(|number| put(number, 1, Desired::Running));
    store.intend(intents.collect()).wait().unwrap();
    observe(&store, (1..=3).map(|n| seen(n, 1, n as i64)).collect());
    let deleted = (1..=3).map(|number| desire(number, Desired::Deleted));
    store.intend(deleted.collect()).wait().unwrap();
    observe(&store, vec![gone(2, 2, 4), gone(1, 2, 5)]);
    until_durable(&store, 5);
    // Process 4 under the name of process 2, before it was seen to be recorded.
    let mut again = put(4, 1, Desired::Running);
    let mut reused = spec(4, 1);
    reused.name = named("p-2");
    again.wish = Wish::Put {
        spec: Arc::new(reused),
        desired: Desired::Running,
    };
    store.intend(vec![again]).wait().unwrap();
    drop(store);

    let (_store, recovered) = open(dir.path());
    let tombstones: Vec<_> = recovered.tombstones.iter().map(|gone| gone.uid).collect();
    assert_eq!(tombstones, [uid(1)]);
    assert_eq!(recovered.tombstones[0].spec, spec(1, 1));
    let live: Vec<_> = recovered.processes.iter().map(|live| live.uid).collect();
    assert_eq!(live, [uid(3), uid(4)]);
    assert_eq!(find(&recovered, 3).unwrap().desired, Desired::Deleted);
}

#[test]
fn a_call_is_recorded_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let intents = vec![put(1, 1, Desired::Running), desire(2, Desired::Stopped)];
    let refused = store.intend(intents).wait();
    assert_eq!(refused, Err(NotDurable::NoSuchProcess(uid(2))));
    let intents = vec![put(3, 1, Desired::Running), desire(3, Desired::Stopped)];
    store.intend(intents).wait().unwrap();
    // About a process that the store does not know: nothing to write it to.
    observe(&store, vec![seen(9, 1, 1)]);
    until_durable(&store, 1);
    drop(store);
    let (_store, recovered) = open(dir.path());
    assert_eq!(recovered.processes.len(), 1);
    assert_eq!(find(&recovered, 3).unwrap().desired, Desired::Stopped);
}

#[test]
fn request_ids_come_with_their_intent_and_are_forgotten_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let request = |id: u8, time: i64| Request {
        principal: "uid:1".into(),
        method: "StartProcess".into(),
        id: [id; 16],
        fingerprint: u64::MAX - u64::from(id),
        uid: uid(1),
        name: named("p-1"),
        run_id: 3,
        revision: Revision::new(9),
        time: Timestamp(time),
    };
    // It is 1000 s since the epoch; ids are kept for 600 s.
    let (old, new) = (request(1, 399_000_000_000), request(2, 401_000_000_000));
    let mut intents = vec![put(1, 1, Desired::Running), desire(1, Desired::Running)];
    for (intent, request) in intents.iter_mut().zip([&old, &new]) {
        intent.request = Some(request.clone());
    }
    store.intend(intents).wait().unwrap();
    let repeated = Intent {
        request: Some(new.clone()),
        ..desire(1, Desired::Running)
    };
    store.intend(vec![repeated]).wait().unwrap();
    drop(store);
    let (_store, recovered) = open(dir.path());
    assert_eq!(recovered.requests, [new]);
}

#[test]
fn many_wait_for_one_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let before = store.stats();
    let asked = (1..=64).map(|number| store.intend(vec![put(number, 1, Desired::Running)]));
    let receipts: Vec<_> = asked.collect();
    for receipt in receipts {
        wait(receipt).unwrap();
    }
    let after = store.stats();
    assert_eq!(after.intents - before.intents, 64);
    let synced = after.synced - before.synced;
    assert!(synced <= 16, "{synced} transactions for 64 intents");
}

#[test]
fn states_are_merged_per_process_and_need_no_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store
        .intend(vec![put(1, 1, Desired::Running)])
        .wait()
        .unwrap();
    let before = store.stats();
    for version in 1..=10_000 {
        observe(&store, vec![seen(1, version, version)]);
    }
    until_durable(&store, 10_000);
    let after = store.stats();
    assert_eq!(after.synced, before.synced);
    assert!(after.states < 5000, "{} states written", after.states);
    drop(store);
    let (_store, recovered) = open(dir.path());
    let observed = find(&recovered, 1).unwrap().observed.clone().unwrap();
    assert_eq!(observed.version, 10_000);
}

#[test]
fn a_closed_store_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let other = store.clone();
    store.close(false).unwrap();
    let refused = other.intend(vec![put(1, 1, Desired::Running)]).wait();
    assert_eq!(refused, Err(NotDurable::Closed));
    // The files are free although a handle is left.
    let (_store, recovered) = open(dir.path());
    assert!(recovered.clean);
}
