//! A registry that is a list, children that are logs on disk, and calls with patience.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, StreamExt};
use proto::tail_logs_response::Payload;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::super::{Subject, field_invalid, proto, tail};
use crate::{
    domain::{
        id::{ProcessName, Revision, Uid},
        time::Timestamp,
    },
    logs::{Limits, Logs, tests::writer::Writer},
};

/// Long enough for a loaded machine; a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) type Found = Arc<Mutex<Vec<(ProcessName, Uid)>>>;
pub(super) type Call = Pin<Box<dyn Stream<Item = Result<proto::TailLogsResponse, Status>> + Send>>;
type Clock = fn() -> Timestamp;

pub(super) struct Harness {
    pub(super) directory: tempfile::TempDir,
    pub(super) logs: Logs,
    pub(super) found: Found,
    pub(super) changed: watch::Sender<Revision>,
    pub(super) shutdown: CancellationToken,
    clock: Clock,
}

/// One process and what writes its log.
pub(super) struct Child {
    pub(super) uid: Uid,
    pub(super) log: Writer,
}

impl Harness {
    pub(super) fn new() -> Self {
        Self::with_clock(|| Timestamp(1))
    }

    pub(super) fn with_clock(clock: Clock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            logs: Logs::new(directory.path().into(), Limits::default()).unwrap(),
            directory,
            found: Found::default(),
            changed: watch::Sender::new(Revision::ZERO),
            shutdown: CancellationToken::new(),
            clock,
        }
    }

    /// A process the registry knows, and whose run is up.
    pub(super) fn child(&self, name: &str, number: u8) -> Child {
        let child = self.run(number);
        self.list(name, child.uid);
        child
    }

    pub(super) fn list(&self, name: &str, uid: Uid) {
        let name = ProcessName::new(name).unwrap();
        let mut found = self.found.lock().unwrap();
        found.retain(|(other, _)| *other != name);
        found.push((name, uid));
        drop(found);
        self.changed
            .send_modify(|revision| *revision = revision.next());
    }

    pub(super) fn unlist(&self, name: &str) {
        let mut found = self.found.lock().unwrap();
        found.retain(|(other, _)| other.as_str() != name);
        drop(found);
        self.changed
            .send_modify(|revision| *revision = revision.next());
    }

    /// A first run begins now.
    pub(super) fn run(&self, number: u8) -> Child {
        let uid = Uid::from_bytes([number; 16]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = Timestamp(i64::try_from(now.as_nanos()).unwrap());
        Child {
            uid,
            log: Writer::at(self.directory.path(), uid, now),
        }
    }

    /// Writes lines, each at a time of its own.
    pub(super) fn print(&self, child: &mut Child, lines: &[&str]) {
        for line in lines {
            child.log.time = (self.clock)();
            match line.strip_prefix("err:") {
                Some(_) => child.log.err(format!("{line}\n")),
                None => child.log.out(format!("{line}\n")),
            }
        }
    }

    pub(super) fn try_tail(&self, request: proto::TailLogsRequest) -> Result<Call, Status> {
        let found = Arc::clone(&self.found);
        let resolve = move |selector: &proto::ProcessSelector| {
            if !selector.label_selector.is_empty() {
                return Err(field_invalid("selector.label_selector", "is bad"));
            }
            let named = |name: &str| {
                selector.names.is_empty() || selector.names.iter().any(|other| other == name)
            };
            let mut found = found.lock().unwrap().clone();
            found.retain(|(name, _)| named(name.as_str()));
            let subject = |(name, uid)| Subject {
                name,
                uid,
                // Long ago: what is new is told by the log.
                created: Timestamp(0),
            };
            Ok(found.into_iter().map(subject).collect())
        };
        let changed = self.changed.subscribe();
        let call = tail(&self.logs, resolve, changed, request, self.shutdown.clone())?;
        Ok(Box::pin(call))
    }

    pub(super) fn tail(&self, request: proto::TailLogsRequest) -> Call {
        self.try_tail(request).unwrap()
    }

    /// What a call without `follow` delivers, as text.
    pub(super) async fn lines(&self, request: proto::TailLogsRequest) -> Vec<String> {
        let mut call = self.tail(request);
        let mut lines = Vec::new();
        while let Some(message) = next(&mut call).await {
            match message.unwrap().payload.unwrap() {
                Payload::Entries(entries) => lines.extend(entries.entries.iter().map(text)),
                other => panic!("{other:?}"),
            }
        }
        lines
    }
}

pub(super) async fn next(call: &mut Call) -> Option<Result<proto::TailLogsResponse, Status>> {
    timeout(PATIENCE, call.next()).await.unwrap()
}

pub(super) async fn payload(call: &mut Call) -> Payload {
    next(call).await.unwrap().unwrap().payload.unwrap()
}

/// Collects entries until there are `count`; nothing else may come.
pub(super) async fn entries(call: &mut Call, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        match payload(call).await {
            Payload::Entries(entries) => lines.extend(entries.entries.iter().map(text)),
            other => panic!("{other:?} after {lines:?}"),
        }
    }
    lines
}

pub(super) async fn synced(call: &mut Call) {
    let payload = payload(call).await;
    assert!(matches!(payload, Payload::Synced(_)), "{payload:?}");
}

pub(super) fn text(entry: &proto::LogEntry) -> String {
    String::from_utf8_lossy(&entry.data).into_owned()
}

pub(super) fn follow() -> proto::TailLogsRequest {
    proto::TailLogsRequest {
        follow: true,
        ..Default::default()
    }
}

/// A position of the process `web` whose uid is made of `number`.
pub(super) fn position(number: u8, sequence: i64) -> proto::LogPosition {
    proto::LogPosition {
        name: "web".into(),
        uid: Uid::from_bytes([number; 16]).to_string(),
        sequence,
    }
}

pub(super) fn one_name(name: &str) -> proto::ProcessSelector {
    proto::ProcessSelector {
        names: vec![name.into()],
        ..Default::default()
    }
}

pub(super) fn at(nanos: i32) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 0, nanos })
}
