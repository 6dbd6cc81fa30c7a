//! How a run begins: its definition, and a child that does not exec before there
//! is a record of it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signalfd::SignalFd,
    unistd::{Uid, chdir},
};

use super::{KILL_PAUSE_MIN, Main, Shim, messages::Link, own_pid};
use crate::{
    domain::run::{OutputHealth, SpawnError},
    shim::{
        ShimError,
        cgroup::Cgroup,
        child::{Child, Ends},
        ctl::{self, Received},
        definition::{Definition, Stdin},
        failpoint,
        output::{Begin, Output},
        pidfd,
        pipes::{self, Pipe},
        plan::Stopping,
        prepare::{self, Failure, Prepared},
        protocol::{HELD_STDIN, HELD_TTY, MESSAGE_BYTES_MAX, Message, Step},
        record::{PipeIdentity, ProcessIdentity, RunRecord},
        rundir::{self, RunDir},
        segment::Stream,
        stdin::{self, Input},
        sys::{self, Clock},
        terminal::{self, Terminal},
        tree,
    },
};

/// What a shim is told to do.
pub(super) enum Order {
    /// Begin a run.
    Begin(Box<Definition>, RunDir),
    /// Take over one, with what the daemon had kept of it.
    Adopt(Vec<(u8, OwnedFd)>, RunDir),
}

/// The standard streams of a run that begins.
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    /// `None`: where standard output goes.
    stderr: Option<OwnedFd>,
    /// What is moved to disk.
    read_ends: Vec<(Stream, OwnedFd)>,
    /// Of standard input, where it is a pipe.
    write_end: Option<OwnedFd>,
    /// The master, and the pipe for what it has.
    terminal: Option<(OwnedFd, OwnedFd)>,
}

// === impl Streams ===

impl Streams {
    fn new(definition: &Definition, owner: Option<Uid>) -> Result<Self, (Step, Errno)> {
        let step = |step| move |errno| (step, errno);
        if definition.stdin == Stdin::Tty {
            return Self::terminal(owner).map_err(step(Step::Stdin));
        }
        let stdout = Pipe::new(Stream::Stdout, owner).map_err(step(Step::Descriptors))?;
        let mut read_ends = vec![(stdout.stream, stdout.read_end)];
        let mut stderr = None;
        if !definition.merge_stderr {
            let pipe = Pipe::new(Stream::Stderr, owner).map_err(step(Step::Descriptors))?;
            read_ends.push((pipe.stream, pipe.read_end));
            stderr = Some(pipe.run_end);
        }
        let stdin = (definition.stdin == Stdin::Pipe).then(|| stdin::pipe(owner));
        let stdin = stdin.transpose().map_err(step(Step::Stdin))?;
        let (stdin, write_end) = stdin.unzip();
        Ok(Self {
            stdin,
            stdout: stdout.run_end,
            stderr,
            read_ends,
            write_end,
            terminal: None,
        })
    }

    fn terminal(owner: Option<Uid>) -> nix::Result<Self> {
        let (slave, master) = terminal::open(owner)?;
        let (read_end, into) = pipes::internal()?;
        let stdin = slave.try_clone().map_err(|_| Errno::EMFILE)?;
        Ok(Self {
            stdin: Some(stdin),
            stdout: slave,
            stderr: None,
            read_ends: vec![(Stream::Stdout, read_end)],
            write_end: None,
            terminal: Some((master, into)),
        })
    }

    fn ends(&self) -> Ends<'_> {
        Ends {
            terminal: self.terminal.is_some(),
            stdin: self.stdin.as_ref().map(AsFd::as_fd),
            stdout: self.stdout.as_fd(),
            stderr: self.stderr.as_ref().unwrap_or(&self.stdout).as_fd(),
        }
    }
}

// === impl Shim ===

