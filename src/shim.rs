//! The shim: the small process that owns one run.
//!
//! It is the parent of the main process and a subreaper for all that descends from
//! it, moves what it writes to disk (`output`), keeps records in the run directory
//! (`rundir`), and speaks with its daemon over the socket it finds as descriptor 0,
//! with later ones over the socket on which it listens (`protocol`). Invariants:
//! one thread, no async runtime, and nothing to do while nothing happens; it never
//! needs the daemon to make progress, and a daemon that goes away changes nothing;
//! how the main process ended is on disk before the kernel may forget it.
//! A shim may also take a run over from a shim that died (`supervise::adopt`).
//! Deliberately absent: policy.

pub(crate) mod cgroup;
mod child;
pub(crate) mod codec;
pub(crate) mod ctl;
pub(crate) mod definition;
mod env_file;
pub(crate) mod failpoint;
pub(crate) mod kin;
#[allow(
    dead_code,
    reason = "whether all pipes ended is for whoever waits for that"
)]
pub(crate) mod output;
mod pidfd;
mod pipes;
mod plan;
mod prepare;
pub(crate) mod protocol;
pub(crate) mod record;
pub(crate) mod rundir;
pub(crate) mod segment;
mod stdin;
mod supervise;
pub(crate) mod sys;
mod terminal;
pub(crate) mod tree;

use std::{
    io::{self, Write},
    os::fd::{BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        prctl,
        socket::{SockType, getsockopt, sockopt},
        stat::Mode,
    },
    unistd::{dup2_stdin, getpgid, getppid, setpgid, setsid},
};

/// Exit codes of a shim; only people who start one by hand see them.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Why a shim gives up before it has a run.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    /// Descriptor 0 is not the socket of a daemon.
    #[error("is started by procession and of no use by itself")]
    NotStartedByDaemon,
    /// The kernel refused something without which no run can be owned.
    #[error("{what}: {}", .errno.desc())]
    Kernel { what: &'static str, errno: Errno },
}

/// The whole of a shim process: call it first thing in `main`, with no other
/// thread running, and exit with the code it returns.
#[must_use]
pub fn main() -> u8 {
    abort_on_panic();
    let result = take_ctl().and_then(|ctl| {
        settle()?;
        supervise::run(ctl)
    });
    match result {
        Ok(()) => DONE,
        Err(error) => {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "procession-shim: {error}");
            match error {
                ShimError::NotStartedByDaemon => USAGE,
                ShimError::Kernel { .. } => FAILED,
            }
        }
    }
}

/// A broken shim goes no further, not even to clean up: the next one takes its run
/// over as it is. As `panic = "abort"`, which is not to be had for one program of two.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Moves the socket off descriptor 0, where the child's stdin goes.
#[allow(unsafe_code)]
fn take_ctl() -> Result<OwnedFd, ShimError> {
    // SAFETY: the process has just begun and has opened nothing yet.
    let closed = unsafe { sys::close_inherited() };
    closed.map_err(|errno| ShimError::Kernel {
        what: "inherited descriptors",
        errno,
    })?;
    // SAFETY: it is open or not, and nobody closes it here. `io::stdin` has a buffer.
    let stdin = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
    match getsockopt(&stdin, sockopt::SockType) {
        Ok(SockType::SeqPacket) => {}
        _ => return Err(ShimError::NotStartedByDaemon),
    }
    let ctl = stdin
        .try_clone_to_owned()
        .map_err(|error| ShimError::Kernel {
            what: "control socket",
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    null.and_then(dup2_stdin)
        .map_err(|errno| ShimError::Kernel {
            what: "/dev/null",
            errno,
        })?;
    Ok(ctl)
}

/// Out of the reach of terminals, and heir of all orphans below.
fn settle() -> Result<(), ShimError> {
    sys::ignore_terminal_signals();
    // The daemon made this process lead a group, so that no terminal signal
    // reaches it even before the line above; but a leader of a group cannot
    // make a session, so it returns to the daemon's group for a moment. Where
    // that fails, its own group is protection enough.
    let parents_group = getpgid(Some(getppid()));
    let _ = parents_group.and_then(|group| setpgid(nix::unistd::Pid::from_raw(0), group));
    let _ = setsid();
    prctl::set_child_subreaper(true).map_err(|errno| ShimError::Kernel {
        what: "child subreaper",
        errno,
    })
}
