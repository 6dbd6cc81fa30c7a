//! Signals to a run, its freezing, and rounds of SIGKILL.
//!
//! Invariant: nobody but members of the run is signalled: the main process and
//! its group only while it is not reaped, others as members of the cgroup or
//! descendants of this process.

use std::time::Duration;

use nix::errno::Errno;

use super::{KILL_PAUSE_MAX, Main, Shim, own_pid};
use crate::{
    domain::run::SignalScope,
    shim::{cgroup::Cgroup, protocol::Message, sys, tree},
};

/// A tree that forks while it is signalled needs more than one pass.
const PASSES: u32 = 3;
const FREEZE_TRIES: u32 = 250;
const FREEZE_PAUSE: Duration = Duration::from_millis(2);

// === impl Shim ===

impl Shim {
    /// What a client asked for: only while there is a main process.
    pub(super) fn request(&mut self, message: &Message) -> nix::Result<()> {
        if !matches!(self.main, Main::Starting(_) | Main::Running(_)) {
            return Err(Errno::ESRCH);
        }
        match *message {
            Message::Signal { number, scope } => {
                if !(1..=libc::SIGRTMAX()).contains(&number) {
                    return Err(Errno::EINVAL);
                }
                self.send_signal(number, scope)
            }
            Message::Freeze => self.freeze(),
            Message::Thaw => self.thaw(),
            _ => Err(Errno::EPROTO),
        }
    }

    pub(super) fn send_signal(&self, number: i32, scope: SignalScope) -> nix::Result<()> {
        match (scope, self.main_pid(), &self.cgroup) {
            (SignalScope::Main, Some(pid), _) => sys::kill(pid, number),
            (SignalScope::Group, Some(pid), _) => sys::kill(-pid, number),
            (SignalScope::Main | SignalScope::Group, None, _) => Err(Errno::ESRCH),
            (SignalScope::Cgroup, _, None) => Err(Errno::ENOTSUP),
            (SignalScope::Cgroup | SignalScope::Tree, _, Some(cgroup)) => {
                cgroup.signal(number);
                Ok(())
            }
            (SignalScope::Tree, _, None) => {
                tree::signal(own_pid(), number);
                Ok(())
            }
        }
    }

    fn freeze(&self) -> nix::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze().map_err(|error| errno_of(&error)),
            None => self.stop_descendants(),
        }
    }

    /// A freeze without a cgroup: true once all of it is seen to stand.
    fn stop_descendants(&self) -> nix::Result<()> {
        for _ in 0..FREEZE_TRIES {
            tree::signal(own_pid(), libc::SIGSTOP);
            if tree::living(own_pid()).iter().all(|process| process.stands) {
                return Ok(());
            }
            std::thread::sleep(FREEZE_PAUSE);
        }
        self.thaw()?;
        Err(Errno::ETIMEDOUT)
    }

    /// Undoes a freeze and any SIGSTOP, whoever sent it.
    pub(super) fn thaw(&self) -> nix::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.thaw().map_err(|error| errno_of(&error))?;
        }
        self.send_signal(libc::SIGCONT, SignalScope::Tree)
    }

    /// One round of SIGKILL to everything there is.
    pub(super) fn kill_all(&mut self) {
        if let Some(cgroup) = &self.cgroup
            && !cgroup.kill()
        {
            for _ in 0..PASSES {
                cgroup.signal(libc::SIGKILL);
            }
        }
        // Also what has left the cgroup. A process with SIGKILL pending forks no
        // more, so each pass only meets what was forked before it.
        for _ in 0..PASSES {
            tree::signal(own_pid(), libc::SIGKILL);
        }
        self.kill_pause = (self.kill_pause * 2).min(KILL_PAUSE_MAX);
    }

    pub(super) fn living(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = tree::living(own_pid()).iter().map(|p| p.pid).collect();
        for pid in self.cgroup.iter().flat_map(Cgroup::pids) {
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
        pids.sort_unstable();
        pids
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
