//! The kernel calls for which std and nix have no safe or sufficient form, and
//! the clocks of a shim.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::{Duration, Instant, SystemTime},
};

use nix::errno::Errno;

use crate::domain::{
    run::{Exit, Outcome, SpawnError, UnknownReason},
    time::{Monotonic, Timestamp},
};

/// Exit code of a child that never ran its program; nobody is told it.
pub(crate) const NOT_EXECUTED: u8 = 70;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// What waits to be reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// This child.
    Pid(i32),
    /// No child yet.
    None,
    /// There are no children at all.
    NoChildren,
}

/// What the kernel tells of a process that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    /// As wait4 has it.
    status: i32,
    cpu_time: Duration,
    max_rss_bytes: i64,
}

/// Monotonic time since this was made.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

// === impl Reaped ===

impl Reaped {
    /// By the wait status alone, of a process that is not a child.
    pub(crate) fn from_status(status: i32, cpu_time: Duration) -> Self {
        Self {
            status,
            cpu_time,
            max_rss_bytes: 0,
        }
    }

    /// The end of a main process of which its shim could not tell; `started`: its
    /// exec was confirmed. Else this code may be that of a child whose gate stayed
    /// closed.
    pub(crate) fn main_exit(&self, started: bool, oom_killed: bool) -> Exit {
        let exit = self.exit(oom_killed);
        if started || exit.outcome != Outcome::Code(NOT_EXECUTED) {
            exit
        } else {
            lost_exit()
        }
    }

    /// The end of a main process.
    pub(crate) fn exit(&self, oom_killed: bool) -> Exit {
        let status = self.status;
        let outcome = if libc::WIFEXITED(status) {
            Outcome::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
        } else if libc::WIFSIGNALED(status) {
            Outcome::Signal(libc::WTERMSIG(status))
        } else {
            // wait4 without WUNTRACED tells of nothing else.
            Outcome::Unknown(UnknownReason::Lost)
        };
        Exit {
            oom_killed: oom_killed && outcome == Outcome::Signal(libc::SIGKILL),
            core_dumped: libc::WIFSIGNALED(status) && libc::WCOREDUMP(status),
            outcome,
            at: wall_clock(),
            cpu_time: self.cpu_time,
            max_rss_bytes: self.max_rss_bytes,
        }
    }
}

// === impl Clock ===

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The end of a run whose program never ran.
pub(crate) fn spawn_error_exit(error: SpawnError) -> Exit {
    Exit::new(Outcome::SpawnError(error), wall_clock())
}

/// An end of which nothing is known but that it is over.
pub(crate) fn lost_exit() -> Exit {
    Exit::new(Outcome::Unknown(UnknownReason::Lost), wall_clock())
}

pub(crate) fn wall_clock() -> Timestamp {
    SystemTime::now().into()
}

/// A child that ended, left as it is so that it can still be asked about.
pub(crate) fn peek_ended() -> Ended {
    loop {
        // SAFETY: siginfo_t is plain data; all zeroes is a value of it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `info` is valid for writing for the time of the call.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
        if result == 0 {
            // SAFETY: waitid filled it in, or left it zeroed: pid 0.
            return match unsafe { info.si_pid() } {
                0 => Ended::None,
                pid => Ended::Pid(pid),
            };
        }
        if Errno::last() != Errno::EINTR {
            return Ended::NoChildren;
        }
    }
}

/// How child `pid` ended, if it has; it stays as it is.
pub(crate) fn peek(pid: i32) -> Option<Reaped> {
    // SAFETY: siginfo_t is plain data; all zeroes is a value of it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: rusage is plain data; all zeroes is a value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: both are valid for writing for the time of the call. The libc's
        // waitid has no usage, the kernel's has.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PID,
                pid,
                &raw mut info,
                flags,
                &raw mut usage,
            )
        };
        if result == 0 {
            break;
        }
        if Errno::last() != Errno::EINTR {
            return None;
        }
    }
    // SAFETY: waitid filled it in, or left it zeroed: pid 0.
    let (found, value) = unsafe { (info.si_pid(), info.si_status()) };
    (found == pid).then(|| Reaped {
        status: match info.si_code {
            libc::CLD_EXITED => (value & 0xff) << 8,
            libc::CLD_DUMPED => value | 0x80,
            _ => value,
        },
        cpu_time: duration(usage.ru_utime) + duration(usage.ru_stime),
        max_rss_bytes: usage.ru_maxrss.saturating_mul(1024),
    })
}

