//! Configuration: create, update, apply, prune.
//!
//! Changes run one at a time, so that each sees the graph that the one before left.
//! Everything that can be said against a set of configurations is said before any
//! of it is applied.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;

use super::{
    api::{BatchItem, Configured, Draft, Edit, Outcome, Refused, Rollout, Target},
    intent::Intent,
    mailbox::{Configure, Message},
    root::Supervisor,
};
use crate::domain::{
    admission::Precondition,
    graph::{Graph, GraphError},
    id::{ProcessName, Revision, Uid},
    lifecycle::Lifecycle,
    limits::PROCESSES_MAX,
    spec::{Config, Spec, StopPolicy},
    status::{Cause, Desired, Position},
};

/// A process that is to be, and is not yet published.
struct Newborn {
    uid: Uid,
    spec: Arc<Spec>,
    desired: Desired,
    cause: Cause,
}

/// One process of a batch.
enum Item {
    Newborn(Newborn),
    /// It exists, or nothing is to be applied.
    Draft(Box<Draft>),
}

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
        self.create_valid(draft, cause).await
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
        let items: Vec<Item> = drafts
            .into_iter()
            .map(|draft| {
                let exists = self.registry().get(draft.name.as_str()).is_some();
                if exists || validate_only {
                    Item::Draft(Box::new(draft))
                } else {
                    Item::Newborn(self.conceive(draft, cause.clone()))
                }
            })
            .collect();
        self.keep_all(items.iter().filter_map(Item::newborn))
            .await?;
        // Together, since each waits for the disk.
        let applied = items
            .into_iter()
            .map(|item| self.apply_item(item, rollout, cause.clone(), validate_only));
        let mut items = join_all(applied).await;
        let pruned = prune.into_iter().map(|name| {
            let cause = cause.clone();
            async move {
                let result = self.prune(&name, cause, validate_only).await;
                BatchItem { name, result }
            }
        });
        items.extend(join_all(pruned).await);
        Ok(items)
    }

    async fn apply_item(
        &self,
        item: Item,
        rollout: Rollout,
        cause: Cause,
        validate_only: bool,
    ) -> BatchItem<Configured> {
        match item {
            Item::Newborn(newborn) => BatchItem {
                name: newborn.spec.name.clone(),
                result: self.bear(newborn),
            },
            Item::Draft(draft) => BatchItem {
                name: draft.name.clone(),
                result: self
                    .apply_valid(
                        *draft,
                        Precondition::default(),
                        rollout,
                        cause,
                        validate_only,
                    )
                    .await,
            },
        }
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
            None => self.create_valid(draft, cause).await,
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

    async fn create_valid(&self, draft: Draft, cause: Cause) -> Result<Configured, Refused> {
        let newborn = self.conceive(draft, cause);
        self.keep_all([&newborn].into_iter()).await?;
        self.bear(newborn)
    }

    fn conceive(&self, draft: Draft, cause: Cause) -> Newborn {
        let Draft { name, config } = draft;
        let desired = if config.autostart {
            Desired::Running
        } else {
            Desired::Stopped
        };
        Newborn {
            uid: (self.inner.new_uid)(),
            spec: Arc::new(Spec {
                name,
                generation: 1,
                created: self.inner.clock.now().wall,
                config,
            }),
            desired,
            cause,
        }
    }

    /// All together, so that they share the way to the disk; all of them or none.
    async fn keep_all<'a>(
        &self,
        newborns: impl Iterator<Item = &'a Newborn> + Clone,
    ) -> Result<(), Refused> {
        let store = &self.inner.intents;
        let receipts: Vec<_> = newborns
            .clone()
            .map(|newborn| store.keep(newborn.intent()))
            .collect();
        let mut result = Ok(());
        for receipt in receipts {
            if let Err(error) = receipt.await {
                result = Err(error.into());
            }
        }
        if result.is_err() {
            // Those that were kept must not come to life after a restart.
            for newborn in newborns {
                drop(store.keep(Intent {
                    number: 1,
                    desired: Desired::Deleted,
                    spec: None,
                    ..newborn.intent()
                }));
            }
        }
        result
    }

    /// Publishes what was kept, and gives it an owner.
    fn bear(&self, newborn: Newborn) -> Result<Configured, Refused> {
        let inner = &self.inner;
        let Newborn {
            uid,
            spec,
            desired,
            cause,
        } = newborn;
        let mut mailboxes = inner.mailboxes();
        let dependencies = &spec.config.dependencies;
        inner.graph().put(spec.name.clone(), dependencies);
        let node = inner.publish_new(uid, &spec, desired, cause)?;
        let state = node.body();
        let life = Lifecycle::restore(state.status.clone(), state.cause.clone());
        inner.own(&mut mailboxes, node.clone(), spec, life, |driver| driver)?;
        drop(mailboxes);
        let position = Position {
            revision: node.revision(),
            run_id: 1,
        };
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

// === impl Item ===

impl Item {
    const fn newborn(&self) -> Option<&Newborn> {
        match self {
            Self::Newborn(newborn) => Some(newborn),
            Self::Draft(_) => None,
        }
    }
}

// === impl Newborn ===

impl Newborn {
    fn intent(&self) -> Intent {
        Intent {
            uid: self.uid,
            name: self.spec.name.clone(),
            number: 0,
            desired: self.desired,
            spec: Some(Arc::clone(&self.spec)),
            begin: false,
            instead_of: 0,
            run_id: 1,
            cause: self.cause.clone(),
        }
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
