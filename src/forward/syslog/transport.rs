//! How messages get to a syslog daemon.
//!
//! Connections are made when there is something to send, and made anew after each
//! failure. Frames: a datagram each; on TCP octet counting (RFC 6587, section 3.4.1);
//! on a stream socket of this machine a NUL behind each, as syslog(3) does.

use std::{io, net::SocketAddr, path::PathBuf};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream, lookup_host},
    time::timeout,
};

use crate::forward::{limits::CONNECT_TIMEOUT, target::in_time};

#[derive(Debug)]
pub(super) enum Transport {
    Unix(PathBuf, Option<Local>),
    Udp(Remote<UdpSocket>),
    Tcp(Remote<TcpStream>),
}

/// A `host:port` and the socket, if there is one.
#[derive(Debug)]
pub(super) struct Remote<S> {
    to: String,
    socket: Option<S>,
}

/// A socket of this machine.
#[derive(Debug)]
pub(super) enum Local {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

// === impl Transport ===

impl Transport {
    pub(super) fn unix(path: &str) -> Self {
        Self::Unix(path.into(), None)
    }

    pub(super) fn udp(to: &str) -> Self {
        Self::Udp(Remote::new(to))
    }

    pub(super) fn tcp(to: &str) -> Self {
        Self::Tcp(Remote::new(to))
    }

    /// Whether several messages may go at once.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_, Some(Local::Stream(_))))
    }

    /// Sends all of `messages`, or fails with an unknown part of them sent.
    ///
    /// # Errors
    /// There is no connection now, or it takes nothing.
    pub(super) async fn send(&mut self, messages: &[String]) -> io::Result<()> {
        self.connect().await?;
        let sent = in_time(self.write(messages)).await;
        if sent.is_err() {
            match self {
                Self::Unix(_, socket) => *socket = None,
                Self::Udp(remote) => remote.socket = None,
                Self::Tcp(remote) => remote.socket = None,
            }
        }
        sent
    }

    fn is_connected(&self) -> bool {
        let goes_on = |stream: &TcpStream| !is_over(|buffer| stream.try_read(buffer));
        match self {
            Self::Unix(_, Some(Local::Stream(stream))) => !is_over(|b| stream.try_read(b)),
            Self::Unix(_, socket) => socket.is_some(),
            Self::Udp(remote) => remote.socket.is_some(),
            Self::Tcp(remote) => remote.socket.as_ref().is_some_and(goes_on),
        }
    }

    async fn connect(&mut self) -> io::Result<()> {
        if self.is_connected() {
            return Ok(());
        }
        let connected = timeout(CONNECT_TIMEOUT, async {
            match self {
                Self::Unix(path, socket) => *socket = Some(Local::connect(path).await?),
                Self::Udp(remote) => remote.socket = Some(udp(&remote.to).await?),
                Self::Tcp(remote) => {
                    let stream = TcpStream::connect(&remote.to).await?;
                    stream.set_nodelay(true)?;
                    remote.socket = Some(stream);
                }
            }
            Ok(())
        });
        let late = |_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no connection in time",
            ))
        };
        connected.await.unwrap_or_else(late)
    }

    async fn write(&mut self, messages: &[String]) -> io::Result<()> {
        match self {
            Self::Unix(_, Some(Local::Datagram(socket))) => {
                for message in messages {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Self::Unix(_, Some(Local::Stream(stream))) => {
                let frames = messages.iter().flat_map(|message| [message, "\0"]);
                write_all(stream, &frames.collect::<String>()).await?;
            }
            Self::Udp(Remote {
                socket: Some(socket),
                ..
            }) => {
                for message in messages {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Self::Tcp(Remote {
                socket: Some(stream),
                ..
            }) => {
                let frame = |message: &String| format!("{} {message}", message.len());
                let frames: String = messages.iter().map(frame).collect();
                write_all(stream, &frames).await?;
            }
            Self::Unix(_, None) | Self::Udp(_) | Self::Tcp(_) => {
                return Err(io::ErrorKind::NotConnected.into());
            }
        }
        Ok(())
    }
}

// === impl Remote ===

impl<S> Remote<S> {
    fn new(to: &str) -> Self {
        Self {
            to: to.to_owned(),
            socket: None,
        }
    }
}

// === impl Local ===

impl Local {
    async fn connect(path: &PathBuf) -> io::Result<Self> {
        let datagram = UnixDatagram::unbound()?;
        match datagram.connect(path) {
            Ok(()) => Ok(Self::Datagram(datagram)),
            // EPROTOTYPE: it listens for streams.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EPROTOTYPE as i32) => {
                Ok(Self::Stream(UnixStream::connect(path).await?))
            }
            Err(error) => Err(error),
        }
    }
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await
}

/// Whether the peer has ended the connection. What it says is nobody's business.
fn is_over(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// A socket that is tied to one peer, so that a port nobody listens on is told.
async fn udp(to: &str) -> io::Result<UdpSocket> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in lookup_host(to).await? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
