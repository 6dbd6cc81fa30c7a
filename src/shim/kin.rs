//! The processes of a run whose shim is not their parent: one that took the run
//! over from a dead shim.
//!
//! `waitid` tells nothing of them, so the main process is watched through a pidfd,
//! and the others are those of the cgroup, of the session of the main process,
//! and what descends from any of them. Invariants: a process counts only as long as
//! its pid and start time are those that it was found with; the session of a main
//! process that is gone counts only while a member that is known still lives in
//! it, for only then its number is not a stranger's; nobody is signalled but
//! pinned and looked at again. Deliberately absent, and not to be had without a
//! cgroup: what left the session and whose parent ended unseen.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use super::{
    cgroup::Cgroup,
    pidfd,
    record::{ProcessIdentity, RunRecord},
    sys::Reaped,
    tree::{self, Stat},
};

/// A main process that is not our child.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) identity: ProcessIdentity,
    pub(crate) pidfd: OwnedFd,
}

/// Who belongs to the run, besides those in its cgroup.
#[derive(Debug)]
pub(crate) struct Kin {
    main: ProcessIdentity,
    main_alive: bool,
    known: Vec<ProcessIdentity>,
}

// === impl Stranger ===

impl Stranger {
    /// The main process of a record, if it is there, dead or alive.
    pub(crate) fn find(record: &RunRecord) -> Option<Self> {
        let identity = record.main;
        let pidfd = pidfd::open(identity.pid).ok()?;
        let inode = pidfd::inode(pidfd.as_fd());
        let by_inode = (record.pidfd_inode != 0).then_some(inode == record.pidfd_inode);
        // After it was pinned: what is found now is what is pinned.
        let by_time = tree::stat(identity.pid).map(|process| is(&process, identity));
        // Where `/proc` hides it, the inode alone is proof enough.
        let same = by_inode.unwrap_or(by_time.is_some()) && by_time.unwrap_or(true);
        same.then_some(Self { identity, pidfd })
    }

    /// Whether it has come past exec: before, it is a copy of its shim.
    pub(crate) fn has_executed(&self) -> bool {
        let exe = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        match (
            exe(self.identity.pid),
            exe(std::process::id().cast_signed()),
        ) {
            (Some(of_main), Some(own)) => of_main != own,
            _ => false,
        }
    }

    /// How it ended; to be asked when its pidfd is readable. `None` if nobody can
    /// tell any more. Waits a moment for a zombie that we may not look at to be
    /// reaped: then the kernel tells.
    pub(crate) fn end(&self) -> Option<Reaped> {
        for _ in 0..END_TRIES {
            let zombie = tree::usage(self.identity.pid)
                .filter(|usage| usage.zombie && usage.start_ticks == self.identity.start_ticks);
            if let Some(zombie) = zombie.filter(|_| may_look_at(self.identity.pid)) {
                return Some(Reaped::from_status(zombie.wait_status, zombie.cpu_time));
            }
            if let Some(status) = pidfd::exit_status(self.pidfd.as_fd()) {
                return Some(Reaped::from_status(status, Duration::ZERO));
            }
            if zombie.is_none() && tree::stat(self.identity.pid).is_none() {
                break;
            }
            std::thread::sleep(END_PAUSE);
        }
        pidfd::exit_status(self.pidfd.as_fd())
            .map(|status| Reaped::from_status(status, Duration::ZERO))
    }
}

const END_TRIES: u32 = 40;
const END_PAUSE: Duration = Duration::from_millis(50);

