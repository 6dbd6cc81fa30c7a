//! Every change of every process of a daemon, held to the rules of the contract
//! as it comes in.

use std::collections::BTreeMap;

use procession::grpc::proto::{
    self, ExitStatus, Process, ProcessEventKind as Kind, ProcessState as State, ProcessStatus,
    ResetPolicy, WatchMode, watch_processes_response::Payload,
};
use tokio::time::timeout;
use tonic::Streaming;

use super::support::{Client, PATIENCE};

/// A watch with EVERY_CHANGE from before the first process.
pub(crate) struct History {
    stream: Streaming<proto::WatchProcessesResponse>,
    to: i64,
    /// As the daemon has them at `to`.
    pub(crate) held: BTreeMap<String, Process>,
    /// By uid and run: the record of its end, which never changes.
    pub(crate) exits: BTreeMap<(String, i64), ExitStatus>,
    /// States of each process in order, repetitions left out.
    pub(crate) paths: BTreeMap<String, Vec<State>>,
    /// By name: the status with which it came into its state.
    pub(crate) entered: BTreeMap<String, ProcessStatus>,
    pub(crate) changes: usize,
}

// === impl History ===

impl History {
    pub(crate) async fn watch(client: &mut Client) -> Self {
        let request = proto::WatchProcessesRequest {
            mode: WatchMode::EveryChange.into(),
            reset_policy: ResetPolicy::Fail.into(),
            ..Default::default()
        };
        Self {
            stream: client.watch_processes(request).await.unwrap().into_inner(),
            to: 0,
            held: BTreeMap::new(),
            exits: BTreeMap::new(),
            paths: BTreeMap::new(),
            entered: BTreeMap::new(),
            changes: 0,
        }
    }

    /// Reads on until `wanted` holds of what is held.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&BTreeMap<String, Process>) -> bool,
    ) {
        while !wanted(&self.held) {
            let message = timeout(PATIENCE, self.stream.message()).await;
            let Ok(message) = message else {
                panic!("never: {what}; at revision {}", self.to);
            };
            self.take(message.unwrap().expect("the watch ended"));
        }
    }

    /// Reads on up to this revision.
    pub(crate) async fn up_to(&mut self, revision: i64) {
        while self.to < revision {
            let message = timeout(PATIENCE, self.stream.message()).await;
            self.take(message.unwrap().unwrap().expect("the watch ended"));
        }
    }

    /// Reads on until each of `names` is in one of `states`.
    pub(crate) async fn all_in(&mut self, names: &[impl AsRef<str>], states: &[State]) {
        let of = |process: &Process| process.status.as_ref().unwrap().state();
        self.until(&format!("all in {states:?}"), |held| {
            let is_in = |name: &str| held.get(name).is_some_and(|p| states.contains(&of(p)));
            names.iter().map(AsRef::as_ref).all(is_in)
        })
        .await;
    }

    pub(crate) fn status(&self, name: &str) -> &ProcessStatus {
        self.held[name].status.as_ref().unwrap()
    }

    fn take(&mut self, message: proto::WatchProcessesResponse) {
        assert_eq!(message.from_revision, self.to, "a gap in the watch");
        let from = std::mem::replace(&mut self.to, message.to_revision);
        match message.payload.unwrap() {
            Payload::Opened(_) | Payload::Synced(_) | Payload::Progress(_) => {}
            Payload::Snapshot(part) => {
                for process in part.processes {
                    self.held.insert(process.name.clone(), process);
                }
            }
            Payload::Events(events) => {
                let revisions: Vec<i64> = events.events.iter().map(|e| e.revision).collect();
                let dense: Vec<i64> = (from + 1..=self.to).collect();
                assert_eq!(revisions, dense, "each revision is one change");
                events
                    .events
                    .into_iter()
                    .for_each(|event| self.event(event));
            }
            other @ (Payload::Reset(_) | Payload::Closing(_)) => panic!("{other:?}"),
        }
    }

    fn event(&mut self, event: proto::ProcessEvent) {
        self.changes += 1;
        let kind = event.kind();
        let after = event.process.unwrap();
        let name = after.name.clone();
        let before = self.held.remove(&name);
        match (&before, kind) {
            (None, Kind::Added) => assert_eq!(after.version, 1, "{after:?}"),
            (Some(before), Kind::Changed | Kind::Deleted) => {
                assert_eq!(after.uid, before.uid);
                assert_eq!(after.version, before.version + 1, "{before:?}\n{after:?}");
            }
            other => panic!("{other:?}: {after:?}"),
        }
        assert!(event.cause.is_some(), "no cause: {after:?}");
        self.judge(before.as_ref().and_then(|p| p.status.as_ref()), &after);
        let status = after.status.as_ref().unwrap();
        let state = status.state();
        let path = self.paths.entry(name.clone()).or_default();
        if path.last() != Some(&state) {
            path.push(state);
            self.entered.insert(name.clone(), status.clone());
        }
        if kind != Kind::Deleted {
            self.held.insert(name, after);
        }
    }

    /// One step of one process.
    fn judge(&mut self, before: Option<&ProcessStatus>, process: &Process) {
        let after = process.status.as_ref().unwrap();
        if let Some(before) = before {
            let (from, to) = (before.state(), after.state());
            assert!(may_follow(from, to), "{from:?} -> {to:?}: {process:?}");
            let new_run = after.run_id - before.run_id;
            assert!((0..=1).contains(&new_run), "{before:?}\n{after:?}");
            if new_run == 1 {
                assert_eq!(to, State::Starting, "{before:?}\n{after:?}");
                let last = after.exit_history.first().map_or(0, |exit| exit.run_id);
                assert_eq!(last, before.run_id, "a run beside another: {after:?}");
            }
        }
        for pair in after.exit_history.windows(2) {
            assert_eq!(pair[0].run_id, pair[1].run_id + 1, "{after:?}");
        }
        for record in &after.exit_history {
            let key = (process.uid.clone(), record.run_id);
            let known = self.exits.entry(key).or_insert_with(|| record.clone());
            assert_eq!(known, record, "an end was told differently before");
        }
        let ended = after
            .exit_history
            .first()
            .is_some_and(|exit| exit.run_id == after.run_id);
        let at_rest = !matches!(
            after.state(),
            State::Starting | State::Running | State::Paused | State::Stopping
        );
        assert!(!at_rest || ended || after.run_id == 0, "{after:?}");
        assert!(after.pid == 0 || (!at_rest && !ended), "{after:?}");
        let backoff = after.state() == State::Backoff;
        assert_eq!(backoff, after.next_start_time.is_some(), "{after:?}");
    }
}

/// Whether the lifecycle knows a way from `from` to `to` in one change.
fn may_follow(from: State, to: State) -> bool {
    use State::{
        Backoff, Failed, Paused, Pending, Running, Starting, Stopped, Stopping, Succeeded,
    };
    // A run that ended with all its processes at once is followed by what the
    // policy says, or at once by the next run.
    let after_an_end = matches!(to, Starting | Pending | Backoff | Succeeded | Failed);
    from == to
        || match from {
            Stopped | Succeeded => matches!(to, Starting | Pending | Failed),
            Failed => matches!(to, Starting | Pending | Stopped | Stopping),
            Pending => matches!(to, Starting | Stopped | Failed),
            Backoff => matches!(to, Starting | Pending | Stopped | Failed),
            Starting => matches!(to, Running | Stopping) || after_an_end,
            Running => matches!(to, Paused | Stopping) || after_an_end,
            Paused => matches!(to, Running | Stopping) || after_an_end,
            Stopping => to == Stopped || after_an_end,
            _ => false,
        }
}
