//! A full disk: what needs it is refused or waits, everything else works, and it
//! heals by itself once there is space.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use procession::grpc::proto::{
    self, ConditionStatus, DesiredState, LogFullAction, LogPolicy, Process, ProcessState as State,
    Stdio, WaitCondition, exit_status::Outcome, signal_process_request::TargetSignal,
    tail_logs_response::Payload,
};

use super::support::{Rig, intent_durable, not_run, until, until_writable};
use crate::{
    daemon::{
        calls::{self, ended, state, status},
        proc,
        support::Client,
    },
    known::{desired, read_only},
};

/// A small file system in memory, for this thread and those that it starts.
struct Small {
    at: PathBuf,
}

// === impl Small ===

impl Small {
    /// `None`, and a word, where that takes privileges this test does not have.
    fn new(rig: &Rig, mib: u32) -> Option<Self> {
        let at = rig.disk();
        fs::create_dir_all(&at).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let (none, kind) = (None::<&str>, Some("tmpfs"));
        let size = format!("size={mib}m");
        let made = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, private, none))
            .and_then(|()| mount(kind, &at, kind, MsFlags::empty(), Some(&*size)));
        if let Err(errno) = made {
            not_run(&format!("no small disk: {errno}"));
            return None;
        }
        Some(Self { at })
    }

    /// Leaves space for a run to begin in, and for some of its output.
    fn fill_but_little(&self) {
        self.fill();
        let filler = File::options().write(true).open(self.filler());
        filler.unwrap().set_len(26 << 20).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut options = File::options();
        let mut file = options
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        for size in [1 << 16, 4096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// Creates processes that do not start until that is refused; how many there are.
async fn create_until_refused(rig: &Rig, client: &mut Client) -> usize {
    for n in 0..100_000 {
        let mut process = rig.process(&format!("more{n}"), "sleep 1000");
        process.spec.as_mut().unwrap().autostart = false;
        let request = proto::CreateProcessRequest {
            process: Some(process),
            ..Default::default()
        };
        if let Err(refused) = client.create_process(request).await {
            assert!(read_only(&refused), "{refused:?}");
            return n;
        }
    }
    panic!("never refused");
}

async fn start_is_refused(client: &mut Client, name: &str) {
    let request = proto::StartProcessRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    let refused = client.start_process(request).await.unwrap_err();
    assert!(read_only(&refused), "{refused:?}");
}

async fn signal_usr1(client: &mut Client, name: &str) {
    let request = proto::SignalProcessRequest {
        name: name.to_owned(),
        target_signal: Some(TargetSignal::SignalNumber(10)),
        ..Default::default()
    };
    client.signal_process(request).await.unwrap();
}

async fn pause_and_resume(client: &mut Client, name: &str) {
    let request = proto::PauseProcessRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    client.pause_process(request).await.unwrap();
    until("it is paused", async || {
        (state(&calls::get(client, name).await) == State::Paused).then_some(())
    })
    .await;
    let request = proto::ResumeProcessRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    client.resume_process(request).await.unwrap();
    until("it runs again", async || {
        (state(&calls::get(client, name).await) == State::Running).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_nothing_else() {
    let mut rig = Rig::new();
    let Some(small) = Small::new(&rig, 16) else {
        return;
    };
    rig.start();
    let mut client = rig.client().await;
    let (go, signalled) = (rig.root().join("go"), rig.root().join("signalled"));
    let waits = |code| format!("while [ ! -e {go:?} ]; do sleep 0.02; done; exit {code}");
    let trap = format!("trap ': > {signalled:?}' USR1; while :; do sleep 0.02; done");
    let processes = vec![
        rig.process("stopped", "sleep 1000"),
        rig.process("signalled", &trap),
        rig.process("lives", "sleep 1000"),
        rig.once("ends", &waits(41)),
        rig.once("failed", "exit 3"),
    ];
    calls::apply(&mut client, processes).await;
    for name in ["stopped", "signalled", "lives", "ends"] {
        calls::wait_for(&mut client, name, WaitCondition::Running).await;
    }
    calls::wait_for(&mut client, "failed", WaitCondition::Settled).await;
    let lives = status(&calls::get(&mut client, "lives").await).pid;

    small.fill();
    let more = create_until_refused(&rig, &mut client).await;
    until_writable(&mut client, false).await;
    start_is_refused(&mut client, "failed").await;
    let request = proto::StopProcessRequest {
        name: "stopped".to_owned(),
        ..Default::default()
    };
    let answer = client.stop_process(request).await.unwrap().into_inner();
    let told = &status(answer.process.as_ref().unwrap()).conditions;
    let told = calls::condition(told, "IntentDurable");
    assert_eq!(told, Some(ConditionStatus::False), "the answer tells of it");
    calls::wait_for(&mut client, "stopped", WaitCondition::Settled).await;
    let durable = intent_durable(&mut client, "stopped").await;
    assert_eq!(durable, Some(ConditionStatus::False));
    signal_usr1(&mut client, "signalled").await;
    until("the signal arrives", async || {
        signalled.exists().then_some(())
    })
    .await;
    pause_and_resume(&mut client, "lives").await;
    let request = proto::ResetProcessRequest {
        name: "failed".to_owned(),
        ..Default::default()
    };
    client.reset_process(request).await.unwrap();
    File::create(&go).unwrap();
    let process = calls::wait_for(&mut client, "ends", WaitCondition::Settled).await;
    assert_eq!(*ended(&process).1, Outcome::ExitCode(41));
    assert!(proc::alive(lives));

    small.free();
    until_writable(&mut client, true).await;
    until("the stop is kept", async || {
        let durable = intent_durable(&mut client, "stopped").await;
        (durable == Some(ConditionStatus::True)).then_some(())
    })
    .await;
    drop(client);
    rig.kill();
    rig.start();
    let mut client = rig.client().await;
    let there = desired(&mut client).await;
    assert_eq!(there["stopped"], DesiredState::Stopped);
    assert_eq!(
        there.keys().filter(|name| name.starts_with("more")).count(),
        more
    );
    let process = calls::wait_for(&mut client, "ends", WaitCondition::Settled).await;
    assert_eq!(*ended(&process).1, Outcome::ExitCode(41));
    assert_eq!(status(&process).exit_history.len(), 1);
    assert_eq!(status(&calls::get(&mut client, "lives").await).pid, lives);
    println!("full after {more} more processes; healed");
    rig.end_and(client, || drop(small)).await;
}

/// Writes numbered lines of a fixed length, and ends with 41.
fn writer(rig: &Rig, lines: u32, full: LogFullAction) -> Process {
    let script = format!("seq -f '%0127.0f' {lines}; exit 41");
    let mut process = rig.once("writer", &script);
    process.spec.as_mut().unwrap().stdio = Some(Stdio {
        log_policy: Some(LogPolicy {
            max_bytes: 1 << 30,
            full_action: full.into(),
            ..Default::default()
        }),
        ..Default::default()
    });
    process
}

/// Entries as numbers, and the bytes that gaps count.
async fn read_back(client: &mut Client) -> (Vec<u32>, i64) {
    let request = proto::TailLogsRequest {
        selector: Some(proto::ProcessSelector {
            names: vec!["writer".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut stream = client.tail_logs(request).await.unwrap().into_inner();
    let (mut lines, mut lost) = (Vec::new(), 0);
    while let Some(message) = stream.message().await.unwrap() {
        match message.payload.unwrap() {
            Payload::Entries(more) => lines.extend(more.entries.iter().map(|entry| {
                let text = str::from_utf8(&entry.data).unwrap();
                text.parse::<u32>().unwrap_or(0)
            })),
            Payload::Gap(gap) => lost += gap.lost_bytes,
            _ => {}
        }
    }
    (lines, lost)
}

#[tokio::test]
async fn output_waits_for_space_and_loses_nothing() {
    const LINES: u32 = 60_000;
    let mut rig = Rig::new();
    let Some(small) = Small::new(&rig, 32) else {
        return;
    };
    rig.start();
    let mut client = rig.client().await;
    small.fill_but_little();
    calls::create(&mut client, writer(&rig, LINES, LogFullAction::Block)).await;
    calls::wait_for(&mut client, "writer", WaitCondition::Running).await;
    let pid = status(&calls::get(&mut client, "writer").await).pid;
    until("the writer waits", async || still(pid).await.then_some(())).await;
    assert_eq!(
        state(&calls::get(&mut client, "writer").await),
        State::Running
    );
    small.free();
    let process = calls::wait_for(&mut client, "writer", WaitCondition::Settled).await;
    assert_eq!(*ended(&process).1, Outcome::ExitCode(41));
    let (lines, lost) = read_back(&mut client).await;
    assert_eq!(lost, 0);
    assert_eq!(lines.len(), LINES as usize);
    assert!(lines.iter().zip(1..).all(|(line, n)| *line == n));
    println!("{LINES} lines, none lost, over a full disk");
    rig.end_and(client, || drop(small)).await;
}

/// Whether nothing below it does anything for a while.
async fn still(pid: i32) -> bool {
    let activity = || {
        let mut all: Vec<_> = proc::below(pid).iter().map(|p| p.pid).collect();
        all.push(pid);
        all.into_iter().map(proc::activity).collect::<Vec<_>>()
    };
    let before = activity();
    super::support::pass(std::time::Duration::from_millis(300)).await;
    activity() == before
}

#[tokio::test]
async fn output_that_is_dropped_leaves_a_gap_that_counts_it() {
    const LINES: u32 = 60_000;
    let mut rig = Rig::new();
    let Some(small) = Small::new(&rig, 32) else {
        return;
    };
    rig.start();
    let mut client = rig.client().await;
    small.fill_but_little();
    calls::create(&mut client, writer(&rig, LINES, LogFullAction::Drop)).await;
    let process = calls::wait_for(&mut client, "writer", WaitCondition::Settled).await;
    assert_eq!(*ended(&process).1, Outcome::ExitCode(41));
    small.free();
    let (lines, lost) = read_back(&mut client).await;
    let whole: Vec<u32> = lines.iter().copied().filter(|n| *n > 0).collect();
    assert!(
        whole.windows(2).all(|two| two[0] < two[1]),
        "out of order or doubled"
    );
    println!(
        "{} lines of {LINES} kept, {lost} bytes counted as lost",
        whole.len()
    );
    assert!(lost > 0);
    let missing = i64::from(LINES) - i64::try_from(whole.len()).unwrap();
    assert!(
        (lost - missing * 128).abs() <= 128 * 64,
        "{missing} lines, {lost} bytes"
    );
    rig.end_and(client, || drop(small)).await;
}
