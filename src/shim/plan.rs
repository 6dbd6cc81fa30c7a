//! The stop plan as a pure state machine: signal, grace, SIGKILL to the tree,
//! kill timeout, survivors.
//!
//! Invariants: decided from its arguments alone; once SIGKILL was sent nothing
//! takes it back; with the main process gone signals go to the tree, because its
//! pid and group may belong to a stranger. Deliberately absent: sending
//! anything, the proof that the tree is empty (`supervise`).

use crate::domain::{
    run::{SignalScope, StopPlan},
    time::Monotonic,
};

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Send this signal to this scope.
    Signal { number: i32, scope: SignalScope },
    /// Thaw and continue the tree, so that it can act on the signal.
    Wake,
    /// Tell that SIGKILL is next.
    ReportKilling,
    /// SIGKILL to the whole tree, again and again until it is empty.
    Kill,
    /// Tell who is left.
    ReportSurvivors,
}

/// Where the stop of one run stands.
#[derive(Debug)]
pub(super) struct Stopping {
    main_alive: bool,
    plan: StopPlan,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No stop.
    Idle,
    /// The first signal was sent.
    Grace { until: Monotonic },
    /// SIGKILL was sent.
    Kill { until: Monotonic },
    /// The kill timeout is over.
    Overdue,
}

// === impl Stopping ===

impl Stopping {
    /// No stop yet; `default` is for what is left when the main process ends.
    pub(super) fn new(default: StopPlan) -> Self {
        Self {
            main_alive: true,
            plan: default,
            stage: Stage::Idle,
        }
    }

    /// A stop was asked for.
    pub(super) fn begin(&mut self, plan: StopPlan, now: Monotonic) -> Vec<Action> {
        self.plan = plan;
        match self.stage {
            Stage::Idle | Stage::Grace { .. } => {
                let until = now.after(plan.grace);
                self.stage = Stage::Grace { until };
                let mut actions = vec![self.first_signal(), Action::Wake];
                actions.extend(self.tick(now));
                actions
            }
            Stage::Kill { .. } | Stage::Overdue => {
                let until = now.after(plan.kill_timeout);
                self.stage = Stage::Kill { until };
                vec![Action::Kill]
            }
        }
    }

    /// Whether a stop is under way.
    pub(super) fn under_way(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// Whether SIGKILL goes to whatever turns up.
    pub(super) fn killing(&self) -> bool {
        matches!(self.stage, Stage::Kill { .. } | Stage::Overdue)
    }

    /// The main process ended and others are left. `main` of a stop that was
    /// sent to the main process or its group only reaches the others now.
    pub(super) fn main_ended(&mut self, now: Monotonic) -> Vec<Action> {
        self.main_alive = false;
        match self.stage {
            Stage::Idle => self.begin(self.plan, now),
            Stage::Grace { .. }
                if matches!(self.plan.scope, SignalScope::Main | SignalScope::Group) =>
            {
                vec![self.first_signal(), Action::Wake]
            }
            _ => Vec::new(),
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Monotonic) -> Vec<Action> {
        match self.stage {
            Stage::Grace { until } if now >= until => {
                let until = now.after(self.plan.kill_timeout);
                self.stage = Stage::Kill { until };
                vec![Action::ReportKilling, Action::Kill]
            }
            Stage::Kill { until } if now >= until => {
                self.stage = Stage::Overdue;
                vec![Action::ReportSurvivors]
            }
            _ => Vec::new(),
        }
    }

    /// When [`Stopping::tick`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        match self.stage {
            Stage::Grace { until } | Stage::Kill { until } => Some(until),
            Stage::Idle | Stage::Overdue => None,
        }
    }

    fn first_signal(&self) -> Action {
        Action::Signal {
            number: self.plan.signal,
            scope: if self.main_alive {
                self.plan.scope
            } else {
                SignalScope::Tree
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TERM: i32 = 15;

    fn plan(scope: SignalScope, grace: u64, kill: u64) -> StopPlan {
        StopPlan {
            signal: TERM,
            scope,
            grace: Duration::from_secs(grace),
            kill_timeout: Duration::from_secs(kill),
        }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    fn signal(scope: SignalScope) -> Action {
        Action::Signal {
            number: TERM,
            scope,
        }
    }

    #[test]
    fn signal_then_grace_then_kill_then_survivors() {
        let mut stop = Stopping::new(plan(SignalScope::Tree, 1, 1));
        let first = stop.begin(plan(SignalScope::Main, 10, 5), at(0));
        assert_eq!(first, [signal(SignalScope::Main), Action::Wake]);
        assert_eq!(stop.deadline(), Some(at(10)));
        assert_eq!(stop.tick(at(9)), []);
        assert!(!stop.killing());
        assert_eq!(stop.tick(at(10)), [Action::ReportKilling, Action::Kill]);
        assert!(stop.killing());
        assert_eq!(stop.tick(at(14)), []);
        assert_eq!(stop.tick(at(15)), [Action::ReportSurvivors]);
        assert_eq!(stop.deadline(), None);
        assert!(stop.killing(), "what turns up later is killed too");
    }

    #[test]
    fn a_later_stop_replaces_the_grace() {
        let mut stop = Stopping::new(plan(SignalScope::Tree, 1, 1));
        stop.begin(plan(SignalScope::Tree, 60, 5), at(0));
        let again = stop.begin(plan(SignalScope::Tree, 2, 5), at(3));
        assert_eq!(again, [signal(SignalScope::Tree), Action::Wake]);
        assert_eq!(stop.deadline(), Some(at(5)));
    }

    #[test]
    fn no_grace_kills_at_once() {
        let mut stop = Stopping::new(plan(SignalScope::Tree, 1, 1));
        assert_eq!(
            stop.begin(plan(SignalScope::Tree, 0, 5), at(0)),
            [
                signal(SignalScope::Tree),
                Action::Wake,
                Action::ReportKilling,
                Action::Kill
            ]
        );
    }

    #[test]
    fn a_kill_is_not_taken_back() {
        let mut stop = Stopping::new(plan(SignalScope::Tree, 1, 1));
        stop.begin(plan(SignalScope::Tree, 0, 5), at(0));
        stop.tick(at(5));
        let again = stop.begin(plan(SignalScope::Tree, 60, 7), at(6));
        assert_eq!(again, [Action::Kill]);
        assert_eq!(stop.deadline(), Some(at(13)));
        assert_eq!(stop.tick(at(13)), [Action::ReportSurvivors]);
    }

    #[test]
    fn what_a_main_process_leaves_is_stopped_by_the_default() {
        let mut stop = Stopping::new(plan(SignalScope::Main, 4, 1));
        assert!(!stop.under_way());
        let actions = stop.main_ended(at(1));
        assert_eq!(actions, [signal(SignalScope::Tree), Action::Wake]);
        assert_eq!(stop.deadline(), Some(at(5)));
    }

    #[test]
    fn a_stop_of_main_reaches_the_others_when_main_is_gone() {
        let mut stop = Stopping::new(plan(SignalScope::Tree, 1, 1));
        stop.begin(plan(SignalScope::Main, 10, 1), at(0));
        let actions = stop.main_ended(at(2));
        assert_eq!(actions, [signal(SignalScope::Tree), Action::Wake]);
        assert_eq!(stop.deadline(), Some(at(10)), "the grace is not extended");
    }

    #[test]
    fn a_tree_is_signalled_once() {
        let mut stop = Stopping::new(plan(SignalScope::Tree, 1, 1));
        stop.begin(plan(SignalScope::Tree, 10, 1), at(0));
        assert_eq!(stop.main_ended(at(2)), []);
    }
}
