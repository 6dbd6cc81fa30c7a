//! What waits, in which order, and how far everything is recorded with it.

use super::*;
use crate::{
    domain::{
        id::Uid,
        status::{Cause, Desired, Status},
        time::Timestamp,
    },
    store::ReasonKind,
};

fn uid(number: usize) -> Uid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Uid::from_bytes(bytes)
}

fn seen(number: usize, version: i64) -> Observation {
    Observation {
        uid: uid(number),
        version,
        revision: Revision::new(version),
        created: Revision::new(1),
        intent: 0,
        status: Status::new(Desired::Running, Cause::KERNEL, Timestamp(1)),
        cause: Cause::KERNEL,
        time: Timestamp(1),
        deleted: false,
    }
}

fn versions(group: &Group, number: usize) -> Vec<i64> {
    let of = |seated: &&Seated| seated.observation.uid == uid(number);
    let found = group.states.iter().filter(of);
    found.map(|seated| seated.observation.version).collect()
}

#[test]
fn a_state_that_waits_holds_back_what_is_durable() {
    let shared = Shared::new(Revision::new(7), None);
    let many = GROUP_STATES_MAX + 10;
    let batch = (0..many).map(|number| seen(number, 1)).collect();
    shared.observe(batch, Revision::new(5000));
    // The last one changes again before the first group is taken.
    shared.observe(vec![seen(many - 1, 2)], Revision::new(5001));
    let first = shared.take().unwrap();
    assert_eq!(first.states.len(), GROUP_STATES_MAX);
    assert_eq!(first.durable, Revision::new(7));
    let second = shared.take().unwrap();
    assert_eq!(second.durable, Revision::new(5001));
    assert_eq!(versions(&second, many - 1), [2]);
    assert!(shared.take().is_none());
}

#[test]
fn what_failed_comes_again_first_with_what_is_newer() {
    let shared = Shared::new(Revision::ZERO, None);
    shared.observe(vec![seen(1, 1), seen(2, 2)], Revision::new(2));
    let group = shared.take().unwrap();
    shared.observe(vec![seen(3, 3), seen(1, 4)], Revision::new(4));
    shared.fail(group, &Reason::new(ReasonKind::Io, "test"));
    let again = shared.take().unwrap();
    let order: Vec<_> = again.states.iter().map(|seated| seated.seat).collect();
    assert_eq!(order, [0, 1, 2]);
    assert_eq!(versions(&again, 1), [4]);
    assert_eq!(again.durable, Revision::new(4));
}

#[test]
fn a_late_older_state_replaces_no_newer_one() {
    let shared = Shared::new(Revision::ZERO, None);
    shared.observe(vec![seen(1, 2)], Revision::new(2));
    shared.observe(vec![seen(1, 1)], Revision::new(2));
    assert_eq!(versions(&shared.take().unwrap(), 1), [2]);
}

#[test]
fn calls_are_bounded() {
    let shared = Shared::new(Revision::ZERO, None);
    let waiting: Vec<_> = (0..CALLS_MAX).map(|_| shared.intend(Vec::new())).collect();
    let refused = shared.intend(Vec::new()).wait();
    assert_eq!(refused, Err(NotDurable::Busy(CALLS_MAX)));
    drop(waiting);
}

#[test]
fn a_batch_without_states_moves_the_position_too() {
    let shared = Shared::new(Revision::new(3), None);
    shared.observe(Vec::new(), Revision::new(3));
    assert!(shared.take().is_none());
    shared.observe(Vec::new(), Revision::new(8));
    assert_eq!(shared.take().unwrap().durable, Revision::new(8));
    assert!(shared.take().is_none());
}
