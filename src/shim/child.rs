//! The child between fork and exec.
//!
//! Invariants: it is the leader of its own session before anybody hears of it;
//! it does not exec before the gate is opened, and never if the gate's holder
//! dies first; a step that fails is told by its number and errno, never by an
//! exit code. It may allocate, because a shim has one thread. Deliberately
//! absent: looking anything up (`prepare`).

#![allow(unsafe_code)]

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, open},
    sys::{
        resource::setrlimit,
        signal::{SigSet, SigmaskHow},
        stat::{Mode, umask},
    },
    unistd::{
        ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, getegid, geteuid,
        pipe2, setgroups, setresgid, setresuid, setsid,
    },
};

use super::{
    prepare::{Ids, Prepared},
    protocol::Step,
    sys, terminal,
};

/// How far the child has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is still being set up.
    Pending,
    /// It runs the program.
    Executed,
    /// A step failed and it is exiting.
    Failed {
        step: Step,
        index: usize,
        errno: Errno,
    },
    /// It was killed before exec.
    Died,
}

/// A child that has not yet been seen to exec.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: i32,
    /// Whether it began in its cgroup.
    pub(super) in_cgroup: bool,
    gate: Option<OwnedFd>,
    status: File,
    told: Vec<u8>,
}

/// What the child has as its standard streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    /// Whether they are the terminal that controls it.
    pub(super) terminal: bool,
    /// `None`: it opens what was prepared.
    pub(super) stdin: Option<BorrowedFd<'a>>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
}

/// In the status pipe, in this order.
const READY: u8 = b'r';
const EXEC: u8 = b'x';
const FAILED: u8 = b'f';
const FAILED_BYTES: usize = 8;

// === impl Child ===

