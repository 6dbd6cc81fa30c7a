//! The primitives the shared state is built from, under the names it uses.
//!
//! Role: `registry` takes every primitive it synchronises with from here, so that
//! the model checker can compile the very same sources against doubles of this
//! module (`tests/loom/sync.rs`); production code has no `cfg` for it.
//!
//! Invariants: a lock is held for bounded work only and ignores poison: no code
//! that may panic runs under it between the first and the last change.
//!
//! Deliberately absent: anything async, any channel, any primitive of our own
//! making. `Swap` is a thin face on `ArcSwap`.

use std::sync::PoisonError;
pub(crate) use std::sync::{
    Arc, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

/// A shared immutable value that is replaced as a whole.
pub(crate) struct Swap<T>(ArcSwap<T>);

/// A lock without poison.
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

/// A place for one value that is put in by its maker and taken out under some
/// other lock; its own lock is therefore never contended.
pub(crate) struct Handoff<T>(std::sync::Mutex<Option<T>>);

// === impl Swap ===

impl<T> Swap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    /// The value of this moment.
    pub(crate) fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Looks at the value of this moment without counting a reference.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&Arc<T>) -> R) -> R {
        look(&self.0.load())
    }

    /// Replaces the value at `current` by `new`, if it is still the value.
    ///
    /// The caller keeps the value at `current` alive, usually inside `new`. So its
    /// address cannot have been given to another value meanwhile: equal addresses
    /// are the same value (no ABA).
    pub(crate) fn compare_exchange(&self, current: *const T, new: Arc<T>) -> bool {
        Arc::as_ptr(&self.0.compare_and_swap(current, new)) == current
    }

    /// Replaces whatever is there.
    pub(crate) fn store(&self, new: Arc<T>) {
        self.0.store(new);
    }

    /// For `arc_swap::Cache`.
    pub(crate) const fn inner(&self) -> &ArcSwap<T> {
        &self.0
    }
}

// === impl Mutex ===

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Handoff ===

impl<T> Handoff<T> {
    pub(crate) const fn new(value: Option<T>) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// The value, once.
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