/// The kernel shows others a wait status of 0, which must not be taken for one;
/// it lets who may see it follow this link, or says that there is nothing behind.
fn may_look_at(pid: i32) -> bool {
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

// === impl Kin ===

impl Kin {
    /// Those of `main`, which was found alive, or is not known to be there.
    pub(crate) fn new(main: ProcessIdentity, main_alive: bool) -> Self {
        let mut kin = Self {
            main,
            main_alive,
            known: Vec::new(),
        };
        kin.living(None);
        kin
    }

    /// Its pid and session may be another's from now on.
    pub(crate) fn main_ended(&mut self) {
        self.living(None);
        self.main_alive = false;
    }

    /// Whether any process is known to live; cheap if none was.
    pub(crate) fn any(&mut self, cgroup: Option<&Cgroup>) -> bool {
        (self.main_alive || !self.known.is_empty()) && !self.living(cgroup).is_empty()
    }

    /// Live processes, those in `cgroup` with what descends from them included.
    pub(crate) fn living(&mut self, cgroup: Option<&Cgroup>) -> Vec<Stat> {
        let mut in_cgroup = cgroup.map(Cgroup::pids).unwrap_or_default();
        let table = tree::all();
        // A pid may have become a stranger's between the two.
        in_cgroup.retain(|pid| cgroup.is_some_and(|c| c.contains(*pid)));
        let found = self.members(&table, &in_cgroup);
        self.known = found.iter().map(identity).collect();
        found
    }

    /// Sends a signal to each of them, the main process included.
    pub(crate) fn signal(&mut self, cgroup: Option<&Cgroup>, number: i32) {
        self.signal_some(cgroup, number, |_| true);
    }

    /// Sends a signal to those in the process group of the main process.
    pub(crate) fn signal_group(&mut self, number: i32) {
        let group = self.main.pid;
        self.signal_some(None, number, |p| p.group == group && p.session == group);
    }

    fn signal_some(
        &mut self,
        cgroup: Option<&Cgroup>,
        number: i32,
        wanted: impl Fn(&Stat) -> bool,
    ) {
        let mut found = self.living(cgroup);
        found.retain(wanted);
        for process in found {
            let identity = identity(&process);
            let is_it = || tree::stat(process.pid).is_some_and(|now| is(&now, identity));
            let _ = pidfd::kill_if(process.pid, number, is_it); // gone meanwhile
        }
    }

    fn members(&self, table: &[Stat], cgroup: &[i32]) -> Vec<Stat> {
        let known = |p: &Stat| self.known.contains(&identity(p));
        let is_main = |p: &Stat| self.main_alive && is(p, self.main);
        let session = self.main.pid;
        let of_session = |p: &Stat| p.session == session && p.start_ticks >= self.main.start_ticks;
        let session_is_ours = table
            .iter()
            .any(|p| is_main(p) || (known(p) && of_session(p)));
        let mut pids: HashSet<i32> = table
            .iter()
            .filter(|p| {
                is_main(p)
                    || known(p)
                    || (session_is_ours && of_session(p))
                    || cgroup.contains(&p.pid)
            })
            .map(|p| p.pid)
            .collect();
        // Down to the last descendant; each pass finds a generation at least.
        loop {
            let before = pids.len();
            let children = table.iter().filter(|p| pids.contains(&p.parent));
            let children: Vec<i32> = children.map(|p| p.pid).collect();
            pids.extend(children);
            if pids.len() == before {
                break;
            }
        }
        let lives = |p: &&Stat| !p.zombie && pids.contains(&p.pid);
        table.iter().filter(lives).copied().collect()
    }
}

fn identity(process: &Stat) -> ProcessIdentity {
    ProcessIdentity {
        pid: process.pid,
        start_ticks: process.start_ticks,
    }
}

fn is(process: &Stat, identity: ProcessIdentity) -> bool {
    (process.pid, process.start_ticks) == (identity.pid, identity.start_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Stat {
        Stat {
            pid,
            zombie: false,
            stands: false,
            parent,
            group: session,
            session,
            start_ticks: 100,
        }
    }

    fn kin(main_alive: bool, known: &[i32]) -> Kin {
        let identity = |pid| ProcessIdentity {
            pid,
            start_ticks: 100,
        };
        Kin {
            main: identity(10),
            main_alive,
            known: known.iter().copied().map(identity).collect(),
        }
    }

    fn found(kin: &Kin, table: &[Stat], cgroup: &[i32]) -> Vec<i32> {
        kin.members(table, cgroup).iter().map(|p| p.pid).collect()
    }

    #[test]
    fn the_end_of_a_zombie_is_its_wait_status() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exit 41"])
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let stranger = Stranger {
            identity: identity(&tree::stat(pid).unwrap()),
            pidfd: pidfd::open(pid).unwrap(),
        };
        let mut fds = [nix::poll::PollFd::new(
            stranger.pidfd.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE).unwrap();
        let code = |end: Option<Reaped>| end.unwrap().exit(false).outcome;
        let expected = crate::domain::run::Outcome::Code(41);
        assert_eq!(code(stranger.end()), expected, "as a zombie");
        child.wait().unwrap();
        if pidfd::exit_status(stranger.pidfd.as_fd()).is_none() {
            println!("skipped: a kernel before 6.15 forgets the end with the zombie");
            return;
        }
        assert_eq!(code(stranger.end()), expected, "after it was reaped");
    }

    #[test]
    fn session_cgroup_and_descent_count() {
        let table = [
            process(1, 0, 1),
            process(10, 1, 10),
            process(11, 1, 10), // an orphan of the session
            process(12, 10, 12),
            process(13, 12, 13),
            process(20, 1, 20), // in the cgroup
            process(21, 20, 21),
            process(30, 1, 30),
        ];
        let all = [10, 11, 12, 13, 20, 21];
        assert_eq!(found(&kin(true, &[]), &table, &[20]), all);
    }

    #[test]
    fn the_session_of_a_stranger_with_the_same_number_does_not_count() {
        let table = [process(10, 1, 10), process(11, 10, 10)];
        assert_eq!(found(&kin(false, &[]), &table, &[]), [0; 0]);
        // A known member lives: the number is still the run's.
        let table = [process(11, 1, 10), process(12, 1, 10)];
        assert_eq!(found(&kin(false, &[11]), &table, &[]), [11, 12]);
        let mut other = process(11, 1, 10);
        other.start_ticks = 200;
        assert_eq!(found(&kin(false, &[11]), &[other, table[1]], &[]), [0; 0]);
    }
}
