//! What a decision does to the world: launches, signals, freezes, removal.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use super::{
    api::{Ack, Refused},
    driver::Driver,
    mailbox::Reply,
    stdin::{LiveProcess, Turns},
};
use crate::{
    domain::{
        event::{Effect, Event},
        id::ProcessName,
        run::{RunEvent, SignalScope},
        spec::{self, Spec},
        status::Cause,
    },
    runner::{Adopt, Identity, Launch, LogPolicy, Rlimit, Run, SignalError, Stdin},
};

/// Events of one run that its owner has not read yet; a run tells fewer.
pub(super) const RUN_EVENTS_MAX: usize = 16;

/// The handle of a run and its events.
pub(super) struct LiveRun {
    handle: Option<Arc<dyn Run>>,
    /// Who may write to it now.
    turns: Arc<Turns>,
    events: mpsc::Receiver<RunEvent>,
    /// The total over all logs is kept meanwhile.
    _writing: crate::logs::Writing,
}

/// A freeze or thaw that the runner has not confirmed yet.
pub(super) struct PendingFreeze {
    answer: oneshot::Receiver<Result<(), SignalError>>,
    freeze: bool,
    cause: Cause,
    reply: Reply<Ack>,
}

// === impl LiveRun ===

impl LiveRun {
    /// The next event; never, without a run. A runner that vanishes without
    /// `Empty` would leave the process in limbo for ever, so it counts as lost.
    pub(super) async fn next(run: &mut Option<Self>) -> RunEvent {
        match run {
            None => std::future::pending().await,
            Some(run) => run.events.recv().await.unwrap_or(RunEvent::Empty),
        }
    }

    /// The next event, if it is there already.
    pub(super) fn try_next(run: &mut Option<Self>) -> Option<RunEvent> {
        run.as_mut()?.events.try_recv().ok()
    }
}

// === impl PendingFreeze ===

impl PendingFreeze {
    /// The runner's answer; never, when nothing is pending.
    pub(super) async fn next(pending: &mut Option<Self>) -> Result<(), SignalError> {
        match pending {
            None => std::future::pending().await,
            Some(pending) => (&mut pending.answer)
                .await
                .unwrap_or(Err(SignalError::Gone)),
        }
    }
}

// === impl Driver ===

impl Driver {
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Launch(run_id) => self.launch(run_id),
                Effect::Adopt(run_id) => self.adopt(run_id),
                Effect::Stop(plan) => {
                    if let Some(handle) = self.handle() {
                        handle.stop(plan);
                    }
                }
                Effect::Remove => self.remove(),
            }
        }
    }

    fn launch(&mut self, run_id: i64) {
        self.follow();
        // BOUND: RUN_EVENTS_MAX; the run protocol has fewer events.
        let (sender, events) = mpsc::channel(RUN_EVENTS_MAX);
        let launch = self.shared.launch(&self.spec, self.node.uid(), run_id);
        let handle = self.shared.runner.launch(launch, sender);
        self.run = Some(self.live(handle, events));
    }

    fn adopt(&mut self, run_id: i64) {
        self.follow();
        // BOUND: RUN_EVENTS_MAX; the run protocol has fewer events.
        let (sender, events) = mpsc::channel(RUN_EVENTS_MAX);
        let adopt = Adopt {
            uid: self.node.uid(),
            run_id,
            name: self.spec.name.clone(),
            stop: self.spec.config.stop.plan(),
            log_policy: Some(log_policy(&self.spec)),
        };
        let handle = self.shared.runner.adopt(adopt, sender);
        self.run = Some(self.live(handle, events));
    }

    /// What can be changed while it runs.
    pub(super) fn tell_changes(&self, old: &Spec) {
        let policy = log_policy(&self.spec);
        if policy != log_policy(old)
            && let Some(handle) = self.handle()
        {
            handle.keep_output(policy);
        }
    }

    /// The run that can be asked for something.
    fn handle(&self) -> Option<&Arc<dyn Run>> {
        self.run.as_ref()?.handle.as_ref()
    }

    fn live(&self, handle: Box<dyn Run>, events: mpsc::Receiver<RunEvent>) -> LiveRun {
        LiveRun {
            handle: Some(Arc::from(handle)),
            turns: Arc::default(),
            events,
            _writing: self.shared.logs.writing(),
        }
    }

    /// Notes the runs that a restart of a dependency is measured against.
    pub(super) fn follow(&mut self) {
        let followed = self
            .spec
            .config
            .dependencies
            .iter()
            .filter(|d| d.restart_with);
        self.followed = followed
            .filter_map(|d| {
                let node = self.shared.registry.get(d.name.as_str())?;
                Some((d.name.clone(), node.body().status.run_id))
            })
            .collect();
    }

    pub(super) fn signal(&mut self, number: i32, scope: SignalScope, reply: Reply<i64>) {
        let name = self.spec.name.clone();
        let run_id = self.life.status.run_id;
        let Some(handle) = self.handle() else {
            drop(reply.send(Err(Refused::Signal {
                name,
                number,
                errno: ESRCH,
            })));
            return;
        };
        let answer = handle.signal(number, scope);
        // The answer is a round trip away; the owner does not wait for it.
        self.shared.tracker.spawn(async move {
            let result = answer.await.unwrap_or(Err(SignalError::Gone));
            let _ = reply.send(match result {
                Ok(()) => Ok(run_id),
                Err(error) => Err(refused(name, number, error)),
            });
        });
    }

    /// Gives out the live run.
    pub(super) fn open(&self) -> Result<LiveProcess, Refused> {
        let name = &self.spec.name;
        let live = self.run.as_ref();
        let live = live.and_then(|run| Some((run.handle.as_ref()?, &run.turns)));
        let (handle, turns) = live.ok_or_else(|| Refused::StdinClosed(name.clone()))?;
        Ok(LiveProcess::new(
            self.node.clone(),
            Arc::clone(handle),
            Arc::clone(turns),
        ))
    }

    /// Freezes or thaws; the state changes when the runner has confirmed it.
    pub(super) fn freeze(&mut self, freeze: bool, cause: Cause, reply: Reply<Ack>) {
        let handle = self.handle();
        match handle {
            _ if self.freeze.is_some() => {
                drop(reply.send(Err(Refused::Overloaded(self.spec.name.clone()))));
            }
            None => drop(reply.send(Ok(self.ack(self.life.status.run_id)))),
            Some(handle) => {
                let answer = if freeze {
                    handle.freeze()
                } else {
                    handle.thaw()
                };
                self.freeze = Some(PendingFreeze {
                    answer,
                    freeze,
                    cause,
                    reply,
                });
            }
        }
    }

    pub(super) fn frozen(&mut self, result: Result<(), SignalError>) {
        let Some(PendingFreeze {
            freeze,
            cause,
            reply,
            ..
        }) = self.freeze.take()
        else {
            return;
        };
        let answer = match result {
            Ok(()) => {
                self.apply(if freeze {
                    Event::Paused(cause)
                } else {
                    Event::Resumed(cause)
                });
                Ok(self.ack(self.life.status.run_id))
            }
            Err(error) => {
                let number = if freeze { SIGSTOP } else { SIGCONT };
                Err(refused(self.spec.name.clone(), number, error))
            }
        };
        let _ = reply.send(answer);
    }

    /// Publishes the deletion; the task then ends.
    fn remove(&mut self) {
        self.removed = true;
        if let Some(node) = self.shared.remove(&self.slot, self.state()) {
            self.node = node;
        }
        self.shared.logs.remove(self.node.uid());
        self.shared.dependents.notify(&self.spec.name);
    }
}

