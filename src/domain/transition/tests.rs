//! Tables of single steps, and a simulated world for what must always hold.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    id::ProcessName,
    run::{SignalScope, SpawnError},
    spec::{Config, RestartBudget, RestartMode, RestartPolicy},
    time::{Monotonic, Now},
};

mod facts;
mod recover;

const PLAN: StopPlan = StopPlan {
    signal: 15,
    scope: SignalScope::Group,
    grace: Duration::from_secs(10),
    kill_timeout: Duration::from_secs(5),
};

fn spec(restart: RestartPolicy) -> Spec {
    Spec {
        name: ProcessName::new("web").unwrap(),
        generation: 1,
        created: Timestamp(0),
        config: Config {
            command: vec!["web".into()],
            restart,
            ..Config::default()
        },
    }
}

fn context(seconds: u64, gate: Gate) -> Context {
    let nanos = seconds * 1_000_000_000;
    let wall = Timestamp(i64::try_from(nanos).unwrap() + 1);
    Context {
        now: Now {
            mono: Monotonic(nanos),
            wall,
        },
        entropy: 0,
        gate,
    }
}

fn exit(outcome: Outcome) -> RunEvent {
    RunEvent::Exited(Exit::new(outcome, Timestamp(1)))
}

/// One process, driven by hand.
struct Hand {
    spec: Spec,
    life: Lifecycle,
    second: u64,
    gate: Gate,
}

impl Hand {
    fn new(restart: RestartPolicy) -> Self {
        let life = Lifecycle::new(Desired::Stopped, Cause::SUPERVISOR, Timestamp(0));
        Self {
            spec: spec(restart),
            life,
            second: 0,
            gate: Gate::Open,
        }
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let context = context(self.second, self.gate.clone());
        let (life, effects) = transition(&self.spec, self.life.clone(), event, &context);
        self.life = life;
        effects
    }

    fn told(&mut self, event: RunEvent) -> Vec<Effect> {
        self.step(Event::Run(self.life.status.run_id, event))
    }

    fn start(&mut self) {
        assert_eq!(self.step(Event::Start(Cause::CONFIG)).len(), 1);
        self.come_up();
    }

    fn come_up(&mut self) {
        self.told(RunEvent::Spawned {
            pid: 7,
            cgroup_path: None,
        });
        self.told(RunEvent::Started);
    }

    fn end(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.told(exit(outcome));
        self.told(RunEvent::Empty)
    }

    fn state(&self) -> (State, Reason) {
        (self.life.status.state, self.life.status.reason)
    }
}

#[test]
fn what_follows_an_end_is_the_policy_s() {
    use RestartMode::{Always, Never, OnFailure};
    let missing = || {
        Outcome::SpawnError(SpawnError {
            errno: 2,
            message: "exec".into(),
        })
    };
    let busy = || {
        Outcome::SpawnError(SpawnError {
            errno: 11,
            message: "fork".into(),
        })
    };
    let table = [
        (Never, Outcome::Code(0), (State::Succeeded, Reason::None)),
        (Never, Outcome::Code(3), (State::Failed, Reason::ExitCode)),
        (
            OnFailure,
            Outcome::Code(0),
            (State::Succeeded, Reason::None),
        ),
        (
            OnFailure,
            Outcome::Code(3),
            (State::Backoff, Reason::ExitCode),
        ),
        (
            OnFailure,
            Outcome::Signal(11),
            (State::Backoff, Reason::Signal),
        ),
        (Always, Outcome::Code(0), (State::Backoff, Reason::ExitCode)),
        (Always, missing(), (State::Failed, Reason::SpawnError)),
        (Always, busy(), (State::Backoff, Reason::SpawnError)),
        (Never, busy(), (State::Failed, Reason::SpawnError)),
    ];
    for (mode, outcome, expected) in table {
        let mut hand = Hand::new(RestartPolicy {
            mode,
            ..RestartPolicy::default()
        });
        hand.start();
        assert_eq!(hand.end(outcome.clone()), []);
        assert_eq!(hand.state(), expected, "{mode:?} {outcome:?}");
        assert_eq!(hand.life.status.last_exit().unwrap().exit.outcome, outcome);
    }
}

