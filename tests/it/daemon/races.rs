//! Many clients, one process: never two live runs, everybody answered, one record
//! per run, and the last word counts.
//!
//! `PROCESSION_SEED=n` replays the same commands (the scheduling is the machine's).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use procession::grpc::proto::{
    self, DesiredState as Desired, Process, ProcessState as State, StopPolicy,
};
use tonic::Code;

use super::{
    calls::{self, duration},
    history::History,
    proc,
    support::{Client, Daemon, sh},
};
use crate::chance::{Dice, seed};

const CLIENTS: usize = 100;
const ROUNDS: usize = 4;
const COMMANDS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
    Restart,
}

// === impl Verb ===

impl Verb {
    fn desired(self) -> Desired {
        match self {
            Self::Stop => Desired::Stopped,
            Self::Start | Self::Restart => Desired::Running,
        }
    }
}

/// A process of which a second live run would say so. The lock is held by the main
/// process and by its child, so it is free only once both are gone.
fn exclusive(name: &str, directory: &Path) -> Process {
    let directory = directory.display();
    let script = format!(
        "exec 9>>{directory}/lock
         flock -n 9 || echo overlap $PROCESSION_RUN_ID >> {directory}/runs
         echo start $PROCESSION_RUN_ID >> {directory}/runs
         sleep 1000; echo end $PROCESSION_RUN_ID >> {directory}/runs"
    );
    let mut process = sh(name, &script);
    let env = &mut process.spec.as_mut().unwrap().env;
    env.insert(proc::MARK.to_owned(), directory.to_string());
    process
}

/// Sends commands drawn from `seed`; returns the revision of each.
async fn command(mut client: Client, seed: u64) -> Vec<(i64, Verb)> {
    let mut dice = Dice(seed);
    let mut answers = Vec::new();
    for _ in 0..COMMANDS {
        let name = "one".to_owned();
        // Some kill at once, some leave it its grace.
        let stop_policy = (dice.throw(3) == 0).then(|| StopPolicy {
            grace_period: Some(duration(Duration::ZERO)),
            ..Default::default()
        });
        let verb = [Verb::Start, Verb::Stop, Verb::Restart, Verb::Restart];
        let verb = verb[usize::try_from(dice.throw(4)).unwrap()];
        let answer = match verb {
            Verb::Start => {
                let request = proto::StartProcessRequest {
                    name,
                    ..Default::default()
                };
                client
                    .start_process(request)
                    .await
                    .map(|r| r.into_inner().header)
            }
            Verb::Stop => {
                let request = proto::StopProcessRequest {
                    name,
                    stop_policy,
                    ..Default::default()
                };
                client
                    .stop_process(request)
                    .await
                    .map(|r| r.into_inner().header)
            }
            Verb::Restart => {
                let request = proto::RestartProcessRequest {
                    name,
                    stop_policy,
                    ..Default::default()
                };
                client
                    .restart_process(request)
                    .await
                    .map(|r| r.into_inner().header)
            }
        };
        answers.push((answer.unwrap().unwrap().revision, verb));
    }
    answers
}

/// Looks at `/proc` until told to end; gives back whatever ran beside another run.
fn look_for_two(mark: String, end: &AtomicBool) -> Vec<BTreeMap<i32, String>> {
    let mut found = Vec::new();
    let run = |pid: i32| {
        let env = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = env.split(|byte| *byte == 0);
        let id = variables.find_map(|v| v.strip_prefix(b"PROCESSION_RUN_ID="))?;
        Some((pid, String::from_utf8_lossy(id).into_owned()))
    };
    while !end.load(Ordering::Relaxed) {
        let mut runs: BTreeMap<i32, String> =
            proc::marked(&mark).into_iter().filter_map(run).collect();
        // Who still lives now lived together.
        runs.retain(|pid, _| proc::alive(*pid));
        if runs.values().collect::<BTreeSet<_>>().len() > 1 {
            found.push(runs);
        }
    }
    found
}

