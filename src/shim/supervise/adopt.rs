//! Taking over a run whose shim died.
//!
//! Its main process is nobody's child here, so it is pinned and watched
//! (`kin`); its pipes come from the daemon that kept them, or are opened again
//! through a process that writes to them. Invariants: only the process of the
//! record is taken for the main process, by pid, start time and the inode of its
//! pidfd; one that cannot be found has ended unknown, and then only what is in the
//! cgroup of the record is of the run.

use std::os::fd::{AsFd, OwnedFd};

use nix::{sys::signalfd::SignalFd, unistd::chdir};

use super::{KILL_PAUSE_MIN, Main, Shim, messages::Link, own_pid, start};
use crate::{
    domain::run::Exit,
    shim::{
        cgroup::Cgroup,
        failpoint,
        kin::{Kin, Stranger},
        output::{Begin, Output},
        pipes,
        plan::Stopping,
        protocol::{HELD_STDIN, HELD_TTY, Message},
        record::{PipeIdentity, RunRecord},
        rundir::{self, RunDir},
        segment::Stream,
        stdin::Input,
        sys::{self, Clock},
    },
};

// === impl Shim ===

impl Shim {
    /// `None` if there is nothing that is known to have begun.
    pub(super) fn adopt(
        ctl: OwnedFd,
        dir: RunDir,
        held: Vec<(u8, OwnedFd)>,
        signals: SignalFd,
    ) -> Option<Self> {
        failpoint::hit("before_adoption");
        let record = dir.run().ok().flatten()?;
        let exit = dir.exit().ok().flatten().map(|record| record.exit);
        let this_boot = record.boot_id == rundir::boot_id();
        let stranger = (this_boot && exit.is_none())
            .then(|| Stranger::find(&record))
            .flatten();
        let cgroup = record.cgroup.as_deref().filter(|_| this_boot);
        let output = Output::new(
            record.log_dir.clone(),
            record.run_id,
            record.log_policy,
            Begin::Adopted,
        );
        let mut shim = Self {
            link: Link::new(ctl),
            dir,
            exit: None,
            signals,
            clock: Clock::start(),
            default_stop: record.stop,
            cgroup: cgroup.and_then(Cgroup::find),
            cgroup_events: None,
            kin: Some(Kin::new(record.main, stranger.is_some())),
            main: Main::Gone,
            input: Input::default(),
            terminal: None,
            output,
            output_told: None,
            stopping: Stopping::new(record.stop),
            kill_pause: KILL_PAUSE_MIN,
            look_pause: KILL_PAUSE_MIN,
            record: None,
        };
        let _ = chdir("/");
        shim.take_over(record, stranger, exit, held);
        sys::return_memory();
        Some(shim)
    }

    fn take_over(
        &mut self,
        mut record: RunRecord,
        stranger: Option<Stranger>,
        exit: Option<Exit>,
        held: Vec<(u8, OwnedFd)>,
    ) {
        let executed = stranger.as_ref().is_some_and(Stranger::has_executed);
        record.started |= executed;
        self.take_pipes(&mut record, held);
        record.shim = start::identity(own_pid());
        // Where it cannot be written the one before stays, which says the same of
        // the main process.
        if let Err(error) = self.dir.write_run(&record) {
            self.warn("run record", &error);
        }
        let started = record.started;
        self.record = Some(record);
        if let Err(failure) = self.prepare_dir() {
            let text = failure.error.message.into_string();
            self.tell(Message::Warning(text));
        }
        self.tell_spawned();
        if started {
            self.tell(Message::Started);
        }
        match (stranger, exit) {
            (Some(stranger), _) => self.main = Main::Stranger(stranger),
            (None, exit) => {
                match exit {
                    Some(exit) => self.exit = Some(exit),
                    None => self.keep_exit(sys::lost_exit()),
                }
                self.tell_exit();
                self.stop_the_rest();
            }
        }
    }

    fn take_pipes(&mut self, record: &mut RunRecord, held: Vec<(u8, OwnedFd)>) {
        let mut held = held;
        let mut take = |wanted: u8| {
            let at = held.iter().position(|(tag, _)| *tag == wanted)?;
            Some(held.swap_remove(at).1)
        };
        let (stdin, master) = (take(HELD_STDIN), take(HELD_TTY));
        let mut holders = vec![record.main.pid];
        holders.extend(self.living());
        let mut into = None;
        for pipe in &record.pipes {
            let Some(stream) = pipes::stream(pipe.stream) else {
                continue;
            };
            let is_it = |(tag, fd): &(u8, OwnedFd)| is_pipe(*pipe, *tag, fd);
            let kept = held.iter().position(is_it).map(|at| held.swap_remove(at).1);
            // Where nobody has it open, nobody writes to it either.
            if let Some(read_end) = kept.or_else(|| pipes::find(*pipe, &holders)) {
                into = into.or_else(|| pipes::write_end(read_end.as_fd()).ok());
                self.watch(stream, read_end);
            }
        }
        let Some(master) = master else {
            return self.feed(stdin);
        };
        if into.is_none()
            && let Ok((read_end, write_end)) = pipes::internal()
        {
            record.pipes = vec![self.watch(Stream::Stdout, read_end)];
            into = Some(write_end);
        }
        if let Some(into) = into {
            self.serve_terminal(master, into);
        }
    }
}

fn is_pipe(pipe: PipeIdentity, tag: u8, fd: &OwnedFd) -> bool {
    tag == pipe.stream && pipes::inode(fd.as_fd()) == pipe.inode
}
