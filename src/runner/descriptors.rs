//! The limit of open descriptors: the daemon takes all it may have, because it
//! needs three per run; what it runs gets the limit that the daemon was given.
//!
//! Programs that use select(2) rely on a low soft limit, so the raised one must
//! not reach them. Deliberately absent: raising the hard limit, which is for
//! whoever starts the daemon.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::shim::definition::Rlimit;

/// Raises the soft limit of this process to the hard one. Returns the limit that
/// it had, if that was changed.
pub(super) fn raise_limit() -> Option<Rlimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= hard {
        return None;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Some(Rlimit {
            resource: "nofile".to_owned(),
            soft,
            hard,
        }),
        Err(error) => {
            tracing::warn!(soft, hard, %error, "the limit of open descriptors stays as it is");
            None
        }
    }
}
