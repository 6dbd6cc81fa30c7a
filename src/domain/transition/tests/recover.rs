//! The daemon was away: tables of what is found, and any history with crashes.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::domain::{
    run::UnknownReason,
    status::{ConditionKind, Status},
};

/// A status that says `state` of run 3.
fn kept(state: State) -> Status {
    let mut status = Status::new(Desired::Running, Cause::CONFIG, Timestamp(1));
    status.state = state;
    status.run_id = 3;
    status.run_generation = 1;
    status.start_time = Timestamp(1);
    if state.is_alive() {
        status.pid = 7;
    }
    status
}

fn taken_over(status: Status, found: Option<i64>) -> (Hand, Vec<Effect>) {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.second = 100;
    hand.life = Lifecycle::restore(status, Cause::CONFIG);
    let effects = hand.step(Event::Recover(found));
    (hand, effects)
}

fn adopted(started: bool) -> RunEvent {
    RunEvent::Adopted {
        pid: 9,
        cgroup_path: None,
        started,
        began: Timestamp(50),
    }
}

#[test]
fn a_run_that_lives_goes_on_in_its_state() {
    for state in [State::Running, State::Paused] {
        let (mut hand, effects) = taken_over(kept(state), Some(3));
        assert_eq!(effects, [Effect::Adopt(3)]);
        hand.told(adopted(true));
        let status = &hand.life.status;
        assert_eq!((status.state, status.pid, status.run_id), (state, 9, 3));
        assert_eq!(status.start_time, Timestamp(1), "its start is not now");
        let condition = &status.details.conditions[0];
        assert_eq!(
            (condition.kind, condition.holds),
            (ConditionKind::Adopted, true)
        );
        hand.end(Outcome::Code(0));
        assert_eq!(hand.state(), (State::Succeeded, Reason::None));
    }
}

#[test]
fn a_stop_under_way_is_finished_and_ends_stopped() {
    let mut status = kept(State::Stopping);
    status.desired = Desired::Stopped;
    status.deadline_time = Timestamp(108_000_000_000);
    let (mut hand, effects) = taken_over(status, Some(3));
    let [Effect::Adopt(3), Effect::Stop(plan)] = effects[..] else {
        panic!("{effects:?}");
    };
    assert!(plan.grace <= Duration::from_secs(8), "what is left of it");
    hand.told(adopted(true));
    hand.end(Outcome::Signal(15));
    assert_eq!(hand.state(), (State::Stopped, Reason::None));
    assert!(hand.life.status.last_exit().unwrap().stop_requested);
}

#[test]
fn an_end_while_away_follows_the_policy_with_its_code() {
    let (mut hand, _) = taken_over(kept(State::Running), Some(3));
    hand.end(Outcome::Code(9));
    assert_eq!(hand.state(), (State::Backoff, Reason::ExitCode));
    let record = hand.life.status.last_exit().unwrap();
    assert_eq!((record.run_id, record.exit.at), (3, Timestamp(1)));
}

#[test]
fn a_reboot_is_no_failure_and_a_lost_end_is_not_guessed() {
    let (mut hand, _) = taken_over(kept(State::Running), Some(3));
    let effects = hand.end(Outcome::Unknown(UnknownReason::Reboot));
    assert_eq!(effects, [Effect::Launch(4)]);
    assert_eq!(hand.life.status.consecutive_failures, 0);

    let (mut hand, _) = taken_over(kept(State::Running), Some(3));
    hand.spec.config.restart.mode = RestartMode::Never;
    hand.end(Outcome::Unknown(UnknownReason::Lost));
    assert_eq!(hand.state(), (State::Unknown, Reason::Lost));
    assert_eq!(hand.step(Event::Start(Cause::CONFIG)), [Effect::Launch(4)]);
}

#[test]
fn a_run_without_a_trace_is_unknown_unless_it_never_was() {
    let (hand, effects) = taken_over(kept(State::Running), None);
    assert_eq!(effects, []);
    assert_eq!(hand.state(), (State::Unknown, Reason::Lost));
    let record = hand.life.status.last_exit().unwrap();
    assert_eq!(
        record.exit.outcome,
        Outcome::Unknown(UnknownReason::Lost),
        "no code is invented"
    );

    let mut meant = kept(State::Starting);
    meant.stage = Stage::Spawn;
    meant.pid = 0;
    let (hand, effects) = taken_over(meant.clone(), None);
    assert_eq!(effects, [Effect::Launch(3)], "the same run, once");
    assert_eq!(hand.state(), (State::Starting, Reason::None));
    meant.desired = Desired::Stopped;
    let (hand, effects) = taken_over(meant, None);
    assert_eq!((hand.state().0, effects.len()), (State::Stopped, 0));
}

