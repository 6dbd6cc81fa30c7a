//! The whole lifecycle, one table: what follows from an event.
//!
//! ```text
//!            Start                  gate open            exec + start_grace
//! STOPPED ----------> PENDING ----------------> STARTING -----------------> RUNNING <-> PAUSED
//!    ^                   ^                         | |                         |
//!    |                   |  timer, gate held       | | exit, stop, timeout     | exit, stop
//!    |                BACKOFF <--------------+     | v                         v
//!    |                                       +--- STOPPING (until the tree is proven empty)
//!    +-- asked to stop ----------------------+      |            |
//!                                                   v            v
//!                                               SUCCEEDED      FAILED
//! ```
//!
//! Invariants: no run begins before the last one is `Empty`; a stop is recorded
//! before its first signal; a run leaves exactly one exit record; a process whose
//! desired state is not running begins no run; times come from the caller.
//! PENDING is passed over in one step where nothing holds it.

use super::{
    event::{Effect, Event, Gate},
    lifecycle::{Context, Lifecycle, LiveRun, StopWhy, join},
    run::{Exit, Outcome, RunEvent, StopPlan},
    spec::Spec,
    status::{Cause, Desired, Reason, Stage, State},
    time::Timestamp,
};

mod end;
mod facts;
mod recover;
#[cfg(test)]
mod tests;

/// What `event` makes of `life`, and what must be done once that is published.
#[must_use]
pub fn transition(
    spec: &Spec,
    mut life: Lifecycle,
    event: Event,
    ctx: &Context,
) -> (Lifecycle, Vec<Effect>) {
    let effects = match event {
        Event::Start(cause) => start(spec, &mut life, cause, ctx),
        Event::Stop(cause, plan) => stop(&mut life, Desired::Stopped, cause, plan, ctx),
        Event::Delete(cause, plan) => stop(&mut life, Desired::Deleted, cause, plan, ctx),
        Event::Restart(cause, plan) => restart(spec, &mut life, cause, plan, ctx),
        Event::Paused(cause) => pause(&mut life, State::Running, State::Paused, cause, ctx),
        Event::Resumed(cause) => pause(&mut life, State::Paused, State::Running, cause, ctx),
        Event::Reset(cause) => reset(&mut life, cause, ctx),
        Event::Configured { cause, stale } => {
            life.stale = life.has_run() && (life.stale || stale);
            life.cause = cause;
            dependencies(spec, &mut life, ctx)
        }
        Event::Dependencies => dependencies(spec, &mut life, ctx),
        Event::DependencyRestarted => {
            let plan = spec.config.stop.plan();
            match life.status.state {
                State::Starting | State::Running | State::Reloading | State::Paused => {
                    restart(spec, &mut life, Cause::SUPERVISOR, plan, ctx)
                }
                _ => Vec::new(),
            }
        }
        Event::Run(id, event) if id == life.status.run_id && life.has_run() => {
            run(spec, &mut life, event, ctx)
        }
        // A run that is over has nothing more to say.
        Event::Run(..) => Vec::new(),
        Event::Tick => tick(spec, &mut life, ctx),
        Event::Recover(found) => recover::recover(spec, &mut life, found, ctx),
        Event::IntentKept(kept) => {
            life.note_intent_kept(kept, ctx.now);
            Vec::new()
        }
    };
    life.refresh_conditions(spec, ctx);
    (life, effects)
}

fn start(spec: &Spec, life: &mut Lifecycle, cause: Cause, ctx: &Context) -> Vec<Effect> {
    let wanted = life.status.desired == Desired::Running;
    match life.status.state {
        State::Starting | State::Running | State::Reloading | State::Paused => Vec::new(),
        // The tree must be empty first; `end` then begins the next run.
        State::Stopping => {
            if !wanted {
                life.status.desired = Desired::Running;
                life.cause = cause;
            }
            Vec::new()
        }
        State::Pending if wanted => Vec::new(),
        _ => {
            life.status.desired = Desired::Running;
            forgive(life);
            begin(spec, life, cause, ctx)
        }
    }
}

fn stop(
    life: &mut Lifecycle,
    desired: Desired,
    cause: Cause,
    plan: StopPlan,
    ctx: &Context,
) -> Vec<Effect> {
    if life.status.desired != desired {
        life.status.desired = desired;
        life.cause = cause.clone();
    }
    if life.run.is_some() {
        return end_run(life, cause, StopWhy::Asked, plan, ctx);
    }
    if matches!(
        life.status.state,
        State::Pending | State::Backoff | State::Unknown
    ) {
        life.enter(State::Stopped, Reason::None, cause, ctx.now);
    }
    if desired == Desired::Deleted {
        vec![Effect::Remove]
    } else {
        Vec::new()
    }
}

