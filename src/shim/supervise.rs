//! The event loop of a shim: one run from its definition to its proof of
//! emptiness.
//!
//! Invariants: `Exited` is told once, as soon as the main process has ended,
//! whoever still holds its output; `Empty` only when `waitid` says that there is
//! no child and the cgroup has no process; SIGKILL goes out again until then.
//! Deliberately absent: what to do when (`plan`), how a child comes to be
//! (`child`).

use std::{collections::VecDeque, fs::File, os::fd::AsFd, os::fd::OwnedFd, time::Duration};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        stat::Mode,
    },
    unistd::{chdir, dup2_stderr, dup2_stdout},
};

use super::{
    ShimError,
    cgroup::Cgroup,
    child::{Child, Progress},
    ctl::{self, Received},
    definition::Definition,
    plan::{Action, Stopping},
    prepare::{self, Failure, Prepared},
    protocol::{MESSAGE_BYTES_MAX, Message, Step, VERSION},
    sys::{self, Clock, Ended},
    tree,
};
use crate::domain::run::{SignalScope, SpawnError, StopPlan};

/// Between two rounds of SIGKILL, if nothing ends meanwhile.
const KILL_PAUSE_MIN: Duration = Duration::from_millis(5);
const KILL_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A tree that forks while it is signalled needs more than one pass.
const PASSES: u32 = 3;
const FREEZE_TRIES: u32 = 250;
const FREEZE_PAUSE: Duration = Duration::from_millis(2);

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
    let Some(definition) = receive_definition(&ctl)? else {
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
    let_go_of_output();
    while !shim.is_empty() {
        shim.turn();
    }
    shim.leave();
    Ok(())
}

/// `None` if the daemon goes away first, or is not understood.
fn receive_definition(ctl: &OwnedFd) -> Result<Option<Definition>, ShimError> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let mut fds = [PollFd::new(ctl.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        let (size, passed) = match ctl::receive(ctl.as_fd(), &mut buffer) {
            Ok(Received::Packet(size, passed)) => (size, passed),
            Ok(Received::Closed) => return Ok(None),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::EMSGSIZE) => continue,
            Err(errno) => {
                return Err(ShimError::Kernel {
                    what: "control socket",
                    errno,
                });
            }
        };
        let memory = match (Message::decode(&buffer[..size]), passed) {
            (Ok((_, Message::Define)), Some(memory)) => memory,
            // A daemon that is not understood cannot be answered either.
            (Err(_), _) => return Ok(None),
            (Ok(_), _) => continue,
        };
        let definition = ctl::read_sealed(memory)
            .ok()
            .and_then(|bytes| Definition::decode(&bytes).ok());
        if let Some(definition) = definition {
            return Ok(Some(definition));
        }
        refuse_definition(ctl);
        return Ok(None);
    }
}

fn refuse_definition(ctl: &OwnedFd) {
    let error = SpawnError {
        errno: libc::EPROTO,
        message: "shim: the definition is not understood".into(),
    };
    let failed = Message::SpawnFailed {
        step: Step::Shim,
        error,
    };
    // Where this is not heard, the daemon still sees the shim end.
    let _ = ctl::send(ctl.as_fd(), &failed.encode(1), None);
    let _ = ctl::send(ctl.as_fd(), &Message::Empty.encode(2), None);
}

/// The pipes of the run belong to the run: they end when it does.
fn let_go_of_output() {
    if let Ok(null) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
    let _ = chdir("/"); // hold no mount busy
}

// === impl Shim: start and end ===

impl Shim {
    fn spawn(&mut self) -> Result<(), Failure> {
        let prepared = Prepared::new(&self.definition)?;
        let mut child = Child::fork(&prepared)
            .map_err(|errno| prepare::describe(&self.definition, Step::Fork, 0, errno))?;
        child.wait_ready();
        if self.definition.use_cgroup {
            self.cgroup = Cgroup::create(self.definition.daemon_pid, &self.definition.label);
        }
        if let Some(cgroup) = self.cgroup.take() {
            match cgroup.place(child.pid) {
                Ok(()) => self.cgroup = Some(cgroup),
                Err(_) => cgroup.remove(),
            }
        }
        let start_ticks = tree::stat(child.pid).map_or(0, |process| process.start_ticks);
        let spawned = Message::Spawned {
            pid: child.pid,
            start_ticks,
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
        };
        self.tell(&spawned);
        // Nobody runs of whom nobody was told. If there is nobody to tell, the
        // gate stays closed, and the child ends when it is let go of.
        self.deliver();
        failpoint("before_gate");
        if self.ctl.is_some() {
            child.open_gate();
        } else {
            self.main = Main::Failed(child.pid);
            return Ok(());
        }
        self.main = Main::Starting(child);
        Ok(())
    }

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

