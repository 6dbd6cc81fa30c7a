//! What becomes of forwards when what is wanted changes; with real sockets.

use std::{os::unix::net::UnixDatagram, path::PathBuf, time::Duration};

use crate::{
    domain::{
        id::ProcessName,
        spec::{ForwardStream, ForwardTarget, JournaldTarget, LogForward, SyslogTarget},
    },
    forward::{Forwarder, Wanted, limits::SHUTDOWN_DRAIN_MAX},
    logs::{
        Limits, Logs,
        tests::writer::{Writer, uid},
    },
};

const PROCESS: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    directory: tempfile::TempDir,
    logs: Logs,
    forwarder: Forwarder,
    writer: Writer,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("logs");
        let logs = Logs::new(root.clone(), Limits::default()).unwrap();
        let journal = directory.path().join("journal");
        let host = "host".to_owned();
        Self {
            forwarder: Forwarder::with_journal(logs.clone(), host, || 0, &journal),
            writer: Writer::new(&root, uid(PROCESS)),
            logs,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self, name: &str) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.path(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn syslog(&self, name: &str) -> LogForward {
        let address = format!("unix:{}", self.path(name).display());
        LogForward {
            target: ForwardTarget::Syslog(SyslogTarget {
                address,
                ..Default::default()
            }),
            streams: Vec::new(),
        }
    }

    fn want(&mut self, generation: i64, forwards: &[LogForward]) {
        self.forwarder.set(Wanted {
            uid: uid(PROCESS),
            process: &ProcessName::new("web").unwrap(),
            is_first_spec: generation == 1,
            forwards,
        });
    }

    /// Positions that are kept.
    fn kept(&self) -> usize {
        let directory = self.logs.directory(uid(PROCESS));
        let names = std::fs::read_dir(directory).unwrap().flatten();
        let is_kept = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("forward-");
        names.map(|entry| entry.file_name()).filter(is_kept).count()
    }
}

/// The next datagram, as text.
async fn received(socket: &UnixDatagram) -> String {
    let socket = tokio::net::UnixDatagram::from_std(socket.try_clone().unwrap()).unwrap();
    let mut buffer = [0; 4096];
    let bytes = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    String::from_utf8_lossy(&buffer[..bytes.unwrap().unwrap()]).into_owned()
}

#[tokio::test]
async fn a_change_touches_only_what_changed() {
    let mut world = World::new();
    let [one, two] = ["one", "two"].map(|name| world.socket(name));
    let [to_one, to_two] = ["one", "two"].map(|name| world.syslog(name));
    world.writer.out("first\n");
    world.want(1, std::slice::from_ref(&to_one));
    assert!(received(&one).await.ends_with("] first"));
    world.want(2, &[to_one.clone(), to_two.clone()]);
    assert_eq!(world.kept(), 2);
    world.writer.out("second\n");
    for socket in [&one, &two] {
        assert!(
            received(socket).await.ends_with("] second"),
            "nothing before"
        );
    }
    // The first one is not wanted: what was written by then, and no more.
    let mut only_errors = to_two;
    only_errors.streams = vec![ForwardStream::Stderr];
    world.writer.out("third\n");
    world.want(3, &[only_errors]);
    world.writer.err("fourth\n");
    assert!(received(&one).await.ends_with("] third"));
    let last = received(&two).await;
    let last = if last.ends_with("] third") {
        received(&two).await
    } else {
        last
    };
    assert!(last.ends_with("] fourth"), "{last}");
    assert_eq!(world.kept(), 1);
    world.want(4, &[]);
    assert_eq!(world.kept(), 0);
    assert!(!world.forwarder.has(uid(PROCESS)));
    world.forwarder.end(SHUTDOWN_DRAIN_MAX).await;
    // It may not have been told when that was written; then it was told to end.
    let mut buffer = [0; 4096];
    while let Ok(bytes) = one.recv(&mut buffer) {
        assert!(buffer[..bytes].ends_with(b"] fourth"));
    }
}

#[tokio::test]
async fn the_journal_is_a_target_and_a_deleted_process_has_its_last_words() {
    let mut world = World::new();
    let journal = world.socket("journal");
    let target = ForwardTarget::Journald(JournaldTarget::default());
    let forward = LogForward {
        target,
        streams: Vec::new(),
    };
    world.want(1, &[forward]);
    world.writer.err("last words");
    world.logs.remove(uid(PROCESS));
    world.forwarder.remove(uid(PROCESS));
    let record = received(&journal).await;
    assert!(record.contains("last words") && record.contains("SYSLOG_IDENTIFIER=web\n"));
    world.forwarder.end(SHUTDOWN_DRAIN_MAX).await;
    assert!(!world.logs.directory(uid(PROCESS)).exists());
}