#[test]
fn a_requested_stop_ends_stopped_whatever_the_code() {
    for outcome in [
        Outcome::Code(0),
        Outcome::Code(1),
        Outcome::Signal(15),
        Outcome::Signal(9),
    ] {
        let mut hand = Hand::new(RestartPolicy::default());
        hand.start();
        assert_eq!(
            hand.step(Event::Stop(Cause::CONFIG, PLAN)),
            [Effect::Stop(PLAN)]
        );
        assert_eq!(hand.state(), (State::Stopping, Reason::None));
        hand.end(outcome);
        assert_eq!(hand.state(), (State::Stopped, Reason::None));
        assert!(hand.life.status.last_exit().unwrap().stop_requested);
    }
}

#[test]
fn a_stop_in_the_same_instant_as_the_exit_leaves_one_record_and_stopped() {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.start();
    hand.told(exit(Outcome::Code(1)));
    hand.step(Event::Stop(Cause::CONFIG, PLAN));
    hand.told(exit(Outcome::Code(1)));
    hand.told(RunEvent::Empty);
    assert_eq!(hand.state(), (State::Stopped, Reason::None));
    assert_eq!(hand.life.status.details.history.len(), 1);
    assert!(!hand.life.status.last_exit().unwrap().stop_requested);
}

#[test]
fn repeated_stops_never_postpone_the_kill_but_a_stricter_one_hurries_it() {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.start();
    hand.step(Event::Stop(Cause::CONFIG, PLAN));
    hand.second = 5;
    assert_eq!(hand.step(Event::Stop(Cause::CONFIG, PLAN)), []);
    let strict = StopPlan {
        grace: Duration::from_secs(1),
        ..PLAN
    };
    assert_eq!(
        hand.step(Event::Stop(Cause::CONFIG, strict)),
        [Effect::Stop(strict)]
    );
}

#[test]
fn many_restarts_make_one_new_run() {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.start();
    for _ in 0..100 {
        hand.step(Event::Restart(Cause::CONFIG, PLAN));
    }
    assert_eq!(hand.end(Outcome::Signal(15)), [Effect::Launch(2)]);
    assert_eq!(
        (hand.life.status.restart_count, hand.life.status.run_id),
        (1, 2)
    );
}

#[test]
fn stop_while_held_or_backing_off_is_immediate_and_nothing_follows() {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.gate = Gate::Held(vec![ProcessName::new("db").unwrap()]);
    hand.step(Event::Start(Cause::CONFIG));
    assert_eq!(hand.state(), (State::Pending, Reason::Dependency));
    hand.step(Event::Stop(Cause::CONFIG, PLAN));
    assert_eq!(hand.state(), (State::Stopped, Reason::None));
    hand.gate = Gate::Open;
    assert_eq!(hand.step(Event::Dependencies), []);

    hand.start();
    hand.end(Outcome::Code(1));
    assert_eq!(hand.state(), (State::Backoff, Reason::ExitCode));
    hand.step(Event::Stop(Cause::CONFIG, PLAN));
    hand.second = 3600;
    assert_eq!(hand.step(Event::Tick), []);
    assert_eq!(hand.state(), (State::Stopped, Reason::None));
    assert_eq!(hand.life.next_tick(), None);
}

#[test]
fn failures_in_a_row_are_limited_and_a_stable_run_forgives_them() {
    let policy = RestartPolicy {
        max_consecutive_failures: 3,
        jitter_ratio: Some(0.0),
        ..RestartPolicy::default()
    };
    let mut hand = Hand::new(policy.clone());
    hand.start();
    for delay_ms in [100, 200] {
        hand.end(Outcome::Code(1));
        let at = hand.life.next_tick().unwrap();
        assert_eq!(
            at.since(Monotonic(hand.second * 1_000_000_000)).as_millis(),
            delay_ms
        );
        hand.second += 1;
        assert_eq!(hand.step(Event::Tick).len(), 1);
        hand.come_up();
    }
    hand.end(Outcome::Code(1));
    assert_eq!(hand.state(), (State::Failed, Reason::RetryLimit));
    assert_eq!(hand.life.status.restart_count, 2);

    let mut hand = Hand::new(policy);
    hand.start();
    hand.end(Outcome::Code(1));
    hand.second += 1;
    hand.step(Event::Tick);
    hand.come_up();
    assert_eq!(hand.life.status.consecutive_failures, 1);
    hand.second += 10;
    hand.step(Event::Tick);
    assert_eq!(hand.life.status.consecutive_failures, 0);
}

