//! Lifecycle commands: on one process, on many in dependency order, and on all at
//! the end.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    api::{Ack, BatchItem, Control, Refused, Target, WaitFor, WaitResult},
    mailbox::Message,
    root::Supervisor,
};
use crate::domain::{
    id::{ProcessName, Revision},
    run::SignalScope,
    spec::StopPolicy,
    status::Cause,
    wait::Condition,
};

impl Supervisor {
    /// Carries out `control`; returns once the change is published.
    ///
    /// # Errors
    /// There is no such process, a guard does not hold, or the state forbids it.
    pub async fn control(
        &self,
        target: Target,
        control: Control,
        cause: Cause,
    ) -> Result<Ack, Refused> {
        let starts = matches!(control, Control::Start | Control::Restart(_));
        if starts && self.inner.closing.load(Ordering::Acquire) {
            return Err(Refused::ShuttingDown);
        }
        let Target { name, guard } = target;
        let mailbox = self.inner.mailbox(&name)?;
        mailbox
            .ask(|reply| Message::Control {
                control,
                guard,
                cause,
                reply,
            })
            .await
    }

    /// Wants the process gone; returns once that is published. Wait for
    /// [`Condition::Deleted`] of its uid to see it gone.
    ///
    /// # Errors
    /// There is no such process, a guard does not hold, or a run is up and
    /// `only_if_stopped` is set.
    pub async fn delete(
        &self,
        target: Target,
        stop: StopPolicy,
        only_if_stopped: bool,
        cause: Cause,
    ) -> Result<Ack, Refused> {
        let Target { name, guard } = target;
        let mailbox = self.inner.mailbox(&name)?;
        let message = |reply| Message::Delete {
            stop,
            only_if_stopped,
            guard,
            cause,
            reply,
        };
        mailbox.ask(message).await
    }

    /// Sends a signal to the live run and returns the run's id.
    ///
    /// # Errors
    /// Nothing runs, there is no cgroup for that scope, or the kernel refuses.
    pub async fn signal(
        &self,
        target: Target,
        number: i32,
        scope: SignalScope,
        cause: Cause,
    ) -> Result<i64, Refused> {
        let Target { name, guard } = target;
        let mailbox = self.inner.mailbox(&name)?;
        mailbox
            .ask(|reply| Message::Signal {
                number,
                scope,
                guard,
                cause,
                reply,
            })
            .await
    }

    /// Waits until the condition holds or can no longer hold. Dropping the future
    /// gives up; the caller bounds the time.
    ///
    /// # Errors
    /// There is no such process, the position is in the future, the run is
    /// forgotten, or (for `Deleted`) its tree will not die.
    pub async fn wait(&self, wait: WaitFor) -> Result<WaitResult, Refused> {
        let gone = |deleted: bool| {
            Ok(WaitResult {
                satisfied: deleted,
                node: None,
            })
        };
        let deleted = wait.condition == Condition::Deleted;
        let incarnation = wait.uid.is_some();
        let mailbox = match self.inner.mailbox(&wait.name) {
            // The incarnation asked for was there and is no more.
            Err(Refused::NotFound(_)) if incarnation => return gone(deleted),
            other => other?,
        };
        match mailbox.ask(|reply| Message::Wait(wait, reply)).await {
            Err(Refused::NotFound(_)) if incarnation => gone(deleted),
            // Another incarnation has the name: the one asked for is gone.
            Ok(WaitResult { node: None, .. }) => gone(deleted),
            other => other,
        }
    }

    /// Starts everything that the process depends on, and the process.
    ///
    /// # Errors
    /// As [`Supervisor::control`], for the process itself; nothing is started then.
    pub async fn start_with_dependencies(
        &self,
        target: Target,
        cause: Cause,
    ) -> Result<Ack, Refused> {
        let ack = self
            .control(target.clone(), Control::Start, cause.clone())
            .await?;
        let order = self.graph().with_dependencies(&target.name);
        for name in order.into_iter().filter(|name| *name != target.name) {
            let target = Target::unguarded(name);
            match self.control(target, Control::Start, cause.clone()).await {
                // An optional dependency need not exist.
                Ok(_) | Err(Refused::NotFound(_)) => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(ack)
    }

    /// Stops everything that depends on the process, waits for that, then stops
    /// the process.
    ///
    /// # Errors
    /// As [`Supervisor::control`], for the process itself.
    pub async fn stop_with_dependents(
        &self,
        target: Target,
        stop: StopPolicy,
        cause: Cause,
    ) -> Result<Ack, Refused> {
        if self.registry().get(target.name.as_str()).is_none() {
            return Err(Refused::NotFound(target.name));
        }
        let dependents = self.graph().dependents(&target.name).into_iter().collect();
        self.control_many(
            dependents,
            Control::Stop(StopPolicy::default()),
            true,
            cause.clone(),
        )
        .await;
        self.control(target, Control::Stop(stop), cause).await
    }

    /// Carries out `control` on each. `ordered` stops a process only once those of
    /// `names` that depend on it have settled; starts need no order of ours, since
    /// each waits in PENDING for what it depends on.
    pub async fn control_many(
        &self,
        names: Vec<ProcessName>,
        control: Control,
        ordered: bool,
        cause: Cause,
    ) -> Vec<BatchItem<Ack>> {
        let ordered = ordered && matches!(control, Control::Stop(_));
        let before = if ordered {
            self.graph().dependents_of_each(&names)
        } else {
            BTreeMap::new()
        };
        let done: BTreeMap<_, _> = names
            .iter()
            .map(|name| (name.clone(), CancellationToken::new()))
            .collect();
        let one = |name: ProcessName| {
            let (control, cause, done, before) = (control.clone(), cause.clone(), &done, &before);
            async move {
                for dependent in before.get(&name).into_iter().flatten() {
                    if let Some(done) = done.get(dependent) {
                        done.cancelled().await;
                    }
                }
                let result = self
                    .control(Target::unguarded(name.clone()), control, cause)
                    .await;
                if ordered && let Ok(ack) = &result {
                    self.settled(&name, ack.position.revision).await;
                }
                if let Some(done) = done.get(&name) {
                    done.cancel();
                }
                BatchItem { name, result }
            }
        };
        join_all(names.into_iter().map(one)).await
    }

    async fn settled(&self, name: &ProcessName, from: Revision) {
        let condition = Condition::Settled;
        let wait = WaitFor {
            name: name.clone(),
            uid: None,
            condition,
            run_id: 0,
            from,
        };
        // Refused means gone: settled for good.
        let _ = self.wait(wait).await;
    }

    /// Refuses new work and stops everything, dependents first. Names whose tree
    /// would not die are returned.
    pub async fn shutdown(&self, cause: Cause) -> Vec<ProcessName> {
        self.inner.close().await;
        let control = Control::Stop(StopPolicy::default());
        self.control_many(self.inner.names(), control, true, cause)
            .await;
        self.unsettled()
    }

    /// Kills everything at once; for the impatient, beside a running `shutdown`.
    pub async fn kill_all(&self, cause: Cause) {
        self.inner.close().await;
        let now = StopPolicy {
            grace_period: Some(Duration::ZERO),
            ..StopPolicy::default()
        };
        self.control_many(self.inner.names(), Control::Stop(now), false, cause)
            .await;
    }

    fn unsettled(&self) -> Vec<ProcessName> {
        let nodes = self.registry().snapshot().nodes;
        nodes
            .iter()
            .map(|node| node.body())
            .filter(|state| !state.status.details.surviving_pids.is_empty())
            .map(|state| state.spec.name.clone())
            .collect()
    }
}
