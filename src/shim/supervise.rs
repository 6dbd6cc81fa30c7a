//! The event loop of a shim: one run from its definition to its proof of
//! emptiness.
//!
//! Invariants: `Exited` is told once, as soon as the main process has ended,
//! whoever still holds its output; `Empty` only when `waitid` says that there is
//! no child and the cgroup has no process; SIGKILL goes out again until then.
//! Deliberately absent: what to do when (`plan`), how a child comes to be
//! (`child`).

mod messages;
mod signals;
mod start;

use std::{
    collections::VecDeque,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    ShimError,
    cgroup::Cgroup,
    child::{Child, Progress},
    definition::Definition,
    plan::{Action, Stopping},
    prepare::{self, Failure},
    protocol::{Message, VERSION},
    sys::{self, Clock, Ended},
};
use crate::domain::run::{SignalScope, StopPlan};

/// Between two rounds of SIGKILL, if nothing ends meanwhile.
const KILL_PAUSE_MIN: Duration = Duration::from_millis(5);
const KILL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The main process.
#[derive(Debug)]
enum Main {
    /// There is none: the program never ran, or it ended and was reaped.
    Gone,
    /// Not yet seen to exec.
    Starting(Child),
    /// Runs the program.
    Running(i32),
    /// The program could not be run; the child is exiting.
    Failed(i32),
}

/// One run.
struct Shim {
    ctl: Option<OwnedFd>,
    outbox: VecDeque<Vec<u8>>,
    seq: u64,
    signals: SignalFd,
    clock: Clock,
    definition: Definition,
    cgroup: Option<Cgroup>,
    cgroup_events: Option<File>,
    main: Main,
    stopping: Stopping,
    kill_pause: Duration,
}

/// What poll found.
#[derive(Debug, Default)]
struct Ready {
    ctl: bool,
    signals: bool,
}

/// Receives a definition and carries it out.
pub(super) fn run(ctl: OwnedFd) -> Result<(), ShimError> {
    let Some(definition) = start::receive_definition(&ctl)? else {
        return Ok(()); // the daemon is gone, and there is nothing to stop
    };
    let kernel = |what| move |errno| ShimError::Kernel { what, errno };
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.add(Signal::SIGTERM);
    mask.thread_block().map_err(kernel("signal mask"))?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(kernel("signalfd"))?;
    let mut shim = Shim {
        ctl: Some(ctl),
        outbox: VecDeque::new(),
        seq: 0,
        signals,
        clock: Clock::start(),
        cgroup: None,
        cgroup_events: None,
        main: Main::Gone,
        stopping: Stopping::new(definition.stop),
        kill_pause: KILL_PAUSE_MIN,
        definition,
    };
    shim.tell(&Message::Hello { version: VERSION });
    if let Err(Failure { step, error }) = shim.spawn() {
        shim.tell(&Message::SpawnFailed { step, error });
    }
    start::let_go_of_output();
    while !shim.is_empty() {
        shim.turn();
    }
    shim.leave();
    Ok(())
}

// === impl Shim: start and end ===

impl Shim {
    /// Whether nothing of the run is left.
    fn is_empty(&mut self) -> bool {
        self.reap();
        matches!(self.main, Main::Gone)
            && sys::peek_ended() == Ended::NoChildren
            && !self.cgroup.as_ref().is_some_and(Cgroup::populated)
    }

    /// Tells `Empty`, for as long as there is somebody to tell.
    fn leave(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
        self.tell(&Message::Empty);
        self.deliver();
    }
}

// === impl Shim: the loop ===

impl Shim {
    fn turn(&mut self) {
        let ready = self.wait();
        self.rearm_cgroup();
        if ready.signals {
            self.take_signals();
        }
        self.see_progress();
        self.reap();
        if ready.ctl {
            self.hear();
        }
        let actions = self.stopping.tick(self.clock.now());
        self.act(actions);
        if self.stopping.killing() {
            self.kill_all();
        }
        self.flush();
    }

    fn wait(&mut self) -> Ready {
        let timeout = self.timeout();
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let ctl_at = fds.len();
        if let Some(ctl) = &self.ctl {
            // Who does not take answers asks no more.
            let interest = if self.outbox.is_empty() {
                PollFlags::POLLIN
            } else {
                PollFlags::POLLOUT
            };
            fds.push(PollFd::new(ctl.as_fd(), interest));
        }
        if let Main::Starting(child) = &self.main {
            fds.push(PollFd::new(child.status(), PollFlags::POLLIN));
        }
        if let Some(events) = &self.cgroup_events {
            fds.push(PollFd::new(events.as_fd(), PollFlags::POLLPRI));
        }
        match poll(&mut fds, timeout) {
            Ok(_) => Ready {
                signals: fds[0].any().unwrap_or(true),
                ctl: self.ctl.is_some() && fds[ctl_at].any().unwrap_or(true),
            },
            Err(_) => Ready::default(), // interrupted
        }
    }

