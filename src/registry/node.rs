//! The immutable state of a process, and the slot that holds the newest one.
//!
//! Invariants:
//! - A node never changes, but for two marks of publication: its revision is set
//!   once, and its link to the node before it is cut then. So no chain of nodes
//!   outlives publication and no drop recurses.
//! - `version` is dense per uid: 1, 2, 3, ...; a tombstone has one of its own.
//! - A `Closed` node is the last of its slot. It is never published and reads as
//!   the tombstone it holds.
//!
//! Deliberately absent: what a body means, and any change of a slot (`commit`).

use std::fmt;

use crate::{
    domain::id::{ProcessName, Revision, Uid},
    sync::{Arc, AtomicI64, Handoff, Ordering, Swap},
};

/// What the registry stores per process and version.
///
/// Both methods are pure.
pub trait Body: Send + Sync + 'static {
    /// The name, the same for all versions.
    fn name(&self) -> &ProcessName;

    /// Estimated bytes that one log entry with this body pins.
    fn weight(&self) -> usize;
}

/// One immutable state of a process: a version of one uid.
///
/// In this order in memory, so that what every read looks at shares a cache line
/// with the reference count.
#[repr(C)]
pub struct Node<B> {
    /// 0 until published.
    revision: AtomicI64,
    tag: Tag,
    slot: u32,
    payload: Payload<B>,
    version: i64,
    uid: Uid,
    /// The node this one replaced; there only until published.
    previous: Handoff<Arc<Node<B>>>,
}

/// The place of a name in the registry, for as long as the name is registered
/// and its tombstone is kept. Hold it to spare the lookup.
pub struct Slot<B> {
    name: ProcessName,
    newest: Swap<Node<B>>,
}

/// Weight of the body and whether the node is a tombstone, in four bytes: a node
/// is kept per process, and with its header it just fits an allocation.
#[derive(Clone, Copy)]
struct Tag(u32);

enum Payload<B> {
    Body(B),
    /// Ends the slot; holds its tombstone.
    Closed(Arc<Node<B>>),
}

// === impl Node ===

impl<B: Body> Node<B> {
    /// Version 1 of `uid`; `tombstone` is what it replaces in a slot used before.
    pub(super) fn first(slot: u32, uid: Uid, body: B, tombstone: Option<Arc<Self>>) -> Self {
        Self {
            slot,
            tag: Tag::new(body.weight(), false),
            payload: Payload::Body(body),
            version: 1,
            uid,
            revision: AtomicI64::new(0),
            previous: Handoff::new(tombstone),
        }
    }

    /// A state published before this registry was; see `restore`.
    pub(super) fn restored(slot: u32, uid: Uid, version: i64, body: B, deleted: bool) -> Self {
        Self {
            slot,
            tag: Tag::new(body.weight(), deleted),
            payload: Payload::Body(body),
            version,
            uid,
            revision: AtomicI64::new(0),
            previous: Handoff::new(None),
        }
    }

    /// The version after `current`.
    pub(super) fn after(current: Arc<Self>, body: B, deleted: bool) -> Self {
        Self {
            slot: current.slot,
            tag: Tag::new(body.weight(), deleted),
            payload: Payload::Body(body),
            version: current.version + 1,
            uid: current.uid,
            revision: AtomicI64::new(0),
            previous: Handoff::new(Some(current)),
        }
    }
}

impl<B> Node<B> {
    /// The end of the slot of `tombstone`. Never published; it carries the
    /// tombstone's revision so that nobody tries to.
    pub(super) fn closed(tombstone: &Arc<Self>) -> Self {
        Self {
            payload: Payload::Closed(Arc::clone(tombstone)),
            slot: tombstone.slot,
            tag: tombstone.tag,
            version: tombstone.version,
            uid: tombstone.uid,
            revision: AtomicI64::new(tombstone.revision().get()),
            previous: Handoff::new(None),
        }
    }

    /// Per-process change counter: 1, 2, 3, ... for one uid.
    #[must_use]
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// The incarnation of the name this state belongs to.
    #[must_use]
    pub const fn uid(&self) -> Uid {
        self.uid
    }

    /// Its position in the change log; [`Revision::ZERO`] while it is not
    /// published. No method of the registry returns an unpublished node.
    #[must_use]
    pub fn revision(&self) -> Revision {
        // ORDERING: pairs with the Release of `set_revision`: who sees a revision
        // sees a head at or above it.
        Revision::new(self.revision.load(Ordering::Acquire))
    }

    /// The state itself; of a tombstone, the last one.
    #[must_use]
    pub fn body(&self) -> &B {
        match &self.payload {
            Payload::Body(body) => body,
            // Nests once: a tombstone is never a closed node.
            Payload::Closed(tombstone) => tombstone.body(),
        }
    }

    /// Whether it is the tombstone of a deleted process.
    #[must_use]
    pub const fn is_deleted(&self) -> bool {
        self.tag.is_deleted()
    }

    /// [`Body::weight`] of the body, as it was when the node was made.
    pub(super) const fn weight(&self) -> usize {
        self.tag.weight()
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.payload, Payload::Closed(_))
    }

    pub(super) fn is_published(&self) -> bool {
        self.revision.load(Ordering::Acquire) != 0
    }

    pub(super) const fn slot(&self) -> u32 {
        self.slot
    }

    /// Under the log lock, once, after the head is stored.
    pub(super) fn set_revision(&self, revision: i64) {
        // ORDERING: Release, so that the head stored before it is seen by whoever
        // sees the revision.
        self.revision.store(revision, Ordering::Release);
    }

    /// Under the log lock, once.
    pub(super) fn cut_previous(&self) -> Option<Arc<Self>> {
        self.previous.take()
    }
}

impl<B> fmt::Debug for Node<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("uid", &self.uid)
            .field("version", &self.version)
            .field("revision", &self.revision())
            .field("deleted", &self.is_deleted())
            .finish_non_exhaustive()
    }
}

// === impl Tag ===

impl Tag {
    const DELETED: u32 = 1 << 31;

    /// Weights of 2 GiB and more count as just below.
    const fn new(weight: usize, deleted: bool) -> Self {
        let most = Self::DELETED - 1;
        let weight = if weight < most as usize {
            weight as u32
        } else {
            most
        };
        Self(if deleted {
            weight | Self::DELETED
        } else {
            weight
        })
    }

    const fn weight(self) -> usize {
        (self.0 & !Self::DELETED) as usize
    }

    const fn is_deleted(self) -> bool {
        self.0 & Self::DELETED != 0
    }
}

// === impl Slot ===

impl<B: Body> Slot<B> {
    pub(super) fn new(node: Arc<Node<B>>) -> Self {
        Self {
            name: node.body().name().clone(),
            newest: Swap::new(node),
        }
    }
}

impl<B> Slot<B> {
    /// The name whose place it is.
    #[must_use]
    pub const fn name(&self) -> &ProcessName {
        &self.name
    }

    /// The newest state, for the owner of the process: one load, and it may be
    /// unpublished, a tombstone, or older than a moment ago. Whoever answers a
    /// request uses `Registry::load` instead, which publishes first.
    #[must_use]
    pub fn load(&self) -> Arc<Node<B>> {
        self.newest.load()
    }

    pub(super) const fn newest(&self) -> &Swap<Node<B>> {
        &self.newest
    }

    pub(super) fn is_closed(&self) -> bool {
        self.newest.peek(|node| node.is_closed())
    }
}

impl<B> fmt::Debug for Slot<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&*self.load()).finish()
    }
}
