//! Runs that a later daemon takes over: what happened meanwhile is told once, and
//! as it was.

use std::{
    collections::BTreeMap,
    os::unix::fs::DirBuilderExt,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::signal::Signal;
use procession::{
    domain::{
        id::Uid,
        run::{Exit, Outcome, OutputState, RunEvent, SignalScope, UnknownReason},
    },
    runner::{LogPolicy, Runner, ShimRunner},
};
use tempfile::TempDir;

use super::support::*;
use crate::chance::rounds;

/// A state directory, its runner, and a thread-less daemon that can be dropped.
pub(super) struct Place {
    pub(super) root: TempDir,
    pub(super) runner: ShimRunner,
}

/// Whom a run was left by.
pub(super) struct Left {
    pub(super) uid: Uid,
    pub(super) pid: i32,
    pub(super) shim: i32,
}

impl Place {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let runner = runner_in(&dirs_in(root.path()));
        Self { root, runner }
    }

    pub(super) fn dirs(&self) -> procession::runner::Dirs {
        dirs_in(self.root.path())
    }

    /// Begins `sh -c script`, does `with` it, and drops the daemon.
    pub(super) fn leave(&self, script: &str, with: impl AsyncFnOnce(&mut Running)) -> Left {
        let daemon = runtime();
        let left = daemon.block_on(async {
            let launch = launch(&["sh", "-c", script]);
            let mut running = begin_in(&self.dirs(), &self.runner, launch);
            running.started().await;
            with(&mut running).await;
            Left {
                uid: running.uid,
                pid: running.pid,
                shim: running.owner().unwrap_or(0),
            }
        });
        drop(daemon);
        left
    }

    pub(super) fn adopt(&self, uid: Uid) -> Running {
        self.adopt_to_keep(uid, None)
    }

    /// With another policy for its output.
    pub(super) fn adopt_to_keep(&self, uid: Uid, policy: Option<LogPolicy>) -> Running {
        adopt(&self.dirs(), &self.runner, uid, policy)
    }

    pub(super) fn directory(&self, uid: Uid) -> std::path::PathBuf {
        self.dirs().runs.join(format!("{uid}.1"))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_nanos()).unwrap()
}

