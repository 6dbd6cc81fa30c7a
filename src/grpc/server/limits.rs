//! How many connections are open, in total and per peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Caps of connections; a connection above them is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of all peers.
    pub total_max: usize,
    /// Of one user (Unix) or address (TCP).
    pub per_peer_max: usize,
}

/// Who a connection counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PeerKey {
    Uid(u32),
    Address(IpAddr),
}

/// The open connections, over all API threads.
#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

/// Counts one connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Permit {
    connections: Arc<Connections>,
    key: PeerKey,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_peer: HashMap<PeerKey, usize>,
}

// === impl ConnectionLimits ===

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total_max: 4096,
            per_peer_max: 1024,
        }
    }
}

// === impl Connections ===

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            open: Mutex::default(),
        })
    }

    /// Counts one more connection of `key`, if the caps allow it.
    pub(super) fn admit(self: &Arc<Self>, key: PeerKey) -> Option<Permit> {
        let mut open = self.lock();
        let of_peer = open.by_peer.get(&key).copied().unwrap_or_default();
        if open.total >= self.limits.total_max || of_peer >= self.limits.per_peer_max {
            return None;
        }
        open.total += 1;
        open.by_peer.insert(key, of_peer + 1);
        Some(Permit {
            connections: Arc::clone(self),
            key,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Counts are whole after every statement; poison says nothing.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.total -= 1;
        let of_peer = open.by_peer.get(&self.key).copied().unwrap_or_default();
        if of_peer > 1 {
            open.by_peer.insert(self.key, of_peer - 1);
        } else {
            open.by_peer.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_bind_in_total_and_per_peer() {
        let connections = Connections::new(ConnectionLimits {
            total_max: 3,
            per_peer_max: 2,
        });
        let first = connections.admit(PeerKey::Uid(1)).unwrap();
        let _second = connections.admit(PeerKey::Uid(1)).unwrap();
        assert!(connections.admit(PeerKey::Uid(1)).is_none());
        let _third = connections.admit(PeerKey::Uid(2)).unwrap();
        assert!(connections.admit(PeerKey::Uid(3)).is_none());
        drop(first);
        assert_eq!(connections.count(), 2);
        drop(connections.admit(PeerKey::Uid(3)).unwrap());
        assert_eq!(connections.lock().by_peer.len(), 2);
    }
}
