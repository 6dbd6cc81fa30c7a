//! A registry, a writer that keeps its own history, and a client that checks what
//! every client may check.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use procession::{
    domain::{
        id::{ProcessName, Revision, Uid},
        spec::{Config, Spec},
        status::{Cause, Desired, ProcessState, State, Status},
        time::Timestamp,
    },
    registry::{Limits, Mode, Node, Registry},
    watch::{
        Dispatcher, EventKind, Filter, LabelSelector, Lineage, Lost, Message, OpenError, Options,
        Parts, Payload, Policy, Projection, Source, Subscription, Token,
    },
};
use tokio_util::sync::CancellationToken;

pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
pub(crate) const EPOCH: &str = "epoch-2";

/// A process as the test's projection shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) version: i64,
    pub(crate) revision: i64,
    /// `None`: identity only.
    pub(crate) state: Option<State>,
    pub(crate) tier: String,
}

/// Shows everything, or only the label `tier`, in as many bytes as it is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lens {
    pub(crate) states_masked: bool,
    pub(crate) bytes: usize,
}

pub(crate) struct World {
    pub(crate) registry: Registry<ProcessState>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) closing: CancellationToken,
    /// Every change there was, by revision from 1; `None`: deleted.
    pub(crate) history: Vec<(String, Option<(Seen, ProcessState)>)>,
    uids: u128,
}

/// A subscription and the view built from it.
pub(crate) struct Client {
    pub(crate) subscription: Subscription<Lens>,
    pub(crate) view: BTreeMap<String, Seen>,
    shadow: Option<BTreeMap<String, Seen>>,
    /// `to` of the latest message; `None` before the first.
    pub(crate) at: Option<i64>,
    newest: i64,
    pub(crate) exact: bool,
}

// === impl Lens ===

impl Default for Lens {
    fn default() -> Self {
        Self {
            states_masked: false,
            bytes: 100,
        }
    }
}

impl Projection for Lens {
    type Shown = Seen;

    fn show(&self, node: &Arc<Node<ProcessState>>) -> Seen {
        let state = node.body().status.state;
        Seen {
            state: (!self.states_masked).then_some(state),
            tier: tier(node.body()),
            ..self.identity(node)
        }
    }

    fn identity(&self, node: &Arc<Node<ProcessState>>) -> Seen {
        Seen {
            name: node.body().name().to_string(),
            uid: node.uid().to_string(),
            version: node.version(),
            revision: node.revision().get(),
            state: None,
            tier: String::new(),
        }
    }

    fn is_same(&self, before: &Arc<Node<ProcessState>>, after: &Arc<Node<ProcessState>>) -> bool {
        self.states_masked && tier(before.body()) == tier(after.body())
    }

    fn size(&self, _: &Seen) -> usize {
        self.bytes
    }
}

// === impl World ===

impl World {
    pub(crate) fn new() -> Self {
        Self::with_ring(1000)
    }

    /// With a log of `entries` changes and that many tombstones.
    pub(crate) fn with_ring(entries: usize) -> Self {
        let limits = Limits {
            ring_entries_max: entries,
            ring_bytes_max: usize::MAX,
            tombstones_max: entries,
        };
        let registry = Registry::new(limits, Revision::ZERO);
        Self {
            dispatcher: Dispatcher::start(registry.clone()),
            registry,
            closing: CancellationToken::new(),
            history: Vec::new(),
            uids: 0,
        }
    }

    pub(crate) fn source(&self) -> Source {
        Source {
            registry: self.registry.clone(),
            lineage: Arc::new(Lineage {
                epoch: EPOCH.into(),
                ancestors: vec![("epoch-1".into(), Revision::new(3))],
            }),
            heads: self.dispatcher.heads(),
            closing: self.closing.clone(),
        }
    }

    pub(crate) fn open(&self, options: Options) -> Client {
        self.try_open(options, Lens::default()).unwrap()
    }

