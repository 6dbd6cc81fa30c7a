//! A thousand processes: every change of each, nothing left afterwards, and
//! nothing done while nothing happens.

use std::time::{Duration, Instant};

use procession::grpc::proto::{ControlAction, Process, ProcessState as State};

use super::{
    calls,
    history::History,
    proc,
    support::{Daemon, command, eventually},
};

const MANY: usize = 1000;
/// Long enough for any timer of ours to show itself.
const QUIET: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_thousand_by_one_batch_come_and_go() {
    come_and_go("batch", true).await;
}

#[tokio::test]
async fn a_thousand_by_single_calls_come_and_go() {
    come_and_go("calls", false).await;
}

fn sleepers() -> Vec<Process> {
    let sleeper = |n| command(&format!("p{n:04}"), &["sleep", "infinity"]);
    (0..MANY).map(sleeper).collect()
}

async fn come_and_go(how: &str, batch: bool) {
    let daemon = Daemon::start();
    let pid = daemon.pid();
    let mut client = daemon.client().await;
    let mut history = History::watch(&mut client).await;
    history.up_to(0).await;
    let before = proc::descriptors(pid);
    let threads = proc::threads(pid);
    let rss = proc::rss(pid);
    let processes = sleepers();
    let names: Vec<String> = processes.iter().map(|p| p.name.clone()).collect();

    let begun = Instant::now();
    if batch {
        calls::apply(&mut client, processes).await;
    } else {
        for process in processes {
            calls::create(&mut client, process).await;
        }
    }
    let created = begun.elapsed();
    history.all_in(&names, &[State::Running]).await;
    let running = begun.elapsed();
    let full = proc::rss(pid);
    let cgroups: Vec<String> = names
        .iter()
        .map(|name| history.status(name).cgroup_path.clone())
        .collect();
    let pids: Vec<i32> = names.iter().map(|name| history.status(name).pid).collect();
    assert!(pids.iter().all(|pid| proc::alive(*pid)));

    let begun = Instant::now();
    calls::control_all(&mut client, ControlAction::Stop).await;
    history.all_in(&names, &[State::Stopped]).await;
    let stopped = begun.elapsed();

    let path = [State::Stopped, State::Starting, State::Running];
    let path = [&path[..], &[State::Stopping, State::Stopped]].concat();
    for name in &names {
        assert_eq!(history.paths[name], path, "{name}");
        assert_eq!(history.status(name).exit_history.len(), 1, "{name}");
    }
    proc::nothing_below(pid);
    assert!(!pids.iter().any(|pid| proc::alive(*pid)));
    for path in cgroups.iter().filter(|path| !path.is_empty()) {
        assert!(!cgroup_exists(path), "{path} is left");
        let (above, _) = path.rsplit_once('/').unwrap();
        assert!(!cgroup_exists(above), "{above} is left");
    }
    eventually("no descriptor is left", || {
        (proc::descriptors(pid).len() <= before.len()).then_some(())
    });
    eventually("no thread is left", || {
        (proc::threads(pid).len() <= threads.len()).then_some(())
    });
    println!(
        "{how}: created {created:?}, running {running:?}, stopped {stopped:?}, {} changes, \
         RSS {rss} -> {full} -> {} KiB, {} descriptors",
        history.changes,
        proc::rss(pid),
        before.len(),
    );
    daemon.ended().await;
}

fn cgroup_exists(path: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let cgroup2 = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| fields[1].to_owned())
    });
    cgroup2.is_some_and(|mount| std::path::Path::new(&format!("{mount}{path}")).exists())
}

/// A daemon and its shims with this many processes, nobody connected.
fn sleeps_with(count: usize) {
    let daemon = Daemon::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = daemon.client().await;
        let mut processes = sleepers();
        processes.truncate(count);
        let names: Vec<String> = processes.iter().map(|p| p.name.clone()).collect();
        let mut history = History::watch(&mut client).await;
        calls::apply(&mut client, processes).await;
        history.all_in(&names, &[State::Running]).await;
    });
    // With it go the connections.
    drop(runtime);
    let pid = daemon.pid();
    let shims = || {
        let is_shim = |p: &proc::Seen| p.parent == pid;
        let mut shims: Vec<i32> = proc::below(pid)
            .into_iter()
            .filter(is_shim)
            .map(|p| p.pid)
            .collect();
        shims.sort_unstable();
        shims
    };
    assert_eq!(shims().len(), count);
    let all: Vec<i32> = std::iter::once(pid).chain(shims()).collect();
    let look = || -> Vec<_> {
        all.iter()
            .map(|pid| proc::activity(*pid).unwrap())
            .collect()
    };
    // What the last calls and the closed connections led to is over when two looks
    // in a row see the same.
    let mut last = look();
    eventually("they come to rest", || {
        let now = look();
        (std::mem::replace(&mut last, now.clone()) == now).then_some(())
    });
    let before = look();
    std::thread::sleep(QUIET);
    let after = look();
    let naps: u64 = before
        .iter()
        .zip(&after)
        .map(|(b, a)| a.naps - b.naps)
        .sum();
    let ticks: u64 = before
        .iter()
        .zip(&after)
        .map(|(b, a)| a.ticks - b.ticks)
        .sum();
    println!(
        "{count} at rest for {QUIET:?}: {naps} wake-ups, {ticks} ticks of CPU, RSS {} KiB",
        proc::rss(pid)
    );
    // An API thread may see the last of a connection late.
    assert!(naps <= 4 && ticks <= 1, "{naps} wake-ups, {ticks} ticks");
}

#[test]
fn nobody_wakes_up_with_nothing_to_do() {
    sleeps_with(0);
}

#[test]
fn nobody_wakes_up_with_a_thousand_at_rest() {
    sleeps_with(MANY);
}
