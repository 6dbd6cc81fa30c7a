//! The root: what exists, and how it comes to be.
//!
//! Configuration changes run one at a time under `configuring`, so that each sees
//! the graph that the one before left; lifecycle commands never take that lock.
//! A name is in `mailboxes` exactly while its owner task lives: entry and registry
//! change together under that short lock, so a name can be re-created at once.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::{
    api::{ProcessNode, Processes, Refused},
    clock::Clock,
    dependencies::Dependents,
    driver::Driver,
    effects::launch_of,
    intent::IntentStore,
    mailbox::Mailbox,
    waiters::Waiters,
};
use crate::{
    domain::{
        graph::Graph,
        id::{ProcessName, Uid},
        lifecycle::Lifecycle,
        limits::PROCESSES_MAX,
        spec::{ExitWith, Spec},
        status::{Cause, Desired, ProcessState, State, Status},
    },
    logs::Logs,
    registry::{CreateError, Slot},
    runner::{Launch, Runner},
};

/// What the supervisor is made of.
pub struct Setup {
    /// Where states are published.
    pub registry: Processes,
    /// Runtime of the owner tasks.
    pub runtime: tokio::runtime::Handle,
    /// How runs are carried out.
    pub runner: Arc<dyn Runner>,
    /// Where output goes.
    pub logs: Logs,
    /// Both clocks.
    pub clock: Clock,
    /// Environment that processes inherit.
    pub base_env: Vec<(OsString, OsString)>,
    /// Draws a fresh UUID.
    pub new_uid: fn() -> Uid,
    /// Keeps what the user asks for.
    pub intents: Arc<dyn IntentStore>,
}

/// A process whose end ends the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub name: ProcessName,
    /// Exit code for the daemon.
    pub code: u8,
}

/// Handle of the supervisor; see the module.
#[derive(Clone)]
pub struct Supervisor {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) registry: Processes,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) intents: Arc<dyn IntentStore>,
    pub(super) logs: Logs,
    pub(super) clock: Clock,
    pub(super) dependents: Dependents,
    pub(super) tracker: TaskTracker,
    pub(super) closing: AtomicBool,
    pub(super) runtime: tokio::runtime::Handle,
    base_env: Vec<(OsString, OsString)>,
    pub(super) new_uid: fn() -> Uid,
    mailboxes: Mutex<HashMap<ProcessName, Mailbox>>,
    graph: Mutex<Graph>,
    configuring: tokio::sync::Mutex<()>,
    essential: watch::Sender<Option<Ended>>,
}

// === impl Setup ===

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

// === impl Supervisor ===

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("head", &self.inner.registry.head())
            .finish()
    }
}

impl Supervisor {
    /// Starts with no processes.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup {
            registry,
            runtime,
            runner,
            logs,
            clock,
            base_env,
            new_uid,
            intents,
        } = setup;
        Self {
            inner: Arc::new(Inner {
                registry,
                runner,
                intents,
                logs,
                clock,
                dependents: Dependents::default(),
                tracker: TaskTracker::new(),
                closing: AtomicBool::new(false),
                runtime,
                base_env,
                new_uid,
                mailboxes: Mutex::default(),
                graph: Mutex::default(),
                configuring: tokio::sync::Mutex::default(),
                essential: watch::Sender::new(None),
            }),
        }
    }

    /// Where states are published.
    #[must_use]
    pub fn registry(&self) -> &Processes {
        &self.inner.registry
    }

    /// Captured output.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.inner.logs
    }

    /// Who depends on whom, now.
    #[must_use]
    pub fn graph(&self) -> Graph {
        self.inner.graph().clone()
    }

    /// Tells when a process with `exit_with` has ended for good.
    #[must_use]
    pub fn essential_end(&self) -> watch::Receiver<Option<Ended>> {
        self.inner.essential.subscribe()
    }
}

// === impl Inner ===

impl Inner {
    /// Waits for the turn to change configurations.
    pub(super) async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refused> {
        let turn = self.configuring.lock().await;
        if self.closing.load(Ordering::Acquire) {
            return Err(Refused::ShuttingDown);
        }
        Ok(turn)
    }