#[tokio::test]
async fn a_hundred_clients_on_one_process() {
    let seed = seed();
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let process = exclusive("one", daemon.directory());
    let mark = process.spec.as_ref().unwrap().env[proc::MARK].clone();
    calls::create(&mut client, process).await;
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    let looking = std::thread::spawn(move || look_for_two(mark, &ended));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(daemon.client().await);
    }
    let mut dice = Dice(seed);
    for round in 0..ROUNDS {
        let racing: Vec<_> = clients
            .iter()
            .map(|client| tokio::spawn(command(client.clone(), dice.throw(u64::MAX))))
            .collect();
        let mut answers = Vec::new();
        for answer in racing {
            answers.extend(answer.await.unwrap());
        }
        assert_eq!(answers.len(), CLIENTS * COMMANDS);
        // Whatever changes the desired state has a revision of its own; a command
        // that changes nothing answers with the one before.
        let (last, _) = *answers.iter().max_by_key(|(revision, _)| revision).unwrap();
        let mut wanted = answers
            .iter()
            .filter(|(revision, _)| *revision == last)
            .map(|(_, verb)| verb.desired());
        let desired = wanted.next().unwrap();
        assert!(wanted.all(|other| other == desired), "{answers:?}");
        let at_rest = if desired == Desired::Stopped {
            State::Stopped
        } else {
            State::Running
        };
        history.up_to(last).await;
        history.all_in(&["one".to_owned()], &[at_rest]).await;
        println!(
            "round {round}: {desired:?} at run {}, version {}",
            history.status("one").run_id,
            history.held["one"].version
        );
        assert_eq!(history.status("one").desired_state(), desired);
    }
    calls::stop(&mut client, "one").await;
    let head = calls::head(&mut client).await;
    history.up_to(head).await;
    end.store(true, Ordering::Relaxed);
    assert_eq!(looking.join().unwrap(), [], "two live runs");
    let runs: Vec<i64> = history.exits.keys().map(|(_, run_id)| *run_id).collect();
    let dense: Vec<i64> = (1..=history.status("one").run_id).collect();
    assert_eq!(runs, dense, "a record per run");
    let told = std::fs::read_to_string(daemon.directory().join("runs")).unwrap_or_default();
    assert!(!told.contains("overlap"), "{told}");
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}

/// Creates and deletes one name; returns the uids of what it created.
async fn create_and_delete(mut client: Client, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut created = Vec::new();
    for _ in 0..10 {
        if dice.throw(2) == 0 {
            let request = proto::CreateProcessRequest {
                process: Some(sh("one", "sleep 1000")),
                ..Default::default()
            };
            match client.create_process(request).await {
                Ok(answer) => created.push(answer.into_inner().process.unwrap().uid),
                Err(status) => assert_eq!(status.code(), Code::AlreadyExists, "{status:?}"),
            }
        } else {
            let request = proto::DeleteProcessRequest {
                name: "one".to_owned(),
                ..Default::default()
            };
            if let Err(status) = client.delete_process(request).await {
                assert_eq!(status.code(), Code::NotFound, "{status:?}");
            }
        }
    }
    created
}

#[tokio::test]
async fn twenty_clients_create_and_delete_one_name() {
    let mut dice = Dice::new();
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let mut racing = Vec::new();
    for _ in 0..20 {
        let client = daemon.client().await;
        racing.push(tokio::spawn(create_and_delete(
            client,
            dice.throw(u64::MAX),
        )));
    }
    let mut created = Vec::new();
    for uids in racing {
        created.extend(uids.await.unwrap());
    }
    let request = proto::DeleteProcessRequest {
        name: "one".to_owned(),
        allow_missing: true,
        ..Default::default()
    };
    client.delete_process(request).await.unwrap();
    let head = calls::head(&mut client).await;
    history.up_to(head).await;
    assert!(history.held.is_empty());
    // Whoever was told that it created something did; nothing was created twice.
    let told: BTreeSet<&String> = created.iter().collect();
    assert_eq!(told.len(), created.len());
    let ran: BTreeSet<&String> = history.exits.keys().map(|(uid, _)| uid).collect();
    assert_eq!(ran, told, "each incarnation ran once and ended");
    proc::nothing_below(daemon.pid());
    daemon.ended().await;
}
