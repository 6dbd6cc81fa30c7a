//! Going on after the daemon was away, from the state that was kept of a process.
//!
//! What was kept may be a little older than what was: a run can have begun or
//! ended since. Invariants: a run that may live is either adopted or declared
//! unknown, never begun a second time; an end that nobody saw is unknown, never
//! guessed; what the user asked for is another matter and comes as an event of
//! its own.

use std::time::Duration;

use super::{
    super::{
        event::Effect,
        lifecycle::{Context, Lifecycle, LiveRun, StopWhy, Stopping},
        run::{Exit, Outcome, StopPlan, UnknownReason},
        spec::Spec,
        status::{Cause, ConditionKind, Desired, Reason, Stage, State},
        time::{Monotonic, Now, Timestamp},
    },
    begin, executed, facts,
};

/// `found` is the run that left a directory, if any did and it is not over.
pub(super) fn recover(
    spec: &Spec,
    life: &mut Lifecycle,
    found: Option<i64>,
    ctx: &Context,
) -> Vec<Effect> {
    // Whether it answers is to be seen again.
    facts::answered(life);
    match found {
        Some(id) if id > life.status.run_id => unseen(spec, life, id, ctx),
        Some(_) => same_run(spec, life, ctx),
        None if life.status.may_live() => without_a_trace(spec, life, ctx),
        None => wait_on(spec, life, ctx),
    }
}

/// A shim was found, or a new one took its place.
pub(super) fn adopted(
    spec: &Spec,
    life: &mut Lifecycle,
    pid: i32,
    began: Timestamp,
    started: bool,
    ctx: &Context,
) {
    life.cause = Cause::SUPERVISOR;
    life.set_condition(
        ConditionKind::Adopted,
        true,
        "ADOPTED",
        "begun by an earlier run of the daemon".to_owned(),
        ctx.now,
    );
    if life.status.current_exit().is_some() {
        return;
    }
    life.status.pid = pid;
    if life.status.start_time == Timestamp::default() {
        life.status.start_time = began;
    }
    if let Some(run) = &mut life.run {
        run.began = earlier(life.status.start_time, ctx.now);
    }
    if started {
        executed(spec, life, ctx);
    }
}

/// It never got to exec: as if it had not been launched yet.
pub(super) fn not_begun(spec: &Spec, life: &mut Lifecycle, ctx: &Context) -> Vec<Effect> {
    facts::answered(life);
    if life.status.desired != Desired::Running {
        life.run.get_or_insert_with(|| fresh(ctx));
        return super::end::ended(spec, life, ctx);
    }
    life.enter(State::Starting, Reason::None, Cause::SUPERVISOR, ctx.now);
    begin_anew(spec, life, ctx);
    vec![Effect::Launch(life.status.run_id)]
}

/// The run with the current id is at its very beginning.
fn begin_anew(spec: &Spec, life: &mut Lifecycle, ctx: &Context) {
    let timeout = spec.config.start_timeout();
    life.status.stage = Stage::Spawn;
    life.status.deadline_time = ctx.now.wall.after(timeout);
    life.timers.start_timeout = Some(ctx.now.mono.after(timeout));
    life.run = Some(fresh(ctx));
}

fn fresh(ctx: &Context) -> LiveRun {
    LiveRun {
        began: ctx.now.mono,
        started: false,
        stop: None,
    }
}

/// A run that began after the state was kept.
fn unseen(spec: &Spec, life: &mut Lifecycle, id: i64, ctx: &Context) -> Vec<Effect> {
    life.enter(State::Starting, Reason::None, Cause::SUPERVISOR, ctx.now);
    let status = &mut life.status;
    status.restart_count += if status.run_id > 0 {
        id - status.run_id
    } else {
        id - 1
    };
    status.run_id = id;
    // Nothing begins that is not wanted.
    status.desired = Desired::Running;
    status.run_generation = spec.generation;
    status.pid = 0;
    // The shim tells when.
    status.start_time = Timestamp::default();
    status.end_time = Timestamp::default();
    status.ready_time = Timestamp::default();
    facts::forget(life);
    begin_anew(spec, life, ctx);
    vec![Effect::Adopt(id)]
}