/// The only two events of a run that ended while nobody was there.
async fn ended(running: &mut Running) -> Exit {
    running.finish().await;
    match &running.seen[..] {
        [RunEvent::Exited(exit), RunEvent::Empty] => exit.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn adopted(running: &mut Running) -> i32 {
    match running.next().await {
        Some(RunEvent::Adopted { pid, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

async fn stop(running: &mut Running) -> Outcome {
    let plan = plan(SignalScope::Tree, Duration::from_millis(50));
    running.run.stop(plan);
    running.finish().await
}

/// `sh` that ends with `exit 41` once the file is there.
fn waits_for(file: &Path) -> String {
    format!("echo one; while [ ! -e {file:?} ]; do sleep 0.01; done; echo two; exit 41")
}

#[test]
fn a_run_goes_on_with_the_next_daemon() {
    let place = Place::new();
    let script = "echo ready; trap 'exit 7' USR1; while :; do sleep 0.01; done";
    let left = place.leave(script, async |_| {});
    assert!(alive(left.pid) && alive(left.shim));
    assert_eq!(place.runner.found(), [(left.uid, 1)]);
    block_on(async {
        let mut running = place.adopt(left.uid);
        assert_eq!(adopted(&mut running).await, left.pid);
        assert_eq!(running.owner(), Some(left.shim), "the same shim");
        assert_eq!(running.line().await, "ready");
        let sent = running.run.signal(libc::SIGUSR1, SignalScope::Main).await;
        assert_eq!(sent, Ok(Ok(())));
        assert_eq!(running.finish().await, Outcome::Code(7));
        place.runner.forget(left.uid, 1);
        eventually("it is forgotten", || place.runner.found().is_empty()).await;
    });
}

#[test]
fn an_end_while_nobody_was_there_has_its_code_and_its_time() {
    let place = Place::new();
    let go = place.root.path().join("go");
    let left = place.leave(&waits_for(&go), async |_| {});
    let before = now();
    std::fs::write(&go, "").unwrap();
    block_on(async {
        eventually("its shim has ended", || !alive(left.shim)).await;
        let after = now();
        let mut running = place.adopt(left.uid);
        let exit = ended(&mut running).await;
        assert_eq!(exit.outcome, Outcome::Code(41));
        assert!(before < exit.at.0 && exit.at.0 < after, "{exit:?}");
        assert!(exit.max_rss_bytes > 0);
        assert_eq!(running.output(), "one\ntwo\n");
        // Asked again, it tells the same.
        let mut again = place.adopt(left.uid);
        assert_eq!(ended(&mut again).await, exit);
    });
}

#[test]
fn what_could_not_begin_says_so_to_the_next_daemon_too() {
    let place = Place::new();
    let uid = block_on(async {
        let mut running = begin_in(&place.dirs(), &place.runner, launch(&["/no/such"]));
        running.finish().await;
        running.uid
    });
    block_on(async {
        let exit = ended(&mut place.adopt(uid)).await;
        assert!(matches!(exit.outcome, Outcome::SpawnError(e) if e.errno == libc::ENOENT));
    });
}

#[test]
fn a_stop_under_way_is_finished_without_a_daemon() {
    let place = Place::new();
    let script = "trap '' TERM; setsid sleep 1000 & echo ready; while :; do sleep 1000; done";
    let left = place.leave(script, async |running| {
        assert_eq!(running.line().await, "ready");
        let plan = plan(SignalScope::Tree, Duration::from_millis(300));
        running.run.stop(plan);
        // The shim has it: it answers what comes after it.
        running.run.signal(0, SignalScope::Main).await.unwrap().ok();
        assert!(alive(running.pid));
    });
    block_on(async {
        eventually("its shim has ended", || !alive(left.shim)).await;
        let mut running = place.adopt(left.uid);
        let exit = ended(&mut running).await;
        assert_eq!(exit.outcome, Outcome::Signal(libc::SIGKILL));
    });
}

#[test]
fn shim_and_daemon_killed_lose_neither_code_nor_output() {
    let place = Place::new();
    let go = place.root.path().join("go");
    let left = place.leave(&waits_for(&go), async |_| {});
    kill(left.shim, Signal::SIGKILL);
    block_on(async {
        let mut running = place.adopt(left.uid);
        assert_eq!(adopted(&mut running).await, left.pid);
        assert_ne!(running.owner(), Some(left.shim));
        std::fs::write(&go, "").unwrap();
        assert_eq!(running.finish().await, Outcome::Code(41));
        assert_eq!(running.output(), "one\ntwo\n");
        eventually("no zombie", || state(left.pid).is_none()).await;
        if let Some(path) = &running.cgroup {
            let cgroup = cgroup_dir(path);
            assert!(!cgroup.exists() && !cgroup.parent().unwrap().exists());
        }
    });
}

#[test]
fn what_is_left_of_a_cgroup_goes_with_the_directory_of_the_run() {
    let place = Place::new();
    let go = place.root.path().join("go");
    let left = place.leave(&waits_for(&go), async |_| {});
    block_on(async {
        let mut running = place.adopt(left.uid);
        adopted(&mut running).await;
        std::fs::write(&go, "").unwrap();
        assert_eq!(running.finish().await, Outcome::Code(41));
        let Some(path) = &running.cgroup else {
            return; // there are none to be had
        };
        // As a shim leaves it that died before it wrote down where it is.
        let cgroup = cgroup_dir(path);
        std::fs::create_dir_all(&cgroup).unwrap();
        place.runner.forget(left.uid, 1);
        eventually("the cgroup is gone", || !cgroup.exists()).await;
    });
}

/// A line counter at full speed, under kills of its shim.
#[test]
fn killed_shims_lose_no_line_and_repeat_none() {
    let place = Place::new();
    block_on(async {
        let launch = launch(&["sh", "-c", COUNTER]);
        let mut running = begin_in(&place.dirs(), &place.runner, launch);
        running.started().await;
        let main = running.pid;
        let rounds = rounds(20, 5);
        for _ in 0..rounds {
            // It has a shim that answers.
            running.run.signal(0, SignalScope::Main).await.unwrap().ok();
            let shim = running.owner().unwrap();
            kill(shim, Signal::SIGKILL);
            eventually("it has another one", || {
                running.owner().is_some_and(|pid| pid != shim)
            })
            .await;
            assert!(alive(main));
        }
        let sent = running.run.signal(libc::SIGUSR1, SignalScope::Main).await;
        assert_eq!(sent, Ok(Ok(())));
        assert_eq!(running.finish().await, Outcome::Code(41));
        is_complete(&running.output());
        println!("{rounds} shims killed");
        let adopted = |event: &RunEvent| matches!(event, RunEvent::Adopted { .. });
        assert!(!running.seen.iter().any(adopted));
    });
}

/// The same while no daemon keeps its pipe: it is opened again by its writer.
#[test]
fn shims_killed_between_daemons_lose_no_line_and_repeat_none() {
    let place = Place::new();
    let left = place.leave(COUNTER, async |_| {});
    let mut shim = left.shim;
    for _ in 0..10 {
        kill(shim, Signal::SIGKILL);
        shim = block_on(async {
            let mut running = place.adopt(left.uid);
            assert_eq!(adopted(&mut running).await, left.pid);
            running.owner().unwrap()
        });
    }
    block_on(async {
        let mut running = place.adopt(left.uid);
        adopted(&mut running).await;
        let sent = running.run.signal(libc::SIGUSR1, SignalScope::Main).await;
        assert_eq!(sent, Ok(Ok(())));
        assert_eq!(running.finish().await, Outcome::Code(41));
        is_complete(&running.output());
    });
}

/// Counts at full speed until SIGUSR1.
const COUNTER: &str = "trap over=1 USR1; i=0; \
    while [ -z \"$over\" ]; do echo $i; i=$((i+1)); done; echo last $i; exit 41";

/// Each line of [`COUNTER`] is there, once, in its order.
fn is_complete(output: &str) {
    let mut lines = output.lines();
    let last = lines.next_back().unwrap();
    let mut count = 0;
    for line in lines {
        assert_eq!(line, count.to_string());
        count += 1;
    }
    assert_eq!(last, format!("last {count}"));
    println!("{count} lines");
}

#[test]
fn a_stopped_shim_holds_nobody_else_up() {
    let place = Place::new();
    let script = "while :; do sleep 1000; done";
    let stuck = place.leave(script, async |_| {});
    let left: Vec<Left> = (0..5).map(|_| place.leave(script, async |_| {})).collect();
    kill(stuck.shim, Signal::SIGSTOP);
    block_on(async {
        let mut silent = place.adopt(stuck.uid);
        let mut runs: Vec<_> = left.iter().map(|left| place.adopt(left.uid)).collect();
        for (running, left) in runs.iter_mut().zip(&left) {
            assert_eq!(adopted(running).await, left.pid);
        }
        for running in &mut runs {
            stop(running).await;
        }
        assert!(alive(stuck.pid), "nobody was told to end it");
        let silence = RunEvent::Unresponsive(Duration::from_secs(2));
        assert_eq!(silent.next().await, Some(silence));
        kill(stuck.shim, Signal::SIGCONT);
        assert_eq!(adopted(&mut silent).await, stuck.pid);
        assert_eq!(stop(&mut silent).await, Outcome::Signal(libc::SIGTERM));
    });
}

#[test]
fn a_run_that_cannot_be_looked_at_is_told_of_and_taken_over_later() {
    let place = Place::new();
    let left = place.leave("exec sleep 1000", async |_| {});
    let (directory, aside) = (place.directory(left.uid), place.root.path().join("aside"));
    std::fs::rename(&directory, &aside).unwrap();
    std::fs::write(&directory, "in the way").unwrap();
    block_on(async {
        let mut running = place.adopt(left.uid);
        let silence = RunEvent::Unresponsive(Duration::from_secs(2));
        assert_eq!(running.next().await, Some(silence));
        std::fs::remove_file(&directory).unwrap();
        std::fs::rename(&aside, &directory).unwrap();
        assert_eq!(adopted(&mut running).await, left.pid);
        assert_eq!(stop(&mut running).await, Outcome::Signal(libc::SIGTERM));
    });
}

#[test]
fn a_new_shim_tells_that_output_is_kept_though_nothing_was_lost_by_it() {
    let place = Place::new();
    block_on(async {
        let launch = launch(&["sh", "-c", "echo one; exec sleep 1000"]);
        let in_the_way = place.dirs().logs.join(launch.uid.to_string());
        std::fs::write(&in_the_way, "").unwrap();
        let mut running = begin_in(&place.dirs(), &place.runner, launch);
        let told = |wanted: OutputState| move |event: &RunEvent| matches!(event, RunEvent::Output(told) if told.state == wanted);
        let blocked = OutputState::Blocked {
            errno: libc::ENOTDIR,
        };
        running.until(told(blocked)).await;
        let shim = running.owner().unwrap();
        kill(shim, Signal::SIGSTOP);
        std::fs::remove_file(&in_the_way).unwrap();
        kill(shim, Signal::SIGKILL);
        running.until(told(OutputState::Intact)).await;
        assert_eq!(running.line().await, "one");
        assert_eq!(stop(&mut running).await, Outcome::Signal(libc::SIGTERM));
    });
}

#[test]
fn many_runs_are_taken_over_at_once() {
    const RUNS: usize = 200;
    let place = Place::new();
    let daemon = runtime();
    let pids: BTreeMap<Uid, i32> = daemon.block_on(async {
        let launches = (0..RUNS).map(|_| launch(&["sleep", "1000"]));
        let mut runs: Vec<Running> = launches
            .map(|launch| begin_in(&place.dirs(), &place.runner, launch))
            .collect();
        for running in &mut runs {
            running.started().await;
        }
        runs.iter().map(|run| (run.uid, run.pid)).collect()
    });
    drop(daemon);
    block_on(async {
        let since = Instant::now();
        let found = place.runner.found();
        assert_eq!(found.len(), RUNS);
        let mut runs: Vec<Running> = found.iter().map(|(uid, _)| place.adopt(*uid)).collect();
        for running in &mut runs {
            assert_eq!(adopted(running).await, pids[&running.uid]);
        }
        println!("{RUNS} runs taken over in {:?}", since.elapsed());
        for running in &runs {
            let plan = plan(SignalScope::Tree, PATIENCE);
            running.run.stop(plan);
        }
        for running in &mut runs {
            while running.next().await.is_some() {}
            assert_eq!(running.seen.last(), Some(&RunEvent::Empty));
        }
    });
}

/// Changes the record of a run whose shim was killed as a stranger's would be.
fn forge(place: &Place, left: &Left, change: impl FnOnce(&mut Vec<u8>)) {
    kill(left.shim, Signal::SIGKILL);
    block_on(eventually("its shim has ended", || !alive(left.shim)));
    let path = place.directory(left.uid).join("run");
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    seal(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Where the fields of a record are: after the boot id, the run and the name.
fn start_ticks_at(bytes: &[u8]) -> usize {
    let len = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let name = 16 + 4 + len(16) + 8;
    name + 4 + len(name) + 12 + 4
}

fn seal(bytes: &mut [u8]) {
    bytes[12..16].fill(0);
    let mut crc = !0u32;
    for byte in bytes.iter() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    bytes[12..16].copy_from_slice(&(!crc).to_le_bytes());
}

/// What nobody else may end; it has no children.
fn end_by_hand(pid: i32) {
    kill(pid, Signal::SIGKILL);
    block_on(eventually("it is gone", || !alive(pid)));
}

#[test]
fn a_stranger_with_the_pid_of_a_run_is_never_signalled() {
    // Without a cgroup, which would prove that it is none.
    let mut place = Place::new();
    place.runner = place.runner.without_cgroups();
    let left = place.leave("exec sleep 1000", async |_| {});
    forge(&place, &left, |bytes| {
        let at = start_ticks_at(bytes);
        bytes[at] ^= 1;
    });
    block_on(async {
        let mut running = place.adopt(left.uid);
        running.until(|event| *event == RunEvent::Empty).await;
        let lost = |event: &RunEvent| {
            matches!(event, RunEvent::Exited(exit)
                if exit.outcome == Outcome::Unknown(UnknownReason::Lost))
        };
        assert!(running.seen.iter().any(lost), "{:?}", running.seen);
    });
    assert!(alive(left.pid));
    end_by_hand(left.pid);
}

#[test]
fn after_a_reboot_nothing_is_signalled() {
    let place = Place::new();
    let left = place.leave("exec sleep 1000", async |_| {});
    forge(&place, &left, |bytes| bytes[20] = b'x');
    block_on(async {
        let mut running = place.adopt(left.uid);
        running.until(|event| *event == RunEvent::Empty).await;
        match &running.seen[..] {
            [RunEvent::Exited(exit), RunEvent::Empty] => {
                assert_eq!(exit.outcome, Outcome::Unknown(UnknownReason::Reboot));
            }
            other => panic!("{other:?}"),
        }
    });
    assert!(alive(left.pid));
    end_by_hand(left.pid);
}

#[test]
fn both_dead_without_a_record_is_unknown_and_leaves_nothing() {
    let place = Place::new();
    let script = "setsid sleep 1000 & while :; do sleep 1000; done";
    let left = place.leave(script, async |_| {});
    block_on(async {
        kill(left.shim, Signal::SIGSTOP);
        kill(left.pid, Signal::SIGKILL);
        kill(left.shim, Signal::SIGKILL);
        eventually("main is gone", || !alive(left.pid)).await;
        // Who reaps it first decides whether anybody can know.
        let mut running = place.adopt(left.uid);
        let outcome = running.finish().await;
        let known = Outcome::Signal(libc::SIGKILL);
        let unknown = Outcome::Unknown(UnknownReason::Lost);
        assert!(outcome == known || outcome == unknown, "{outcome:?}");
    });
}

#[test]
fn a_run_begins_once() {
    let place = Place::new();
    block_on(async {
        let first = launch(&["sleep", "1000"]);
        let mut again = launch(&["sleep", "1000"]);
        again.uid = first.uid;
        let mut running = begin_in(&place.dirs(), &place.runner, first);
        running.started().await;
        let mut refused = begin_in(&place.dirs(), &place.runner, again);
        while refused.next().await.is_some() {}
        match &refused.seen[..] {
            [RunEvent::Exited(exit), RunEvent::Empty] => {
                assert!(matches!(&exit.outcome, Outcome::SpawnError(e) if e.errno == libc::EEXIST));
            }
            other => panic!("{other:?}"),
        }
        assert!(alive(running.pid) && running.directory().join("run").exists());
        assert_eq!(stop(&mut running).await, Outcome::Signal(libc::SIGTERM));
    });
}

#[test]
fn a_run_that_never_began_leaves_nothing() {
    let place = Place::new();
    let uid = Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes());
    let directory = place.directory(uid);
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700).create(&directory).unwrap();
    assert_eq!(place.runner.found(), [(uid, 1)]);
    block_on(async {
        let mut running = place.adopt(uid);
        while running.next().await.is_some() {}
        assert_eq!(running.seen, [RunEvent::NotBegun]);
    });
    assert!(!directory.exists());
}

#[test]
fn output_is_found_where_the_main_process_has_given_it_to_others() {
    let place = Place::new();
    let go = place.root.path().join("go");
    let writer = waits_for(&go);
    let script = format!("({writer}) & exec >/dev/null 2>&1; wait $!; exit 42");
    let left = place.leave(&script, async |running| {
        assert_eq!(running.line().await, "one");
    });
    kill(left.shim, Signal::SIGKILL);
    block_on(async {
        let mut running = place.adopt(left.uid);
        adopted(&mut running).await;
        std::fs::write(&go, "").unwrap();
        assert_eq!(running.finish().await, Outcome::Code(42));
        assert_eq!(running.output(), "one\ntwo\n");
    });
}

/// Neither shim nor daemon is there while a run writes more than its pipe holds.
#[test]
fn a_run_that_nobody_reads_from_waits_and_loses_nothing() {
    let place = Place::new();
    // Far more than a pipe holds, so that it cannot end meanwhile.
    let script = "seq 1 3000000; exit 41";
    let left = place.leave(script, async |running| {
        kill(running.owner().unwrap(), Signal::SIGKILL);
    });
    block_on(async {
        let mut running = place.adopt(left.uid);
        let outcome = running.finish().await;
        assert_eq!(outcome, Outcome::Code(41));
        let output = running.output();
        assert!(
            output
                .lines()
                .map(str::to_owned)
                .eq((1..=3_000_000).map(|n: i32| n.to_string()))
        );
    });
}
