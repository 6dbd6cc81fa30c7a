//! What a shim waits for: everything at once, and no time but one that is due.

use std::{os::fd::AsFd, os::unix::fs::FileExt, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Main, Shim};
use crate::shim::{segment::Stream, terminal::Terminal};

/// What poll found.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) link: bool,
    pub(super) listener: bool,
    pub(super) signals: bool,
    /// A main process that is not our child ended.
    pub(super) main: bool,
    pub(super) terminal: bool,
    pub(super) streams: Vec<Stream>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Link,
    Listener,
    Status,
    Main,
    Cgroup,
    Terminal,
    Stream(Stream),
}

const LOOK_PAUSE_MAX: Duration = Duration::from_secs(1);

// === impl Shim ===

impl Shim {
    pub(super) fn wait(&mut self) -> Ready {
        let timeout = self.timeout();
        let (sources, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = self.sources().into_iter().unzip();
        if poll(&mut fds, timeout).is_err() {
            return Ready::default(); // interrupted
        }
        let mut ready = Ready::default();
        for (source, fd) in sources.into_iter().zip(fds) {
            if !fd.any().unwrap_or(true) {
                continue;
            }
            match source {
                Source::Signals => ready.signals = true,
                Source::Link => ready.link = true,
                Source::Listener => ready.listener = true,
                Source::Main => ready.main = true,
                Source::Status | Source::Cgroup => {} // asked in each turn
                Source::Terminal => ready.terminal = true,
                Source::Stream(stream) => ready.streams.push(stream),
            }
        }
        ready
    }

    fn sources(&self) -> Vec<(Source, PollFd<'_>)> {
        let input = PollFlags::POLLIN;
        let mut sources = vec![(Source::Signals, PollFd::new(self.signals.as_fd(), input))];
        if let Some((ctl, interest)) = self.link.poll() {
            sources.push((Source::Link, PollFd::new(ctl, interest)));
        }
        if let Some(listener) = self.link.listener() {
            sources.push((Source::Listener, PollFd::new(listener, input)));
        }
        match &self.main {
            Main::Starting(child, _) => {
                sources.push((Source::Status, PollFd::new(child.status(), input)));
            }
            Main::Stranger(stranger) => {
                sources.push((Source::Main, PollFd::new(stranger.pidfd.as_fd(), input)));
            }
            Main::Gone | Main::Running(_) | Main::Failed(_) => {}
        }
        if let Some(events) = &self.cgroup_events {
            let changed = PollFd::new(events.as_fd(), PollFlags::POLLPRI);
            sources.push((Source::Cgroup, changed));
        }
        if let Some((terminal, interest)) = self.terminal.as_ref().and_then(Terminal::poll) {
            sources.push((Source::Terminal, PollFd::new(terminal, interest)));
        }
        for (stream, pipe) in self.output.polls() {
            sources.push((Source::Stream(stream), PollFd::new(pipe, input)));
        }
        sources
    }

    fn timeout(&mut self) -> PollTimeout {
        let now = self.clock.now();
        let plan = self.stopping.deadline().map(|at| at.since(now));
        let killing = self.stopping.killing();
        let kill = killing.then_some(self.kill_pause);
        // Nobody tells of the end of an orphan that is not ours.
        let looks = self.kin.is_some() && matches!(self.main, Main::Gone) && !killing;
        let look = looks.then_some(self.look_pause);
        if looks {
            self.look_pause = (self.look_pause * 2).min(LOOK_PAUSE_MAX);
        }
        let due = [plan, kill, look, self.output.timeout()];
        match due.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            Some(left) => {
                // Rounded up, so that the time is over when it wakes.
                let millis = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    /// From now on it may be the cgroup that becomes empty last.
    pub(super) fn watch_cgroup(&mut self) {
        self.cgroup_events = self.cgroup.as_ref().and_then(|c| c.events().ok());
        self.rearm_cgroup();
    }

    /// Its file is ready until it is read through the same descriptor.
    pub(super) fn rearm_cgroup(&self) {
        if let Some(events) = &self.cgroup_events {
            let _ = events.read_at(&mut [0; 128], 0); // what it says is read elsewhere
        }
    }
}