/// Linux numbers that are the same on every architecture we run on.
const ESRCH: i32 = 3;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

pub(super) fn refused(name: ProcessName, number: i32, error: SignalError) -> Refused {
    match error {
        SignalError::Gone => Refused::Signal {
            name,
            number,
            errno: ESRCH,
        },
        SignalError::Refused(errno) => Refused::Signal {
            name,
            number,
            errno,
        },
        SignalError::NoCgroup => Refused::NoCgroup(name),
        SignalError::Busy => Refused::Overloaded(name),
    }
}

/// What the runner is told of a spec.
pub(super) fn launch_of(
    spec: &Spec,
    uid: crate::domain::id::Uid,
    run_id: i64,
    base_env: &[(OsString, OsString)],
) -> Launch {
    let config = &spec.config;
    let mut env: Vec<(OsString, OsString)> = if config.clear_env {
        Vec::new()
    } else {
        base_env.to_vec()
    };
    env.retain(|(key, _)| key != "PROCESSION_NAME" && key != "PROCESSION_RUN_ID");
    env.push(("PROCESSION_NAME".into(), spec.name.as_str().into()));
    env.push(("PROCESSION_RUN_ID".into(), run_id.to_string().into()));
    let mut rlimits: Vec<Rlimit> = config.rlimits.iter().map(rlimit).collect();
    if let Ok(most @ 1..) = u64::try_from(config.open_files_max) {
        rlimits.push(Rlimit {
            resource: "nofile".into(),
            soft: most,
            hard: most,
        });
    }
    Launch {
        uid,
        run_id,
        name: spec.name.clone(),
        argv: config.command.iter().map(OsString::from).collect(),
        env,
        env_files: config.env_files.iter().map(PathBuf::from).collect(),
        env_overrides: config
            .env
            .iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect(),
        working_directory: config.working_directory.as_ref().map(PathBuf::from),
        identity: config.run_as.as_ref().map(|id| Identity {
            user: Some(id.user.clone()),
            group: (!id.group.is_empty()).then(|| id.group.clone()),
            supplementary_groups: id.supplementary_groups.clone(),
        }),
        umask: config.umask,
        nice: (config.nice != 0).then_some(config.nice),
        oom_score_adj: config.oom_score_adj,
        rlimits,
        stdin: stdin(&config.stdio),
        log_policy: log_policy(spec),
        merge_stderr: config.stdio.merge_stderr,
        stop: config.stop.plan(),
    }
}

fn stdin(stdio: &spec::Stdio) -> Stdin {
    match &stdio.stdin_file {
        _ if stdio.tty => Stdin::Tty,
        _ if stdio.open_stdin => Stdin::Pipe,
        Some(file) => Stdin::File(file.into()),
        None => Stdin::Null,
    }
}

fn log_policy(spec: &Spec) -> LogPolicy {
    let asked = spec.config.stdio.log_policy.clone().unwrap_or_default();
    LogPolicy {
        max_bytes: asked.max_bytes(),
        segment_bytes: u64::try_from(asked.segment_bytes).unwrap_or_default(),
        max_segments: u32::try_from(asked.max_segments).unwrap_or_default(),
        max_age: asked.max_age.unwrap_or_default(),
        drop_when_full: asked.drop_when_full == Some(true),
    }
}

fn rlimit(limit: &spec::Rlimit) -> Rlimit {
    // -1 is "unlimited", which the kernel writes as the largest number.
    let kernel = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    Rlimit {
        resource: limit.name.clone(),
        soft: kernel(limit.soft),
        hard: kernel(limit.hard.unwrap_or(limit.soft)),
    }
}
