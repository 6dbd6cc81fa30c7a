//! The promises, each as a function over what was recorded.

use std::collections::HashMap;

use super::run::{History, Seen, View, apply};

pub(crate) type Check = fn(&History) -> Result<(), String>;

pub(crate) const CHECKS: [(&str, Check); 8] = [
    ("revisions are dense", revisions_are_dense),
    ("versions are dense and in order", versions_are_dense),
    ("no change is lost", no_change_is_lost),
    ("snapshots are exact", snapshots_are_exact),
    ("latest views are exact", views_are_exact),
    ("nothing unpublished is read", nothing_unpublished_is_read),
    ("own writes are read", own_writes_are_read),
    ("order in real time", order_in_real_time),
];

/// I2: 1, 2, 3, ..., each acknowledged to one writer.
fn revisions_are_dense(history: &History) -> Result<(), String> {
    for (seen, expected) in history.truth().iter().zip(1..) {
        if seen.revision != expected {
            return Err(format!("{seen:?} where {expected} is due"));
        }
    }
    Ok(())
}

/// I1: per uid 1, 2, 3, ... in order of revision, nothing after a tombstone.
fn versions_are_dense(history: &History) -> Result<(), String> {
    let mut last: HashMap<u64, Seen> = HashMap::new();
    for seen in history.truth() {
        let before = last.insert(seen.uid, seen);
        let expected = before.map_or(1, |before| before.version + 1);
        if seen.version != expected || before.is_some_and(|before| before.deleted) {
            return Err(format!("{seen:?} after {before:?}"));
        }
    }
    Ok(())
}

/// I7, I8: what a reader of every change got is exactly what was acknowledged.
fn no_change_is_lost(history: &History) -> Result<(), String> {
    let truth = history.truth();
    for chain in &history.chains {
        let told = truth
            .iter()
            .filter(|seen| chain.from < seen.revision && seen.revision <= chain.to);
        if !told.eq(&chain.changes) {
            return Err(format!("in ({}, {}]", chain.from, chain.to));
        }
    }
    Ok(())
}

/// I5.
fn snapshots_are_exact(history: &History) -> Result<(), String> {
    equal_replays(history, &history.snapshots)
}

/// I5b, I9.
fn views_are_exact(history: &History) -> Result<(), String> {
    equal_replays(history, &history.views)
}

fn equal_replays(history: &History, views: &[(i64, View)]) -> Result<(), String> {
    let truth = history.truth();
    let mut views: Vec<_> = views.iter().collect();
    views.sort_by_key(|(at, _)| *at);
    let mut replay = View::new();
    let mut replayed = 0;
    for (at, view) in views {
        let upto = truth.partition_point(|seen| seen.revision <= *at);
        apply(&mut replay, &truth[replayed..upto]);
        replayed = upto;
        if replay != *view {
            return Err(format!("at {at}: {view:?}, and the replay is {replay:?}"));
        }
    }
    Ok(())
}

/// I4: what is returned has a revision, at or below the head.
fn nothing_unpublished_is_read(history: &History) -> Result<(), String> {
    for (seen, head) in &history.reads {
        if seen.revision == 0 || seen.revision > *head {
            return Err(format!("{seen:?} with the head at {head}"));
        }
    }
    Ok(())
}

/// I4: a write is at or below the head when it returns, and its writer reads it
/// or something newer.
fn own_writes_are_read(history: &History) -> Result<(), String> {
    for write in &history.writes {
        let newer = |read: Seen| read.revision >= write.seen.revision;
        if write.head_after < write.seen.revision || !write.read_back.is_none_or(newer) {
            return Err(format!("{:?}, then {:?}", write.seen, write.read_back));
        }
    }
    Ok(())
}

/// I3: what ended before something else began has the lower revision.
fn order_in_real_time(history: &History) -> Result<(), String> {
    let mut moments: Vec<_> = history
        .writes
        .iter()
        .flat_map(|write| [(write.start, None, write), (write.end, Some(()), write)])
        .collect();
    moments.sort_by_key(|moment| moment.0);
    let mut floors = HashMap::new();
    let mut ended = 0;
    for (tick, end, write) in moments {
        let revision = write.seen.revision;
        if end.is_none() {
            floors.insert(revision, ended);
        } else {
            let floor = floors.get(&revision).copied().unwrap_or(0);
            if revision <= floor {
                return Err(format!("{revision} ended at {tick}, after {floor} had"));
            }
            ended = ended.max(revision);
        }
    }
    Ok(())
}
