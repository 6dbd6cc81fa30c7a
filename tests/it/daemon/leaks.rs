//! Memory, descriptors and threads of a daemon that has worked for a while.

use std::time::Instant;

use procession::grpc::proto::{ControlAction, Process, ProcessState as State, WaitCondition};

use super::{
    calls,
    history::History,
    proc,
    support::{Daemon, command},
};

/// What a kept change may cost. The log of changes is a ring; until it is full, of
/// which these tests are far, it is all that may grow.
const CHANGE_BYTES: u64 = 1024;

/// The allocator keeps some of what was freed.
const NOISE_KIB: u64 = 2 * 1024;

/// Sizes in KiB at revisions: whether the log alone explains the growth.
fn explained(sizes: &[(i64, u64)]) -> bool {
    let (first, last) = (sizes[1], sizes[sizes.len() - 1]);
    let changes = u64::try_from(last.0 - first.0).unwrap();
    last.1 <= first.1 + changes * CHANGE_BYTES / 1024 + NOISE_KIB
}

#[tokio::test]
async fn two_thousand_runs_of_one_process_leave_nothing_behind() {
    let daemon = Daemon::start();
    let pid = daemon.pid();
    let mut client = daemon.client().await;
    calls::create(&mut client, command("one", &["sleep", "1000"])).await;
    let mut sizes = Vec::new();
    let mut open = Vec::new();
    let begun = Instant::now();
    for cycle in 0..2000 {
        calls::stop(&mut client, "one").await;
        calls::start(&mut client, "one", WaitCondition::Running).await;
        if cycle % 500 == 499 {
            sizes.push((calls::head(&mut client).await, proc::rss(pid)));
            open.push(proc::descriptors(pid).len());
        }
    }
    println!(
        "2000 cycles in {:?}: (revision, KiB of RSS) {sizes:?}, descriptors {open:?}",
        begun.elapsed()
    );
    let threads = proc::threads(pid);
    assert!(threads.len() < 12, "{threads:?}");
    assert!(explained(&sizes), "{sizes:?}");
    assert!(
        open.iter().max().unwrap() - open.iter().min().unwrap() <= 4,
        "{open:?}"
    );
    assert_eq!(
        calls::status(&calls::get(&mut client, "one").await).run_id,
        2001
    );
    calls::stop(&mut client, "one").await;
    proc::nothing_below(pid);
    daemon.ended().await;
}

#[tokio::test]
async fn names_that_come_and_go_leave_nothing_behind() {
    let daemon = Daemon::start();
    let pid = daemon.pid();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    let mut sizes = Vec::new();
    let mut open = Vec::new();
    for round in 0..8 {
        let process = |n| command(&format!("r{round}p{n}"), &["sleep", "1000"]);
        let processes: Vec<Process> = (0..50).map(process).collect();
        let names: Vec<String> = processes.iter().map(|p| p.name.clone()).collect();
        calls::apply(&mut client, processes).await;
        history.all_in(&names, &[State::Running]).await;
        calls::control_all(&mut client, ControlAction::Stop).await;
        history.all_in(&names, &[State::Stopped]).await;
        for name in names {
            let request = procession::grpc::proto::DeleteProcessRequest {
                name,
                ..Default::default()
            };
            client.delete_process(request).await.unwrap();
        }
        history
            .until("all are deleted", |held| held.is_empty())
            .await;
        sizes.push((calls::head(&mut client).await, proc::rss(pid)));
        proc::nothing_below(pid);
        open.push(proc::descriptors(pid).len());
    }
    println!("8 times 50 names: (revision, KiB of RSS) {sizes:?}, descriptors {open:?}");
    assert!(explained(&sizes), "{sizes:?}");
    assert_eq!(open.iter().min(), open.iter().max(), "{open:?}");
    daemon.ended().await;
}
