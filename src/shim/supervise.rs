//! The event loop of a shim: one run from its definition, or from the death of the
//! shim before, to its proof of emptiness.
//!
//! Invariants: `Exited` is told once to each daemon, as soon as the main process
//! has ended, whoever still holds its output, and it is on disk before; `Empty`
//! only when `waitid` says that there is no child, no process is known that came
//! from another shim, and the cgroup has none; SIGKILL goes out again until then.
//! Deliberately absent: what to do when (`plan`), how a child comes to be
//! (`child`).

mod adopt;
mod end;
mod messages;
mod signals;
mod start;
mod wait;

use std::{fs::File, mem::discriminant, os::fd::OwnedFd, time::Duration};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use self::{messages::Link, start::Order};
use super::{
    ShimError,
    cgroup::Cgroup,
    child::{Child, Progress},
    definition::Definition,
    kin::{Kin, Stranger},
    output::Output,
    plan::{Action, Stopping},
    prepare,
    protocol::Message,
    record::RunRecord,
    rundir::RunDir,
    segment::Stream,
    stdin::Input,
    sys::{self, Clock, Ended},
    terminal::Terminal,
};
use crate::domain::run::{Exit, OutputHealth, SignalScope, StopPlan};

/// Between two rounds of SIGKILL, if nothing ends meanwhile.
const KILL_PAUSE_MIN: Duration = Duration::from_millis(5);
const KILL_PAUSE_MAX: Duration = Duration::from_secs(1);
/// What a terminal still has at the end is taken in so many turns at most.
const TERMINAL_TURNS: u32 = 64;

/// The main process.
#[derive(Debug)]
enum Main {
    /// There is none: the program never ran, or it ended and was reaped.
    Gone,
    /// Not yet seen to exec.
    Starting(Child, Box<Definition>),
    /// Runs the program.
    Running(i32),
    /// The program could not be run; the child is exiting.
    Failed(i32),
    /// The child of a shim that died.
    Stranger(Stranger),
}

/// One run.
struct Shim {
    link: Link,
    dir: RunDir,
    /// Once there is a main process.
    record: Option<RunRecord>,
    /// Once it ended, or could not begin.
    exit: Option<Exit>,
    signals: SignalFd,
    clock: Clock,
    default_stop: StopPlan,
    cgroup: Option<Cgroup>,
    cgroup_events: Option<File>,
    main: Main,
    /// Of a run that was taken over.
    kin: Option<Kin>,
    input: Input,
    terminal: Option<Terminal>,
    output: Output,
    /// As the daemons were told. `None`: an earlier shim may have told something else.
    output_told: Option<OutputHealth>,
    stopping: Stopping,
    kill_pause: Duration,
    /// Between two looks for what nothing tells the end of.
    look_pause: Duration,
}

/// Receives what to do and does it.
pub(super) fn run(ctl: OwnedFd) -> Result<(), ShimError> {
    let Some(order) = start::receive_order(&ctl)? else {
        return Ok(()); // the daemon is gone, and nothing has begun
    };
    let kernel = |what| move |errno| ShimError::Kernel { what, errno };
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.add(Signal::SIGTERM);
    mask.thread_block().map_err(kernel("signal mask"))?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(kernel("signalfd"))?;
    let mut shim = match order {
        Order::Begin(definition, dir) => Shim::begin(ctl, dir, definition, signals),
        Order::Adopt(held, dir) => match Shim::adopt(ctl, dir, held, signals) {
            Some(shim) => shim,
            None => return Ok(()), // there is nothing to take over
        },
    };
    while !shim.is_empty() {
        shim.turn();
    }
    shim.leave();
    Ok(())
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
        if ready.main {
            self.see_stranger_end();
        }
        if ready.terminal
            && let Some(terminal) = &mut self.terminal
        {
            terminal.take();
        }
        self.move_output(&ready.streams);
        if ready.listener || self.link.listener().is_none() {
            self.meet();
        }
        if ready.link {
            self.hear();
        }
        let actions = self.stopping.tick(self.clock.now());
        self.act(actions);
        if self.stopping.killing() {
            self.kill_all();
        }
        self.flush();
    }

    fn move_output(&mut self, streams: &[Stream]) {
        let now = sys::wall_clock();
        for stream in streams {
            self.output.ready(*stream, now);
        }
        self.output.retry(now);
        self.tell_output();
    }

    /// What lies in the pipes when the main process has ended: if this shim and the
    /// daemon die now, nobody has them open any more.
    fn move_all_ready(&mut self) {
        for _ in 0..TERMINAL_TURNS {
            let more = self.terminal.as_mut().is_some_and(Terminal::take);
            let streams: Vec<Stream> = self.output.polls().iter().map(|(s, _)| *s).collect();
            self.move_output(&streams);
            if !more {
                return;
            }
        }
    }

    /// Tells when it begins or ends to be kept as it should.
    fn tell_output(&mut self) {
        let now = OutputHealth {
            state: self.output.health(),
            approximate_bytes: self.output.approximate_bytes(),
        };
        let told = self.output_told.is_some_and(|told| {
            discriminant(&told.state) == discriminant(&now.state)
                && told.approximate_bytes == now.approximate_bytes
        });
        if !told {
            self.output_told = Some(now);
            self.tell(Message::Output(now));
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
        let Main::Starting(child, definition) = &mut self.main else {
            return;
        };
        let pid = child.pid;
        match child.progress() {
            Progress::Pending => {}
            Progress::Executed => {
                self.main = Main::Running(pid);
                self.keep_started();
                // Nobody hears of a start after it was told of the kill.
                if !self.stopping.killing() {
                    self.tell(Message::Started);
                }
                sys::return_memory();
            }
            Progress::Died => self.main = Main::Running(pid), // ends by a signal
            Progress::Failed { step, index, errno } => {
                let failure = prepare::describe(definition, step, index, errno);
                self.main = Main::Failed(pid);
                self.refuse(failure);
            }
        }
    }

    /// Whether nothing of the run is left.
    fn is_empty(&mut self) -> bool {
        self.reap();
        let cgroup = self.cgroup.as_ref();
        matches!(self.main, Main::Gone)
            && sys::peek_ended() == Ended::NoChildren
            && !cgroup.is_some_and(Cgroup::populated)
            && !self.kin.as_mut().is_some_and(|kin| kin.any(cgroup))
    }

    /// The plan of the definition, unless a stop is under way.
    fn stop_by_itself(&mut self) {
        if !self.stopping.under_way() {
            self.stop(self.default_stop);
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
                    let sent = self.send_signal(number, scope);
                    if sent == Err(Errno::ENOTSUP) {
                        let _ = self.send_signal(number, SignalScope::Tree);
                    }
                }
                Action::Wake => {
                    let _ = self.thaw();
                }
                Action::ReportKilling => self.tell(Message::Killing),
                Action::Kill => {
                    self.kill_pause = KILL_PAUSE_MIN;
                    self.kill_all();
                }
                Action::ReportSurvivors => {
                    if !self.is_empty() {
                        let pids = self.living();
                        self.tell(Message::Survivors(pids));
                    }
                }
            }
        }
    }

    fn main_pid(&self) -> Option<i32> {
        match &self.main {
            Main::Gone => None,
            Main::Starting(child, _) => Some(child.pid),
            Main::Running(pid) | Main::Failed(pid) => Some(*pid),
            Main::Stranger(stranger) => Some(stranger.identity.pid),
        }
    }
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}
