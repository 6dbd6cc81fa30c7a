//! Against a socket that does what journald does with a datagram.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{IoSliceMut, Read, Seek, Write},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::net::UnixDatagram as Socket,
    },
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use proptest::prelude::*;

use super::*;
use crate::{
    forward::{
        position::Position,
        queue::Content,
        tests::{line, lost, origin, queue},
    },
    logs::OutputStream,
};

type Fields = BTreeMap<String, Vec<u8>>;

/// As the protocol is written down, not as it is encoded here.
fn decode(mut record: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !record.is_empty() {
        let end = record.iter().position(|byte| *byte == b'\n').unwrap();
        let (head, rest) = (&record[..end], &record[end + 1..]);
        let (name, value) = match head.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                record = rest;
                (&head[..at], head[at + 1..].to_vec())
            }
            None => {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap());
                let (value, after) = rest[8..].split_at(usize::try_from(length).unwrap());
                assert_eq!(after[0], b'\n');
                record = &after[1..];
                (head, value.to_vec())
            }
        };
        let name = String::from_utf8(name.to_vec()).unwrap();
        assert_eq!(fields.insert(name, value), None);
    }
    fields
}

fn fields(content: &Content) -> Fields {
    decode(&fields::encode(content, "id", "web"))
}

#[test]
fn records_have_all_fields() {
    let told = fields(&line(7, OutputStream::Stderr, b"one\ntwo"));
    let wanted = [
        ("MESSAGE", "one\ntwo"),
        ("PRIORITY", "3"),
        ("PROCESSION_PROCESS", "web"),
        ("PROCESSION_RUN", "1"),
        ("PROCESSION_SEQUENCE", "7"),
        ("PROCESSION_STREAM", "stderr"),
        ("PROCESSION_TIME", "1970-01-01T00:00:01.000002Z"),
        ("SYSLOG_IDENTIFIER", "id"),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(told, Fields::from(wanted));
    let told = fields(&lost(4, 6));
    assert_eq!(told["MESSAGE"], b"3 lines lost (trimmed): sequences 4 to 6");
    assert_eq!(told["PRIORITY"], b"4");
    assert_eq!(told["PROCESSION_LOST_UNTIL"], b"6");
}

proptest! {
    #[test]
    fn any_bytes_arrive_as_they_are(data: Vec<u8>) {
        let told = fields(&line(1, OutputStream::Stdout, &data));
        prop_assert_eq!(&told["MESSAGE"], &data);
        prop_assert_eq!(told.len(), 8);
    }
}

/// A datagram, or what the file has whose descriptor came instead.
fn receive(socket: &Socket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let (bytes, file) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::empty();
        let got = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags);
        let got = got.unwrap();
        let mut messages = got.cmsgs().unwrap();
        let file = messages.next().map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors[0],
            other => panic!("{other:?}"),
        });
        (got.bytes, file)
    };
    let Some(file) = file else {
        buffer.truncate(bytes);
        return buffer;
    };
    assert_eq!(bytes, 0);
    #[allow(unsafe_code, reason = "the kernel made it for this socket alone")]
    // SAFETY: the descriptor has just been received and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(file) };
    assert!(file.write_all(b"x").is_err(), "it is sealed");
    let mut record = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut record).unwrap();
    record
}

#[tokio::test]
async fn short_records_are_datagrams_and_long_ones_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = Socket::bind(&path).unwrap();
    let target = JournaldTarget::default();
    let mut journald = Journald::new(&target, &origin("web"), &path);
    // Above any default of a socket's buffer.
    let long = vec![b'x'; 800_000];
    let contents = [
        line(1, OutputStream::Stdout, b"short"),
        line(2, OutputStream::Stdout, &long),
        line(3, OutputStream::Stdout, b"after"),
    ];
    let mut queue = queue(contents);
    journald.send(&mut queue).await.unwrap();
    assert!(queue.is_empty());
    assert_eq!(queue.position(), Position::behind(3));
    for message in [&b"short"[..], &long, b"after"] {
        let told = decode(&receive(&socket));
        assert_eq!(told["MESSAGE"], message);
        assert_eq!(told["SYSLOG_IDENTIFIER"], b"web");
    }
}

#[tokio::test]
async fn a_journal_that_comes_later_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let target = JournaldTarget::default();
    let mut journald = Journald::new(&target, &origin("web"), &path);
    let mut queue = queue([line(1, OutputStream::Stdout, b"one")]);
    assert!(journald.send(&mut queue).await.is_err());
    assert_eq!(queue.len(), 1);
    let first = Socket::bind(&path).unwrap();
    journald.send(&mut queue).await.unwrap();
    assert_eq!(decode(&receive(&first))["MESSAGE"], b"one");
    // Another journald in its place.
    drop(first);
    std::fs::remove_file(&path).unwrap();
    let second = Socket::bind(&path).unwrap();
    let mut queue = self::queue([line(2, OutputStream::Stdout, b"two")]);
    assert!(
        journald.send(&mut queue).await.is_err(),
        "the old one is gone"
    );
    journald.send(&mut queue).await.unwrap();
    assert_eq!(decode(&receive(&second))["MESSAGE"], b"two");
}
