//! How a run ends: what the kernel tells of its main process is on disk before it
//! is reaped, and that nothing is left before that is told.
//!
//! Whatever is killed in between, there is a zombie that can still be asked, or a
//! record; never neither.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Main, Shim};
use crate::{
    domain::run::Exit,
    shim::{
        cgroup::Cgroup,
        failpoint,
        kin::Stranger,
        prepare::Failure,
        protocol::Message,
        record::ExitRecord,
        sys::{self, Ended},
    },
};

// === impl Shim ===

impl Shim {
    /// Reaps all that has ended. An end of the main process is told first.
    pub(super) fn reap(&mut self) {
        while let Ended::Pid(pid) = sys::peek_ended() {
            if self.main_pid() != Some(pid) || matches!(self.main, Main::Stranger(_)) {
                sys::reap(pid);
                continue;
            }
            self.see_progress();
            let failed = matches!(self.main, Main::Failed(_));
            if !failed {
                self.move_all_ready();
                let oom_killed = self.oom_killed();
                let ended = sys::peek(pid).map(|reaped| reaped.exit(oom_killed));
                failpoint::hit("before_exit_record");
                self.keep_exit(ended.unwrap_or_else(sys::lost_exit));
                failpoint::hit("after_exit_record");
            }
            sys::reap(pid);
            failpoint::hit("after_reap");
            self.main = Main::Gone;
            if !failed {
                self.tell_exit();
            }
            self.stop_the_rest();
        }
    }

    /// The main process, child of a shim that died, has ended.
    pub(super) fn see_stranger_end(&mut self) {
        let Main::Stranger(stranger) = &self.main else {
            return;
        };
        let exit = self.exit_of(stranger);
        self.move_all_ready();
        if let Some(kin) = &mut self.kin {
            kin.main_ended();
        }
        failpoint::hit("before_exit_record");
        self.keep_exit(exit);
        failpoint::hit("after_exit_record");
        self.main = Main::Gone;
        self.tell_exit();
        self.stop_the_rest();
    }

    fn exit_of(&self, stranger: &Stranger) -> Exit {
        let started = self.record.as_ref().is_some_and(|record| record.started);
        let oom_killed = self.oom_killed();
        let ended = stranger.end();
        ended.map_or_else(sys::lost_exit, |end| end.main_exit(started, oom_killed))
    }

    fn oom_killed(&self) -> bool {
        self.cgroup.as_ref().is_some_and(Cgroup::oom_killed)
    }

    pub(super) fn keep_exit(&mut self, exit: Exit) {
        self.write_exit(exit.clone(), false);
        self.exit = Some(exit);
    }

    pub(super) fn tell_exit(&mut self) {
        if let Some(exit) = self.exit.clone() {
            self.tell(Message::Exited(exit));
        }
    }

    /// The program never ran.
    pub(super) fn refuse(&mut self, failure: Failure) {
        self.keep_exit(sys::spawn_error_exit(failure.error.clone()));
        self.tell(Message::SpawnFailed {
            step: failure.step,
            error: failure.error,
        });
    }

    /// What outlives the main process is stopped without being told.
    pub(super) fn stop_the_rest(&mut self) {
        if !self.is_empty() {
            self.watch_cgroup();
            let actions = self.stopping.main_ended(self.clock.now());
            self.act(actions);
        }
    }

    pub(super) fn keep_started(&mut self) {
        let Some(record) = &mut self.record else {
            return;
        };
        record.started = true;
        // It is only lost that exec was seen, not that there is a main process.
        if let Err(error) = self.dir.write_run(record) {
            self.warn("run record", &error);
        }
    }

    fn write_exit(&mut self, exit: Exit, empty: bool) {
        if let Err(error) = self.dir.write_exit(&ExitRecord { exit, empty }) {
            self.warn("exit record", &error);
        }
    }

    /// Stores what is left of the output, tells `Empty`, for as long as there is
    /// somebody to tell, and ends.
    pub(super) fn leave(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
        self.move_all_ready();
        let stored = self.output.finish(sys::wall_clock());
        self.tell_output();
        let exit = self.exit.clone().unwrap_or_else(sys::lost_exit);
        self.write_exit(exit, true);
        failpoint::hit("before_empty");
        self.tell(Message::Empty);
        self.deliver();
        if !stored && !self.drops_output() {
            self.linger();
        }
    }

    fn drops_output(&self) -> bool {
        let record = self.record.as_ref();
        record.is_none_or(|record| record.log_policy.drop_when_full)
    }

    /// The run is over and told so, but its last output has no room on disk yet.
    /// Stays until it has, or SIGTERM comes: then it is given up.
    fn linger(&mut self) {
        self.link.close();
        loop {
            let left = self.output.timeout().unwrap_or_default();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout);
            let mut told = std::iter::from_fn(|| self.signals.read_signal().ok().flatten());
            let terminated = told.any(|info| info.ssi_signo == libc::SIGTERM as u32);
            if terminated || self.output.finish(sys::wall_clock()) {
                return;
            }
        }
    }
}