fn restart(
    spec: &Spec,
    life: &mut Lifecycle,
    cause: Cause,
    plan: StopPlan,
    ctx: &Context,
) -> Vec<Effect> {
    if life.run.is_none() {
        life.status.desired = Desired::Running;
        forgive(life);
        life.status.restart_count += i64::from(life.status.run_id > 0);
        return begin(spec, life, cause, ctx);
    }
    life.status.desired = Desired::Running;
    end_run(life, cause, StopWhy::Asked, plan, ctx)
}

/// Stops the live run, or hurries a stop that is under way.
fn end_run(
    life: &mut Lifecycle,
    cause: Cause,
    why: StopWhy,
    plan: StopPlan,
    ctx: &Context,
) -> Vec<Effect> {
    let fresh = life.run.as_ref().is_some_and(|run| run.stop.is_none());
    // The main process may have ended already; what is left is being stopped.
    let ended = life.status.current_exit().is_some();
    if fresh && !ended {
        let reason = if why == StopWhy::StartTimeout {
            Reason::StartTimeout
        } else {
            Reason::None
        };
        life.enter(State::Stopping, reason, cause.clone(), ctx.now);
        life.status.stage = Stage::Signal;
    }
    if life.status.reason == Reason::StopFailed {
        // Another try at the survivors.
        if let Some(run) = &mut life.run {
            run.stop = None;
        }
        life.enter(State::Stopping, Reason::None, cause.clone(), ctx.now);
        life.status.stage = Stage::Signal;
    }
    if life.note_stop(&cause, why, plan, ctx.now) {
        vec![Effect::Stop(plan)]
    } else {
        Vec::new()
    }
}

fn pause(life: &mut Lifecycle, from: State, to: State, cause: Cause, ctx: &Context) -> Vec<Effect> {
    if life.status.state == from {
        let timers = life.timers;
        life.enter(to, Reason::None, cause, ctx.now);
        life.timers = timers;
    }
    Vec::new()
}

fn reset(life: &mut Lifecycle, cause: Cause, ctx: &Context) -> Vec<Effect> {
    forgive(life);
    if life.status.state == State::Failed && life.run.is_none() {
        life.status.desired = Desired::Stopped;
        life.enter(State::Stopped, Reason::None, cause, ctx.now);
    }
    Vec::new()
}

/// A person's word clears what the policy holds against the process.
fn forgive(life: &mut Lifecycle) {
    life.streak = 0;
    life.status.consecutive_failures = 0;
    life.restarts.clear();
}

fn dependencies(spec: &Spec, life: &mut Lifecycle, ctx: &Context) -> Vec<Effect> {
    if life.status.desired != Desired::Running || life.run.is_some() {
        return Vec::new();
    }
    match (life.status.state, life.status.reason) {
        (State::Pending, _) => match &ctx.gate {
            Gate::Held(names) => {
                hold(life, names);
                Vec::new()
            }
            Gate::Open | Gate::Failed(_) => begin(spec, life, Cause::SUPERVISOR, ctx),
        },
        (State::Failed, Reason::DependencyFailed) if !matches!(ctx.gate, Gate::Failed(_)) => {
            begin(spec, life, Cause::SUPERVISOR, ctx)
        }
        _ => Vec::new(),
    }
}

/// Begins the next run, or says what holds it.
fn begin(spec: &Spec, life: &mut Lifecycle, cause: Cause, ctx: &Context) -> Vec<Effect> {
    debug_assert!(
        life.run.is_none(),
        "a run begins only when the last one is empty"
    );
    match &ctx.gate {
        Gate::Failed(name) => {
            life.enter(State::Failed, Reason::DependencyFailed, cause, ctx.now);
            life.say(format!("dependency {name} failed; starts when it recovers"));
            return Vec::new();
        }
        Gate::Held(names) => {
            life.enter(State::Pending, Reason::Dependency, cause, ctx.now);
            hold(life, names);
            return Vec::new();
        }
        Gate::Open => {}
    }
    life.enter(State::Starting, Reason::None, cause, ctx.now);
    let timeout = spec.config.start_timeout();
    life.stale = false;
    life.run = Some(LiveRun {
        began: ctx.now.mono,
        started: false,
        stop: None,
    });
    life.timers.start_timeout = Some(ctx.now.mono.after(timeout));
    let status = &mut life.status;
    status.stage = Stage::Spawn;
    status.run_id += 1;
    status.run_generation = spec.generation;
    status.start_time = ctx.now.wall;
    status.end_time = Timestamp::default();
    status.ready_time = Timestamp::default();
    status.deadline_time = ctx.now.wall.after(timeout);
    let run_id = status.run_id;
    life.set_details(|details| details.cgroup_path = Box::default());
    facts::forget(life);
    vec![Effect::Launch(run_id)]
}