#[test]
fn a_run_begun_since_is_adopted_and_counted() {
    let (mut hand, effects) = taken_over(kept(State::Backoff), Some(5));
    assert_eq!(effects, [Effect::Adopt(5)]);
    hand.told(adopted(true));
    let status = &hand.life.status;
    assert_eq!((status.state, status.run_id), (State::Running, 5));
    assert_eq!(
        (status.start_time, status.restart_count),
        (Timestamp(50), 2)
    );

    let (mut hand, _) = taken_over(kept(State::Backoff), Some(4));
    assert_eq!(hand.told(RunEvent::NotBegun), [Effect::Launch(4)]);
}

#[test]
fn what_was_waited_for_is_waited_for_again() {
    let mut backing_off = kept(State::Backoff);
    backing_off.next_start_time = Timestamp(102_000_000_001);
    let (mut hand, effects) = taken_over(backing_off, None);
    assert_eq!((hand.state().0, effects.len()), (State::Backoff, 0));
    hand.second = 101;
    assert_eq!(hand.step(Event::Tick), []);
    hand.second = 102;
    assert_eq!(hand.step(Event::Tick), [Effect::Launch(4)]);

    let (_, effects) = taken_over(kept(State::Pending), None);
    assert_eq!(effects, [Effect::Launch(4)]);
    for settled in [State::Stopped, State::Succeeded, State::Failed] {
        let (hand, effects) = taken_over(kept(settled), None);
        assert_eq!((hand.state().0, effects.len()), (settled, 0));
    }
}

/// A clock that jumped by a year while the daemon was away waits for no year.
#[test]
fn a_wait_is_never_longer_than_the_policy_allows() {
    let mut backing_off = kept(State::Backoff);
    backing_off.next_start_time = Timestamp(i64::MAX);
    let (hand, _) = taken_over(backing_off, None);
    let longest = hand.spec.config.restart.max_backoff();
    let now = context(hand.second, Gate::Open).now.mono;
    assert!(hand.life.next_tick().unwrap() <= now.after(longest));
}

/// One run directory and what is behind it.
#[derive(Debug, Default, Clone)]
struct Dir {
    spawned: bool,
    started: bool,
    exit: Option<Outcome>,
    empty: bool,
}

/// Directories outlive the daemon; a connection does not.
#[derive(Debug, Default)]
struct Machine {
    dirs: BTreeMap<i64, Dir>,
    /// Every end there ever was.
    ends: BTreeMap<i64, Outcome>,
    attached: Option<i64>,
    /// Told, not yet taken.
    events: VecDeque<RunEvent>,
}

impl Machine {
    fn live(&self) -> impl Iterator<Item = i64> {
        self.dirs
            .iter()
            .filter(|(_, dir)| dir.spawned && !dir.empty)
            .map(|(id, _)| *id)
    }

    fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Launch(id) => {
                    assert_eq!(self.live().next(), None, "two live runs");
                    assert!(!self.ends.contains_key(&id), "run {id} a second time");
                    self.dirs.insert(id, Dir::default());
                    self.attach(id);
                }
                Effect::Adopt(id) => self.adopt(id),
                Effect::Stop(_) | Effect::Remove => {}
            }
        }
    }

    fn attach(&mut self, id: i64) {
        self.attached = Some(id);
        self.events.clear();
    }

    fn adopt(&mut self, id: i64) {
        self.attach(id);
        let dir = self.dirs[&id].clone();
        if !dir.spawned {
            self.dirs.remove(&id);
            self.attached = None;
            self.events.push_back(RunEvent::NotBegun);
            return;
        }
        match dir.exit {
            Some(outcome) => self.events.push_back(exit(outcome)),
            None => self.events.push_back(adopted(dir.started)),
        }
        if dir.empty {
            self.events.push_back(RunEvent::Empty);
        }
    }

    /// The newest run goes on; whoever is attached is told.
    fn go_on(&mut self, byte: u8) {
        let Some((id, dir)) = self.dirs.iter_mut().next_back() else {
            return;
        };
        let id = *id;
        let event = if !dir.spawned {
            dir.spawned = true;
            RunEvent::Spawned {
                pid: 7,
                cgroup_path: None,
            }
        } else if dir.exit.is_none() && !dir.started && byte.is_multiple_of(2) {
            dir.started = true;
            RunEvent::Started
        } else if dir.exit.is_none() {
            let outcome = Outcome::Code(byte % 3);
            dir.exit = Some(outcome.clone());
            self.ends.insert(id, outcome.clone());
            exit(outcome)
        } else if !dir.empty {
            dir.empty = true;
            RunEvent::Empty
        } else {
            return;
        };
        if self.attached == Some(id) {
            self.events.push_back(event);
        }
    }
}

