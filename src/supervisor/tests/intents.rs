//! A disk that a test holds up, breaks and mends; and a daemon that takes over.

use std::sync::{Arc, Mutex};

use tokio::sync::{oneshot, watch};

use super::*;
use crate::{
    domain::{
        lifecycle::Lifecycle,
        run::{OutputHealth, OutputState, RunEvent},
        spec::Spec,
        status::{ConditionKind, Status},
        time::Timestamp,
    },
    registry::{Position, Restored},
    runner::fake::Left,
};

type Answer = oneshot::Sender<Result<(), NotKept>>;

/// Keeps what it is told in memory, when it is let.
struct Disk {
    writable: watch::Sender<bool>,
    held: Mutex<Option<Vec<Answer>>>,
    intents: Mutex<Vec<Intent>>,
}

impl Disk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            writable: watch::Sender::new(true),
            held: Mutex::new(None),
            intents: Mutex::default(),
        })
    }

    fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    fn release(&self) {
        let held = self.held.lock().unwrap().take();
        for answer in held.into_iter().flatten() {
            let _ = answer.send(Ok(()));
        }
    }

    fn kept(&self) -> Vec<(i64, Desired)> {
        let intents = self.intents.lock().unwrap();
        intents.iter().map(|i| (i.number, i.desired)).collect()
    }

    fn waiting(&self) -> usize {
        self.held.lock().unwrap().as_ref().map_or(0, Vec::len)
    }
}

impl IntentStore for Disk {
    fn keep(&self, intent: Intent) -> Receipt {
        let (answer, told) = oneshot::channel();
        let receipt: Receipt = Box::pin(async { told.await.unwrap() });
        if !*self.writable.borrow() {
            let reason = "no space left".into();
            let _ = answer.send(Err(NotKept { reason }));
            return receipt;
        }
        self.intents.lock().unwrap().push(intent);
        match &mut *self.held.lock().unwrap() {
            Some(held) => held.push(answer),
            None => drop(answer.send(Ok(()))),
        }
        receipt
    }

    fn writable(&self) -> Writable {
        let mut writable = self.writable.subscribe();
        Box::pin(async move { drop(writable.wait_for(|now| *now).await) })
    }
}

fn world_on(disk: &Arc<Disk>) -> World {
    world_with(
        Arc::<Disk>::clone(disk),
        Registry::new(Limits::default(), Revision::ZERO),
    )
}

fn condition(world: &World, kind: ConditionKind) -> Option<bool> {
    let node = world.supervisor.registry().get("web").unwrap();
    condition_of(&node.body().status, kind)
}

fn condition_of(status: &Status, kind: ConditionKind) -> Option<bool> {
    let conditions = &status.details.conditions;
    conditions.iter().find(|c| c.kind == kind).map(|c| c.holds)
}

