//! What follows the end of a run: the restart policy.

use super::{
    super::{
        backoff,
        event::Effect,
        lifecycle::{Context, Lifecycle, LiveRun, StopWhy},
        run::{Outcome, UnknownReason},
        spec::{RestartMode, RestartPolicy, Spec},
        status::{Cause, Desired, Reason, RunRecord, State},
    },
    begin,
};

/// The tree of the run is proven empty.
pub(super) fn ended(spec: &Spec, life: &mut Lifecycle, ctx: &Context) -> Vec<Effect> {
    let Some(run) = life.run.take() else {
        return Vec::new();
    };
    life.stale = false;
    let cause = run
        .stop
        .as_ref()
        .map_or(Cause::KERNEL, |stop| stop.cause.clone());
    match life.status.desired {
        Desired::Deleted => {
            life.enter(State::Stopped, Reason::None, cause, ctx.now);
            vec![Effect::Remove]
        }
        Desired::Stopped => {
            life.enter(State::Stopped, Reason::None, cause, ctx.now);
            Vec::new()
        }
        Desired::Running if run.stop.as_ref().is_some_and(|s| s.why == StopWhy::Asked) => {
            life.status.restart_count += 1;
            begin(spec, life, cause, ctx)
        }
        Desired::Running => policy(spec, life, &run, ctx),
    }
}

/// The run ended without being asked to.
fn policy(spec: &Spec, life: &mut Lifecycle, run: &LiveRun, ctx: &Context) -> Vec<Effect> {
    let policy = &spec.config.restart;
    let Some(record) = life.status.current_exit().cloned() else {
        // The run protocol sends the exit before `Empty`; without one nothing is known.
        life.enter(State::Failed, Reason::Lost, Cause::SUPERVISOR, ctx.now);
        return Vec::new();
    };
    if record.exit.outcome == Outcome::Unknown(UnknownReason::Reboot) {
        // Not its fault: it goes on as if it had been asked to.
        life.status.restart_count += 1;
        return begin(spec, life, Cause::SUPERVISOR, ctx);
    }
    let timed_out = run.stop.is_some();
    if ctx.now.mono.since(run.began) >= policy.stable_after() && run.started {
        life.streak = 0;
        life.status.consecutive_failures = 0;
    }
    let succeeded = record.is_success(policy)
        && !timed_out
        && (run.started || policy.mode != RestartMode::Always);
    let reason = if timed_out {
        Reason::StartTimeout
    } else {
        Reason::of(&record.exit)
    };
    let what = describe(&record, timed_out);
    if !succeeded {
        life.status.consecutive_failures = life.status.consecutive_failures.saturating_add(1);
    }
    match verdict(policy, life, &record, succeeded, ctx) {
        Verdict::Succeed => {
            life.enter(State::Succeeded, Reason::None, Cause::KERNEL, ctx.now);
            Vec::new()
        }
        Verdict::Fail => {
            let state = match record.exit.outcome {
                Outcome::Unknown(_) => State::Unknown,
                _ => State::Failed,
            };
            life.enter(state, reason, Cause::KERNEL, ctx.now);
            life.say(what);
            Vec::new()
        }
        Verdict::GiveUp(why) => {
            life.enter(
                State::Failed,
                Reason::RetryLimit,
                Cause::SUPERVISOR,
                ctx.now,
            );
            life.say(format!("{what}; {why}"));
            Vec::new()
        }
        Verdict::Restart => again(spec, life, reason, &what, ctx),
    }
}

enum Verdict {
    Succeed,
    Fail,
    GiveUp(String),
    Restart,
}

fn verdict(
    policy: &RestartPolicy,
    life: &mut Lifecycle,
    record: &RunRecord,
    succeeded: bool,
    ctx: &Context,
) -> Verdict {
    let settle = || {
        if succeeded {
            Verdict::Succeed
        } else {
            Verdict::Fail
        }
    };
    let barred = match &record.exit.outcome {
        Outcome::Code(code) => policy.no_restart_exit_codes.contains(&i32::from(*code)),
        Outcome::SpawnError(error) => !may_pass(error.errno),
        Outcome::Signal(_) | Outcome::Unknown(_) => false,
    };
    if barred {
        return settle();
    }
    match policy.mode {
        RestartMode::Never => return settle(),
        RestartMode::Unspecified | RestartMode::OnFailure if succeeded => return settle(),
        RestartMode::Unspecified | RestartMode::OnFailure | RestartMode::Always => {}
    }
    let failures = life.status.consecutive_failures;
    if policy.max_consecutive_failures > 0 && failures >= policy.max_consecutive_failures {
        return Verdict::GiveUp(format!("{failures} failures in a row"));
    }
    if let Some(budget) = &policy.budget {
        let window = budget.window();
        while life
            .restarts
            .front()
            .is_some_and(|at| ctx.now.mono.since(*at) >= window)
        {
            life.restarts.pop_front();
        }
        if life.restarts.len() >= usize::try_from(budget.max_restarts).unwrap_or(0) {
            return Verdict::GiveUp(format!(
                "{} restarts within {window:?} used up the budget",
                life.restarts.len()
            ));
        }
        life.restarts.push_back(ctx.now.mono);
    }
    Verdict::Restart
}

fn again(
    spec: &Spec,
    life: &mut Lifecycle,
    reason: Reason,
    what: &str,
    ctx: &Context,
) -> Vec<Effect> {
    life.streak = life.streak.saturating_add(1);
    let delay = backoff::delay(&spec.config.restart, life.streak, ctx.entropy);
    if delay.is_zero() {
        life.status.restart_count += 1;
        return begin(spec, life, Cause::SUPERVISOR, ctx);
    }
    life.enter(State::Backoff, reason, Cause::KERNEL, ctx.now);
    life.timers.backoff = Some(ctx.now.mono.after(delay));
    life.status.next_start_time = ctx.now.wall.after(delay);
    life.say(format!("{what}; restarts in {} ms", delay.as_millis()));
    Vec::new()
}

/// Whether an errno may go away by itself; the others need a person.
fn may_pass(errno: i32) -> bool {
    const EAGAIN: i32 = 11;
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ETXTBSY: i32 = 26;
    const ENOSPC: i32 = 28;
    matches!(errno, EAGAIN | ENOMEM | ENFILE | EMFILE | ETXTBSY | ENOSPC)
}

fn describe(record: &RunRecord, timed_out: bool) -> String {
    if timed_out {
        return "not started in time".to_owned();
    }
    match &record.exit.outcome {
        Outcome::Code(code) => format!("exited with code {code}"),
        Outcome::Signal(number) if record.exit.oom_killed => {
            format!("killed for lack of memory (signal {number})")
        }
        Outcome::Signal(number) => format!("ended by signal {number}"),
        Outcome::SpawnError(error) => error.message.to_string(),
        Outcome::Unknown(_) => "ended, but how cannot be proven".to_owned(),
    }
}