/// A daemon and its disk.
struct Daemon {
    hand: Hand,
    machine: Machine,
    found: VecDeque<i64>,
    /// States that a crash may bring back: everything since the last intent.
    kept: Vec<Status>,
}

impl Daemon {
    fn step(&mut self, event: Event) {
        let effects = self.hand.step(event);
        self.machine.carry_out(&effects);
        self.kept.push(self.hand.life.status.clone());
    }

    fn ask(&mut self, event: Event) {
        // The intent's transaction carries the state before it.
        self.kept = vec![self.hand.life.status.clone()];
        self.step(event);
    }

    fn hear(&mut self) {
        let Some(event) = self.machine.events.pop_front() else {
            return;
        };
        let over = matches!(event, RunEvent::Empty | RunEvent::NotBegun);
        match self.found.pop_front_if(|_| over) {
            Some(next) => self.step(Event::Recover(Some(next))),
            None => self.step(Event::Run(self.hand.life.status.run_id, event)),
        }
    }

    fn crash(&mut self, which: usize, meanwhile: &[u8], wanted: bool) {
        let at = which % self.kept.len();
        let status = self.kept[at].clone();
        // What is on disk now: nothing older comes back, and nothing newer.
        self.kept = vec![status.clone()];
        self.machine.attached = None;
        self.machine.events.clear();
        for byte in meanwhile {
            if self.machine.live().next().is_some() {
                self.machine.go_on(*byte);
            }
        }
        self.hand.life = Lifecycle::restore(status, Cause::CONFIG);
        let life = &self.hand.life;
        self.machine.dirs.retain(|id, _| !life.is_over(*id));
        self.found = self.machine.dirs.keys().copied().collect();
        let first = self.found.pop_front();
        self.step(Event::Recover(first));
        while !self.found.is_empty() {
            let before = self.found.len();
            self.hear();
            assert!(before > self.found.len() || !self.machine.events.is_empty());
        }
        if wanted != (self.hand.life.status.desired == Desired::Running) {
            self.ask(if wanted {
                Event::Start(Cause::CONFIG)
            } else {
                Event::Stop(Cause::CONFIG, PLAN)
            });
        }
    }

    fn check(&self) {
        let status = &self.hand.life.status;
        for record in &status.details.history {
            let real = self.machine.ends.get(&record.run_id);
            assert_eq!(Some(&record.exit.outcome), real, "run {}", record.run_id);
        }
        let live = self.machine.live().next();
        assert!(
            live.is_none() || self.hand.life.has_run(),
            "{live:?} lives and {:?} says nothing does",
            status.state
        );
        assert!(live.is_none_or(|id| id <= status.run_id));
    }
}

#[derive(Debug, Clone)]
enum Act {
    Start,
    Stop,
    Restart,
    World(u8),
    Hear,
    Wait(u8),
    Crash(usize, Vec<u8>),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let meanwhile = prop::collection::vec(any::<u8>(), 0..6);
    let act = prop_oneof![
        2 => Just(Act::Start),
        1 => Just(Act::Stop),
        1 => Just(Act::Restart),
        6 => any::<u8>().prop_map(Act::World),
        6 => Just(Act::Hear),
        2 => any::<u8>().prop_map(Act::Wait),
        2 => (any::<usize>(), meanwhile).prop_map(|(at, bytes)| Act::Crash(at, bytes)),
    ];
    prop::collection::vec(act, 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    /// Never two live runs, never a run twice, never a code that was not.
    #[test]
    fn any_history_with_crashes_stays_true(acts in acts()) {
        let hand = Hand::new(RestartPolicy { mode: RestartMode::Always, ..RestartPolicy::default() });
        let mut wanted = false;
        let mut daemon = Daemon {
            kept: vec![hand.life.status.clone()],
            hand,
            machine: Machine::default(),
            found: VecDeque::new(),
        };
        for act in acts {
            match act {
                Act::Start => { wanted = true; daemon.ask(Event::Start(Cause::CONFIG)); }
                Act::Stop => { wanted = false; daemon.ask(Event::Stop(Cause::CONFIG, PLAN)); }
                Act::Restart => { wanted = true; daemon.ask(Event::Restart(Cause::CONFIG, PLAN)); }
                Act::World(byte) => daemon.machine.go_on(byte),
                Act::Hear => daemon.hear(),
                Act::Wait(seconds) => {
                    daemon.hand.second += u64::from(seconds);
                    daemon.step(Event::Tick);
                }
                Act::Crash(at, meanwhile) => daemon.crash(at, &meanwhile, wanted),
            }
            daemon.check();
        }
    }
}