    /// Returns when all was taken, or there is nobody to take it.
    fn deliver(&mut self) {
        while !self.outbox.is_empty() {
            let Some(ctl) = &self.ctl else { return };
            let mut fds = [PollFd::new(ctl.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            self.flush();
        }
    }
}

// === impl Shim: the loop ===

impl Shim {
    fn turn(&mut self) {
        let ready = self.wait();
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

// === impl Shim: signals ===

impl Shim {
    /// What a client asked for: only while there is a main process.
    fn request(&mut self, message: &Message) -> nix::Result<()> {
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

    fn send_signal(&self, number: i32, scope: SignalScope) -> nix::Result<()> {
        match (scope, self.main_pid(), &self.cgroup) {
            (SignalScope::Main, Some(pid), _) => sys::kill(pid, number),
            (SignalScope::Group, Some(pid), _) => sys::kill(-pid, number),
            (SignalScope::Main | SignalScope::Group, None, _) => Err(Errno::ESRCH),
            (SignalScope::Cgroup, _, None) => Err(Errno::ENOTSUP),
            (SignalScope::Cgroup | SignalScope::Tree, _, Some(cgroup)) => {
                for pid in cgroup.pids() {
                    let _ = sys::kill(pid, number); // gone meanwhile
                }
                Ok(())
            }
            (SignalScope::Tree, _, None) => {
                signal_descendants(number);
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
            signal_descendants(libc::SIGSTOP);
            if tree::living(own_pid()).iter().all(|process| process.stands) {
                return Ok(());
            }
            std::thread::sleep(FREEZE_PAUSE);
        }
        self.thaw()?;
        Err(Errno::ETIMEDOUT)
    }

    /// Undoes a freeze and any SIGSTOP, whoever sent it.
    fn thaw(&self) -> nix::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.thaw().map_err(|error| errno_of(&error))?;
        }
        self.send_signal(libc::SIGCONT, SignalScope::Tree)
    }

    /// One round of SIGKILL to everything there is.
    fn kill_all(&mut self) {
        if let Some(cgroup) = &self.cgroup
            && !cgroup.kill()
        {
            for _ in 0..PASSES {
                for pid in cgroup.pids() {
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
            }
        }
        // Also what has left the cgroup. A process with SIGKILL pending forks no
        // more, so each pass only meets what was forked before it.
        for _ in 0..PASSES {
            signal_descendants(libc::SIGKILL);
        }
        self.kill_pause = (self.kill_pause * 2).min(KILL_PAUSE_MAX);
    }

    fn living(&self) -> Vec<i32> {
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

// === impl Shim: messages ===

impl Shim {
    fn hear(&mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while self.outbox.is_empty() {
            let Some(ctl) = &self.ctl else { return };
            match ctl::receive(ctl.as_fd(), &mut buffer) {
                Ok(Received::Packet(size, _)) => match Message::decode(&buffer[..size]) {
                    Ok((_, Message::Stop(plan))) => self.stop(plan),
                    Ok((
                        seq,
                        message @ (Message::Signal { .. } | Message::Freeze | Message::Thaw),
                    )) => {
                        let errno = self.request(&message).map_or_else(|e| e as i32, |()| 0);
                        self.tell(&Message::Reply { seq, errno });
                    }
                    // Refused, or of no meaning here.
                    Ok(_) | Err(_) => {}
                },
                Err(Errno::EINTR | Errno::EMSGSIZE) => {}
                Err(Errno::EAGAIN) => return,
                Ok(Received::Closed) | Err(_) => {
                    self.lose_daemon();
                    return;
                }
            }
        }
    }

    fn tell(&mut self, message: &Message) {
        self.seq += 1;
        let packet = message.encode(self.seq);
        if self.ctl.is_some() {
            self.outbox.push_back(packet);
        }
        self.flush();
    }

    fn flush(&mut self) {
        while let (Some(ctl), Some(packet)) = (&self.ctl, self.outbox.front()) {
            match ctl::send(ctl.as_fd(), packet, None) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return,
                Err(_) => {
                    self.lose_daemon();
                    return;
                }
            }
        }
    }

    /// Nobody is left to tell: the run is stopped and leaves no orphan.
    fn lose_daemon(&mut self) {
        self.ctl = None;
        self.outbox.clear();
        self.stop_by_itself();
    }
}

fn signal_descendants(number: i32) {
    tree::visit(own_pid(), |pid| {
        let _ = sys::kill(pid, number); // gone meanwhile
    });
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Dies here in a debug build told so, as if killed.
fn failpoint(name: &str) {
    if cfg!(debug_assertions)
        && std::env::var_os("PROCESSION_SHIM_FAILPOINT").is_some_and(|value| value == name)
    {
        let _ = sys::kill(own_pid(), libc::SIGKILL);
    }
}
