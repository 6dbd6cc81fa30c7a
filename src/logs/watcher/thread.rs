//! What the thread does: waits for the kernel, marks, and keeps house.

use std::{
    ffi::{OsStr, OsString},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InotifyEvent},
};

use super::{
    super::{
        gate::lock,
        limits::{POLL_INTERVAL, TOTAL_INTERVAL},
    },
    State, Watcher,
};
use crate::{domain::id::Uid, shim::segment::segment_of_index};

// === impl Watcher ===

impl Watcher {
    /// Until `stop`.
    pub(in super::super) fn run(&self) {
        let mut total_at = Instant::now();
        let mut poll_at = total_at;
        loop {
            let doomed = {
                let mut state = lock(&self.state);
                if state.stop {
                    return;
                }
                std::mem::take(&mut state.doomed)
            };
            doomed.iter().for_each(|dir| self.store.delete(dir));
            if self.is_total_due() && Instant::now() >= total_at {
                self.store.keep_total(self.total_bytes);
                let mut state = lock(&self.state);
                state.total_due = state.writing > 0;
                total_at = Instant::now() + TOTAL_INTERVAL;
            }
            if Instant::now() >= poll_at {
                self.mark_polled();
                poll_at = Instant::now() + POLL_INTERVAL;
            }
            match self.wait(self.timeout(total_at, poll_at)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => {
                    let _ = self.wake.read();
                    self.take_events();
                }
                Err(errno) => {
                    tracing::error!(error = errno.desc(), "captured output is not followed");
                    return;
                }
            }
        }
    }

    fn is_total_due(&self) -> bool {
        lock(&self.state).total_due
    }

    /// How long nothing is to be done; `None`: until something happens.
    fn timeout(&self, total_at: Instant, poll_at: Instant) -> Option<Duration> {
        let state = lock(&self.state);
        let total = state.total_due.then_some(total_at);
        let poll = (!state.polled.is_empty()).then_some(poll_at);
        let next = total.into_iter().chain(poll).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<i32, Errno> {
        let timeout = match timeout {
            None => PollTimeout::NONE,
            // Rounded up, so that a deadline is over afterwards.
            Some(wait) => PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let wake = PollFd::new(self.wake.as_fd(), PollFlags::POLLIN);
        match self.inotify.as_ref().map(AsFd::as_fd) {
            Some(inotify) => poll(&mut [wake, readable(inotify)], timeout),
            None => poll(&mut [wake], timeout),
        }
    }

    fn mark_polled(&self) {
        let state = lock(&self.state);
        let polled = state.polled.iter();
        polled
            .filter_map(|uid| state.channels.get(uid))
            .for_each(|channel| channel.mark());
    }

    fn take_events(&self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        while let Ok(events) = inotify.read_events() {
            let mut state = lock(&self.state);
            events
                .iter()
                .for_each(|event| self.event(&mut state, event));
        }
    }

    fn event(&self, state: &mut State, event: &InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.look_for_missing(state, |_| true);
            state.channels.values().for_each(|channel| channel.mark());
        } else if Some(event.wd) == state.root {
            let name = event.name.as_deref().unwrap_or_default();
            self.look_for_missing(state, |uid| OsStr::new(&uid.to_string()) == name);
        } else if let Some(uid) = state.watched.get(&event.wd).copied()
            && let Some(channel) = state.channels.get(&uid).cloned()
        {
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                // The directory was deleted; it may be made again.
                state.watched.remove(&event.wd);
                state.watches.remove(&uid);
                self.watch(state, &channel);
            }
            // Bytes count once an index tells of them.
            if event.name.as_ref().is_none_or(is_index) {
                channel.mark();
            }
        }
    }

    fn look_for_missing(&self, state: &mut State, is_meant: impl Fn(Uid) -> bool) {
        let meant: Vec<Uid> = state
            .missing
            .iter()
            .copied()
            .filter(|u| is_meant(*u))
            .collect();
        for uid in meant {
            if let Some(channel) = state.channels.get(&uid).cloned() {
                self.watch(state, &channel);
                channel.mark();
            }
        }
    }
}

fn is_index(name: &OsString) -> bool {
    name.to_str().and_then(segment_of_index).is_some()
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}