    fn timeout(&self) -> PollTimeout {
        let now = self.clock.now();
        let plan = self.stopping.deadline().map(|at| at.since(now));
        let kill = self.stopping.killing().then_some(self.kill_pause);
        match plan.into_iter().chain(kill).min() {
            None => PollTimeout::NONE,
            Some(left) => {
                // Rounded up, so that the time is over when it wakes.
                let millis = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == libc::SIGTERM as u32 {
                self.stop_by_itself();
            } else {
                self.kill_pause = KILL_PAUSE_MIN; // something ended
            }
        }
    }

    fn see_progress(&mut self) {
        let Main::Starting(child) = &mut self.main else {
            return;
        };
        let pid = child.pid;
        match child.progress() {
            Progress::Pending => {}
            Progress::Executed => {
                self.main = Main::Running(pid);
                // Nobody hears of a start after it was told of the kill.
                if !self.stopping.killing() {
                    self.tell(&Message::Started);
                }
            }
            Progress::Died => self.main = Main::Running(pid), // ends by a signal
            Progress::Failed { step, index, errno } => {
                self.main = Main::Failed(pid);
                let failure = prepare::describe(&self.definition, step, index, errno);
                self.tell(&Message::SpawnFailed {
                    step: failure.step,
                    error: failure.error,
                });
            }
        }
    }

    /// Reaps all that has ended. An end of the main process is told first.
    fn reap(&mut self) {
        while let Ended::Pid(pid) = sys::peek_ended() {
            if self.main_pid() != Some(pid) {
                sys::reap(pid);
                continue;
            }
            self.see_progress();
            let oom_killed = self.cgroup.as_ref().is_some_and(Cgroup::oom_killed);
            let exit = sys::reap(pid).map(|reaped| reaped.exit(oom_killed));
            let main = std::mem::replace(&mut self.main, Main::Gone);
            if let (Some(exit), false) = (exit, matches!(main, Main::Failed(_))) {
                self.tell(&Message::Exited(exit));
            }
            if !self.is_empty() {
                self.watch_cgroup();
                let actions = self.stopping.main_ended(self.clock.now());
                self.act(actions);
            }
        }
    }

    /// From now on it may be the cgroup that becomes empty last.
    fn watch_cgroup(&mut self) {
        self.cgroup_events = self.cgroup.as_ref().and_then(|c| c.events().ok());
        self.rearm_cgroup();
    }

    /// Its file is ready until it is read through the same descriptor.
    fn rearm_cgroup(&self) {
        if let Some(events) = &self.cgroup_events {
            let _ = events.read_at(&mut [0; 128], 0); // what it says is read elsewhere
        }
    }

    /// The plan of the definition, unless a stop is under way.
    fn stop_by_itself(&mut self) {
        if !self.stopping.under_way() {
            self.stop(self.definition.stop);
        }
    }

    fn stop(&mut self, plan: StopPlan) {
        let actions = self.stopping.begin(plan, self.clock.now());
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Signal { number, scope } => {
                    // Who is gone needs no signal; who refuses is killed later.
                    let _ = self
                        .send_signal(number, scope)
                        .or_else(|errno| match errno {
                            Errno::ENOTSUP => self.send_signal(number, SignalScope::Tree),
                            errno => Err(errno),
                        });
                }
                Action::Wake => {
                    let _ = self.thaw();
                }
                Action::ReportKilling => self.tell(&Message::Killing),
                Action::Kill => {
                    self.kill_pause = KILL_PAUSE_MIN;
                    self.kill_all();
                }
                Action::ReportSurvivors => {
                    if !self.is_empty() {
                        let pids = self.living();
                        self.tell(&Message::Survivors(pids));
                    }
                }
            }
        }
    }

    fn main_pid(&self) -> Option<i32> {
        match &self.main {
            Main::Gone => None,
            Main::Starting(child) => Some(child.pid),
            Main::Running(pid) | Main::Failed(pid) => Some(*pid),
        }
    }
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}
