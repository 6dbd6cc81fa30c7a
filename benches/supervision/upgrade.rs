//! The daemon is replaced in place: for how long does nobody answer, and does a
//! client that watches lose anything?

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use procession::grpc::proto::{
    self, ProcessState as State, ResumeToken, watch_processes_response::Payload,
};
use tonic::Code;

use super::{
    Scale,
    client::{self, Client},
    daemon::{self, Daemon},
    table::{Row, median, worst},
};

/// Between two questions of a client.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) fn run(scale: &Scale) -> Vec<Row> {
    let count = scale.processes(1000);
    let daemon = Daemon::start();
    let before = daemon.session().sleepers(count);
    let mut gaps = Vec::new();
    for round in 0..scale.rounds(5) {
        let asking = Asking::begin(daemon.socket());
        let stopped = format!("p{round:04}");
        let watching = Watching::begin(daemon.socket(), stopped.clone());
        thread::sleep(Duration::from_millis(100));
        upgrade(&daemon.socket());
        daemon.session().stop(&stopped);
        watching.end();
        gaps.push(asking.end().as_secs_f64());
        let mut after = daemon.session().list();
        // The one that was stopped for the watching client to see.
        after.retain(|_, shown| shown.state == State::Running);
        assert_eq!(after.len(), count - round - 1, "processes that run on");
        let is_same = |(name, shown): (&String, &client::Shown)| {
            before.get(name).map(|before| before.pid) == Some(shown.pid)
        };
        assert!(after.iter().all(is_same), "a pid changed");
    }
    let figure = format!("upgrade with {count}, nobody answers, median");
    vec![
        Row::new(figure, median(gaps.clone()), "s").at_most(1.0, 1.0),
        Row::new("... worst", worst(&gaps), "s").at_most(1.0, 1.0),
    ]
}

fn upgrade(socket: &Path) {
    let status = Command::new(daemon::program())
        .arg("upgrade")
        .env("PROCESSION_SOCKET", socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("an upgrade").success(), "upgraded");
}

/// A client that asks who is there, all the time.
struct Asking {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

// === impl Asking ===

impl Asking {
    fn begin(socket: PathBuf) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || client::runtime().block_on(ask(&socket, &over)));
        Self { is_over, thread }
    }

    /// The time from the last answer of the old daemon to the first of the new one.
    fn end(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a gap")
    }
}

/// Until it is over and two daemons have answered.
async fn ask(socket: &Path, is_over: &AtomicBool) -> Duration {
    let mut last: Option<(Instant, String)> = None;
    let mut gap = None;
    let mut connection = None;
    let deadline = Instant::now() + super::daemon::PATIENCE;
    while !(is_over.load(Ordering::Relaxed) && gap.is_some()) {
        assert!(Instant::now() < deadline, "one daemon answers only");
        if connection.is_none() {
            connection = client::connect(socket).await.ok();
        }
        if let Some(client) = &mut connection {
            match epoch(client).await {
                Some(epoch) => {
                    let now = Instant::now();
                    if let Some((before, old)) = &last
                        && *old != epoch
                    {
                        assert!(gap.is_none(), "a third daemon");
                        gap = Some(now - *before);
                    }
                    last = Some((now, epoch));
                }
                None => connection = None,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    gap.unwrap_or_default()
}

async fn epoch(client: &mut Client) -> Option<String> {
    let info = client.get_server_info(proto::GetServerInfoRequest {});
    Some(info.await.ok()?.into_inner().header?.epoch)
}

/// A client that holds a copy of everything.
struct Watching {
    thread: JoinHandle<()>,
}

// === impl Watching ===

impl Watching {
    fn begin(socket: PathBuf, stopped: String) -> Self {
        let thread = thread::spawn(move || client::runtime().block_on(watch(&socket, &stopped)));
        Self { thread }
    }

    fn end(self) {
        self.thread.join().expect("a watch without a gap");
    }
}

/// Goes on at the next daemon where it was, until it sees that `stopped` is stopped.
async fn watch(socket: &Path, stopped: &str) {
    let mut at = ResumeToken::default();
    loop {
        // An old daemon may still take connections that it cannot serve any more.
        let seen = follow(socket, &mut at, stopped).await.unwrap_or(false);
        if seen {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads until `stopped` is seen to be (true) or the stream ends (false); `at` is
/// where it is then. Every message has to go on from where the last one ended.
async fn follow(socket: &Path, at: &mut ResumeToken, stopped: &str) -> Option<bool> {
    let is_first = at.epoch.is_empty();
    let request = proto::WatchProcessesRequest {
        resume_token: (!is_first).then(|| at.clone()),
        reset_policy: proto::ResetPolicy::Fail.into(),
        ..Default::default()
    };
    let mut client = client::connect(socket).await.ok()?;
    let stream = match client.watch_processes(request).await {
        Ok(stream) => stream,
        Err(status) if status.code() == Code::OutOfRange => panic!("{status}"),
        Err(_) => return None,
    };
    let mut stream = stream.into_inner();
    while let Ok(Some(message)) = stream.message().await {
        assert_eq!(message.from_revision, at.revision, "a gap in the watch");
        at.revision = message.to_revision;
        match message.payload? {
            Payload::Opened(opened) => {
                assert_eq!(opened.resumed, !is_first, "{opened:?}");
                (at.epoch, at.scope) = (opened.epoch, opened.scope);
            }
            Payload::Events(events) => {
                let mut processes = events.events.iter().filter_map(|e| e.process.as_ref());
                if processes.any(|process| is_stopped(process, stopped)) {
                    return Some(true);
                }
            }
            Payload::Closing(_) => return Some(false),
            Payload::Reset(reset) => panic!("{reset:?}"),
            Payload::Snapshot(_) | Payload::Synced(_) | Payload::Progress(_) => {}
        }
    }
    Some(false)
}

fn is_stopped(process: &proto::Process, name: &str) -> bool {
    let status = process.status.as_ref();
    process.name == name && status.is_some_and(|s| s.state() == State::Stopped)
}
