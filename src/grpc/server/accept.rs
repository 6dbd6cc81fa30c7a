//! The accept thread: takes connections, applies the caps, deals them over the
//! API threads.
//!
//! An error of `accept` that is not the peer's (EMFILE above all) leaves the
//! connection in the queue and would come back at once, so the loop waits.

use std::{
    future::Future,
    io::{self, ErrorKind},
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{net, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    ServerError,
    connection::{Arrival, RawSocket},
    limits::{Connections, PeerKey},
};
use crate::grpc::auth::Peer;

/// Wait after an accept error.
const BACK_OFF: Duration = Duration::from_millis(100);

pub(super) struct Setup {
    pub(super) unix: Option<UnixListener>,
    pub(super) tcp: Option<TcpListener>,
    pub(super) connections: Arc<Connections>,
    /// One per API thread.
    pub(super) inlets: Vec<mpsc::Sender<Arrival>>,
    pub(super) closing: CancellationToken,
    pub(super) killed: CancellationToken,
}

/// Applies the caps and deals.
struct Dealer {
    connections: Arc<Connections>,
    inlets: Vec<mpsc::Sender<Arrival>>,
    next: AtomicUsize,
}

/// Starts the thread; it ends when the server closes.
pub(super) fn start(setup: Setup) -> Result<JoinHandle<()>, ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Start)?;
    let listeners = {
        let _entered = runtime.enter();
        let unix = setup.unix.map(net::UnixListener::from_std).transpose();
        let tcp = setup.tcp.map(net::TcpListener::from_std).transpose();
        (
            unix.map_err(ServerError::Start)?,
            tcp.map_err(ServerError::Start)?,
        )
    };
    let dealer = Dealer {
        connections: setup.connections,
        inlets: setup.inlets,
        next: AtomicUsize::new(0),
    };
    let ended = async move {
        tokio::select! {
            () = setup.closing.cancelled() => {}
            () = setup.killed.cancelled() => {}
        }
    };
    thread::Builder::new()
        .name("accept".into())
        .spawn(move || runtime.block_on(run(listeners, dealer, ended)))
        .map_err(ServerError::Start)
}

async fn run(
    (unix, tcp): (Option<net::UnixListener>, Option<net::TcpListener>),
    dealer: Dealer,
    ended: impl Future<Output = ()>,
) {
    let unix = async {
        if let Some(listener) = &unix {
            accept_from(|| accept_unix(listener), &dealer).await;
        }
    };
    let tcp = async {
        if let Some(listener) = &tcp {
            accept_from(|| accept_tcp(listener), &dealer).await;
        }
    };
    tokio::select! {
        () = ended => {}
        // Never: at least one of them is there.
        ((), ()) = async { tokio::join!(unix, tcp) } => {}
    }
}

/// Accepts for ever.
async fn accept_from<F>(mut accept: impl FnMut() -> F, dealer: &Dealer)
where
    F: Future<Output = io::Result<(RawSocket, PeerKey, Peer)>>,
{
    loop {
        match accept().await {
            Ok((socket, key, peer)) => dealer.deal(socket, key, peer),
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed; waiting");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn accept_unix(listener: &net::UnixListener) -> io::Result<(RawSocket, PeerKey, Peer)> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    let socket = RawSocket::Unix(stream.into_std()?);
    Ok((socket, PeerKey::Uid(uid), Peer::Unix { uid }))
}

async fn accept_tcp(listener: &net::TcpListener) -> io::Result<(RawSocket, PeerKey, Peer)> {
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let socket = RawSocket::Tcp(stream.into_std()?);
    Ok((
        socket,
        PeerKey::Address(address.ip()),
        Peer::Insecure(address.ip()),
    ))
}

/// The connection failed, not the accepting of it.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
            | ErrorKind::Interrupted
    )
}

// === impl Dealer ===

impl Dealer {
    /// Hands the connection to the next thread that has room; closes it if a cap is
    /// reached or no thread has.
    fn deal(&self, socket: RawSocket, key: PeerKey, peer: Peer) {
        let Some(permit) = self.connections.admit(key) else {
            tracing::debug!(?key, "connection refused: a cap is reached");
            return;
        };
        let mut arrival = Arrival {
            socket,
            peer,
            permit,
        };
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..self.inlets.len() {
            let inlet = &self.inlets[(first.wrapping_add(offset)) % self.inlets.len()];
            match inlet.try_send(arrival) {
                Ok(()) => return,
                Err(refused) => arrival = refused.into_inner(),
            }
        }
        tracing::debug!("connection refused: no API thread has room");
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, sync::atomic::AtomicUsize};

    use tokio::time::Instant;

    use super::*;
    use crate::grpc::server::limits::ConnectionLimits;

    fn dealer(inlets: Vec<mpsc::Sender<Arrival>>, per_peer_max: usize) -> Dealer {
        Dealer {
            connections: Connections::new(ConnectionLimits {
                total_max: 100,
                per_peer_max,
            }),
            inlets,
            next: AtomicUsize::new(0),
        }
    }

    fn socket() -> RawSocket {
        RawSocket::Unix(UnixStream::pair().unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lack_of_descriptors_does_not_spin() {
        let calls = AtomicUsize::new(0);
        let accept = || {
            calls.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Err(io::Error::from_raw_os_error(libc::EMFILE)))
        };
        let dealer = dealer(Vec::new(), 1);
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let ended = tokio::time::timeout(second, accept_from(accept, &dealer)).await;
        assert!(ended.is_err());
        assert!(begun.elapsed() >= second);
        assert!((10..=11).contains(&calls.load(Ordering::Relaxed)));
    }

    #[tokio::test]
    async fn connections_are_dealt_in_turn_and_capped_per_peer() {
        let (first, mut first_out) = mpsc::channel(8);
        let (second, mut second_out) = mpsc::channel(8);
        let dealer = dealer(vec![first, second], 3);
        for _ in 0..5 {
            dealer.deal(socket(), PeerKey::Uid(7), Peer::Unix { uid: 7 });
        }
        dealer.deal(socket(), PeerKey::Uid(8), Peer::Unix { uid: 8 });
        let mut dealt = Vec::new();
        while let Ok(arrival) = first_out.try_recv() {
            dealt.push((1, arrival));
        }
        while let Ok(arrival) = second_out.try_recv() {
            dealt.push((2, arrival));
        }
        let threads: Vec<_> = dealt.iter().map(|(thread, _)| *thread).collect();
        assert_eq!(threads, [1, 1, 2, 2]);
        assert_eq!(dealer.connections.count(), 4);
        drop(dealt);
        assert_eq!(dealer.connections.count(), 0);
    }

    #[tokio::test]
    async fn a_full_thread_is_passed_over() {
        let (full, _full_out) = mpsc::channel(1);
        let (free, mut free_out) = mpsc::channel(8);
        let dealer = dealer(vec![full, free], 100);
        for _ in 0..5 {
            dealer.deal(socket(), PeerKey::Uid(7), Peer::Unix { uid: 7 });
        }
        let mut passed = 0;
        while free_out.try_recv().is_ok() {
            passed += 1;
        }
        assert_eq!(passed, 4);
    }
}
