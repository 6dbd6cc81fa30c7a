//! Whether a subscription can continue where another one ended.
//!
//! Refused: a revision below 0 or, in this epoch, above the head. Lost, so reset
//! or refused by policy: an epoch that is unknown, a revision that did not survive
//! its epoch, another scope, history that is no longer kept.

use super::{Lost, LostReason, Options, Policy, Source};
use crate::domain::id::Revision;

/// This epoch and those it continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Identity of this daemon run.
    pub epoch: Box<str>,
    /// Earlier runs, each with the last of its revisions that is part of this
    /// one's history.
    pub ancestors: Vec<(Box<str>, Revision)>,
}

/// Where an earlier stream stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Epoch of `revision`.
    pub epoch: Box<str>,
    /// Last one accounted for.
    pub revision: Revision,
    /// Scope of the stream; empty: vouched for by the caller.
    pub scope: Box<str>,
}

/// Why a subscription is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No such revision yet: never waited for.
    #[error("revision {asked} is not published; the head is {head}")]
    InFuture {
        /// Asked for.
        asked: Revision,
        /// Newest.
        head: Revision,
    },
    /// The token cannot be honoured, and the caller wants no reset.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// How a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Events follow the token.
    Resume(Revision),
    /// Events follow the head.
    Head(Revision),
    /// A snapshot comes first.
    Snapshot,
    /// A reset comes first, then a snapshot.
    Reset(Lost),
}

// === impl Start ===

impl Start {
    pub(super) const fn cursor(self) -> Revision {
        match self {
            Self::Resume(at) | Self::Head(at) => at,
            Self::Snapshot | Self::Reset(_) => Revision::ZERO,
        }
    }

    pub(super) const fn is_resumed(self) -> bool {
        matches!(self, Self::Resume(_) | Self::Head(_))
    }
}

// === impl Lineage ===

impl Lineage {
    /// The last revision of `epoch` that this run's history contains; `None` for
    /// an unknown epoch.
    fn survived(&self, epoch: &str) -> Option<Revision> {
        let found = self.ancestors.iter().find(|(id, _)| **id == *epoch);
        found.map(|(_, fork)| *fork)
    }
}

pub(super) fn start(source: &Source, options: &Options) -> Result<Start, OpenError> {
    let Some(token) = &options.resume else {
        return Ok(match options.skip_snapshot {
            true => Start::Head(source.registry.head()),
            false => Start::Snapshot,
        });
    };
    let Some(reason) = unusable(source, options, token)? else {
        return Ok(Start::Resume(token.revision));
    };
    let lost = Lost {
        reason,
        oldest: source.registry.oldest_resumable(options.mode),
    };
    match options.policy {
        Policy::Resnapshot => Ok(Start::Reset(lost)),
        Policy::Fail => Err(lost.into()),
    }
}

fn unusable(
    source: &Source,
    options: &Options,
    token: &Token,
) -> Result<Option<LostReason>, OpenError> {
    let asked = token.revision;
    let head = source.registry.head();
    let current = token.epoch == source.lineage.epoch;
    if asked < Revision::ZERO || (current && asked > head) {
        return Err(OpenError::InFuture { asked, head });
    }
    let survived = current || source.lineage.survived(&token.epoch) >= Some(asked);
    Ok(if !survived {
        Some(LostReason::EpochChanged)
    } else if !token.scope.is_empty() && token.scope != options.scope {
        Some(LostReason::ScopeChanged)
    } else if asked < source.registry.oldest_resumable(options.mode) {
        Some(LostReason::HistoryTrimmed)
    } else {
        None
    })
}
