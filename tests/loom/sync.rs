//! Doubles of `src/sync.rs`; see there for what each is.

pub(crate) use std::sync::Arc;

pub(crate) use loom::sync::{
    MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

pub(crate) struct Swap<T>(loom::sync::Mutex<Arc<T>>);

pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// Not the checker's lock: it is only ever taken under another one, or by the
/// maker, so it can never be waited for and would only add interleavings.
pub(crate) struct Handoff<T>(std::sync::Mutex<Option<T>>);

// === impl Swap ===

impl<T> Swap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap())
    }

    pub(crate) fn peek<R>(&self, look: impl FnOnce(&Arc<T>) -> R) -> R {
        look(&self.load())
    }

    pub(crate) fn compare_exchange(&self, current: *const T, new: Arc<T>) -> bool {
        let mut value = self.0.lock().unwrap();
        let same = std::ptr::eq(Arc::as_ptr(&value), current);
        if same {
            *value = new;
        }
        same
    }

    pub(crate) fn store(&self, new: Arc<T>) {
        *self.0.lock().unwrap() = new;
    }
}

// === impl Mutex ===

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

// === impl Handoff ===

impl<T> Handoff<T> {
    pub(crate) fn new(value: Option<T>) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.try_lock().expect("never contended").take()
    }
}
