//! Conditions about one run: tables of what is told and what is said of it.

use super::*;
use crate::domain::{
    run::{OutputHealth, OutputState},
    status::{Condition, ConditionKind, Status},
};

const INTACT: OutputState = OutputState::Intact;
const BLOCKED: OutputState = OutputState::Blocked { errno: 28 };
const DROPPED: OutputState = OutputState::Dropped { bytes: 4096 };

fn output(state: OutputState, approximate_bytes: u64) -> RunEvent {
    RunEvent::Output(OutputHealth {
        state,
        approximate_bytes,
    })
}

impl Hand {
    fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        let conditions = &self.life.status.details.conditions;
        conditions.iter().find(|c| c.kind == kind)
    }

    fn logs(&self) -> Option<(bool, &'static str)> {
        let condition = self.condition(ConditionKind::LogsIntact);
        condition.map(|c| (c.holds, c.reason))
    }

    fn adopted(&self) -> Option<(bool, &'static str)> {
        let condition = self.condition(ConditionKind::Adopted);
        condition.map(|c| (c.holds, c.reason))
    }
}

fn running() -> Hand {
    let mut hand = Hand::new(RestartPolicy::default());
    hand.start();
    hand
}

#[test]
fn what_is_said_of_output_follows_what_was_told() {
    let blocked = Some((false, "BLOCKED"));
    let dropped = Some((false, "DROPPED"));
    let intact = Some((true, "INTACT"));
    let approximate = Some((true, "APPROXIMATE"));
    let table = [
        (vec![(INTACT, 0)], None, ""),
        (vec![(BLOCKED, 0)], blocked, "No space left on device"),
        (vec![(BLOCKED, 0), (INTACT, 0)], intact, ""),
        (vec![(BLOCKED, 0), (INTACT, 7)], approximate, "7 bytes"),
        (vec![(INTACT, 7)], approximate, "7 bytes"),
        (vec![(INTACT, 7), (BLOCKED, 7)], blocked, "full_action"),
        (vec![(DROPPED, 0)], dropped, "at least 4096 bytes"),
        (vec![(DROPPED, 0), (INTACT, 7)], dropped, "4096 bytes"),
        (vec![(DROPPED, 0), (BLOCKED, 0)], dropped, "4096 bytes"),
    ];
    for (told, said, part) in table {
        let mut hand = running();
        for (state, approximate_bytes) in &told {
            hand.told(output(*state, *approximate_bytes));
        }
        assert_eq!(hand.logs(), said, "{told:?}");
        let condition = hand.condition(ConditionKind::LogsIntact);
        let message = condition.map_or("", |c| &c.message);
        assert!(message.contains(part), "{told:?}: {message}");
        assert_eq!(hand.state(), (State::Running, Reason::None));
    }
}

#[test]
fn what_is_told_again_changes_nothing() {
    for state in [INTACT, BLOCKED, DROPPED] {
        let mut hand = running();
        hand.told(output(state, 0));
        let before: Status = hand.life.status.clone();
        hand.second += 5;
        assert_eq!(hand.told(output(state, 0)), []);
        assert_eq!(hand.life.status, before);
    }
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_turn() {
    let mut hand = running();
    hand.second = 5;
    hand.told(output(BLOCKED, 0));
    let since = hand.condition(ConditionKind::LogsIntact).unwrap().since;
    hand.second = 9;
    hand.told(output(DROPPED, 0));
    let condition = hand.condition(ConditionKind::LogsIntact).unwrap();
    assert_eq!((condition.holds, condition.since), (false, since));
}

#[test]
fn what_was_lost_is_told_until_the_next_run_begins() {
    let mut hand = running();
    hand.told(output(DROPPED, 0));
    hand.end(Outcome::Code(0));
    assert_eq!(hand.logs(), Some((false, "DROPPED")));
    hand.start();
    assert_eq!(hand.logs(), None);
}

#[test]
fn a_run_that_is_over_does_not_wait_any_more() {
    let mut hand = running();
    hand.told(output(BLOCKED, 0));
    hand.end(Outcome::Code(0));
    let condition = hand.condition(ConditionKind::LogsIntact).unwrap();
    assert_eq!((condition.holds, condition.reason), (false, "BLOCKED"));
    assert!(condition.message.contains("last output"), "{condition:?}");
}

/// A run that an earlier daemon began and that has not answered yet.
fn silent() -> Hand {
    let mut hand = running();
    let (status, cause) = (hand.life.status.clone(), hand.life.cause.clone());
    hand.life = Lifecycle::restore(status, cause);
    assert_eq!(hand.step(Event::Recover(Some(1))), [Effect::Adopt(1)]);
    let effects = hand.told(RunEvent::Unresponsive(Duration::from_secs(2)));
    assert_eq!(effects, []);
    hand
}

fn adoption() -> RunEvent {
    RunEvent::Adopted {
        pid: 7,
        cgroup_path: None,
        started: true,
        began: Timestamp(1),
    }
}

#[test]
fn a_silent_run_is_told_as_such_until_it_answers() {
    let mut hand = silent();
    assert_eq!(hand.adopted(), Some((false, "UNRESPONSIVE")));
    assert_eq!(hand.state(), (State::Running, Reason::None), "no guess");
    let message = &hand.condition(ConditionKind::Adopted).unwrap().message;
    assert!(message.contains("not answered for 2s"), "{message}");
    hand.told(adoption());
    assert_eq!(hand.adopted(), Some((true, "ADOPTED")));
}

#[test]
fn nobody_is_silent_who_has_ended_or_is_looked_for_again() {
    let mut hand = silent();
    hand.told(exit(Outcome::Code(0)));
    assert_eq!(hand.adopted(), None);

    let mut hand = silent();
    hand.told(RunEvent::Empty);
    assert_eq!(hand.adopted(), None);

    let mut hand = silent();
    hand.told(RunEvent::NotBegun);
    assert_eq!(hand.adopted(), None);

    let mut hand = silent();
    let (status, cause) = (hand.life.status.clone(), hand.life.cause.clone());
    hand.life = Lifecycle::restore(status, cause);
    hand.step(Event::Recover(Some(1)));
    assert_eq!(hand.adopted(), None);
}

#[test]
fn a_run_that_was_never_seen_has_nothing_of_the_one_before() {
    let mut hand = running();
    hand.told(output(DROPPED, 0));
    let (status, cause) = (hand.life.status.clone(), hand.life.cause.clone());
    hand.life = Lifecycle::restore(status, cause);
    hand.step(Event::Recover(Some(2)));
    assert_eq!((hand.adopted(), hand.logs()), (None, None));
}