    /// Whether the daemon is on its way out.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// From here on nothing is created, configured or started.
    pub(super) async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        // Whoever had the turn has finished now; later ones see the mark.
        drop(self.configuring.lock().await);
    }

    pub(super) fn mailbox(&self, name: &ProcessName) -> Result<Mailbox, Refused> {
        self.mailboxes()
            .get(name)
            .cloned()
            .ok_or_else(|| Refused::NotFound(name.clone()))
    }

    pub(super) fn launch(&self, spec: &Spec, uid: Uid, run_id: i64) -> Launch {
        launch_of(spec, uid, run_id, &self.base_env)
    }

    /// Publishes a process that did not exist.
    pub(super) fn publish_new(
        &self,
        uid: Uid,
        spec: &Arc<Spec>,
        desired: Desired,
        cause: Cause,
    ) -> Result<ProcessNode, Refused> {
        let now = self.clock.now().wall;
        let state = ProcessState {
            spec: Arc::clone(spec),
            status: Status::new(desired, cause.clone(), now),
            cause,
            time: now,
            intent: 0,
        };
        self.registry
            .create(uid, state)
            .map_err(|error| match error {
                CreateError::Full => Refused::Quota {
                    limit: "processes_max",
                    max: PROCESSES_MAX,
                },
                CreateError::Exists(node) => Refused::Exists {
                    name: spec.name.clone(),
                    uid: node.uid(),
                },
            })
    }

    /// Gives a published process its owner, as `adjust` makes it. The lock is the
    /// one under which it was published, if it was just now.
    pub(super) fn own(
        self: &Arc<Self>,
        mailboxes: &mut HashMap<ProcessName, Mailbox>,
        node: ProcessNode,
        spec: Arc<Spec>,
        life: Lifecycle,
        adjust: impl FnOnce(Driver) -> Driver,
    ) -> Result<(), Refused> {
        let name = spec.name.clone();
        let slot = self.registry.slot(name.as_str());
        let slot = slot.ok_or_else(|| Refused::NotFound(name.clone()))?;
        let (mailbox, messages) = Mailbox::new(name.clone());
        mailboxes.insert(name, mailbox);
        let driver = adjust(Driver {
            shared: Arc::clone(self),
            slot,
            intent: node.body().intent,
            node,
            spec,
            life,
            messages,
            run: None,
            freeze: None,
            intending: None,
            owed: None,
            waiters: Waiters::default(),
            look_again: Arc::new(Notify::new()),
            followed: HashMap::new(),
            kept: None,
            found: VecDeque::new(),
            removed: false,
        });
        self.tracker.spawn_on(driver.run(), &self.runtime);
        Ok(())
    }

    /// Deletes from the registry and forgets the owner, in one step for others.
    pub(super) fn remove(
        &self,
        slot: &Arc<Slot<ProcessState>>,
        last: ProcessState,
    ) -> Option<ProcessNode> {
        let name = last.spec.name.clone();
        let mut mailboxes = self.mailboxes();
        mailboxes.remove(&name);
        let deleted = self.registry.delete(slot, |_| Some(last.clone()));
        self.graph().remove(&name);
        drop(mailboxes);
        match deleted {
            Ok(committed) => Some(committed.node),
            Err(error) => {
                // Only the owner deletes, once.
                tracing::error!(process = %name, %error, "a deletion was refused");
                None
            }
        }
    }

    /// Ends the daemon's wait if this end is one that `exit_with` names.
    pub(super) fn tell_if_essential(&self, state: &ProcessState) {
        let matters = match (state.spec.config.exit_with, state.status.state) {
            (ExitWith::Failure | ExitWith::End, State::Failed) => true,
            (ExitWith::End, State::Succeeded) => true,
            (ExitWith::Never | ExitWith::Failure | ExitWith::End, _) => false,
        };
        if !matters {
            return;
        }
        let name = state.spec.name.clone();
        let code = if state.status.state == State::Succeeded {
            0
        } else {
            exit_code(state)
        };
        self.essential.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(Ended { name, code });
            first
        });
    }

    pub(super) fn mailboxes(&self) -> MutexGuard<'_, HashMap<ProcessName, Mailbox>> {
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn names(&self) -> Vec<ProcessName> {
        self.mailboxes().keys().cloned().collect()
    }

    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The code a shell would give: the process's own, or 128 + signal, or 1.
fn exit_code(state: &ProcessState) -> u8 {
    use crate::domain::run::Outcome;
    match state.status.last_exit().map(|record| &record.exit.outcome) {
        Some(Outcome::Code(code)) if *code != 0 => *code,
        Some(Outcome::Signal(number)) => u8::try_from(128 + number).unwrap_or(1),
        _ => 1,
    }
}
