//! Pages of a list: all of one revision, in order of name.
//!
//! The first page takes a cut of the registry; it is kept for the pages that
//! follow, for a bounded time. A token says where in which cut to go on. Its sum
//! finds accidents, such as a token that was cut short; it is no secret: a forged one
//! only reads another place of the same list.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::time::Instant;

use super::{proto, schema};
use crate::{
    domain::{
        id::{ProcessName, Revision},
        spec::FieldError,
    },
    supervisor::ProcessNode,
};

/// Entries of a page.
pub const PAGE_ENTRIES_MAX: usize = 1000;
/// Entries of a page if the caller does not say.
pub const PAGE_ENTRIES_DEFAULT: usize = 100;
/// Bytes after which a page ends.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Cuts that are kept; the one used longest ago goes first.
pub const CUTS_MAX: usize = 64;
/// How long a cut is kept after its last use.
pub const CUT_RETENTION: Duration = Duration::from_secs(60);

/// Everything that matched, at one revision.
#[derive(Debug)]
pub struct Cut {
    /// The revision.
    pub revision: Revision,
    /// By name.
    pub nodes: Vec<ProcessNode>,
    arguments: u64,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    epoch: String,
    revision: Revision,
    /// Digest of selector and mask.
    arguments: u64,
    /// Last name of the page before.
    pub after: ProcessName,
}

/// Why a page cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The token is broken or for other arguments.
    #[error("page_token {0}")]
    Invalid(&'static str),
    /// Its cut is gone.
    #[error("the list of this page token is no longer held; start again without a token")]
    Expired,
}

/// The cuts that are kept.
#[derive(Debug, Default)]
pub struct Pages {
    /// Least recently used first.
    cuts: Mutex<VecDeque<(Instant, Arc<Cut>)>>,
}

/// Version of the token's layout.
const LAYOUT: &str = "1";

/// Digest of what must be the same for all pages of a list.
#[must_use]
pub fn arguments(request: &proto::ListProcessesRequest) -> u64 {
    let same = proto::ListProcessesRequest {
        selector: request.selector.clone(),
        read_mask: request.read_mask.clone(),
        ..Default::default()
    };
    schema::digest(".procession.v1.ListProcessesRequest", &same)
}

/// Entries of a page.
///
/// # Errors
/// It is negative.
pub fn size(page_size: i32) -> Result<usize, Vec<FieldError>> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(PAGE_ENTRIES_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_ENTRIES_MAX)),
        Err(_) => Err(vec![FieldError {
            field: "page_size".into(),
            problem: "is negative; 0 means the default".into(),
        }]),
    }
}

// === impl Token ===

impl Token {
    /// For the page after `after`.
    #[must_use]
    pub fn new(epoch: &str, cut: &Cut, after: ProcessName) -> Self {
        Self {
            epoch: epoch.to_owned(),
            revision: cut.revision,
            arguments: cut.arguments,
            after,
        }
    }

    /// Opaque text, safe in a URL.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self {
            epoch,
            revision,
            arguments,
            after,
        } = self;
        let place = format!("{LAYOUT}/{epoch}/{revision}/{arguments:x}/{after}");
        URL_SAFE_NO_PAD.encode(format!("{place}/{:016x}", sum(&place)))
    }

    /// Reads a token back.
    ///
    /// # Errors
    /// It is none of ours, or was given for other `arguments`.
    pub fn decode(text: &str, arguments: u64) -> Result<Self, PageError> {
        let broken = PageError::Invalid("is broken; send it back unchanged");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| broken.clone())?;
        let plain = String::from_utf8(bytes).map_err(|_| broken.clone())?;
        let (place, found) = plain.rsplit_once('/').ok_or_else(|| broken.clone())?;
        if found != format!("{:016x}", sum(place)) {
            return Err(broken);
        }
        let parts: Vec<_> = place.split('/').collect();
        let [LAYOUT, epoch, revision, digest, after] = parts[..] else {
            return Err(broken);
        };
        let (Ok(revision), Ok(digest), Ok(after)) = (
            revision.parse(),
            u64::from_str_radix(digest, 16),
            ProcessName::new(after),
        ) else {
            return Err(broken);
        };
        if digest != arguments {
            let problem = "is for another selector or read_mask; send the same ones";
            return Err(PageError::Invalid(problem));
        }
        Ok(Self {
            epoch: epoch.to_owned(),
            revision: Revision::new(revision),
            arguments,
            after,
        })
    }
}

// === impl Cut ===

impl Cut {
    /// What matched at `revision`, by name.
    #[must_use]
    pub fn new(revision: Revision, nodes: Vec<ProcessNode>, arguments: u64) -> Self {
        Self {
            revision,
            nodes,
            arguments,
        }
    }

    /// Position of the first process after `name`.
    #[must_use]
    pub fn start(&self, name: &ProcessName) -> usize {
        self.nodes
            .partition_point(|node| node.body().name() <= name)
    }
}

// === impl Pages ===

impl Pages {
    /// The cut of a token.
    ///
    /// # Errors
    /// It is of another daemon run, or no longer kept.
    pub fn resume(&self, token: &Token, epoch: &str, now: Instant) -> Result<Arc<Cut>, PageError> {
        if token.epoch != epoch {
            return Err(PageError::Expired);
        }
        let mut cuts = self.lock(now);
        let found = cuts.iter().position(|(_, cut)| {
            cut.revision == token.revision && cut.arguments == token.arguments
        });
        let Some((_, cut)) = found.and_then(|at| cuts.remove(at)) else {
            return Err(PageError::Expired);
        };
        cuts.push_back((now, Arc::clone(&cut)));
        Ok(cut)
    }

    /// Keeps a cut for the pages that follow.
    pub fn keep(&self, cut: &Arc<Cut>, now: Instant) {
        let mut cuts = self.lock(now);
        let known = |(_, other): &(Instant, Arc<Cut>)| {
            other.revision == cut.revision && other.arguments == cut.arguments
        };
        if let Some(at) = cuts.iter().position(known) {
            cuts.remove(at);
        }
        cuts.push_back((now, Arc::clone(cut)));
        while cuts.len() > CUTS_MAX {
            cuts.pop_front();
        }
    }

    /// The cuts that are not expired.
    fn lock(&self, now: Instant) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Arc<Cut>)>> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        while cuts
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= CUT_RETENTION)
        {
            cuts.pop_front();
        }
        cuts
    }
}

/// FNV-1a.
fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
