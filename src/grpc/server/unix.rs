//! The Unix socket: where it lies, who may open it, and whose it is.
//!
//! Invariants: the file has its final mode and group before anybody can connect
//! (it listens last), whatever the umask. A socket is replaced only if connecting
//! to it is refused, which means that nobody listens, or if who made it listen has
//! ended: a shim that a killed daemon was starting holds its sockets open until it
//! executes its program. At the end only our own file
//! is removed, never a successor's.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        signal::kill,
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_socket, connect,
            getsockopt, listen, socket, sockopt::PeerCredentials,
        },
    },
    unistd::Pid,
};

use super::ServerError;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1024;

/// The file of our socket, removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What is at the path.
enum Found {
    Nothing,
    Stale,
}

/// Names the step that failed.
struct Step<'a>(&'a Path);

/// Binds `path`, open to the owner and to `group`.
pub(super) fn bind(
    path: &Path,
    group: Option<u32>,
) -> Result<(UnixListener, SocketFile), ServerError> {
    let step = Step(path);
    // First what needs no side effect.
    let address = UnixAddr::new(path).map_err(step.errno("use the path"))?;
    make_directory(path, group)?;
    match look(path, &address)? {
        Found::Nothing => {}
        Found::Stale => fs::remove_file(path).map_err(step.failed("remove the stale socket"))?,
    }
    let socket = stream_socket().map_err(step.errno("open a socket"))?;
    bind_socket(socket.as_raw_fd(), &address).map_err(step.errno("bind"))?;
    // From here on the file is ours and goes if a step fails.
    let file = SocketFile::of(path).map_err(step.failed("look at the socket"))?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(step.failed("set its mode"))?;
    if group.is_some() {
        chown(path, None, group).map_err(step.failed("set its group"))?;
    }
    let backlog = Backlog::new(BACKLOG).map_err(step.errno("choose a backlog"))?;
    listen(&socket, backlog).map_err(step.errno("listen"))?;
    Ok((UnixListener::from(socket), file))
}

fn make_directory(path: &Path, group: Option<u32>) -> Result<(), ServerError> {
    let step = Step(path);
    let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) else {
        return Ok(());
    };
    if directory.exists() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(step.failed("create its directory"))?;
    if group.is_some() {
        chown(directory, None, group).map_err(step.failed("set the group of its directory"))?;
        fs::set_permissions(directory, Permissions::from_mode(0o750))
            .map_err(step.failed("set the mode of its directory"))?;
    }
    Ok(())
}

fn look(path: &Path, address: &UnixAddr) -> Result<Found, ServerError> {
    let step = Step(path);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(step.failed("look at the path")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServerError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    let socket = stream_socket().map_err(step.errno("open a socket"))?;
    match connect(socket.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => Ok(Found::Stale),
        // Gone meanwhile.
        Err(Errno::ENOENT) => Ok(Found::Nothing),
        Ok(()) if has_ended(listener(&socket).map_err(step.errno("ask who serves it"))?) => {
            Ok(Found::Stale)
        }
        // It listens; EAGAIN: and its queue is full.
        Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS) => {
            Err(ServerError::Alive(path.to_owned()))
        }
        Err(errno) => Err(step.errno("ask whether a daemon serves it")(errno)),
    }
}

/// Who made the socket listen that `connected` is connected to.
fn listener(connected: &OwnedFd) -> nix::Result<i32> {
    Ok(getsockopt(connected, PeerCredentials)?.pid())
}

/// Whether it certainly has; one in another pid namespace has no number here.
fn has_ended(pid: i32) -> bool {
    pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

fn stream_socket() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
}

// === impl Step ===

impl Step<'_> {
    fn failed(&self, step: &'static str) -> impl FnOnce(io::Error) -> ServerError + use<> {
        let place = self.0.display().to_string();
        move |source| ServerError::Listen {
            place,
            step,
            source,
        }
    }

    fn errno(&self, step: &'static str) -> impl FnOnce(Errno) -> ServerError + use<> {
        let failed = self.failed(step);
        move |errno| failed(errno.into())
    }
}

// === impl SocketFile ===

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: &fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(|found| ours(&found)) {
            // It may be gone already; there is nobody to tell anything else.
            let _ = fs::remove_file(&self.path);
        }
    }
}