/// Until nothing more happens by itself, as far as the clock does not move.
async fn quiesce() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_visible_before_it_is_kept_and_the_kernel_is_not_held_up() {
    let disk = Disk::new();
    let world = world_on(&disk);
    disk.hold();
    let created = world.create("web", config(true));
    tokio::pin!(created);
    assert!(futures_util::poll!(&mut created).is_pending());
    assert!(world.supervisor.registry().get("web").is_none());
    disk.release();
    created.await.unwrap();
    world.wait("web", Condition::Running, None).await;

    disk.hold();
    let stop = world.stop("web");
    tokio::pin!(stop);
    assert!(futures_util::poll!(&mut stop).is_pending());
    quiesce().await;
    assert_eq!(world.state("web").0, State::Running, "not kept, not done");
    // It ends by itself and is restarted without waiting for the disk.
    world.runner.run(0).await.end(Exit::Code(1)).await;
    world.runner.run(1).await;
    quiesce().await;
    assert_eq!(disk.waiting(), 1);
    disk.release();
    let ack = stop.await;
    assert_eq!(ack.node.body().status.desired, Desired::Stopped);
    assert_eq!(disk.kept(), [(0, Desired::Running), (1, Desired::Stopped)]);
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_needs_no_disk() {
    let disk = Disk::new();
    let world = world_on(&disk);
    world.create("web", config(true)).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    world.control("web", Control::Start).await.unwrap();
    world.control("web", Control::Pause).await.unwrap();
    world.control("web", Control::Resume).await.unwrap();
    world.control("web", Control::Reset).await.unwrap();
    assert_eq!(disk.kept(), [(0, Desired::Running)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_all_but_a_stop_which_is_kept_once_there_is_space() {
    let disk = Disk::new();
    let world = world_on(&disk);
    world.create("web", config(true)).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    disk.writable.send_replace(false);
    let refused = |result: Result<Ack, Refused>| match result {
        Err(Refused::NotKept(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let restart = Control::Restart(StopPolicy::default());
    assert!(refused(world.control("web", restart).await).contains("no space left"));
    assert!(world.create("db", config(true)).await.is_err());
    assert!(world.supervisor.registry().get("db").is_none());
    assert_eq!(condition(&world, ConditionKind::IntentDurable), None);

    let ack = world.stop("web").await;
    let told = condition_of(&ack.node.body().status, ConditionKind::IntentDurable);
    assert_eq!(told, Some(false), "the answer itself says so");
    world.wait("web", Condition::Settled, Some(&ack)).await;
    assert_eq!(world.state("web").0, State::Stopped);
    assert_eq!(condition(&world, ConditionKind::IntentDurable), Some(false));
    disk.writable.send_replace(true);
    quiesce().await;
    assert_eq!(condition(&world, ConditionKind::IntentDurable), Some(true));
    assert_eq!(disk.kept().last(), Some(&(2, Desired::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_shares_the_way_to_the_disk_and_is_all_or_nothing() {
    let disk = Disk::new();
    let world = world_on(&disk);
    let drafts = || {
        let names = ["a", "b", "c"];
        names.map(|text| Draft {
            name: name(text),
            config: config(false),
        })
    };
    let apply = |drafts: [Draft; 3]| {
        let rollout = Rollout::NextStart;
        world
            .supervisor
            .apply_batch(drafts.into(), Vec::new(), rollout, Cause::CONFIG, false)
    };
    disk.writable.send_replace(false);
    assert!(matches!(apply(drafts()).await, Err(Refused::NotKept(_))));
    assert!(world.supervisor.registry().snapshot().nodes.is_empty());
    disk.writable.send_replace(true);
    disk.hold();
    let batch = apply(drafts());
    tokio::pin!(batch);
    assert!(futures_util::poll!(&mut batch).is_pending());
    assert_eq!(disk.waiting(), 3, "together");
    disk.release();
    assert_eq!(batch.await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_end_of_the_daemon_stops_is_wanted_all_the_same() {
    let disk = Disk::new();
    let world = world_on(&disk);
    world.create("web", config(true)).await.unwrap();
    world.wait("web", Condition::Running, None).await;
    world.supervisor.shutdown(Cause::SUPERVISOR).await;
    assert_eq!(world.state("web").0, State::Stopped);
    assert_eq!(disk.kept(), [(0, Desired::Running)]);
}

/// A daemon that finds `status` of "web" and its intent.
struct Takeover {
    version: i64,
    status: Status,
    acted: i64,
    intent: Intent,
    left: Vec<(i64, Left)>,
    afresh: bool,
}

fn uid() -> Uid {
    Uid::from_bytes([7; 16])
}

fn takeover(state: State) -> Takeover {
    let spec = Arc::new(Spec {
        name: name("web"),
        generation: 1,
        created: Timestamp(1),
        config: config(true),
    });
    let mut status = Lifecycle::new(Desired::Running, Cause::CONFIG, Timestamp(1)).status;
    status.state = state;
    status.run_id = 3;
    status.run_generation = 1;
    status.start_time = Timestamp(1);
    status.pid = if state.is_alive() { 7 } else { 0 };
    Takeover {
        version: 9,
        status,
        acted: 4,
        intent: Intent {
            uid: uid(),
            name: name("web"),
            number: 4,
            desired: Desired::Running,
            spec: Some(spec),
            begin: false,
            instead_of: 0,
            run_id: 0,
            cause: Cause::CONFIG,
        },
        left: Vec::new(),
        afresh: false,
    }
}

impl Takeover {
    async fn run(self) -> World {
        let spec = self.intent.spec.clone().unwrap();
        let body = ProcessState {
            spec,
            status: self.status,
            cause: Cause::CONFIG,
            time: Timestamp(1),
            intent: self.acted,
        };
        let restored = Restored {
            uid: uid(),
            body,
            version: self.version,
            revision: Revision::new(20),
            created: Revision::new(2),
            deleted: false,
        };
        let position = Position {
            head: Revision::new(30),
            oldest: Revision::ZERO,
        };
        let registry = Registry::restore(Limits::default(), position, vec![restored]);
        let world = world_with(Disk::new(), registry);
        for (run_id, left) in self.left {
            world.runner.leave(uid(), run_id, left);
        }
        let refused = world.supervisor.recover(Recovery {
            processes: vec![self.intent],
            afresh: self.afresh,
            complete: true,
        });
        assert!(refused.is_empty(), "{refused:?}");
        quiesce().await;
        world
    }
}

fn running() -> Left {
    Left::Running(Script::default())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lives_is_adopted_and_obeys() {
    let mut takeover = takeover(State::Running);
    takeover.left = vec![(3, running())];
    let world = takeover.run().await;
    let node = world.supervisor.registry().get("web").unwrap();
    assert_eq!(node.body().status.state, State::Running);
    assert!(node.version() > 9 && node.revision() > Revision::new(30));
    assert_eq!(condition(&world, ConditionKind::Adopted), Some(true));
    let ack = world.stop("web").await;
    world.wait("web", Condition::Settled, Some(&ack)).await;
    assert_eq!(world.state("web").0, State::Stopped);
    assert_eq!(world.runner.launches(), 1, "nothing was launched");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_answer_is_told_as_such_until_it_does() {
    let silence = Duration::from_secs(2);
    let mut takeover = takeover(State::Running);
    takeover.left = vec![(3, Left::Silent(silence, Script::default()))];
    let world = takeover.run().await;
    quiesce().await;
    assert_eq!(condition(&world, ConditionKind::Adopted), Some(false));
    assert_eq!(world.state("web").0, State::Running, "nothing is guessed");
    tokio::time::advance(silence).await;
    quiesce().await;
    assert_eq!(condition(&world, ConditionKind::Adopted), Some(true));
}

#[tokio::test(start_paused = true)]
async fn how_output_is_kept_is_published_once_per_change() {
    let mut takeover = takeover(State::Running);
    takeover.left = vec![(3, running())];
    let world = takeover.run().await;
    quiesce().await;
    let node = || world.supervisor.registry().get("web").unwrap();
    let run = world.runner.run(0).await;
    let before = node().version();
    for state in [OutputState::Intact, OutputState::Blocked { errno: 28 }] {
        for _ in 0..3 {
            let health = OutputHealth {
                state,
                approximate_bytes: 0,
            };
            run.tell(RunEvent::Output(health)).await;
            quiesce().await;
        }
    }
    assert_eq!(condition(&world, ConditionKind::LogsIntact), Some(false));
    assert_eq!(node().version(), before + 1, "of six that were told");
}

#[tokio::test(start_paused = true)]
async fn runs_since_are_looked_at_in_order_and_each_leaves_its_record() {
    let mut takeover = takeover(State::Running);
    takeover.left = vec![
        (5, running()),
        (3, Left::Ended(Exit::Code(1))),
        (4, Left::Ended(Exit::Code(2))),
        (2, Left::Ended(Exit::Code(9))),
    ];
    let world = takeover.run().await;
    let node = world.supervisor.registry().get("web").unwrap();
    let status = &node.body().status;
    assert_eq!((status.state, status.run_id), (State::Running, 5));
    let ends: Vec<_> = status.details.history.iter().map(|r| r.run_id).collect();
    assert_eq!(ends, [4, 3]);
    assert_eq!(
        world.runner.forgotten(),
        [(uid(), 2)],
        "what is known to be over is cleared away"
    );
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_was_not_acted_on_is_acted_on_now() {
    let mut start = takeover(State::Failed);
    start.intent.number = 5;
    start.intent.begin = true;
    let world = start.run().await;
    assert_eq!(world.state("web").0, State::Running);

    let mut stop = takeover(State::Running);
    stop.left = vec![(3, running())];
    stop.intent.number = 5;
    stop.intent.desired = Desired::Stopped;
    let world = stop.run().await;
    world.wait("web", Condition::Settled, None).await;
    assert_eq!(world.state("web").0, State::Stopped);

    for (acted, runs) in [(4, 2), (5, 1)] {
        let mut restart = takeover(State::Running);
        restart.left = vec![(3, running())];
        restart.acted = acted;
        restart.intent.number = 5;
        restart.intent.begin = true;
        restart.intent.instead_of = 3;
        let world = restart.run().await;
        assert_eq!(world.state("web").0, State::Running);
        assert_eq!(world.runner.launches(), runs, "restarted once, if at all");
    }

    let mut delete = takeover(State::Stopped);
    delete.intent.number = 5;
    delete.intent.desired = Desired::Deleted;
    let world = delete.run().await;
    assert!(world.supervisor.registry().get("web").is_none());
}

/// The daemon was killed between a creation and what follows from it.
#[tokio::test(start_paused = true)]
async fn what_was_only_created_is_begun_once_if_it_is_wanted() {
    let created = |desired| {
        let mut takeover = takeover(State::Stopped);
        takeover.version = 1;
        takeover.status = Status::new(desired, Cause::CONFIG, Timestamp(1));
        takeover.acted = 0;
        takeover.intent.number = 0;
        takeover.intent.desired = desired;
        takeover
    };
    let world = created(Desired::Running).run().await;
    assert_eq!(world.state("web").0, State::Running);
    assert_eq!(world.runner.launches(), 1);
    let world = created(Desired::Stopped).run().await;
    assert_eq!(world.runner.launches(), 0);
    let mut begun = created(Desired::Running);
    begun.left = vec![(1, Left::Ended(Exit::Code(0)))];
    let world = begun.run().await;
    assert_eq!(world.state("web").0, State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_ended_for_good_stays_so_unless_all_begins_afresh() {
    for (afresh, runs) in [(false, 0), (true, 1)] {
        let mut takeover = takeover(State::Succeeded);
        takeover.afresh = afresh;
        let world = takeover.run().await;
        assert_eq!(world.runner.launches(), runs);
    }
    let mut takeover = takeover(State::Stopped);
    takeover.status.desired = Desired::Stopped;
    takeover.intent.desired = Desired::Stopped;
    takeover.afresh = true;
    let world = takeover.run().await;
    assert_eq!(world.runner.launches(), 0, "a manual stop is remembered");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_nobody_is_stopped_and_cleared_away() {
    let mut takeover = takeover(State::Stopped);
    takeover.status.desired = Desired::Stopped;
    takeover.intent.desired = Desired::Stopped;
    let world = takeover.run().await;
    let stranger = Uid::from_bytes([8; 16]);
    world.runner.leave(stranger, 1, running());
    // Who it belongs to may only have been forgotten.
    world.supervisor.recover(Recovery::default());
    quiesce().await;
    assert_eq!(world.runner.launches(), 0);
    world.supervisor.recover(Recovery {
        complete: true,
        ..Recovery::default()
    });
    quiesce().await;
    assert_eq!(world.runner.forgotten(), [(stranger, 1)]);
}
