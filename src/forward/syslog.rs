//! To a syslog daemon: RFC 5424 messages over a socket of this machine, UDP or TCP.
//!
//! - One message per line; of a long line, or one that was handed on before it
//!   ended, several with the same number.
//! - Over UDP a message has at most [`UDP_BYTES_MAX`] bytes; what is cut off is told
//!   by [`CUT`] at its end. Elsewhere it is at most [`TEXT_BYTES_MAX`] of text and
//!   header, and a longer line becomes several messages.
//! - No protocol of syslog acknowledges. What the kernel took counts as sent: over
//!   UDP it may get lost on its way, over TCP when a connection breaks. A connection
//!   that the peer has ended is found before it is written to.
//!
//! Deliberately absent: TLS (RFC 5425), relp, local formats of before 2009.

mod message;
mod transport;

use std::time::Duration;

use tokio::time::Instant;

use self::{message::Format, transport::Transport};
use super::{
    limits::SEND_TURN,
    queue::{Content, Origin, Queue},
    target::{Failure, Target},
};
use crate::domain::spec::{SyslogAddress, SyslogTarget};

/// Bytes of a datagram: what RFC 5426, section 3.2, says receivers should take.
const UDP_BYTES_MAX: usize = 2048;

/// Bytes of text of one message elsewhere; below what common daemons take as one.
const TEXT_BYTES_MAX: usize = 7 * 1024;

/// Ends what was cut.
const CUT: &str = "...[cut]";

/// Bytes written to a stream at once.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// A syslog daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    format: Format,
    transport: Transport,
}

// === impl Syslog ===

impl Syslog {
    /// `None` if the target is not valid.
    pub(super) fn new(target: &SyslogTarget, origin: &Origin) -> Option<Self> {
        let tag = match target.tag.as_str() {
            "" => origin.process.as_str(),
            tag => tag,
        };
        Some(Self {
            format: Format::new(target.facility()?, &origin.host, tag),
            transport: match target.address()? {
                SyslogAddress::Unix(path) => Transport::unix(path),
                SyslogAddress::Udp(to) => Transport::udp(to),
                SyslogAddress::Tcp(to) => Transport::tcp(to),
            },
        })
    }

    fn messages(&self, content: &Content) -> Vec<String> {
        match self.transport {
            Transport::Udp(_) => vec![self.format.cut(content, UDP_BYTES_MAX)],
            _ => self.format.split(content, TEXT_BYTES_MAX),
        }
    }
}

impl Target for Syslog {
    const LINGER: (usize, Duration) = (1, Duration::ZERO);

    async fn send(&mut self, queue: &mut Queue) -> Result<(), Failure> {
        let began = Instant::now();
        while !queue.is_empty() && began.elapsed() < SEND_TURN {
            let (mut messages, mut records, mut bytes) = (Vec::new(), 0, 0);
            for content in queue.contents() {
                let of_record = self.messages(content);
                bytes += of_record.iter().map(String::len).sum::<usize>();
                messages.extend(of_record);
                records += 1;
                if bytes >= CHUNK_BYTES_MAX || !self.transport.is_stream() {
                    break;
                }
            }
            self.transport.send(&messages).await?;
            queue.sent(records);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