    pub(crate) fn try_open(&self, options: Options, lens: Lens) -> Result<Client, OpenError> {
        Ok(Client {
            subscription: Subscription::open(self.source(), options, lens)?,
            view: BTreeMap::new(),
            shadow: None,
            at: None,
            newest: 0,
            exact: false,
        })
    }

    /// Creates `name`, or puts it into `state` with label `tier`.
    pub(crate) fn put(&mut self, name: &str, state: State, tier: &str) -> i64 {
        let body = process(name, state, tier);
        let node = if self.registry.get(name).is_some() {
            let slot = self.registry.slot(name).unwrap();
            let committed = self.registry.commit(&slot, |_| Some(body.clone()));
            committed.unwrap().node
        } else {
            self.uids += 1;
            let uid = Uid::from_bytes(self.uids.to_be_bytes());
            self.registry.create(uid, body.clone()).unwrap()
        };
        let seen = Lens::default().show(&node);
        self.note(name, Some((seen, body)), &node)
    }

    /// Deletes `name` if it is there.
    pub(crate) fn delete(&mut self, name: &str) {
        if self.registry.get(name).is_none() {
            return;
        }
        let slot = self.registry.slot(name).unwrap();
        let deleted = self
            .registry
            .delete(&slot, |node| Some(node.body().clone()))
            .unwrap();
        self.note(name, None, &deleted.node);
    }

    fn note(
        &mut self,
        name: &str,
        change: Option<(Seen, ProcessState)>,
        node: &Arc<Node<ProcessState>>,
    ) -> i64 {
        self.history.push((name.to_owned(), change));
        let revision = node.revision().get();
        assert_eq!(revision, i64::try_from(self.history.len()).unwrap());
        revision
    }

    pub(crate) fn head(&self) -> i64 {
        self.registry.head().get()
    }

    /// What `filter` selects after revisions 1 to `revision`: the oracle.
    pub(crate) fn replay(&self, revision: i64, filter: &Filter) -> BTreeMap<String, Seen> {
        let mut view = BTreeMap::new();
        for (name, change) in &self.history[..usize::try_from(revision).unwrap()] {
            match change {
                Some((seen, body)) if filter.matches(body) => {
                    view.insert(name.clone(), seen.clone());
                }
                _ => {
                    view.remove(name);
                }
            }
        }
        view
    }
}

// === impl Client ===

impl Client {
    /// The next message, checked and applied.
    pub(crate) async fn next(&mut self) -> Option<Result<Message<Seen>, Lost>> {
        let message = match self.subscription.next().await? {
            Ok(message) => message,
            Err(lost) => return Some(Err(lost)),
        };
        self.check_chain(&message);
        self.apply(&message);
        self.at = Some(message.to.get());
        self.exact = message.exact;
        Some(Ok(message))
    }

    pub(crate) async fn message(&mut self) -> Message<Seen> {
        self.next().await.unwrap().unwrap()
    }

    /// The payload of the next message.
    pub(crate) async fn payload(&mut self) -> Payload<Seen> {
        self.message().await.payload
    }

    /// Reads on to `synced`.
    pub(crate) async fn sync(&mut self) -> Message<Seen> {
        loop {
            let message = self.message().await;
            if matches!(message.payload, Payload::Synced { .. }) {
                return message;
            }
        }
    }

    /// Kinds, names and skipped versions of the next message's events.
    pub(crate) async fn events(&mut self) -> Vec<(EventKind, String, i64)> {
        let Payload::Events(events) = self.payload().await else {
            panic!("expected events");
        };
        let told = |e: procession::watch::Event<Seen>| (e.kind, e.shown.name, e.skipped);
        events.into_iter().map(told).collect()
    }

    /// Whether there is a whole view to go on with.
    pub(crate) fn has_view(&self) -> bool {
        self.at.is_some() && self.shadow.is_none()
    }

