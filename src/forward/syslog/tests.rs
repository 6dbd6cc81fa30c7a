//! Against sockets that read what a syslog daemon would.

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{TcpListener, UdpSocket, UnixListener},
};

use super::*;
use crate::{
    forward::{
        position::Position,
        tests::{line, lost, origin, queue},
    },
    logs::OutputStream,
};

fn target(address: String) -> Syslog {
    let target = SyslogTarget {
        address,
        ..Default::default()
    };
    Syslog::new(&target, &origin("web")).unwrap()
}

fn out(sequence: i64, text: &str) -> Content {
    line(sequence, OutputStream::Stdout, text.as_bytes())
}

/// What follows the header.
fn text(message: &str) -> &str {
    message.split_once("\"] ").unwrap().1
}

/// One frame of octet counting; `None` at the end.
async fn frame(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut length = Vec::new();
    if stream.read_until(b' ', &mut length).await.unwrap() == 0 {
        return None;
    }
    let length: usize = str::from_utf8(&length).unwrap().trim().parse().unwrap();
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.unwrap();
    Some(String::from_utf8(message).unwrap())
}

#[tokio::test]
async fn tcp_counts_octets_and_connects_anew_after_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(format!("tcp:{}", listener.local_addr().unwrap()));
    let long = "\u{fc}".repeat(TEXT_BYTES_MAX);
    let mut first = queue([out(1, "one"), out(2, &long), lost(3, 4)]);
    target.send(&mut first).await.unwrap();
    assert!(first.is_empty());
    let mut peer = BufReader::new(listener.accept().await.unwrap().0);
    assert_eq!(text(&frame(&mut peer).await.unwrap()), "one");
    let halves = [
        frame(&mut peer).await.unwrap(),
        frame(&mut peer).await.unwrap(),
    ];
    assert!(
        halves
            .iter()
            .all(|half| text(half).len() <= TEXT_BYTES_MAX + 3)
    );
    let halves = halves
        .each_ref()
        .map(|half| text(half).trim_start_matches('\u{feff}'));
    assert_eq!(halves.concat(), long);
    let told = frame(&mut peer).await.unwrap();
    assert_eq!(text(&told), "2 lines lost (trimmed): sequences 3 to 4");
    // A daemon that is restarted: its end of the connection is there, then not.
    drop(peer);
    let mut second = queue([out(5, "five")]);
    while !second.is_empty() {
        // The end may take a moment to arrive; what was written then is lost, which
        // the header of the module says.
        let _ = target.send(&mut second).await;
        if let Ok(accepted) =
            tokio::time::timeout(Duration::from_millis(20), listener.accept()).await
        {
            let mut peer = BufReader::new(accepted.unwrap().0);
            assert_eq!(text(&frame(&mut peer).await.unwrap()), "five");
            break;
        }
        second = queue([out(5, "five")]);
    }
}

#[tokio::test]
async fn a_target_that_is_not_there_takes_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("socket");
    for address in [
        format!("tcp:{address}"),
        format!("unix:{}", nowhere.display()),
    ] {
        let mut queue = queue([out(1, "one")]);
        assert!(target(address).send(&mut queue).await.is_err());
        assert_eq!((queue.len(), queue.position()), (1, Position::default()));
    }
}

#[tokio::test]
async fn udp_sends_a_datagram_each_and_cuts_long_ones() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(format!("udp:{}", socket.local_addr().unwrap()));
    let mut queue = queue([out(1, "one"), out(2, &"x".repeat(5000)), out(3, "three")]);
    target.send(&mut queue).await.unwrap();
    let mut buffer = [0; 9000];
    for wanted in ["one", CUT, "three"] {
        let bytes = socket.recv(&mut buffer).await.unwrap();
        assert!(bytes <= UDP_BYTES_MAX);
        let message = str::from_utf8(&buffer[..bytes]).unwrap();
        assert!(text(message).ends_with(wanted), "{message}");
    }
}

#[tokio::test]
async fn a_local_socket_may_be_one_for_streams() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut target = target(format!("unix:{}", path.display()));
    let mut queue = queue([out(1, "one"), out(2, "two")]);
    target.send(&mut queue).await.unwrap();
    assert!(queue.is_empty());
    let mut peer = BufReader::new(listener.accept().await.unwrap().0);
    for wanted in ["one", "two"] {
        let mut message = Vec::new();
        peer.read_until(0, &mut message).await.unwrap();
        let message = String::from_utf8(message).unwrap();
        assert_eq!(text(&message), format!("{wanted}\0"));
    }
}
