//! The root: what exists, and how it comes to be.
//!
//! Configuration changes run one at a time under `configuring`, so that each sees
//! the graph that the one before left; lifecycle commands never take that lock.
//! A name is in `mailboxes` exactly while its owner task lives: entry and registry
//! change together under that short lock, so a name can be re-created at once.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::{
    api::{
        BatchItem, Configured, Draft, Edit, Outcome, ProcessNode, Processes, Refused, Rollout,
        Target,
    },
    clock::Clock,
    dependencies::Dependents,
    driver::Driver,
    effects::launch_of,
    mailbox::{Configure, Mailbox, Message},
    waiters::Waiters,
};
use crate::{
    domain::{
        admission::Precondition,
        graph::{Graph, GraphError},
        id::{ProcessName, Revision, Uid},
        lifecycle::Lifecycle,
        limits::PROCESSES_MAX,
        spec::{Config, ExitWith, Spec, StopPolicy},
        status::{Cause, Desired, Position, ProcessState, State},
    },
    logs::{Logs, Writers},
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
    pub(super) logs: Logs,
    pub(super) clock: Clock,
    pub(super) dependents: Dependents,
    pub(super) tracker: TaskTracker,
    pub(super) closing: AtomicBool,
    runtime: tokio::runtime::Handle,
    base_env: Vec<(OsString, OsString)>,
    new_uid: fn() -> Uid,
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
        } = setup;
        Self {
            inner: Arc::new(Inner {
                registry,
                runner,
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

    /// Creates a process, and starts it if its spec says so.
    ///
    /// # Errors
    /// The name is taken, the configuration is faulty, or a limit is reached.
    pub async fn create(
        &self,
        draft: Draft,
        cause: Cause,
        validate_only: bool,
    ) -> Result<Configured, Refused> {
        let _turn = self.inner.turn().await?;
        if let Some(node) = self.registry().get(draft.name.as_str()) {
            return Err(Refused::Exists {
                name: draft.name,
                uid: node.uid(),
            });
        }
        self.validate(&[&draft], &[])?;
        if validate_only {
            return Ok(planned(&draft.config));
        }
        self.create_valid(draft, cause)
    }

    /// Edits an existing configuration.
    ///
    /// # Errors
    /// There is no such process, the edit is faulty, or a guard does not hold.
    pub async fn update(
        &self,
        target: Target,
        edit: Edit,
        rollout: Rollout,
        cause: Cause,
        validate_only: bool,
    ) -> Result<Configured, Refused> {
        let _turn = self.inner.turn().await?;
        let Some(node) = self.registry().get(target.name.as_str()) else {
            return Err(Refused::NotFound(target.name));
        };
        let config = edit(&node.body().spec.config).map_err(Refused::Invalid)?;
        let draft = Draft {
            name: target.name,
            config,
        };
        self.validate(&[&draft], &[])?;
        let configure = Configure {
            config: draft.config,
            rollout,
            guard: target.guard,
            cause,
            validate_only,
        };
        self.configure(draft.name, configure).await
    }

    /// Creates or replaces.
    ///
    /// # Errors
    /// The configuration is faulty, or a guard does not hold.
    pub async fn apply(
        &self,
        target: Target,
        config: Config,
        rollout: Rollout,
        cause: Cause,
        validate_only: bool,
    ) -> Result<Configured, Refused> {
        let _turn = self.inner.turn().await?;
        let draft = Draft {
            name: target.name.clone(),
            config,
        };
        self.validate(&[&draft], &[])?;
        let exists = self.registry().get(draft.name.as_str()).is_some();
        if !exists && target.guard != Precondition::default() {
            return Err(Refused::NotFound(draft.name));
        }
        self.apply_valid(draft, target.guard, rollout, cause, validate_only)
            .await
    }

    /// Applies a set: validated together, then one by one; afterwards `prune` is
    /// deleted.
    ///
    /// # Errors
    /// A fault of any configuration; then nothing was applied.
    pub async fn apply_batch(
        &self,
        drafts: Vec<Draft>,
        prune: Vec<ProcessName>,
        rollout: Rollout,
        cause: Cause,
        validate_only: bool,
    ) -> Result<Vec<BatchItem<Configured>>, Refused> {
        let _turn = self.inner.turn().await?;
        self.validate(&drafts.iter().collect::<Vec<_>>(), &prune)?;
        let mut items = Vec::with_capacity(drafts.len() + prune.len());
        for draft in drafts {
            let name = draft.name.clone();
            let guard = Precondition::default();
            let result = self
                .apply_valid(draft, guard, rollout, cause.clone(), validate_only)
                .await;
            items.push(BatchItem { name, result });
        }
        for name in prune {
            let result = self.prune(&name, cause.clone(), validate_only).await;
            items.push(BatchItem { name, result });
        }
        Ok(items)
    }

    async fn prune(
        &self,
        name: &ProcessName,
        cause: Cause,
        validate_only: bool,
    ) -> Result<Configured, Refused> {
        let node = self
            .registry()
            .get(name.as_str())
            .ok_or_else(|| Refused::NotFound(name.clone()))?;
        let live = node.body().status.state.is_alive();
        let mut position = Position {
            revision: node.revision(),
            run_id: 0,
        };
        let mut after = node;
        if !validate_only {
            let target = Target::unguarded(name.clone());
            let ack = self.delete(target, StopPolicy::default(), false, cause);
            let ack = ack.await?;
            (after, position) = (ack.node, ack.position);
        }
        let outcome = Outcome::Pruned;
        Ok(Configured {
            outcome,
            node: Some(after),
            changes: Vec::new(),
            live,
            deferred: false,
            position,
        })
    }

    async fn apply_valid(
        &self,
        draft: Draft,
        guard: Precondition,
        rollout: Rollout,
        cause: Cause,
        validate_only: bool,
    ) -> Result<Configured, Refused> {
        match self.registry().get(draft.name.as_str()) {
            None if validate_only => Ok(planned(&draft.config)),
            None => self.create_valid(draft, cause),
            Some(_) => {
                let Draft { name, config } = draft;
                let configure = Configure {
                    config,
                    rollout,
                    guard,
                    cause,
                    validate_only,
                };
                self.configure(name, configure).await
            }
        }
    }

    /// Everything that can be said before anything is changed.
    fn validate(&self, drafts: &[&Draft], prune: &[ProcessName]) -> Result<(), Refused> {
        let faults: Vec<_> = drafts
            .iter()
            .filter_map(|draft| draft.config.validate(&draft.name).err())
            .flatten()
            .collect();
        if !faults.is_empty() {
            return Err(Refused::Invalid(faults));
        }
        let new: BTreeSet<_> = drafts.iter().map(|draft| &draft.name).collect();
        let pruned: BTreeSet<_> = prune.iter().collect();
        let will_exist = |name: &ProcessName| {
            new.contains(name)
                || (!pruned.contains(name) && self.registry().get(name.as_str()).is_some())
        };
        let mut graph = self.graph();
        for draft in drafts {
            for dependency in draft.config.dependencies.iter().filter(|d| !d.optional) {
                if !will_exist(&dependency.name) {
                    let (process, missing) = (draft.name.clone(), dependency.name.clone());
                    return Err(GraphError::Missing { process, missing }.into());
                }
            }
            graph.put(draft.name.clone(), &draft.config.dependencies);
        }
        graph.check(new)?;
        let count = self.inner.mailboxes().len();
        let created = drafts
            .iter()
            .filter(|d| self.registry().get(d.name.as_str()).is_none());
        if count + created.count() > PROCESSES_MAX {
            return Err(Refused::Quota {
                limit: "processes_max",
                max: PROCESSES_MAX,
            });
        }
        Ok(())
    }

    async fn configure(
        &self,
        name: ProcessName,
        configure: Configure,
    ) -> Result<Configured, Refused> {
        let dependencies = configure.config.dependencies.clone();
        let validate_only = configure.validate_only;
        let mailbox = self.inner.mailbox(&name)?;
        let configured = mailbox
            .ask(|reply| Message::Configure(Box::new(configure), reply))
            .await?;
        if !validate_only {
            let mailboxes = self.inner.mailboxes();
            if mailboxes.contains_key(&name) {
                self.inner.graph().put(name, &dependencies);
            }
        }
        Ok(configured)
    }

    fn create_valid(&self, draft: Draft, cause: Cause) -> Result<Configured, Refused> {
        let inner = &self.inner;
        let now = inner.clock.now().wall;
        let Draft { name, config } = draft;
        let desired = if config.autostart {
            Desired::Running
        } else {
            Desired::Stopped
        };
        let spec = Arc::new(Spec {
            name: name.clone(),
            generation: 1,
            created: now,
            config,
        });
        let life = Lifecycle::new(desired, cause.clone(), now);
        let state = ProcessState {
            spec: Arc::clone(&spec),
            status: life.status.clone(),
            cause,
            time: now,
        };
        let mut mailboxes = inner.mailboxes();
        inner.graph().put(name.clone(), &spec.config.dependencies);
        let node =
            inner
                .registry
                .create((inner.new_uid)(), state)
                .map_err(|error| match error {
                    CreateError::Full => Refused::Quota {
                        limit: "processes_max",
                        max: PROCESSES_MAX,
                    },
                    CreateError::Exists(node) => Refused::Exists {
                        name: name.clone(),
                        uid: node.uid(),
                    },
                })?;
        let slot = inner.registry.slot(name.as_str());
        let slot = slot.ok_or_else(|| Refused::NotFound(name.clone()))?;
        let (mailbox, messages) = Mailbox::new(name.clone());
        mailboxes.insert(name, mailbox);
        drop(mailboxes);
        let position = Position {
            revision: node.revision(),
            run_id: 1,
        };
        let driver = Driver {
            shared: Arc::clone(inner),
            slot,
            node: node.clone(),
            spec,
            life,
            messages,
            run: None,
            freeze: None,
            waiters: Waiters::default(),
            look_again: Arc::new(Notify::new()),
            followed: HashMap::new(),
            removed: false,
        };
        inner.tracker.spawn_on(driver.run(), &inner.runtime);
        Ok(Configured {
            outcome: Outcome::Created,
            node: Some(node),
            changes: Vec::new(),
            live: desired == Desired::Running,
            deferred: false,
            position,
        })
    }
}

// === impl Inner ===

impl Inner {
    /// Waits for the turn to change configurations.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refused> {
        let turn = self.configuring.lock().await;
        if self.closing.load(Ordering::Acquire) {
            return Err(Refused::ShuttingDown);
        }
        Ok(turn)
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

    pub(super) fn launch(&self, spec: &Spec, uid: Uid, run_id: i64, writers: Writers) -> Launch {
        launch_of(spec, uid, run_id, &self.base_env, writers)
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

    fn mailboxes(&self) -> MutexGuard<'_, HashMap<ProcessName, Mailbox>> {
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

fn planned(config: &Config) -> Configured {
    Configured {
        outcome: Outcome::Created,
        node: None,
        changes: Vec::new(),
        live: config.autostart,
        deferred: false,
        position: Position {
            revision: Revision::ZERO,
            run_id: 0,
        },
    }
}
