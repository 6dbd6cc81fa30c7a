//! Processes that are pinned: a pidfd means the process it was opened for, and
//! nobody who gets its pid later.
//!
//! Deliberately absent: waiting for an end, which is for whoever polls.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::{
        stat::fstat,
        statfs::{FsType, fstatfs},
    },
};

/// The file system of pidfds whose inodes are unique per boot.
const PID_FS: FsType = FsType(0x5049_4446);
const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info` of the kernel, as far as it is used here.
#[repr(C)]
#[derive(Debug, Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// Sends a signal to a process that nobody keeps from being reaped: it is pinned
/// first, and `is_it` then says whether it is still the one that is meant. So
/// no stranger is signalled who got its pid meanwhile.
pub(crate) fn kill_if(pid: i32, number: i32, is_it: impl FnOnce() -> bool) -> nix::Result<()> {
    let pinned = open(pid)?;
    if !is_it() {
        return Err(Errno::ESRCH);
    }
    kill(pinned.as_fd(), number)
}

/// Pins a process: the descriptor means it and nobody who gets its pid later.
pub(crate) fn open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: passes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = Errno::result(result)?;
    // SAFETY: the kernel has just made this descriptor, and it fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Unique per boot; 0 where the kernel has no such number (before Linux 6.9).
pub(crate) fn inode(pidfd: BorrowedFd<'_>) -> u64 {
    if fstatfs(pidfd).is_ok_and(|found| found.filesystem_type() == PID_FS) {
        fstat(pidfd).map_or(0, |found| found.st_ino)
    } else {
        0
    }
}

/// The wait status of a process that was reaped by another after the descriptor
/// was opened. `None` before Linux 6.15.
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the call writes no more than the 64 bytes that its number tells.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Sends a signal to the process that was pinned.
pub(crate) fn kill(pidfd: BorrowedFd<'_>, number: i32) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and no siginfo is as good as kill.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            no_info,
            0,
        )
    };
    Errno::result(result).map(drop)
}
