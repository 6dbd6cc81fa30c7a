//! A daemon that starts and stops for long: descriptors, threads, zombies, memory
//! and files stay as they were.

use std::{fs, path::Path, time::Instant};

use procession::grpc::proto::{ControlAction, ProcessState as State, WaitCondition};

use super::support::{Rig, until};
use crate::{
    chance::rounds,
    daemon::{
        calls::{self, state},
        proc,
        support::Client,
    },
};

/// The allocator keeps some of what was freed, and the log of changes grows until
/// it is full.
const NOISE_KIB: u64 = 8 * 1024;
/// Per kept change.
const CHANGE_BYTES: u64 = 1024;

/// What may not grow.
#[derive(Debug)]
struct Census {
    descriptors: usize,
    threads: usize,
    rss_kib: u64,
    revision: u64,
    files: usize,
    bytes: u64,
}

async fn census(rig: &Rig, client: &mut Client) -> Census {
    rig.until_clean().await;
    let (files, bytes) = below(&rig.state());
    Census {
        descriptors: proc::descriptors(rig.pid()).len(),
        threads: proc::threads(rig.pid()).len(),
        rss_kib: proc::rss(rig.pid()),
        revision: calls::head(client).await.cast_unsigned(),
        files,
        bytes,
    }
}

/// Number and bytes of files.
fn below(root: &Path) -> (usize, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if found.is_dir() {
            let inside = below(&entry.path());
            sum = (sum.0 + inside.0, sum.1 + inside.1);
        } else {
            sum = (sum.0 + 1, sum.1 + found.len());
        }
    }
    sum
}

async fn settled(client: &mut Client, names: &[String], wanted: State) {
    for name in names {
        until("all are there", async || {
            (state(&calls::get(client, name).await) == wanted).then_some(())
        })
        .await;
    }
}

/// Runs of `count` processes at once, and what they leave.
async fn cycles(count: usize, cycles: usize) {
    let mut rig = Rig::new();
    rig.start();
    let mut client = rig.client().await;
    let names: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
    let process = |name: &String| rig.process(name, "echo line; sleep 1000");
    calls::apply(&mut client, names.iter().map(process).collect()).await;
    let (begun, mut seen) = (Instant::now(), Vec::new());
    for cycle in 0..cycles {
        if let [name] = &names[..] {
            calls::start(&mut client, name, WaitCondition::Running).await;
            calls::stop(&mut client, name).await;
        } else {
            calls::control_all(&mut client, ControlAction::Start).await;
            settled(&mut client, &names, State::Running).await;
            calls::control_all(&mut client, ControlAction::Stop).await;
            settled(&mut client, &names, State::Stopped).await;
        }
        if (cycle + 1) % (cycles / 4) == 0 {
            seen.push(census(&rig, &mut client).await);
        }
    }
    println!(
        "{cycles} cycles of {count} in {:?}: {seen:#?}",
        begun.elapsed()
    );
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    assert!(last.descriptors <= first.descriptors + 2, "{seen:#?}");
    assert!(last.threads <= first.threads + 2, "{seen:#?}");
    assert!(last.files <= first.files + 2 * count, "{seen:#?}");
    assert!(last.bytes < 64 << 20, "{seen:#?}");
    let changes = last.revision - first.revision;
    let allowed = first.rss_kib + NOISE_KIB + changes * CHANGE_BYTES / 1024;
    assert!(last.rss_kib <= allowed, "{seen:#?}");
    rig.end(client).await;
}

#[tokio::test]
async fn cycles_of_one_process_leave_nothing() {
    cycles(1, rounds(20, 1) * 10).await;
}

#[tokio::test]
async fn cycles_of_ten_processes_leave_nothing() {
    cycles(10, rounds(20, 1)).await;
}
