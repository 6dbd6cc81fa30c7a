//! Configuration: create, update, apply, prune.
//!
//! Changes run one at a time, so that each sees the graph that the one before left.
//! Everything that can be said against a set of configurations is said before any
//! of it is applied.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::Notify;

use super::{
    api::{BatchItem, Configured, Draft, Edit, Outcome, Refused, Rollout, Target},
    driver::Driver,
    mailbox::{Configure, Mailbox, Message},
    root::Supervisor,
    waiters::Waiters,
};
use crate::{
    domain::{
        admission::Precondition,
        graph::{Graph, GraphError},
        id::{ProcessName, Revision},
        lifecycle::Lifecycle,
        limits::PROCESSES_MAX,
        spec::{Config, Spec, StopPolicy},
        status::{Cause, Desired, Position, ProcessState},
    },
    registry::CreateError,
};

impl Supervisor {
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
        let mut graph = Graph::default();
        for draft in drafts {
            for dependency in draft.config.dependencies.iter().filter(|d| !d.optional) {
                if !will_exist(&dependency.name) {
                    let (process, missing) = (draft.name.clone(), dependency.name.clone());
                    return Err(GraphError::Missing { process, missing }.into());
                }
            }
            graph.put(draft.name.clone(), &draft.config.dependencies);
        }
        self.inner.graph().check(&graph)?;
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