fn hold(life: &mut Lifecycle, names: &[super::id::ProcessName]) {
    life.set_details(|details| {
        details.message = format!("waiting for {}", join(names)).into();
        details.waiting_on = names.to_vec();
    });
}

fn run(spec: &Spec, life: &mut Lifecycle, event: RunEvent, ctx: &Context) -> Vec<Effect> {
    match event {
        RunEvent::Spawned { pid, cgroup_path } => {
            life.status.pid = pid;
            life.cause = Cause::SUPERVISOR;
            life.set_details(|d| d.cgroup_path = cgroup_path.unwrap_or_default());
        }
        RunEvent::Adopted {
            pid,
            cgroup_path,
            started,
            began,
        } => {
            life.set_details(|d| d.cgroup_path = cgroup_path.unwrap_or_default());
            recover::adopted(spec, life, pid, began, started, ctx);
        }
        RunEvent::NotBegun => return recover::not_begun(spec, life, ctx),
        RunEvent::Started => executed(spec, life, ctx),
        RunEvent::Exited(exit) => exited(life, exit, ctx),
        RunEvent::Killing => {
            life.cause = Cause::SUPERVISOR;
            life.status.stage = Stage::Kill;
        }
        RunEvent::Survivors(pids) => {
            life.enter(
                State::Failed,
                Reason::StopFailed,
                Cause::SUPERVISOR,
                ctx.now,
            );
            life.say(format!("{} processes survive SIGKILL", pids.len()));
            life.set_details(|details| details.surviving_pids = pids);
        }
        RunEvent::Output(health) => facts::output(life, health, ctx.now),
        RunEvent::Unresponsive(silence) => facts::unresponsive(life, silence, ctx.now),
        RunEvent::Empty => {
            facts::ended(life, ctx.now);
            return end::ended(spec, life, ctx);
        }
    }
    Vec::new()
}

/// exec is confirmed: the run counts as started now or after its grace.
fn executed(spec: &Spec, life: &mut Lifecycle, ctx: &Context) {
    if life.status.state != State::Starting {
        return;
    }
    let grace = spec.config.restart.start_grace();
    if grace.is_zero() {
        return started(spec, life, ctx);
    }
    life.cause = Cause::KERNEL;
    life.status.stage = Stage::Probe;
    life.timers.started = Some(ctx.now.mono.after(grace));
}

fn started(spec: &Spec, life: &mut Lifecycle, ctx: &Context) {
    life.enter(State::Running, Reason::None, Cause::SUPERVISOR, ctx.now);
    life.status.ready = true;
    life.status.ready_time = ctx.now.wall;
    if let Some(run) = &mut life.run {
        run.started = true;
        if life.streak > 0 || life.status.consecutive_failures > 0 {
            life.timers.stable = Some(run.began.after(spec.config.restart.stable_after()));
        }
    }
}

/// The main process ended: told at once, settled when the tree is empty.
fn exited(life: &mut Lifecycle, exit: Exit, ctx: &Context) {
    if life.status.current_exit().is_some() {
        return;
    }
    let by_itself = life.run.as_ref().is_some_and(|run| run.stop.is_none());
    if by_itself {
        let reason = match exit.outcome {
            Outcome::Code(0) => Reason::None,
            _ => Reason::of(&exit),
        };
        life.enter(State::Stopping, reason, Cause::KERNEL, ctx.now);
    }
    life.cause = Cause::KERNEL;
    life.status.stage = Stage::Reap;
    life.record_exit(exit);
    facts::answered(life);
}

fn tick(spec: &Spec, life: &mut Lifecycle, ctx: &Context) -> Vec<Effect> {
    let due = |at: Option<super::time::Monotonic>| at.is_some_and(|at| at <= ctx.now.mono);
    if due(life.timers.backoff) {
        life.timers.backoff = None;
        life.status.restart_count += 1;
        return begin(spec, life, Cause::SUPERVISOR, ctx);
    }
    if due(life.timers.started) {
        life.timers.started = None;
        started(spec, life, ctx);
    }
    if due(life.timers.start_timeout) {
        life.timers.start_timeout = None;
        let plan = spec.config.stop.plan();
        let effects = end_run(life, Cause::SUPERVISOR, StopWhy::StartTimeout, plan, ctx);
        life.say(format!(
            "not started within {:?}",
            spec.config.start_timeout()
        ));
        return effects;
    }
    if due(life.timers.stable) {
        life.timers.stable = None;
        life.streak = 0;
        life.status.consecutive_failures = 0;
        life.cause = Cause::SUPERVISOR;
    }
    Vec::new()
}
