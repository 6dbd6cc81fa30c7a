//! Who must look again when a process changes.
//!
//! An owner task that depends on others registers a `Notify` under their names;
//! committing a change notifies those. A notification carries nothing: the
//! receiver reads the registry, so it can neither be stale nor be lost (a
//! `Notify` keeps one permit).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::domain::{id::ProcessName, spec::Dependency};

/// Name depended on -> who looks again.
#[derive(Debug, Default)]
pub(super) struct Dependents {
    by_name: Mutex<HashMap<ProcessName, Vec<Arc<Notify>>>>,
}

// === impl Dependents ===

impl Dependents {
    /// Replaces what `look_again` is registered for.
    pub(super) fn register(
        &self,
        look_again: &Arc<Notify>,
        old: &[Dependency],
        new: &[Dependency],
    ) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        for dependency in old {
            if let Some(all) = by_name.get_mut(&dependency.name) {
                all.retain(|other| !Arc::ptr_eq(other, look_again));
                if all.is_empty() {
                    by_name.remove(&dependency.name);
                }
            }
        }
        for dependency in new {
            by_name
                .entry(dependency.name.clone())
                .or_default()
                .push(Arc::clone(look_again));
        }
    }

    /// `name` changed, appeared or went.
    pub(super) fn notify(&self, name: &ProcessName) {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        for look_again in by_name.get(name).into_iter().flatten() {
            look_again.notify_one();
        }
    }
}
