//! What the store kept, as the registry, the supervisor and the recorder take it.

use std::{collections::HashMap, sync::Arc};

use super::recorder::Known;
use crate::{
    domain::{id::Uid, spec::Spec, status::ProcessState},
    registry::{Limits, Position, Registry, Restored},
    store::{self, Observed, Recovered},
    supervisor::{Intent, Processes, Recovery},
    watch::Lineage,
};

/// What a daemon goes on from.
pub(super) struct Inheritance {
    pub(super) registry: Processes,
    pub(super) lineage: Lineage,
    pub(super) recovery: Recovery,
    pub(super) known: HashMap<Uid, Known>,
    pub(super) requests: Vec<store::Request>,
}

/// Goes on from `recovered` as the daemon run `epoch` of the machine's `boot`.
pub(super) fn inherit(recovered: Recovered, epoch: &str, boot: &str) -> Inheritance {
    // Everything that is wanted is begun after a restart of the machine, and after
    // a daemon that stopped everything.
    let rebooted = recovered.boot_id.is_some_and(|then| *then != *boot);
    let afresh = rebooted || recovered.stopped_all;
    let complete = recovered.read_only.is_none() && recovered.damage.is_empty();
    let position = Position {
        head: recovered.durable_revision,
        oldest: recovered.forgotten,
    };
    let mut known = HashMap::new();
    let mut restored = Vec::new();
    let mut processes = Vec::new();
    for stored in recovered.processes {
        let spec = Arc::new(stored.spec);
        if let Some(observed) = stored.observed {
            let facts = Known {
                created: observed.created,
                over: observed.status.latest_over(),
            };
            known.insert(stored.uid, facts);
            restored.push(restore(stored.uid, Arc::clone(&spec), observed, false));
        }
        processes.push(Intent {
            uid: stored.uid,
            name: spec.name.clone(),
            number: stored.number,
            desired: stored.desired,
            spec: Some(spec),
            begin: stored.begin,
            instead_of: stored.instead_of,
            run_id: 0,
            cause: stored.intent_cause,
        });
    }
    for stored in recovered.tombstones {
        let spec = Arc::new(stored.spec);
        let state = |observed| restore(stored.uid, spec, observed, true);
        restored.extend(stored.observed.map(state));
    }
    Inheritance {
        registry: Registry::restore(Limits::default(), position, restored),
        lineage: Lineage {
            epoch: epoch.into(),
            ancestors: recovered.lineage,
        },
        recovery: Recovery {
            processes,
            afresh,
            complete,
        },
        known,
        requests: recovered.requests,
    }
}

/// The registry's entry of a state that was published.
fn restore(uid: Uid, spec: Arc<Spec>, observed: Observed, deleted: bool) -> Restored<ProcessState> {
    Restored {
        uid,
        body: ProcessState {
            spec,
            status: observed.status,
            cause: observed.cause,
            time: observed.time,
            intent: observed.intent,
        },
        version: observed.version,
        revision: observed.revision,
        created: observed.created,
        deleted,
    }
}