#[test]
fn a_budget_gives_up_and_a_person_s_start_refills_it() {
    let budget = Some(RestartBudget {
        max_restarts: 2,
        window: None,
    });
    let mut hand = Hand::new(RestartPolicy {
        budget,
        ..RestartPolicy::default()
    });
    hand.start();
    for _ in 0..2 {
        hand.end(Outcome::Code(1));
        hand.second += 1;
        assert_eq!(hand.step(Event::Tick).len(), 1);
        hand.come_up();
    }
    hand.end(Outcome::Code(1));
    assert_eq!(hand.state(), (State::Failed, Reason::RetryLimit));
    hand.start();
    hand.end(Outcome::Code(1));
    assert_eq!(hand.state(), (State::Backoff, Reason::ExitCode));
}

#[test]
fn survivors_fail_the_stop_and_their_end_mends_it() {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.start();
    hand.step(Event::Stop(Cause::CONFIG, PLAN));
    hand.told(RunEvent::Killing);
    assert_eq!(hand.life.status.stage, Stage::Kill);
    hand.told(RunEvent::Survivors(vec![8, 9]));
    assert_eq!(hand.state(), (State::Failed, Reason::StopFailed));
    assert_eq!(hand.life.status.details.surviving_pids, [8, 9]);
    hand.end(Outcome::Signal(9));
    assert_eq!(hand.state(), (State::Stopped, Reason::None));
    assert!(hand.life.status.details.surviving_pids.is_empty());
}

#[test]
fn a_run_must_outlive_its_grace_to_count_as_started() {
    let mut hand = Hand::new(RestartPolicy {
        start_grace: Some(Duration::from_secs(2)),
        mode: RestartMode::Always,
        ..RestartPolicy::default()
    });
    hand.start();
    assert_eq!(hand.state(), (State::Starting, Reason::None));
    hand.end(Outcome::Code(0));
    assert_eq!(
        hand.life.status.consecutive_failures, 1,
        "a service that ends early failed"
    );
    hand.second += 1;
    hand.step(Event::Tick);
    hand.come_up();
    hand.second += 2;
    hand.step(Event::Tick);
    assert_eq!(hand.state(), (State::Running, Reason::None));
}

#[test]
fn a_start_that_takes_too_long_is_stopped_and_counts_as_a_failure() {
    let mut hand = Hand::new(RestartPolicy {
        start_grace: Some(Duration::from_secs(500)),
        ..RestartPolicy::default()
    });
    hand.start();
    hand.second = 90;
    assert_eq!(hand.step(Event::Tick).len(), 1);
    assert_eq!(hand.state(), (State::Stopping, Reason::StartTimeout));
    hand.end(Outcome::Signal(15));
    assert_eq!(hand.state(), (State::Backoff, Reason::StartTimeout));
}

#[test]
fn a_failed_dependency_fails_and_its_recovery_starts() {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.gate = Gate::Failed(ProcessName::new("db").unwrap());
    hand.step(Event::Start(Cause::CONFIG));
    assert_eq!(hand.state(), (State::Failed, Reason::DependencyFailed));
    hand.gate = Gate::Open;
    assert_eq!(hand.step(Event::Dependencies), [Effect::Launch(1)]);
}

// ------------------------------------------------------------- simulated world

#[derive(Debug, Clone)]
enum Act {
    Start,
    Stop,
    Restart,
    Delete,
    Reset,
    Configure,
    /// The live run, if any, goes on: exec, exit with this code, empty.
    World(u8),
    Wait(u8),
    Gate(u8),
    /// A word of a run that is long over.
    Stale,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => Just(Act::Start),
        2 => Just(Act::Stop),
        2 => Just(Act::Restart),
        1 => Just(Act::Delete),
        1 => Just(Act::Reset),
        1 => Just(Act::Configure),
        8 => any::<u8>().prop_map(Act::World),
        3 => any::<u8>().prop_map(Act::Wait),
        1 => any::<u8>().prop_map(Act::Gate),
        1 => Just(Act::Stale),
    ];
    prop::collection::vec(act, 1..120)
}

/// What the world knows of the one run it carries out.
#[derive(Debug, Default)]
struct World {
    live: Option<i64>,
    launched: i64,
    spawned: bool,
    exited: bool,
    stopping: bool,
}

impl World {
    fn carry_out(&mut self, effects: &[Effect]) -> bool {
        let mut removed = false;
        for effect in effects {
            match effect {
                Effect::Launch(id) => {
                    assert_eq!(self.live, None, "L-I6: two live runs");
                    assert_eq!(*id, self.launched + 1, "run ids are dense");
                    *self = Self {
                        live: Some(*id),
                        launched: *id,
                        ..Self::default()
                    };
                }
                Effect::Adopt(id) => panic!("nothing was left to adopt: {id}"),
                Effect::Stop(_) => self.stopping = true,
                Effect::Remove => {
                    assert_eq!(self.live, None, "removed with a live run");
                    removed = true;
                }
            }
        }
        removed
    }

