//! Batches that an earlier run of the daemon carried out, or began to.
//!
//! The store knows what a batch did to each process, not that it was all of it. So
//! a repetition is carried out for the processes that it had not come to, and
//! answers for the others what is remembered. Processes that were created since are
//! none of its business. Invariant: what was done is not done again. Deliberately
//! absent: batches of this run (`dedupe`); items that had nothing to change, which
//! are looked at anew.

use std::collections::{HashMap, HashSet};

use tonic::Status;

use super::call::Done;
use crate::{
    domain::{id::ProcessName, time::Timestamp},
    grpc::{
        dedupe::{Key, RETENTION},
        proto, status,
    },
    supervisor::Draft,
};

/// All of them, as they were when this run of the daemon began.
#[derive(Debug, Default)]
pub(super) struct EarlierBatches(HashMap<Key, Earlier>);

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Earlier {
    digest: u64,
    /// When the first process was changed.
    begun: Timestamp,
    done: HashMap<ProcessName, Done>,
}

// === impl EarlierBatches ===

impl EarlierBatches {
    /// One more process that the batch changed, at `time`.
    pub(super) fn add(&mut self, key: Key, digest: u64, time: Timestamp, done: Done) {
        let batch = self.0.entry(key).or_insert_with(|| Earlier {
            digest,
            begun: time,
            done: HashMap::new(),
        });
        batch.begun = batch.begun.min(time);
        batch.done.insert(done.name.clone(), done);
    }

    /// What is known of the batch with this key, if it is still to be remembered.
    pub(super) fn find(
        &self,
        key: Option<&Key>,
        digest: u64,
        now: Timestamp,
    ) -> Result<Option<Earlier>, Status> {
        let Some(batch) = key.and_then(|key| self.0.get(key)) else {
            return Ok(None);
        };
        if now > batch.begun.after(RETENTION) {
            return Ok(None);
        }
        if batch.digest != digest {
            let first = batch.done.values().map(|done| done.position.revision.get());
            return Err(status::request_id_reused(first.min()));
        }
        Ok(Some(batch.clone()))
    }
}

// === impl Earlier ===

impl Earlier {
    /// Whether this process is still to be changed; `created`: when it was.
    pub(super) fn is_left(&self, name: &ProcessName, created: Timestamp) -> bool {
        !self.is_done(name) && created <= self.begun
    }

    pub(super) fn is_done(&self, name: &ProcessName) -> bool {
        self.done.contains_key(name)
    }

    /// What was done, by name.
    pub(super) fn into_done(self) -> Vec<Done> {
        let mut done: Vec<Done> = self.done.into_values().collect();
        done.sort_by(|a, b| a.name.cmp(&b.name));
        done
    }

    /// What was done of a batch that asks for `drafts`, which leave it.
    pub(super) fn out_of(self, drafts: &mut Vec<Draft>) -> Vec<Done> {
        let asked: HashSet<ProcessName> = drafts.iter().map(|d| d.name.clone()).collect();
        drafts.retain(|draft| !self.is_done(&draft.name));
        let mut done = self.into_done();
        for done in done.iter_mut().filter(|done| !asked.contains(&done.name)) {
            done.configured = Some((proto::ApplyOutcome::Pruned, proto::ChangePlan::default()));
        }
        done
    }
}
