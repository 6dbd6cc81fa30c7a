//! The socket between a daemon and a shim, and the sealed memory that carries a
//! definition. Both sides use it; neither blocks in it.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Seek, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
            accept4, getsockopt, recvmsg, sendmsg, socketpair, sockopt,
        },
    },
    unistd::geteuid,
};

use super::definition::DEFINITION_BYTES_MAX;

/// Descriptors that one packet may bring: a run directory, and what a run holds.
pub(crate) const PASSED_MAX: usize = 4;

/// What came in one packet.
#[derive(Debug)]
pub(crate) enum Received {
    /// A packet of this many bytes, and the descriptors that came with it.
    Packet(usize, Vec<OwnedFd>),
    /// The other side is gone.
    Closed,
}

/// Two connected ends, close-on-exec and non-blocking.
pub(crate) fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )
}

/// Whether the other side of a connection is root or the user of this process.
pub(crate) fn is_trusted(socket: BorrowedFd<'_>) -> bool {
    getsockopt(&socket, sockopt::PeerCredentials)
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw())
}

/// Takes a connection, close-on-exec and non-blocking.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    accept4(listener, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)
}

/// Sends one packet, whole or not at all.
///
/// # Errors
/// `EAGAIN` where the other side has too much to read; `EPIPE` where it is gone.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    pass: &[BorrowedFd<'_>],
) -> nix::Result<()> {
    let fds: Vec<_> = pass.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[] } else { &rights[..] };
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(packet)],
        control,
        MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
        None,
    )
    .map(drop)
}

/// Takes one packet into `buffer`.
///
/// # Errors
/// `EAGAIN` where there is none; `EMSGSIZE` where it did not fit and is lost.
#[allow(unsafe_code)]
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<Received> {
    let mut space = cmsg_space!([std::os::fd::RawFd; PASSED_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
    )?;
    let mut passed = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us, and
                // nobody else knows of it.
                passed.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok(match message.bytes {
        // No side ever sends an empty packet.
        0 => Received::Closed,
        bytes => Received::Packet(bytes, passed),
    })
}

/// Memory that holds `bytes` and can no longer change.
pub(crate) fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(
        c"procession",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// What [`seal`] was given.
///
/// # Errors
/// `InvalidData` if it is not sealed or larger than a definition may be.
pub(crate) fn read_sealed(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let refuse = || io::Error::from(io::ErrorKind::InvalidData);
    let seals = fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS)?;
    if SealFlag::from_bits_truncate(seals) & SealFlag::F_SEAL_WRITE != SealFlag::F_SEAL_WRITE {
        return Err(refuse());
    }
    let mut file = File::from(fd);
    file.rewind()?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(DEFINITION_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > DEFINITION_BYTES_MAX {
        return Err(refuse());
    }
    Ok(bytes)
}
