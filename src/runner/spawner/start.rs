//! Starting a shim, and telling it what for before it runs.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::errno::Errno;

use super::{Spawn, Task};
use crate::{
    domain::run::SpawnError,
    shim::{
        ctl,
        definition::{DEFINITION_BYTES_MAX, Definition},
        failpoint,
        protocol::Message,
        record::ProcessIdentity,
        rundir::{RunDir, RunDirError},
        sys, tree,
    },
};

/// How the allocator of a shim works. There may be thousands of them, and each needs
/// memory only when its run begins or a message comes: what is large is had from the
/// kernel and given back to it, and nothing small is kept apart for later.
const SAVING: &str = "glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=16384:\
    glibc.malloc.trim_threshold=4096:glibc.malloc.top_pad=0";

/// The main process of a run whose end is not recorded, if it is there.
pub(super) fn left_by(path: &Path) -> Option<ProcessIdentity> {
    let dir = RunDir::open(path).ok()?;
    if dir.exit().is_ok_and(|exit| exit.is_some()) {
        return None;
    }
    let main = dir.run().ok().flatten()?.main;
    let there = tree::stat(main.pid)?;
    (there.start_ticks == main.start_ticks).then_some(main)
}

/// Starts a shim and tells it what for.
pub(super) fn start_shim(spawn: Spawn) -> Result<(i32, OwnedFd), SpawnError> {
    let refused = |error: io::Error| {
        let errno = error.raw_os_error().unwrap_or(0);
        SpawnError {
            errno,
            message: format!("shim {:?}: {}", spawn.program.path, sys::describe(&error)).into(),
        }
    };
    let errno = |errno: Errno| refused(io::Error::from(errno));
    let (ours, theirs) = ctl::pair().map_err(errno)?;
    // Sent first: what a shim finds when it starts needs no second wake-up.
    ctl::send(ours.as_fd(), &Message::hello().encode(1), &[]).map_err(errno)?;
    let made = match &spawn.task {
        Task::Begin(definition) => {
            let bytes = encoded(definition)?;
            let dir = make_dir(&spawn.path)?;
            if let Err(error) = give_definition(ours.as_fd(), &bytes, &dir) {
                let _ = dir.remove(&spawn.path);
                return Err(refused(error));
            }
            Some(dir)
        }
        Task::Adopt(dir, kept) => {
            give_run(ours.as_fd(), dir, kept).map_err(errno)?;
            None
        }
    };
    let started = Command::new(&spawn.program.path)
        .args(spawn.program.args)
        .env_clear()
        .env("GLIBC_TUNABLES", SAVING)
        .envs(spawn.shim_env.clone())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    match (started, made) {
        (Ok(child), _) => Ok((child.id().cast_signed(), ours)),
        (Err(error), made) => {
            if let Some(dir) = made {
                // One that stays tells that nothing began.
                let _ = dir.remove(&spawn.path);
            }
            Err(refused(error))
        }
    }
}

fn encoded(definition: &Definition) -> Result<Vec<u8>, SpawnError> {
    let bytes = definition.encode();
    if bytes.len() <= DEFINITION_BYTES_MAX {
        return Ok(bytes);
    }
    Err(SpawnError {
        errno: libc::E2BIG,
        message: format!(
            "command and environment have {} bytes; at most {DEFINITION_BYTES_MAX} are allowed",
            bytes.len()
        )
        .into(),
    })
}

/// From now on there is a sign that this run was meant to begin.
fn make_dir(path: &Path) -> Result<RunDir, SpawnError> {
    let dir = RunDir::create(path).map_err(|error| SpawnError {
        errno: match &error {
            RunDirError::Io { error, .. } => error.raw_os_error().unwrap_or(0),
            RunDirError::ForeignOwner(..) | RunDirError::Record(..) => 0,
        },
        message: format!("{path:?}: {error}").into(),
    })?;
    failpoint::hit("after_mkdir");
    Ok(dir)
}

fn give_definition(ctl: BorrowedFd<'_>, bytes: &[u8], dir: &RunDir) -> io::Result<()> {
    let memory = ctl::seal(bytes)?;
    let pass = [memory.as_fd(), dir.as_fd()];
    Ok(ctl::send(ctl, &Message::Define.encode(2), &pass)?)
}

fn give_run(ctl: BorrowedFd<'_>, dir: &RunDir, kept: &[(u8, OwnedFd)]) -> nix::Result<()> {
    let kept = &kept[..kept.len().min(ctl::PASSED_MAX - 1)];
    let held = kept.iter().map(|(held, _)| *held).collect();
    let mut pass = vec![dir.as_fd()];
    pass.extend(kept.iter().map(|(_, fd)| fd.as_fd()));
    ctl::send(ctl, &Message::Adopt { held }.encode(2), &pass)
}