    /// A token to go on with later.
    pub(crate) fn token(&self) -> Token {
        Token {
            epoch: EPOCH.into(),
            revision: Revision::new(self.at.unwrap()),
            scope: "scope".into(),
        }
    }

    /// I6, I8, I14.
    fn check_chain(&self, message: &Message<Seen>) {
        let (from, to) = (message.from.get(), message.to.get());
        assert!(from <= to);
        match (&message.payload, self.at) {
            (Payload::Opened { .. }, at) => {
                assert_eq!(at, None, "opened comes first and once");
                assert_eq!(from, to);
            }
            (Payload::Reset(_), _) => assert_eq!((from, to), (0, 0)),
            (_, at) => assert_eq!(Some(from), at, "the chain: {message:?}"),
        }
        match &message.payload {
            Payload::Snapshot(part) => {
                assert!(!message.exact && !part.is_empty());
                assert_eq!(to, 0);
                assert!(part.is_sorted_by(|a, b| a.name < b.name));
            }
            Payload::Events(events) => {
                assert!(!events.is_empty());
                let revisions: Vec<_> = events.iter().map(|e| e.revision.get()).collect();
                assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
                assert!(revisions.iter().all(|r| from < *r && *r <= to));
                assert!(events.iter().all(|e| e.shown.revision == e.revision.get()));
                assert!(revisions[0] > self.newest);
            }
            _ => {}
        }
    }

    fn apply(&mut self, message: &Message<Seen>) {
        match &message.payload {
            Payload::Opened { resumed: false } | Payload::Reset(_) => {
                self.shadow = Some(BTreeMap::new());
                self.newest = 0;
            }
            Payload::Snapshot(part) => {
                let shadow = self.shadow.as_mut().expect("a snapshot was announced");
                for seen in part {
                    let twice = shadow.insert(seen.name.clone(), seen.clone());
                    assert_eq!(twice, None);
                }
            }
            Payload::Synced { count } => {
                self.view = self.shadow.take().expect("a snapshot was announced");
                assert_eq!(*count, self.view.len());
            }
            Payload::Events(events) => {
                for event in events {
                    let name = event.shown.name.clone();
                    match event.kind {
                        EventKind::Added | EventKind::Changed => {
                            self.view.insert(name, event.shown.clone());
                        }
                        EventKind::Deleted | EventKind::Left => {
                            self.view.remove(&name);
                        }
                    }
                    self.newest = event.revision.get();
                }
            }
            Payload::Opened { .. } | Payload::Progress | Payload::Closing(_) => {}
        }
    }
}

/// Everything, in `mode`, with the defaults of the contract.
pub(crate) fn options(mode: Mode) -> Options {
    Options {
        filter: Filter::all(),
        mode,
        policy: Policy::Resnapshot,
        heartbeat: HEARTBEAT,
        min_update_interval: Duration::ZERO,
        skip_snapshot: false,
        resume: None,
        scope: "scope".into(),
        max_age: Duration::from_secs(100_000),
    }
}

pub(crate) const MODES: [Mode; 2] = [Mode::EveryChange, Mode::LatestState];

/// Selects by label text.
pub(crate) fn by_label(text: &str) -> Filter {
    Filter::new(Parts {
        labels: LabelSelector::parse(text).unwrap(),
        ..Parts::default()
    })
}

fn tier(body: &ProcessState) -> String {
    body.spec
        .config
        .labels
        .get("tier")
        .cloned()
        .unwrap_or_default()
}

pub(crate) fn process(name: &str, state: State, tier: &str) -> ProcessState {
    let mut status = Status::new(Desired::Running, Cause::CONFIG, Timestamp(1));
    status.state = state;
    let mut config = Config::default();
    config.labels.insert("tier".into(), tier.into());
    ProcessState {
        spec: Arc::new(Spec {
            name: ProcessName::new(name).unwrap(),
            generation: 1,
            created: Timestamp(1),
            config,
        }),
        status,
        cause: Cause::CONFIG,
        time: Timestamp(1),
        intent: 0,
    }
}