/// The run that the state is about.
fn same_run(spec: &Spec, life: &mut Lifecycle, ctx: &Context) -> Vec<Effect> {
    let status = &life.status;
    let plan = spec.config.stop.plan();
    let left = remaining(status.deadline_time, ctx.now);
    let began = earlier(status.start_time, ctx.now);
    let stop_asked = match (status.state, status.reason, status.current_exit()) {
        (State::Failed, Reason::StopFailed, _) => true,
        (State::Stopping, _, Some(record)) => record.stop_requested,
        (state, _, _) => state == State::Stopping,
    };
    let stop = stop_asked.then(|| Stopping {
        cause: status.cause.clone(),
        why: if status.reason == Reason::StartTimeout {
            StopWhy::StartTimeout
        } else {
            StopWhy::Asked
        },
        kill_at: ctx.now.mono.after(left.min(plan.grace)),
    });
    let started = status.ready_time > Timestamp::default();
    if status.state == State::Starting {
        let timeout = spec.config.start_timeout();
        life.timers.start_timeout = Some(ctx.now.mono.after(left.min(timeout)));
    }
    if started && life.status.consecutive_failures > 0 {
        life.timers.stable = Some(began.after(spec.config.restart.stable_after()));
    }
    let hurry = stop.is_some() && life.status.current_exit().is_none();
    let run_id = life.status.run_id;
    life.run = Some(LiveRun {
        began,
        started,
        stop,
    });
    let mut effects = vec![Effect::Adopt(run_id)];
    if hurry {
        // A shim that lives has its plan; one that takes over needs it.
        effects.push(Effect::Stop(StopPlan {
            grace: left.saturating_sub(plan.kill_timeout).min(plan.grace),
            ..plan
        }));
    }
    effects
}

/// It should live, and nothing is there to adopt.
fn without_a_trace(spec: &Spec, life: &mut Lifecycle, ctx: &Context) -> Vec<Effect> {
    // A pid is told before exec, and a directory stays until the end is kept.
    if life.status.pid == 0 && life.status.current_exit().is_none() {
        return not_begun(spec, life, ctx);
    }
    if life.status.current_exit().is_none() {
        let lost = Outcome::Unknown(UnknownReason::Lost);
        life.record_exit(Exit::new(lost, ctx.now.wall));
    }
    life.enter(State::Unknown, Reason::Lost, Cause::SUPERVISOR, ctx.now);
    life.say("its run directory is gone, so what became of the run cannot be proven".to_owned());
    Vec::new()
}

/// Nothing lives; what was waited for is waited for again.
fn wait_on(spec: &Spec, life: &mut Lifecycle, ctx: &Context) -> Vec<Effect> {
    let wanted = life.status.desired == Desired::Running;
    match life.status.state {
        State::Backoff if wanted => {
            let policy = &spec.config.restart;
            let longest = policy.max_backoff();
            let left = remaining(life.status.next_start_time, ctx.now).min(longest);
            life.timers.backoff = Some(ctx.now.mono.after(left));
            life.streak = u32::try_from(life.status.consecutive_failures).unwrap_or(0);
            Vec::new()
        }
        State::Pending if wanted => begin(spec, life, Cause::SUPERVISOR, ctx),
        State::Backoff | State::Pending => {
            life.enter(State::Stopped, Reason::None, Cause::SUPERVISOR, ctx.now);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// From now until `at`; zero if it is over, or was never set.
fn remaining(at: Timestamp, now: Now) -> Duration {
    let nanos = at.0.saturating_sub(now.wall.0);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// When `at` was, on the monotonic clock; now, if it is not past.
fn earlier(at: Timestamp, now: Now) -> Monotonic {
    if at == Timestamp::default() {
        return now.mono;
    }
    let ago = u64::try_from(now.wall.0.saturating_sub(at.0)).unwrap_or(0);
    Monotonic(now.mono.0.saturating_sub(ago))
}