/// Reaps child `pid` if it has ended.
pub(crate) fn reap(pid: i32) -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: rusage is plain data; all zeroes is a value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both are valid for writing for the time of the call.
        let result = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if result == pid && pid > 0 {
            return Some(Reaped {
                status,
                cpu_time: duration(usage.ru_utime) + duration(usage.ru_stime),
                max_rss_bytes: usage.ru_maxrss.saturating_mul(1024),
            });
        }
        if result != -1 || Errno::last() != Errno::EINTR {
            return None;
        }
    }
}

/// fork, with the child in the cgroup whose directory this is: moving it there
/// afterwards costs milliseconds. 0 in the child.
///
/// # Safety
/// The process has one thread; the child does no more than set itself up and
/// exec, because the libc does not know of it.
pub(crate) unsafe fn fork_into(cgroup: BorrowedFd<'_>) -> nix::Result<i32> {
    // SAFETY: clone_args is plain data; all zeroes asks for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    // SAFETY: without CLONE_VM and a stack it is a fork, and the rest is up to
    // the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    Errno::result(result).map(|pid| i32::try_from(pid).unwrap_or(0))
}

/// Sends a signal by number: nix knows no real-time signals.
pub(crate) fn kill(pid: i32, number: i32) -> nix::Result<()> {
    // SAFETY: passes numbers only.
    Errno::result(unsafe { libc::kill(pid, number) }).map(drop)
}

pub(crate) fn set_nice(nice: i32) -> nix::Result<()> {
    // SAFETY: passes numbers only.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Every signal's default action, and none blocked.
pub(crate) fn reset_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL runs no code of ours. SIGKILL, SIGSTOP and those the
        // libc keeps for itself are refused, which is as well.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // An empty set cannot be refused.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Gives memory back that is not used now.
pub(crate) fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches what is free only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Ignores what a terminal or a broken pipe may send.
pub(crate) fn ignore_terminal_signals() {
    for number in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGPIPE,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ] {
        // SAFETY: SIG_IGN runs no code of ours.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Closes every descriptor from 3 on: what a careless parent left open.
///
/// # Safety
/// Nothing in this process owns one of them.
pub(crate) unsafe fn close_inherited() -> nix::Result<()> {
    close_range(0, |fd| {
        // SAFETY: by the caller's promise nobody owns it.
        unsafe { libc::close(fd) };
    })
}

/// Marks every descriptor from 3 on close-on-exec.
pub(crate) fn close_others_on_exec() -> nix::Result<()> {
    close_range(libc::CLOSE_RANGE_CLOEXEC, |fd| {
        // SAFETY: only sets a flag; a descriptor that is gone is refused.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    })
}

/// `each` is for Linux before 5.9, or before 5.11 with the flag.
fn close_range(flags: libc::c_uint, each: impl Fn(i32)) -> nix::Result<()> {
    // SAFETY: what becomes of the descriptors is up to the two callers above.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flags) };
    if result == 0 {
        return Ok(());
    }
    let entries = std::fs::read_dir("/proc/self/fd")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    // Read to its end first: it is a descriptor itself.
    let fds: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    fds.into_iter().filter(|fd| *fd > 2).for_each(each);
    Ok(())
}

/// The text of an error without Rust's "(os error N)".
pub(crate) fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    }
}

fn duration(time: libc::timeval) -> Duration {
    let micros = u32::try_from(time.tv_usec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), micros * 1000)
}
