//! The one thread that learns that followed logs have grown and marks them.
//!
//! One inotify instance watches the directories of followed processes and, while
//! one of these is not there yet, the directory of all. So a log that nobody
//! follows costs nothing, and nobody is woken while nothing happens. What the
//! kernel cannot watch (its limits are per user) is looked at every
//! [`POLL_INTERVAL`] while it is followed; the daemon's log says so once. The
//! thread also keeps house (`store`): it removes what is not needed any more, and
//! looks at the total while a run is up.

mod thread;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use nix::{
    errno::Errno,
    sys::{
        eventfd::{EfdFlags, EventFd},
        inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
    },
};

use super::{
    gate::{Channel, Link, lock},
    limits::POLL_INTERVAL,
    store::Store,
};
use crate::domain::id::Uid;

/// What is followed, and by what means.
#[derive(Debug)]
pub(super) struct Watcher {
    store: Store,
    total_bytes: u64,
    inotify: Option<Inotify>,
    /// Wakes the thread.
    wake: EventFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    // BOUND: followed processes.
    channels: HashMap<Uid, Arc<Channel>>,
    watched: HashMap<WatchDescriptor, Uid>,
    watches: HashMap<Uid, WatchDescriptor>,
    /// Those without a directory, and the watch for it to appear.
    missing: HashSet<Uid>,
    root: Option<WatchDescriptor>,
    /// Those that are looked at now and then.
    polled: HashSet<Uid>,
    /// Directories that nobody needs.
    doomed: Vec<PathBuf>,
    /// Runs that are up.
    writing: usize,
    /// Something was written since the total was looked at.
    total_due: bool,
    warned: bool,
    stop: bool,
}

// === impl Watcher: called by readers and the supervisor ===

impl Watcher {
    pub(super) fn new(store: Store, total_bytes: u64) -> Result<Self, Errno> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        Self::with(store, total_bytes, Inotify::init(flags).ok())
    }

    /// [`Watcher::new`] with what the kernel gave, if anything.
    pub(super) fn with(
        store: Store,
        total_bytes: u64,
        inotify: Option<Inotify>,
    ) -> Result<Self, Errno> {
        Ok(Self {
            store,
            total_bytes,
            inotify,
            wake: EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            state: Mutex::default(),
        })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Ties `link` to the log of `uid`; `None` if it was removed.
    pub(super) fn join(&self, uid: Uid, link: &Arc<Link>) -> Option<Arc<Channel>> {
        let mut state = lock(&self.state);
        if let Some(channel) = state.channels.get(&uid) {
            if channel.is_removed() {
                return None;
            }
            channel.join(link);
            return Some(Arc::clone(channel));
        }
        let channel = Arc::new(Channel::new(uid, self.store.dir(uid)));
        channel.join(link);
        state.channels.insert(uid, Arc::clone(&channel));
        self.watch(&mut state, &channel);
        Some(channel)
    }

    /// Unties it; the last one ends the watch, and takes what is left of a
    /// removed process with it.
    pub(super) fn leave(&self, channel: &Channel, link: &Arc<Link>) {
        let mut state = lock(&self.state);
        if !channel.leave(link) {
            return;
        }
        let uid = channel.uid;
        state.channels.remove(&uid);
        state.missing.remove(&uid);
        state.polled.remove(&uid);
        if let Some(watch) = state.watches.remove(&uid) {
            state.watched.remove(&watch);
            self.unwatch(watch);
        }
        self.unwatch_root(&mut state);
        if channel.is_removed() {
            state.doomed.push(channel.dir());
            self.wake();
        }
    }

    /// The process is deleted.
    pub(super) fn remove(&self, uid: Uid) {
        let mut state = lock(&self.state);
        let moved = self.store.set_aside(uid);
        match (state.channels.get(&uid), moved) {
            (Some(channel), moved) => {
                channel.remove(moved.unwrap_or_else(|| self.store.dir(uid)));
                channel.mark();
            }
            (None, Some(dir)) => {
                state.doomed.push(dir);
                self.wake();
            }
            (None, None) => {}
        }
    }

    /// Directories to be removed.
    pub(super) fn doom(&self, dirs: Vec<PathBuf>) {
        lock(&self.state).doomed.extend(dirs);
        self.wake();
    }

    pub(super) fn run_began(&self) {
        let mut state = lock(&self.state);
        state.writing += 1;
        if !std::mem::replace(&mut state.total_due, true) {
            self.wake();
        }
    }

    pub(super) fn run_ended(&self) {
        let mut state = lock(&self.state);
        state.writing = state.writing.saturating_sub(1);
    }

    pub(super) fn stop(&self) {
        lock(&self.state).stop = true;
        self.wake();
    }

    fn wake(&self) {
        // It can only fail because it is full, and then the thread wakes too.
        let _ = self.wake.write(1);
    }
}

// === impl Watcher: watches ===

impl Watcher {
    fn watch(&self, state: &mut State, channel: &Channel) {
        let uid = channel.uid;
        match self.try_watch(state, channel) {
            Ok(watch) => {
                state.watched.insert(watch, uid);
                state.watches.insert(uid, watch);
                state.missing.remove(&uid);
                self.unwatch_root(state);
            }
            Err(Errno::ENOENT) => {
                state.missing.insert(uid);
            }
            Err(errno) => {
                state.missing.remove(&uid);
                state.polled.insert(uid);
                self.warn(state, errno);
                self.wake();
            }
        }
    }

    fn try_watch(&self, state: &mut State, channel: &Channel) -> Result<WatchDescriptor, Errno> {
        let inotify = self.inotify.as_ref().ok_or(Errno::EMFILE)?;
        let dir = channel.dir();
        let missing = match inotify.add_watch(&dir, flags_of_logs()) {
            Err(Errno::ENOENT) if !channel.is_removed() => Errno::ENOENT,
            result => return result,
        };
        if state.root.is_some() {
            return Err(missing);
        }
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        state.root = Some(inotify.add_watch(self.store.root(), flags)?);
        // It may have been made in between.
        inotify.add_watch(&dir, flags_of_logs())
    }

    fn unwatch(&self, watch: WatchDescriptor) {
        if let Some(inotify) = &self.inotify {
            // It is gone already if the directory is.
            let _ = inotify.rm_watch(watch);
        }
    }

    fn unwatch_root(&self, state: &mut State) {
        if state.missing.is_empty()
            && let Some(watch) = state.root.take()
        {
            self.unwatch(watch);
        }
    }

    fn warn(&self, state: &mut State, errno: Errno) {
        if !std::mem::replace(&mut state.warned, true) {
            tracing::warn!(
                error = errno.desc(),
                "cannot watch captured output, so it is looked at every {POLL_INTERVAL:?}; \
                 raise fs.inotify.max_user_watches or max_user_instances"
            );
        }
    }
}

fn flags_of_logs() -> AddWatchFlags {
    AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ONLYDIR
}