impl Shim {
    /// Begins a run; what goes wrong is told and recorded.
    pub(super) fn begin(
        ctl: OwnedFd,
        dir: RunDir,
        definition: Box<Definition>,
        signals: SignalFd,
    ) -> Self {
        failpoint::hit("after_define");
        let output = Output::new(
            definition.log_dir.clone(),
            definition.run_id,
            definition.log_policy,
            Begin::Run,
        );
        let stop = definition.stop;
        let mut shim = Self {
            link: Link::new(ctl),
            dir,
            record: None,
            exit: None,
            signals,
            clock: Clock::start(),
            default_stop: stop,
            cgroup: None,
            cgroup_events: None,
            main: Main::Gone,
            kin: None,
            input: Input::default(),
            terminal: None,
            output,
            output_told: Some(OutputHealth::INTACT),
            stopping: Stopping::new(stop),
            kill_pause: KILL_PAUSE_MIN,
            look_pause: KILL_PAUSE_MIN,
        };
        let begun = shim.prepare_dir().and_then(|()| shim.spawn(definition));
        if let Err(failure) = begun {
            shim.refuse(failure);
        }
        let _ = chdir("/"); // hold no mount busy
        shim
    }

    /// A run that no later daemon can find is not begun.
    pub(super) fn prepare_dir(&mut self) -> Result<(), Failure> {
        if let Err(error) = self.dir.keep_spares() {
            self.warn("room for the exit record", &error);
        }
        let listener = self
            .dir
            .listen()
            .map_err(|errno| refusal("control socket", &errno.into()))?;
        self.link.listen(listener);
        Ok(())
    }

    /// Forks the child, records and tells it and lets it go on to exec.
    fn spawn(&mut self, definition: Box<Definition>) -> Result<(), Failure> {
        let prepared = Prepared::new(&definition)?;
        let described =
            |step| move |errno, definition: &_| prepare::describe(definition, step, 0, errno);
        let owner = prepared.ids.as_ref().and_then(|ids| ids.user);
        let streams = Streams::new(&definition, owner);
        let streams = streams.map_err(|(step, errno)| described(step)(errno, &definition))?;
        failpoint::hit("after_pipes");
        let cgroup = definition
            .use_cgroup
            .then(|| Cgroup::create(&definition.group, &definition.label))
            .flatten();
        let directory = cgroup.as_ref().and_then(|cgroup| cgroup.open().ok());
        let forked = Child::fork(
            &prepared,
            streams.ends(),
            directory.as_ref().map(AsFd::as_fd),
        );
        failpoint::hit("after_fork");
        let usable = forked.as_ref().is_ok_and(|child| {
            child.in_cgroup || cgroup.as_ref().is_some_and(|c| c.place(child.pid).is_ok())
        });
        match cgroup {
            Some(cgroup) if usable => self.cgroup = Some(cgroup),
            Some(cgroup) => cgroup.remove(),
            None => {}
        }
        let mut child = forked.map_err(|e| described(Step::Fork)(e, &definition))?;
        child.wait_ready();
        let mut record = self.describe(&child, &definition);
        record.pipes = self.serve(streams);
        failpoint::hit("before_run_record");
        let recorded = self.dir.write_run(&record);
        failpoint::hit("after_run_record");
        let pid = child.pid;
        self.record = Some(record);
        if let Err(error) = recorded {
            // Its gate stays closed, and it ends when it is let go of.
            self.main = Main::Failed(pid);
            return Err(refusal("run record", &error));
        }
        self.tell_spawned();
        child.open_gate();
        failpoint::hit("after_gate");
        self.main = Main::Starting(child, definition);
        Ok(())
    }

    fn describe(&self, child: &Child, definition: &Definition) -> RunRecord {
        let pidfd = pidfd::open(child.pid).ok();
        RunRecord {
            boot_id: rundir::boot_id(),
            run_id: definition.run_id,
            name: definition.name.clone(),
            shim: identity(own_pid()),
            main: identity(child.pid),
            pidfd_inode: pidfd.map_or(0, |pidfd| pidfd::inode(pidfd.as_fd())),
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
            started: false,
            began: sys::wall_clock(),
            stop: definition.stop,
            log_dir: definition.log_dir.clone(),
            log_policy: definition.log_policy,
            merge_stderr: definition.merge_stderr,
            stdin: match definition.stdin {
                Stdin::Null => 0,
                Stdin::File(_) => 1,
                Stdin::Pipe => 2,
                Stdin::Tty => 3,
            },
            pipes: Vec::new(),
        }
    }

