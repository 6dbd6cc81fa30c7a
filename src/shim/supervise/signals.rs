//! Signals to a run, its freezing, and rounds of SIGKILL.
//!
//! Invariant: nobody but members of the run is signalled: the main process and
//! its group only while it is not reaped, others as members of the cgroup,
//! descendants of this process or, in a run that was taken over, its kin.

use std::{os::fd::AsFd, time::Duration};

use nix::errno::Errno;

use super::{KILL_PAUSE_MAX, Main, Shim, own_pid};
use crate::{
    domain::run::SignalScope,
    shim::{
        cgroup::Cgroup,
        pidfd,
        protocol::Message,
        sys,
        tree::{self, Stat},
    },
};

/// A tree that forks while it is signalled needs more than one pass.
const PASSES: u32 = 3;
const FREEZE_TRIES: u32 = 250;
const FREEZE_PAUSE: Duration = Duration::from_millis(2);

// === impl Shim ===

impl Shim {
    /// What a client asked for: only while there is a main process.
    pub(super) fn request(&mut self, message: &Message) -> nix::Result<()> {
        match self.main {
            Main::Starting(..) | Main::Running(_) | Main::Stranger(_) => {}
            Main::Gone | Main::Failed(_) => return Err(Errno::ESRCH),
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
            Message::Resize { rows, columns } => match &self.terminal {
                Some(terminal) => terminal.resize(rows, columns),
                None => Err(Errno::ENOTTY),
            },
            _ => Err(Errno::EPROTO),
        }
    }

    pub(super) fn send_signal(&mut self, number: i32, scope: SignalScope) -> nix::Result<()> {
        match scope {
            SignalScope::Main => self.signal_main(number),
            SignalScope::Group => self.signal_group(number),
            SignalScope::Cgroup | SignalScope::Tree => match &self.cgroup {
                Some(cgroup) => {
                    cgroup.signal(number);
                    Ok(())
                }
                None if scope == SignalScope::Cgroup => Err(Errno::ENOTSUP),
                None => {
                    self.signal_family(number);
                    Ok(())
                }
            },
        }
    }

    fn signal_main(&self, number: i32) -> nix::Result<()> {
        match (&self.main, self.main_pid()) {
            (Main::Stranger(stranger), _) => pidfd::kill(stranger.pidfd.as_fd(), number),
            // Nobody else reaps it, so the pid is still its own.
            (_, Some(pid)) => sys::kill(pid, number),
            (_, None) => Err(Errno::ESRCH),
        }
    }

    fn signal_group(&mut self, number: i32) -> nix::Result<()> {
        match (&self.main, self.main_pid(), &mut self.kin) {
            (Main::Stranger(_), _, Some(kin)) => {
                kin.signal_group(number);
                Ok(())
            }
            (_, Some(pid), _) => sys::kill(-pid, number),
            (_, None, _) => Err(Errno::ESRCH),
        }
    }

    /// To whatever descends from this process or was taken over.
    fn signal_family(&mut self, number: i32) {
        tree::signal(own_pid(), number);
        if let Some(kin) = &mut self.kin {
            kin.signal(self.cgroup.as_ref(), number);
        }
    }

    fn family(&mut self) -> Vec<Stat> {
        let mut found = tree::living(own_pid());
        if let Some(kin) = &mut self.kin {
            found.extend(kin.living(self.cgroup.as_ref()));
        }
        found
    }

    fn freeze(&mut self) -> nix::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze().map_err(|error| errno_of(&error)),
            None => self.stop_family(),
        }
    }

    /// A freeze without a cgroup: true once all of it is seen to stand.
    fn stop_family(&mut self) -> nix::Result<()> {
        for _ in 0..FREEZE_TRIES {
            self.signal_family(libc::SIGSTOP);
            if self.family().iter().all(|process| process.stands) {
                return Ok(());
            }
            std::thread::sleep(FREEZE_PAUSE);
        }
        self.thaw()?;
        Err(Errno::ETIMEDOUT)
    }

    /// Undoes a freeze and any SIGSTOP, whoever sent it.
    pub(super) fn thaw(&mut self) -> nix::Result<()> {
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
            self.signal_family(libc::SIGKILL);
        }
        self.kill_pause = (self.kill_pause * 2).min(KILL_PAUSE_MAX);
    }

    pub(super) fn living(&mut self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.family().iter().map(|p| p.pid).collect();
        for pid in self.cgroup.iter().flat_map(Cgroup::pids) {
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