impl Child {
    /// Forks a child that is held at the gate, in `cgroup` if that can be done.
    pub(super) fn fork(
        prepared: &Prepared,
        ends: Ends<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> nix::Result<Self> {
        let (gate_out, gate_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (status_out, status_in) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Until the child has its own dispositions it takes no signal, and loses
        // none: one that is ignored is kept as long as it is blocked.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let (forked, in_cgroup) = fork_into(cgroup);
        if forked == Ok(0) {
            drop(gate_in);
            // With a reader of its own it gets no SIGPIPE, should the shim die.
            let _reader = status_out;
            run(prepared, ends, gate_out, File::from(status_in));
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { libc::_exit(sys::NOT_EXECUTED.into()) }
        }
        mask.thread_set_mask()?;
        Ok(Self {
            pid: forked?,
            in_cgroup,
            gate: Some(gate_in),
            status: File::from(status_out),
            told: Vec::new(),
        })
    }

    /// Waits until it leads its own session (or is dead).
    pub(super) fn wait_ready(&mut self) {
        while self.told.is_empty() {
            let mut fds = [nix::poll::PollFd::new(
                self.status.as_fd(),
                nix::poll::PollFlags::POLLIN,
            )];
            let _ = nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE);
            if self.progress() == Progress::Died {
                return;
            }
        }
    }

    /// Lets it go on to exec.
    pub(super) fn open_gate(&mut self) {
        if let Some(gate) = self.gate.take() {
            // If it is dead, its end is seen as such.
            let _ = File::from(gate).write_all(&[1]);
        }
    }

    /// What is readable when [`Child::progress`] may have changed.
    pub(super) fn status(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Reads how far it has come.
    pub(super) fn progress(&mut self) -> Progress {
        let mut buffer = [0; 64];
        loop {
            match self.status.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => self.told.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.failure().unwrap_or(Progress::Pending),
            }
        }
        match self.failure() {
            Some(failed) => failed,
            None if self.told.contains(&EXEC) => Progress::Executed,
            None => Progress::Died,
        }
    }

    fn failure(&self) -> Option<Progress> {
        let at = self.told.iter().position(|b| *b == FAILED)?;
        let record = self.told.get(at..at + FAILED_BYTES)?;
        Some(Progress::Failed {
            step: Step::from_number(record[1])?,
            index: usize::from(u16::from_le_bytes([record[2], record[3]])),
            errno: Errno::from_raw(i32::from_le_bytes([
                record[4], record[5], record[6], record[7],
            ])),
        })
    }
}

/// A step, which of several, and why it failed.
type StepError = (Step, usize, Errno);

/// The pid, 0 in the child, and whether it is in `cgroup`.
fn fork_into(cgroup: Option<BorrowedFd<'_>>) -> (nix::Result<i32>, bool) {
    if let Some(cgroup) = cgroup {
        // SAFETY: a shim has one thread, and the child only does what `run` does.
        let forked = unsafe { sys::fork_into(cgroup) };
        if forked.is_ok() {
            return (forked, true);
        }
    }
    // SAFETY: a shim has one thread, so the child finds no lock held by another.
    let forked = unsafe { fork() };
    let pid = forked.map(|side| match side {
        ForkResult::Child => 0,
        ForkResult::Parent { child } => child.as_raw(),
    });
    (pid, false)
}

/// In the child. Returns if the program cannot be run.
fn run(prepared: &Prepared, ends: Ends<'_>, gate: OwnedFd, mut status: File) {
    // Cannot fail: a forked child leads no group yet.
    let _ = setsid();
    let _ = status.write_all(&[READY]);
    let mut byte = [0];
    if File::from(gate).read_exact(&mut byte).is_err() {
        return; // whoever held the gate is dead
    }
    let Err((step, index, errno)) = set_up(prepared, ends).and_then(|()| {
        let _ = status.write_all(&[EXEC]);
        exec(prepared).map_err(|errno| (Step::Exec, 0, errno))
    });
    let mut record = [FAILED, step as u8, 0, 0, 0, 0, 0, 0];
    let index = u16::try_from(index).unwrap_or(u16::MAX);
    record[2..4].copy_from_slice(&index.to_le_bytes());
    record[4..8].copy_from_slice(&(errno as i32).to_le_bytes());
    let _ = status.write_all(&record);
}

fn set_up(prepared: &Prepared, ends: Ends<'_>) -> Result<(), StepError> {
    let step = |step| move |errno| (step, 0, errno);
    sys::reset_signals();
    dup2_stdout(ends.stdout).map_err(step(Step::Descriptors))?;
    dup2_stderr(ends.stderr).map_err(step(Step::Descriptors))?;
    open_stdin(prepared, ends.stdin).map_err(step(Step::Stdin))?;
    if ends.terminal {
        terminal::control().map_err(step(Step::Stdin))?;
    }
    for (index, (resource, soft, hard)) in prepared.rlimits.iter().enumerate() {
        setrlimit(*resource, *soft, *hard).map_err(|errno| (Step::Rlimit, index, errno))?;
    }
    if let Some(nice) = prepared.nice {
        sys::set_nice(nice).map_err(step(Step::Nice))?;
    }
    if let Some(value) = &prepared.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", value)
            .map_err(|error| (Step::OomScoreAdj, 0, errno_of(&error)))?;
    }
    if let Some(mask) = prepared.umask {
        umask(mask);
    }
    if let Some(path) = &prepared.working_directory {
        chdir(path.as_c_str()).map_err(step(Step::WorkingDirectory))?;
    }
    if let Some(ids) = &prepared.ids {
        assume(ids).map_err(step(Step::Identity))?;
    }
    sys::close_others_on_exec().map_err(step(Step::Descriptors))
}

/// Opened without waiting, so that a FIFO without a writer holds nobody up.
fn open_stdin(prepared: &Prepared, given: Option<BorrowedFd<'_>>) -> nix::Result<()> {
    if let Some(given) = given {
        return dup2_stdin(given);
    }
    let path = prepared.stdin.as_deref().unwrap_or(c"/dev/null");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let file = open(path, flags, Mode::empty())?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    dup2_stdin(&file)
}

fn assume(ids: &Ids) -> nix::Result<()> {
    let same_user = ids.user.is_none_or(|user| user == geteuid());
    let same_group = ids.group.is_none_or(|group| group == getegid());
    if same_user && same_group && !geteuid().is_root() {
        return Ok(()); // may not, and need not
    }
    if let Some(groups) = &ids.groups {
        setgroups(groups)?;
    }
    if let Some(group) = ids.group {
        setresgid(group, group, group)?;
    }
    if let Some(user) = ids.user {
        setresuid(user, user, user)?;
    }
    Ok(())
}

/// Tries the candidates as execvp does: what is not there is passed over, what
/// may not be executed is remembered, anything else is final.
fn exec(prepared: &Prepared) -> Result<Infallible, Errno> {
    let mut denied = false;
    for file in &prepared.candidates {
        let Err(errno) = execve(file.as_c_str(), &prepared.argv, &prepared.env);
        match errno {
            Errno::EACCES => denied = true,
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            errno => return Err(errno),
        }
    }
    Err(if denied { Errno::EACCES } else { Errno::ENOENT })
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
