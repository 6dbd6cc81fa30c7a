//! What a run directory tells of a run whose shim is not spoken with.
//!
//! The lock of the directory decides: who has it owns the run, and it is free only
//! if no shim lives. Invariant: looking changes nothing but that lock; no process
//! is signalled. Blocks on files, so it is not done on a thread of tokio's.

use std::{io, os::fd::OwnedFd, path::Path};

use crate::{
    domain::run::{Exit, Outcome, UnknownReason},
    shim::{
        record::RunRecord,
        rundir::{RunDir, RunDirError, boot_id},
        sys,
    },
};
/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing of it ever ran, and nothing can any more.
    NotBegun,
    /// Nothing of it is left.
    Over(Exit),
    /// A shim listens.
    Shim {
        ctl: OwnedFd,
        /// Missing while the shim has not got so far.
        record: Option<RunRecord>,
    },
    /// A shim lives and does not listen, or is just ending: to be looked at again.
    Busy,
    /// It may live, and has no shim; the directory is locked by us.
    Orphaned { dir: RunDir, record: RunRecord },
    /// There is something, and it is not understood.
    Damaged(RunDirError),
    /// It could not be looked at, for now.
    Failed(RunDirError),
}

/// Looks at the run directory at `path`.
pub(super) fn look(path: &Path) -> Found {
    look_at(path).unwrap_or_else(|error| match error {
        RunDirError::Record(..) => Found::Damaged(error),
        RunDirError::Io { .. } | RunDirError::ForeignOwner(..) => Found::Failed(error),
    })
}

fn look_at(path: &Path) -> Result<Found, RunDirError> {
    let dir = match RunDir::open(path) {
        Ok(dir) => dir,
        Err(RunDirError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Found::NotBegun);
        }
        Err(error) => return Err(error),
    };
    // The lock first: what is read after it was had does not change any more.
    let is_ours = dir.try_lock()?;
    let record = dir.run()?;
    let exit = dir.exit()?;
    if let Some(exit) = exit.as_ref().filter(|exit| exit.empty) {
        return Ok(Found::Over(exit.exit.clone()));
    }
    let exit = exit.map(|record| record.exit);
    if let Some(record) = &record
        && record.boot_id != boot_id()
    {
        // Nothing outlives a reboot; whoever has the pids now is a stranger.
        return Ok(Found::Over(exit.unwrap_or_else(rebooted)));
    }
    if !is_ours {
        return Ok(match dir.connect() {
            Ok(ctl) => Found::Shim { ctl, record },
            Err(_) => Found::Busy,
        });
    }
    Ok(match (record, exit) {
        (Some(record), _) => Found::Orphaned { dir, record },
        // What could not begin says so without a record of its run.
        (None, Some(exit)) => Found::Over(exit),
        (None, None) => Found::NotBegun,
    })
}

fn rebooted() -> Exit {
    Exit::new(Outcome::Unknown(UnknownReason::Reboot), sys::wall_clock())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::record::{
        ExitRecord,
        tests::{exit_record, run_record},
    };

    fn this_boot() -> RunRecord {
        RunRecord {
            boot_id: boot_id(),
            ..run_record()
        }
    }

    #[test]
    fn the_records_and_the_lock_decide() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.1");
        assert!(matches!(look(&path), Found::NotBegun));
        let dir = RunDir::create(&path).unwrap();
        assert!(matches!(look(&path), Found::Busy), "it is being begun");
        let listener = dir.listen().unwrap();
        assert!(matches!(look(&path), Found::Shim { record: None, .. }));
        dir.write_run(&this_boot()).unwrap();
        assert!(matches!(
            look(&path),
            Found::Shim {
                record: Some(_),
                ..
            }
        ));
        drop(listener);
        assert!(matches!(look(&path), Found::Busy));
        drop(dir);
        assert!(matches!(look(&path), Found::Orphaned { .. }));
    }

    #[test]
    fn a_run_of_another_boot_is_over() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.1");
        let dir = RunDir::create(&path).unwrap();
        dir.write_run(&run_record()).unwrap();
        match look(&path) {
            Found::Over(exit) => {
                assert_eq!(exit.outcome, Outcome::Unknown(UnknownReason::Reboot));
            }
            other => panic!("{other:?}"),
        }
        let mut ended = exit_record();
        ended.empty = false;
        dir.write_exit(&ended).unwrap();
        assert!(matches!(look(&path), Found::Over(exit) if exit == ended.exit));
    }

    #[test]
    fn an_end_without_proof_of_emptiness_is_no_end() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.1");
        let dir = RunDir::create(&path).unwrap();
        dir.write_run(&this_boot()).unwrap();
        let ExitRecord { exit, .. } = exit_record();
        let record = |empty| ExitRecord {
            exit: exit.clone(),
            empty,
        };
        dir.write_exit(&record(false)).unwrap();
        drop(dir);
        assert!(matches!(look(&path), Found::Orphaned { .. }));
        let dir = RunDir::open(&path).unwrap();
        dir.write_exit(&record(true)).unwrap();
        assert!(matches!(look(&path), Found::Over(found) if found == exit));
        std::fs::write(path.join("run"), "x").unwrap();
        assert!(matches!(look(&path), Found::Damaged(_)));
    }
}