    /// What the run tells next.
    fn go_on(&mut self, byte: u8) -> Option<Event> {
        let id = self.live?;
        let event = if !self.spawned {
            self.spawned = true;
            if byte.is_multiple_of(8) {
                self.exited = true;
                let errno = i32::from(byte % 3) * 2;
                exit(Outcome::SpawnError(SpawnError {
                    errno,
                    message: "exec".into(),
                }))
            } else {
                RunEvent::Spawned {
                    pid: 7,
                    cgroup_path: None,
                }
            }
        } else if self.exited {
            if self.stopping && byte.is_multiple_of(16) {
                RunEvent::Survivors(vec![8])
            } else {
                self.live = None;
                RunEvent::Empty
            }
        } else if byte.is_multiple_of(3) {
            RunEvent::Started
        } else {
            self.exited = true;
            exit(if self.stopping {
                Outcome::Signal(15)
            } else {
                Outcome::Code(byte % 2)
            })
        };
        Some(Event::Run(id, event))
    }
}

fn check(life: &Lifecycle, world: &World) {
    let status = &life.status;
    let settled = matches!(status.state, State::Stopped | State::Succeeded)
        || (status.state == State::Failed && status.reason != Reason::StopFailed);
    assert!(
        !settled || world.live.is_none(),
        "L-I4: {:?} with a live run",
        status.state
    );
    assert_eq!(life.has_run(), world.live.is_some());
    if status.state == State::Backoff {
        assert!(
            life.next_tick().is_some() && status.next_start_time.0 > 0,
            "L-I5"
        );
    }
    if status.state == State::Pending {
        assert!(
            !status.details.waiting_on.is_empty(),
            "PENDING says what holds it"
        );
    }
    let mut ids: Vec<_> = status.details.history.iter().map(|r| r.run_id).collect();
    ids.dedup();
    assert_eq!(
        ids.len(),
        status.details.history.len(),
        "L-I2: one record per run"
    );
    assert!(
        status.pid == 0 || world.live.is_some(),
        "L-I9: a pid without a run"
    );
    if status.current_exit().is_some() {
        assert_eq!(status.pid, 0, "L-I9: a pid beside the exit of its run");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_in_any_world(acts in acts(), mode_index in 0_u8..4, limit in 0_i32..4) {
        let mode = [RestartMode::Unspecified, RestartMode::Never, RestartMode::OnFailure, RestartMode::Always];
        let mut hand = Hand::new(RestartPolicy {
            mode: mode[usize::from(mode_index)],
            max_consecutive_failures: limit,
            start_grace: Some(Duration::from_secs(u64::from(limit.unsigned_abs()))),
            ..RestartPolicy::default()
        });
        let mut world = World::default();
        let mut wanted = false;
        for act in acts {
            let event = match act {
                Act::Start if hand.life.status.reason == Reason::StopFailed => continue,
                Act::Restart if hand.life.status.reason == Reason::StopFailed => continue,
                Act::Start => { wanted = true; Event::Start(Cause::CONFIG) }
                Act::Restart => { wanted = true; Event::Restart(Cause::CONFIG, PLAN) }
                Act::Stop => { wanted = false; Event::Stop(Cause::CONFIG, PLAN) }
                Act::Delete => { wanted = false; Event::Delete(Cause::CONFIG, PLAN) }
                Act::Reset => Event::Reset(Cause::CONFIG),
                Act::Configure => Event::Configured { cause: Cause::CONFIG, stale: true },
                Act::World(byte) => match world.go_on(byte) {
                    Some(event) => event,
                    None => continue,
                },
                Act::Wait(seconds) => { hand.second += u64::from(seconds); Event::Tick }
                Act::Gate(byte) => {
                    let db = ProcessName::new("db").unwrap();
                    hand.gate = match byte % 3 {
                        0 => Gate::Open,
                        1 => Gate::Held(vec![db]),
                        _ => Gate::Failed(db),
                    };
                    Event::Dependencies
                }
                Act::Stale => Event::Run(world.launched - 1, RunEvent::Empty),
            };
            let launched = world.launched;
            let effects = hand.step(event);
            if world.carry_out(&effects) {
                return Ok(());
            }
            prop_assert!(wanted || world.launched == launched, "L-I7: a run nobody wants");
            check(&hand.life, &world);
        }
    }
}