    /// Moves what comes from a pipe from now on, and gives it to the daemon to
    /// keep.
    pub(super) fn watch(&mut self, stream: Stream, read_end: OwnedFd) -> PipeIdentity {
        let inode = pipes::inode(read_end.as_fd());
        if let Ok(copy) = read_end.try_clone() {
            self.link.hold(pipes::held(stream), copy);
        }
        self.output.watch(stream, read_end);
        PipeIdentity {
            stream: pipes::held(stream),
            inode,
        }
    }

    /// Writes to this end from now on, and gives it to the daemon to keep.
    pub(super) fn feed(&mut self, end: Option<OwnedFd>) {
        if let Some(copy) = end.as_ref().and_then(|end| end.try_clone().ok()) {
            self.link.hold(HELD_STDIN, copy);
        }
        self.input = Input::new(end, false, &self.dir);
    }

    /// Takes what comes from a terminal to `into`, and gives it to the daemon to
    /// keep.
    pub(super) fn serve_terminal(&mut self, master: OwnedFd, into: OwnedFd) {
        if let Ok(copy) = master.try_clone() {
            self.link.hold(HELD_TTY, copy);
        }
        self.input = Input::new(master.try_clone().ok(), true, &self.dir);
        self.terminal = Some(Terminal::new(master, into));
    }

    fn serve(&mut self, streams: Streams) -> Vec<PipeIdentity> {
        let pipes = streams.read_ends.into_iter();
        let pipes = pipes
            .map(|(stream, read_end)| self.watch(stream, read_end))
            .collect();
        match streams.terminal {
            Some((master, into)) => self.serve_terminal(master, into),
            None => self.feed(streams.write_end),
        }
        pipes
    }

    pub(super) fn tell_spawned(&mut self) {
        let Some(record) = &self.record else {
            return;
        };
        let spawned = Message::Spawned {
            pid: record.main.pid,
            start_ticks: record.main.start_ticks,
            cgroup: record.cgroup.clone(),
            held: self.link.held(),
        };
        self.tell(spawned);
    }
}

pub(super) fn identity(pid: i32) -> ProcessIdentity {
    ProcessIdentity {
        pid,
        start_ticks: tree::stat(pid).map_or(0, |process| process.start_ticks),
    }
}

fn refusal(what: &str, error: &io::Error) -> Failure {
    Failure {
        step: Step::Shim,
        error: SpawnError {
            errno: error.raw_os_error().unwrap_or(0),
            message: format!("{what}: {}", sys::describe(error)).into(),
        },
    }
}

/// `None` if the daemon goes away first, or is not understood.
pub(super) fn receive_order(ctl: &OwnedFd) -> Result<Option<Order>, ShimError> {
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
        let mut passed = passed.into_iter();
        match Message::decode(&buffer[..size]) {
            Ok((_, Message::Define)) => {
                let (Some(memory), Some(dir)) = (passed.next(), passed.next()) else {
                    return Ok(None);
                };
                let definition = ctl::read_sealed(memory)
                    .ok()
                    .and_then(|bytes| Definition::decode(&bytes).ok());
                let Some(definition) = definition else {
                    refuse_definition(ctl);
                    return Ok(None);
                };
                let dir = RunDir::from_passed(dir);
                return Ok(Some(Order::Begin(Box::new(definition), dir)));
            }
            Ok((_, Message::Adopt { held })) => {
                let dir = passed.next().map(RunDir::from_passed);
                let held = held.into_iter().zip(passed).collect();
                return Ok(dir.map(|dir| Order::Adopt(held, dir)));
            }
            Ok(_) => {}
            // A daemon that is not understood cannot be answered either.
            Err(_) => return Ok(None),
        }
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
    let _ = ctl::send(ctl.as_fd(), &failed.encode(1), &[]);
    let _ = ctl::send(ctl.as_fd(), &Message::Empty.encode(2), &[]);
}
