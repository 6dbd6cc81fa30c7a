//! Clearing a run whose shim died before the run was empty.
//!
//! What descended from the shim has become ours, because this process is a
//! subreaper: the end of the main process can still be told, and everything else
//! is killed. Invariants: an end that was not seen is told as unknown, never
//! guessed; `Empty` only when nothing of the run is found any more. Deliberately
//! absent: a grace period; whoever killed the shim gave none.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::spawner::Notice;
use crate::{
    domain::run::{Exit, RunEvent, SpawnError},
    shim::{
        cgroup::Cgroup,
        sys::{self, Reaped},
        tree::{self, Stat},
    },
};

/// An ended process that some dead shim left to us.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
    pub(super) reaped: Reaped,
}

/// The main process as the shim told of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct MainProcess {
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
    /// Whether exec was confirmed; else an exit code would not be the program's.
    pub(super) started: bool,
}

/// What a round of clearing works from.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) orphans: &'a VecDeque<Orphan>,
    /// Descendants of this process that are not below a living shim.
    pub(super) below: Vec<Stat>,
}

/// A run without its shim.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) shim_pid: i32,
    /// Start of the shim: what is older was not started by it.
    pub(super) since_ticks: u64,
    pub(super) main: Option<MainProcess>,
    /// Whether its end was told already.
    pub(super) exit_told: bool,
    pub(super) daemon_pid: i32,
    pub(super) label: String,
    pub(super) may_have_cgroup: bool,
    /// Whether whatever came to us since the run began is taken to be of it.
    pub(super) takes_orphans: bool,
    pub(super) kill_timeout: Duration,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) round: Round,
}

/// What earlier rounds did.
#[derive(Debug, Default)]
pub(super) struct Round {
    cgroup: Option<Cgroup>,
    deadline: Option<Instant>,
    killing_told: bool,
    survivors_told: bool,
}

// === impl Surroundings ===

impl Surroundings<'_> {
    fn is_below(&self, process: &Stat) -> bool {
        let same = |p: &Stat| p.pid == process.pid && p.start_ticks == process.start_ticks;
        self.below.iter().any(same)
    }
}

// === impl Lost ===

impl Lost {
    /// Before the first round. Reads files, so not the client's business.
    pub(super) fn find_cgroup(&mut self) {
        if self.may_have_cgroup {
            let found = Cgroup::locate(self.daemon_pid, &self.label);
            self.round.cgroup = found.filter(Cgroup::exists);
        }
    }

    /// One round; the shim has been reaped. `true` if nothing is left.
    pub(super) fn clear(&mut self, around: &Surroundings<'_>) -> bool {
        let members = self.members(around);
        if !members.is_empty() {
            self.kill(&members, around);
        }
        if !self.exit_told
            && let Some(exit) = self.exit(around)
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

    /// Live processes of the run: those of its cgroup, and of the descendants of
    /// this process those of its session or group.
    fn members(&self, around: &Surroundings<'_>) -> Vec<i32> {
        let mut pids = self
            .round
            .cgroup
            .as_ref()
            .map(Cgroup::pids)
            .unwrap_or_default();
        let main = self.main.map(|main| main.pid);
        for process in around.below.iter().filter(|process| !process.zombie) {
            let of_main = main == Some(process.session) || main == Some(process.group);
            let since = process.start_ticks >= self.since_ticks;
            if since && (of_main || self.takes_orphans) && !pids.contains(&process.pid) {
                pids.push(process.pid);
            }
        }
        pids.sort_unstable();
        pids
    }

    fn kill(&mut self, members: &[i32], around: &Surroundings<'_>) {
        if !self.round.killing_told {
            self.round.killing_told = true;
            self.tell(RunEvent::Killing);
        }
        if let Some(cgroup) = &self.round.cgroup {
            cgroup.kill();
            // A frozen cgroup dies of SIGKILL all the same; before Linux 5.14
            // the signals below do it.
        }
        for pid in members {
            let is_it = || {
                let in_cgroup = self.round.cgroup.as_ref().is_some_and(|c| c.contains(*pid));
                in_cgroup || tree::stat(*pid).is_some_and(|now| around.is_below(&now))
            };
            let _ = sys::kill_if(*pid, libc::SIGKILL, is_it); // gone meanwhile
        }
    }

    /// The end of the main process, if it is known or can never be.
    fn exit(&self, around: &Surroundings<'_>) -> Option<Exit> {
        let Some(main) = self.main else {
            // The gate is opened only after the main process was told of.
            return Some(sys::spawn_error_exit(SpawnError {
                errno: 0,
                message: "the shim ended before it started the program".into(),
            }));
        };
        let same = |pid, start_ticks| pid == main.pid && start_ticks == main.start_ticks;
        if let Some(orphan) = around
            .orphans
            .iter()
            .find(|orphan| same(orphan.pid, orphan.start_ticks))
        {
            let exit = orphan.reaped.exit(false);
            return Some(if main.started { exit } else { sys::lost_exit() });
        }
        let present = tree::stat(main.pid).is_some_and(|p| same(p.pid, p.start_ticks));
        (!present).then(sys::lost_exit)
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
