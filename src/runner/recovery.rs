//! Clearing a run that no shim can own: shim after shim died, or its records are
//! damaged.
//!
//! If its first shim was ours, its main process has become our child, because this
//! process is a subreaper, and its end can still be told; everything is killed.
//! Invariants: an end that was not seen is told as unknown, never guessed; `Empty`
//! only when nothing of the run is found any more. Deliberately absent: a grace
//! period; whoever kills shims gives none.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::spawner::Notice;
use crate::{
    domain::run::{Exit, RunEvent},
    shim::{
        cgroup::Cgroup,
        kin::Kin,
        record::ProcessIdentity,
        sys::{self, Reaped},
        tree,
    },
};

/// An ended process that some dead shim left to us.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) identity: ProcessIdentity,
    pub(super) reaped: Reaped,
}

/// The main process as the shim told of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct MainProcess {
    pub(super) identity: ProcessIdentity,
    /// Whether exec was confirmed; else an exit code may not be the program's.
    pub(super) started: bool,
}

/// A run without a shim.
#[derive(Debug)]
pub(super) struct Lost {
    /// The last one it had.
    pub(super) shim_pid: i32,
    pub(super) main: Option<MainProcess>,
    /// Whether its end was told already.
    pub(super) exit_told: bool,
    /// Path of its cgroup below the hierarchy.
    pub(super) cgroup: Option<String>,
    pub(super) kill_timeout: Duration,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) round: Round,
}

/// What earlier rounds did.
#[derive(Debug, Default)]
pub(super) struct Round {
    cgroup: Option<Cgroup>,
    kin: Option<Kin>,
    deadline: Option<Instant>,
    killing_told: bool,
    survivors_told: bool,
}

// === impl MainProcess ===

impl MainProcess {
    /// How it ended, if it did as our child.
    pub(super) fn end(&self, orphans: &VecDeque<Orphan>) -> Option<Exit> {
        let is_it = |orphan: &&Orphan| orphan.identity == self.identity;
        let reaped = orphans.iter().find(is_it).map(|orphan| orphan.reaped);
        let reaped = reaped.or_else(|| sys::peek(self.identity.pid).filter(|_| self.is_there()));
        reaped.map(|reaped| reaped.main_exit(self.started, false))
    }

    fn is_there(&self) -> bool {
        let now = tree::stat(self.identity.pid);
        now.is_some_and(|now| now.start_ticks == self.identity.start_ticks)
    }
}

// === impl Lost ===

impl Lost {
    /// Before the first round. Reads files, so not the client's business.
    pub(super) fn find_members(&mut self) {
        self.round.cgroup = self.cgroup.as_deref().and_then(Cgroup::find);
        self.round.kin = self
            .main
            .map(|main| Kin::new(main.identity, main.is_there()));
    }

    /// One round; the shim has been reaped. `true` if nothing is left.
    pub(super) fn clear(&mut self, orphans: &VecDeque<Orphan>) -> bool {
        if let (Some(kin), Some(main)) = (&mut self.round.kin, self.main)
            && !main.is_there()
        {
            kin.main_ended();
        }
        let members = self.members();
        if !members.is_empty() {
            self.kill();
        }
        if !self.exit_told
            && let Some(exit) = self.exit(orphans)
        {
            self.exit_told = true;
            self.tell(RunEvent::Exited(exit));
        }
        if !members.is_empty() || !self.exit_told {
            self.tell_survivors(&members);
            return false;
        }
        if let Some(cgroup) = &self.round.cgroup {
            cgroup.remove();
        }
        self.tell(RunEvent::Empty);
        true
    }

    /// Live processes of the run.
    fn members(&mut self) -> Vec<i32> {
        let cgroup = self.round.cgroup.as_ref();
        let mut pids = cgroup.map(Cgroup::pids).unwrap_or_default();
        if let Some(kin) = &mut self.round.kin {
            pids.extend(kin.living(cgroup).iter().map(|process| process.pid));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn kill(&mut self) {
        if !self.round.killing_told {
            self.round.killing_told = true;
            self.tell(RunEvent::Killing);
        }
        if let Some(cgroup) = &self.round.cgroup {
            // A frozen cgroup dies of SIGKILL all the same; before Linux 5.14
            // the signals do it.
            cgroup.kill();
            cgroup.signal(libc::SIGKILL);
        }
        if let Some(kin) = &mut self.round.kin {
            kin.signal(self.round.cgroup.as_ref(), libc::SIGKILL);
        }
    }

    /// The end of the main process, if it is known or can never be.
    fn exit(&self, orphans: &VecDeque<Orphan>) -> Option<Exit> {
        let Some(main) = self.main else {
            return Some(sys::lost_exit());
        };
        main.end(orphans)
            .or_else(|| (!main.is_there()).then(sys::lost_exit))
    }

    fn tell_survivors(&mut self, members: &[i32]) {
        let deadline = *self
            .round
            .deadline
            .get_or_insert_with(|| Instant::now() + self.kill_timeout);
        if !self.round.survivors_told && Instant::now() >= deadline && !members.is_empty() {
            self.round.survivors_told = true;
            self.tell(RunEvent::Survivors(members.to_vec()));
        }
    }

    fn tell(&self, event: RunEvent) {
        // Never full; and whoever is gone needs no notice.
        let _ = self.notices.try_send(Notice::Event(event));
    }
}
