//! The supervisor over the fake runner, on a paused clock: commands, waits,
//! dependencies, configuration. Real processes are in the integration tests.

use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::{
    domain::{
        admission::{Denied, Precondition},
        id::{ProcessName, Revision, Uid},
        run::Outcome as Exit,
        spec::{Config, Dependency, DependencyCondition, ExitWith, StopPolicy},
        status::{Cause, Desired, ProcessState, Reason, State},
        wait::Condition,
    },
    logs::{Limits as LogLimits, Logs},
    registry::{Budget, Limits, Mode, Read, Registry},
    runner::fake::{Asked, FakeRunner, OnStop, Script},
};

mod intents;

struct World {
    supervisor: Supervisor,
    runner: FakeRunner,
    _logs: tempfile::TempDir,
}

fn world() -> World {
    let registry = Registry::new(Limits::default(), Revision::ZERO);
    world_with(std::sync::Arc::new(Forgetful), registry)
}

fn world_with(intents: std::sync::Arc<dyn IntentStore>, registry: Processes) -> World {
    let runner = FakeRunner::new();
    let logs = tempfile::tempdir().unwrap();
    let setup = Setup {
        registry,
        runtime: tokio::runtime::Handle::current(),
        runner: std::sync::Arc::new(runner.clone()),
        logs: Logs::new(logs.path().into(), LogLimits::default()).unwrap(),
        clock: Clock::start(),
        base_env: Vec::new(),
        new_uid: || Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes()),
        intents,
    };
    World {
        supervisor: Supervisor::new(setup),
        runner,
        _logs: logs,
    }
}

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

fn config(autostart: bool) -> Config {
    Config {
        command: vec!["x".into()],
        autostart,
        ..Config::default()
    }
}

fn needs(on: &str, condition: DependencyCondition) -> Config {
    let dependency = Dependency {
        name: name(on),
        condition: Some(condition),
        restart_with: false,
        optional: false,
    };
    Config {
        dependencies: vec![dependency],
        ..config(true)
    }
}

impl World {
    async fn create(&self, text: &str, config: Config) -> Result<Configured, Refused> {
        let draft = Draft {
            name: name(text),
            config,
        };
        self.supervisor.create(draft, Cause::CONFIG, false).await
    }

    async fn control(&self, text: &str, control: Control) -> Result<Ack, Refused> {
        self.supervisor
            .control(Target::unguarded(name(text)), control, Cause::CONFIG)
            .await
    }

    async fn stop(&self, text: &str) -> Ack {
        self.control(text, Control::Stop(StopPolicy::default()))
            .await
            .unwrap()
    }

    async fn wait(&self, text: &str, condition: Condition, ack: Option<&Ack>) -> WaitResult {
        let (run_id, from) = ack.map_or((0, Revision::ZERO), |ack| {
            (ack.position.run_id, ack.position.revision)
        });
        let wait = WaitFor {
            name: name(text),
            uid: None,
            condition,
            run_id,
            from,
        };
        let patience = Duration::from_secs(3600);
        tokio::time::timeout(patience, self.supervisor.wait(wait))
            .await
            .unwrap()
            .unwrap()
    }

    fn state(&self, text: &str) -> (State, Reason) {
        let node = self.supervisor.registry().get(text).unwrap();
        (node.body().status.state, node.body().status.reason)
    }

