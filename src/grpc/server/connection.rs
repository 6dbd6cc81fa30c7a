//! A connection from its arrival until tonic has it.
//!
//! Invariants: TLS handshake, and the client's preface with the head of its first
//! SETTINGS frame, have a deadline each; who does not keep it, or sends something
//! else, is cut off before it costs more than these few bytes. The permit goes
//! with the connection.

use std::{
    io::{self, IoSlice},
    os::unix,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{limits::Permit, tls};
use crate::grpc::auth::Peer;

/// For the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// For the preface and the head of SETTINGS.
const PREFACE_MAX: Duration = Duration::from_secs(5);
/// What every HTTP/2 client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;
const GREETING: usize = PREFACE.len() + FRAME_HEAD;

/// An accepted socket, not yet of any runtime.
#[derive(Debug)]
pub(super) enum RawSocket {
    Unix(unix::net::UnixStream),
    Tcp(std::net::TcpStream),
}

/// An accepted connection on its way to an API thread.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: RawSocket,
    pub(super) peer: Peer,
    pub(super) permit: Permit,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    peer: Peer,
    greeting: [u8; GREETING],
    /// Bytes of `greeting` that tonic has read.
    replayed: usize,
    _permit: Permit,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Arrival ===

impl Arrival {
    /// Brings it up to the point where HTTP/2 begins.
    ///
    /// # Errors
    /// The peer did not do its part in time.
    pub(super) async fn greet(
        self,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> io::Result<Connection> {
        let mut peer = self.peer;
        let mut socket = match (self.socket, tls) {
            (RawSocket::Unix(socket), _) => Socket::Unix(UnixStream::from_std(socket)?),
            (RawSocket::Tcp(socket), None) => Socket::Tcp(TcpStream::from_std(socket)?),
            (RawSocket::Tcp(socket), Some(config)) => {
                let handshake = TlsAcceptor::from(config).accept(TcpStream::from_std(socket)?);
                let stream = timeout(HANDSHAKE_MAX, handshake).await??;
                let shown = stream.get_ref().1.peer_certificates();
                let certificate = shown.and_then(|chain| chain.first());
                peer = Peer::Certificate(certificate.and_then(tls::principal));
                Socket::Tls(Box::new(stream))
            }
        };
        let mut greeting = [0; GREETING];
        timeout(PREFACE_MAX, socket.read_exact(&mut greeting)).await??;
        if !is_greeting(&greeting) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
        Ok(Connection {
            socket,
            peer,
            greeting,
            replayed: 0,
            _permit: self.permit,
        })
    }
}

fn is_greeting(greeting: &[u8; GREETING]) -> bool {
    let (preface, head) = greeting.split_at(PREFACE.len());
    preface == PREFACE && head[3] == SETTINGS && head[4] == 0 && head[5..] == [0; 4]
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replayed < GREETING {
            let end = GREETING.min(self.replayed + buf.remaining());
            buf.put_slice(&self.greeting[self.replayed..end]);
            self.replayed = end;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Socket::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Unix(socket) => socket.is_write_vectored(),
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

// === impl Socket ===

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::time::Instant;

    use super::*;
    use crate::grpc::server::limits::{ConnectionLimits, Connections, PeerKey};

    fn arrival() -> (Arrival, unix::net::UnixStream, Arc<Connections>) {
        let (ours, theirs) = unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let connections = Connections::new(ConnectionLimits::default());
        let arrival = Arrival {
            socket: RawSocket::Unix(ours),
            peer: Peer::Unix { uid: 0 },
            permit: connections.admit(PeerKey::Uid(0)).unwrap(),
        };
        (arrival, theirs, connections)
    }

    fn greeting() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_preface_is_cut_off_at_the_deadline() {
        let (arrival, mut theirs, connections) = arrival();
        theirs.write_all(&greeting()[..20]).unwrap();
        let begun = Instant::now();
        let error = arrival.greet(None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), PREFACE_MAX);
        assert_eq!(connections.count(), 0);
    }

    #[tokio::test]
    async fn anything_but_http2_is_cut_off_at_once() {
        for wrong in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0; 33]] {
            let (arrival, mut theirs, _) = arrival();
            theirs.write_all(wrong).unwrap();
            let error = arrival.greet(None).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let (arrival, mut theirs, _) = arrival();
        let mut no_settings = greeting();
        no_settings[PREFACE.len() + 3] = 6;
        theirs.write_all(&no_settings).unwrap();
        assert!(arrival.greet(None).await.is_err());
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_read_again() {
        let (arrival, mut theirs, _) = arrival();
        let mut sent = greeting();
        sent.extend(b"and more");
        theirs.write_all(&sent).unwrap();
        drop(theirs);
        let mut connection = arrival.greet(None).await.unwrap();
        let mut read = vec![0; 10];
        connection.read_exact(&mut read).await.unwrap();
        connection.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, sent);
    }
}
