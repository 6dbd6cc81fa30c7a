//! Shims that stand still or die together with their daemon.

use std::{fs, time::Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procession::grpc::proto::{
    ProcessState as State, RestartMode, WaitCondition, exit_status::Outcome,
};

use super::support::{Rig, sigkill, until};
use crate::{
    chance::rounds,
    daemon::{
        calls::{self, ended, state, status},
        support::Client,
    },
};

/// Ends with 41 once the file is there.
fn waits_for(rig: &Rig, name: &str) -> procession::grpc::proto::Process {
    let file = rig.root().join("go");
    let script = format!("echo up; while [ ! -e {file:?} ]; do sleep 0.02; done; exit 41");
    rig.once(name, &script)
}

async fn all_up(rig: &Rig, client: &mut Client, count: usize) -> Vec<(String, i32)> {
    let names: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
    let processes = names.iter().map(|name| waits_for(rig, name)).collect();
    calls::apply(client, processes).await;
    let mut up = Vec::new();
    for name in names {
        let process = calls::wait_for(client, &name, WaitCondition::Running).await;
        let pid = status(&process).pid;
        up.push((name, pid));
    }
    up
}

#[tokio::test]
async fn a_shim_that_stands_still_holds_up_nobody_else() {
    let mut rig = Rig::new();
    rig.start();
    let mut client = rig.client().await;
    let up = all_up(&rig, &mut client, 5).await;
    drop(client);
    let stuck = *rig.shims().first().unwrap();
    kill(Pid::from_raw(stuck), Signal::SIGSTOP).unwrap();
    rig.kill();
    let begun = Instant::now();
    rig.start();
    let mut client = rig.client().await;
    let served = begun.elapsed();
    let mut adopted = 0;
    until("all but one are adopted", async || {
        adopted = 0;
        for (name, pid) in &up {
            let process = calls::get(&mut client, name).await;
            adopted += usize::from(status(&process).pid == *pid && adopted_now(&process));
        }
        (adopted >= up.len() - 1).then_some(())
    })
    .await;
    println!("served after {served:?}, {adopted} adopted beside a shim that stands still");
    kill(Pid::from_raw(stuck), Signal::SIGCONT).unwrap();
    until("the last one follows", async || {
        for (name, pid) in &up {
            let process = calls::get(&mut client, name).await;
            if status(&process).pid != *pid || !adopted_now(&process) {
                return None;
            }
        }
        Some(())
    })
    .await;
    fs::write(rig.root().join("go"), "").unwrap();
    for (name, _) in &up {
        let process = calls::wait_for(&mut client, name, WaitCondition::Settled).await;
        assert_eq!(*ended(&process).1, Outcome::ExitCode(41), "{name}");
        assert_eq!(status(&process).exit_history.len(), 1);
    }
    rig.until_clean().await;
    rig.end(client).await;
}

fn adopted_now(process: &procession::grpc::proto::Process) -> bool {
    calls::condition(&status(process).conditions, "Adopted")
        == Some(procession::grpc::proto::ConditionStatus::True)
}

#[tokio::test]
async fn daemon_and_shims_killed_together_leave_processes_to_the_next() {
    let mut rig = Rig::new();
    rig.start();
    let mut client = rig.client().await;
    let up = all_up(&rig, &mut client, 10).await;
    let count = rounds(3, 10);
    for _ in 0..count {
        drop(client);
        kill_together(&mut rig);
        rig.start();
        client = rig.client().await;
        for (name, pid) in &up {
            let process = until("it is adopted", async || {
                let process = calls::get(&mut client, name).await;
                adopted_now(&process).then_some(process)
            })
            .await;
            assert_eq!((status(&process).pid, status(&process).run_id), (*pid, 1));
        }
    }
    println!("{count} times a daemon and 10 shims");
    fs::write(rig.root().join("go"), "").unwrap();
    for (name, _) in &up {
        let process = calls::wait_for(&mut client, name, WaitCondition::Settled).await;
        assert_eq!(*ended(&process).1, Outcome::ExitCode(41), "{name}");
        assert_eq!(status(&process).exit_history.len(), 1);
        assert_eq!(calls::output(&mut client, name).await.len(), 1, "{name}");
    }
    rig.until_clean().await;
    rig.end(client).await;
}

fn kill_together(rig: &mut Rig) {
    let shims = rig.shims();
    rig.kill();
    shims.into_iter().for_each(sigkill);
}

#[tokio::test]
async fn an_end_that_nobody_saw_is_unknown_and_no_code() {
    let mut rig = Rig::new();
    rig.start();
    let mut client = rig.client().await;
    let up = all_up(&rig, &mut client, 5).await;
    drop(client);
    kill_together(&mut rig);
    fs::write(rig.root().join("go"), "").unwrap();
    // Also as zombies, from which their codes could still be read.
    until("they end", async || {
        let there = |(_, pid): &(String, i32)| fs::exists(format!("/proc/{pid}")).unwrap();
        (!up.iter().any(there)).then_some(())
    })
    .await;
    rig.start();
    let mut client = rig.client().await;
    for (name, _) in &up {
        let process = calls::wait_for(&mut client, name, WaitCondition::Settled).await;
        let (exit, outcome) = ended(&process);
        assert!(
            matches!(outcome, Outcome::UnknownReason(_)),
            "{name}: {exit:?}"
        );
        assert_eq!(state(&process), State::Unknown);
        assert_eq!(status(&process).exit_history.len(), 1);
        let mode = process.spec.as_ref().unwrap().restart_policy.as_ref();
        assert_eq!(mode.unwrap().mode(), RestartMode::Never);
    }
    rig.until_clean().await;
    rig.end(client).await;
}