    /// Every published state, oldest first.
    fn history(&self) -> Vec<(ProcessName, State)> {
        let budget = Budget {
            entries_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let read = self
            .supervisor
            .registry()
            .read(Mode::EveryChange, Revision::ZERO, budget);
        let Read::Batch { changes, .. } = read else {
            panic!("history is trimmed")
        };
        let state = |state: &ProcessState| (state.name().clone(), state.status.state);
        changes
            .iter()
            .map(|change| state(change.node.body()))
            .collect()
    }

    /// Every published state of `text`, oldest first.
    fn path(&self, text: &str) -> Vec<State> {
        let all = self.history().into_iter();
        all.filter(|(name, _)| name.as_str() == text)
            .map(|(_, state)| state)
            .collect()
    }
}

fn ends(after: u64, outcome: Exit) -> Script {
    Script {
        ends_after: Some((Duration::from_secs(after), outcome)),
        ..Script::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_starts_runs_and_stops() {
    let world = world();
    world.create("web", config(true)).await.unwrap();
    assert!(world.wait("web", Condition::Running, None).await.satisfied);
    let ack = world.stop("web").await;
    assert_eq!(ack.node.body().status.state, State::Stopping);
    assert!(
        world
            .wait("web", Condition::Settled, Some(&ack))
            .await
            .satisfied
    );
    assert_eq!(world.state("web"), (State::Stopped, Reason::None));
    let path = world.path("web");
    assert_eq!(path.first(), Some(&State::Stopped));
    assert!(
        path.windows(2)
            .all(|w| w[0] != State::Stopping || w[1] != State::Running),
        "{path:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_judged_on_every_change_not_the_latest_state() {
    let world = world();
    world.runner.set_default(ends(0, Exit::Code(0)));
    world.create("job", config(false)).await.unwrap();
    let ack = world.control("job", Control::Start).await.unwrap();
    assert!(
        world
            .wait("job", Condition::Succeeded, Some(&ack))
            .await
            .satisfied
    );
    // It is long over, but it was running for a moment.
    assert_eq!(world.state("job").0, State::Succeeded);
    assert!(
        world
            .wait("job", Condition::Running, Some(&ack))
            .await
            .satisfied
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_start_is_not_satisfied_by_the_run_before() {
    let world = world();
    world.create("web", config(true)).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    world.runner.push(ends(5, Exit::Code(1)));
    let ack = world
        .control("web", Control::Restart(StopPolicy::default()))
        .await
        .unwrap();
    assert_eq!(ack.position.run_id, 2);
    let result = world.wait("web", Condition::Succeeded, Some(&ack)).await;
    assert!(!result.satisfied, "run 2 failed");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_restarts_and_stops_are_all_answered_and_no_two_runs_overlap() {
    let world = world();
    world.runner.set_default(Script {
        on_stop: OnStop::Ends(Duration::from_millis(30), Exit::Signal(15)),
        ..Script::default()
    });
    world.create("web", config(true)).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    let calls = (0..100).map(|i| {
        let control = match i % 3 {
            0 => Control::Stop(StopPolicy::default()),
            _ => Control::Restart(StopPolicy::default()),
        };
        world.control("web", control)
    });
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    world.wait("web", Condition::Running, None).await;
    let node = world.supervisor.registry().get("web").unwrap();
    let status = &node.body().status;
    let ids: Vec<_> = status
        .details
        .history
        .iter()
        .map(|record| record.run_id)
        .collect();
    assert_eq!(
        ids,
        (1..status.run_id).rev().collect::<Vec<_>>(),
        "one record per ended run"
    );
    assert_eq!(
        i64::try_from(world.runner.launches()).unwrap(),
        status.run_id
    );
}

#[tokio::test(start_paused = true)]
async fn dependencies_start_in_order_and_stop_in_reverse() {
    let world = world();
    world.runner.set_default(Script {
        starts_after: Duration::from_secs(2),
        on_stop: OnStop::Ends(Duration::from_secs(1), Exit::Signal(15)),
        ..Script::default()
    });
    world.create("db", config(true)).await.unwrap();
    world
        .create("web", needs("db", DependencyCondition::Ready))
        .await
        .unwrap();
    assert!(world.wait("web", Condition::Running, None).await.satisfied);
    assert_eq!(
        world.runner.run(0).await.launch.unwrap().name.as_str(),
        "db"
    );

    let stop = Control::Stop(StopPolicy::default());
    let names = vec![name("db"), name("web")];
    let supervisor = world.supervisor.clone();
    let stopping = tokio::spawn(async move {
        supervisor
            .control_many(names, stop, true, Cause::SUPERVISOR)
            .await
    });
    assert!(
        stopping
            .await
            .unwrap()
            .iter()
            .all(|item| item.result.is_ok())
    );
    let history = world.history();
    let at = |text: &str, state| {
        let is = |(process, was): &(ProcessName, State)| process.as_str() == text && *was == state;
        history.iter().position(is).unwrap()
    };
    // The first `Stopped` of a process is its creation.
    assert!(at("db", State::Stopping) > at("web", State::Stopping));
    let before_db = &history[..at("db", State::Stopping)];
    assert_eq!(before_db.last(), Some(&(name("web"), State::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_failed_for_good_fails_its_dependents_until_it_recovers() {
    let world = world();
    let mut db = config(true);
    db.restart.max_consecutive_failures = 1;
    world.runner.push(ends(1, Exit::Code(1)));
    world.create("db", db).await.unwrap();
    let web = needs("db", DependencyCondition::Succeeded);
    world.create("web", web).await.unwrap();
    assert!(world.wait("web", Condition::Settled, None).await.satisfied);
    assert_eq!(
        world.state("web"),
        (State::Failed, Reason::DependencyFailed)
    );
    world.runner.push(ends(1, Exit::Code(0)));
    world.control("db", Control::Start).await.unwrap();
    assert!(world.wait("web", Condition::Running, None).await.satisfied);
}

#[tokio::test(start_paused = true)]
async fn restart_with_follows_the_dependency() {
    let world = world();
    world.create("db", config(true)).await.unwrap();
    let mut web = needs("db", DependencyCondition::Running);
    web.dependencies[0].restart_with = true;
    world.create("web", web).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    world
        .control("db", Control::Restart(StopPolicy::default()))
        .await
        .unwrap();
    let wait = WaitFor {
        name: name("web"),
        uid: None,
        condition: Condition::Running,
        run_id: 2,
        from: Revision::ZERO,
    };
    assert!(world.supervisor.wait(wait).await.unwrap().satisfied);
}

#[tokio::test(start_paused = true)]
async fn guards_are_checked_by_the_owner() {
    let world = world();
    world.create("web", config(true)).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    let guard = Precondition {
        run_id: Some(7),
        ..Precondition::default()
    };
    let target = Target {
        name: name("web"),
        guard,
    };
    let refused = world
        .supervisor
        .control(target, Control::Start, Cause::CONFIG)
        .await;
    assert!(matches!(
        refused,
        Err(Refused::Denied {
            denied: Denied::Precondition {
                field: "run_id",
                ..
            },
            ..
        })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_apply_changes_nothing_a_hundred_times_and_a_change_bounces_by_choice() {
    let world = world();
    let apply = async |config: Config, rollout| {
        let target = Target::unguarded(name("web"));
        world
            .supervisor
            .apply(target, config, rollout, Cause::CONFIG, false)
            .await
            .unwrap()
    };
    assert_eq!(
        apply(config(true), Rollout::NextStart).await.outcome,
        Outcome::Created
    );
    world.wait("web", Condition::Running, None).await;
    let head = world.supervisor.registry().head();
    for _ in 0..100 {
        let again = apply(config(true), Rollout::RestartIfNeeded).await;
        assert_eq!(again.outcome, Outcome::Unchanged);
    }
    assert_eq!(world.supervisor.registry().head(), head);

    let changed = Config {
        nice: 3,
        ..config(true)
    };
    let later = apply(changed.clone(), Rollout::NextStart).await;
    assert!(later.deferred && later.changes.len() == 1);
    assert_eq!(world.state("web").0, State::Running);
    let now = apply(Config { nice: 4, ..changed }, Rollout::RestartIfNeeded).await;
    assert_eq!(now.position.run_id, 2);
    let wait = WaitFor {
        name: name("web"),
        uid: None,
        condition: Condition::Running,
        run_id: 2,
        from: now.position.revision,
    };
    assert!(world.supervisor.wait(wait).await.unwrap().satisfied);
}

#[tokio::test(start_paused = true)]
async fn a_faulty_batch_applies_nothing() {
    let world = world();
    let batch = |drafts| {
        world
            .supervisor
            .apply_batch(drafts, vec![], Rollout::NextStart, Cause::CONFIG, false)
    };
    let draft = |text, config| Draft {
        name: name(text),
        config,
    };
    let cycle = vec![
        draft("a", needs("b", DependencyCondition::Running)),
        draft("b", needs("a", DependencyCondition::Running)),
    ];
    assert_eq!(
        batch(cycle).await.unwrap_err().to_string(),
        "dependency cycle: a -> b -> a"
    );
    let faulty = vec![draft("a", config(true)), draft("b", Config::default())];
    assert!(matches!(batch(faulty).await, Err(Refused::Invalid(_))));
    let missing = vec![draft("a", needs("nowhere", DependencyCondition::Running))];
    assert!(matches!(batch(missing).await, Err(Refused::Graph(_))));
    assert_eq!(world.supervisor.registry().head(), Revision::ZERO);
    assert_eq!(
        world.supervisor.graph().dependents(&name("nowhere")).len(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_name_can_be_created_again_at_once() {
    let world = world();
    for _ in 0..3 {
        let created = world.create("web", config(true)).await.unwrap();
        world.wait("web", Condition::Running, None).await;
        let uid = created.node.unwrap().uid();
        let target = Target::unguarded(name("web"));
        let stop = StopPolicy::default();
        let delete = world
            .supervisor
            .delete(target, stop, false, Cause::CONFIG)
            .await
            .unwrap();
        assert_eq!(delete.node.body().status.desired, Desired::Deleted);
        let wait = WaitFor {
            name: name("web"),
            uid: Some(uid),
            condition: Condition::Deleted,
            run_id: 0,
            from: delete.position.revision,
        };
        assert!(world.supervisor.wait(wait).await.unwrap().satisfied);
        assert!(world.supervisor.registry().get("web").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn pause_and_resume_are_states_only_once_confirmed() {
    let world = world();
    world.create("web", config(true)).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    let paused = world.control("web", Control::Pause).await.unwrap();
    assert_eq!(paused.node.body().status.state, State::Paused);
    let resumed = world.control("web", Control::Resume).await.unwrap();
    assert_eq!(resumed.node.body().status.state, State::Running);
    assert_eq!(
        world.runner.run(0).await.asked(),
        [Asked::Freeze, Asked::Thaw]
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_essential_process_is_told_once_with_its_code() {
    let world = world();
    let mut end = world.supervisor.essential_end();
    world.runner.push(ends(1, Exit::Code(7)));
    let mut job = Config {
        exit_with: ExitWith::End,
        ..config(true)
    };
    job.restart.max_consecutive_failures = 1;
    world.create("job", job).await.unwrap();
    end.changed().await.unwrap();
    assert_eq!(
        end.borrow().clone(),
        Some(Ended {
            name: name("job"),
            code: 7
        })
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_stops_everything_and_refuses_new_work() {
    let world = world();
    for i in 0..20 {
        world.create(&format!("p{i}"), config(true)).await.unwrap();
    }
    world.wait("p19", Condition::Running, None).await;
    assert_eq!(world.supervisor.shutdown(Cause::SUPERVISOR).await, []);
    assert!((0..20).all(|i| world.state(&format!("p{i}")).0 == State::Stopped));
    assert!(matches!(
        world.create("late", config(true)).await,
        Err(Refused::ShuttingDown)
    ));
    assert!(matches!(
        world.control("p0", Control::Start).await,
        Err(Refused::ShuttingDown)
    ));
}
