//! Stop, keep, upgrade: what each does to the processes.

use std::{collections::BTreeMap, process::Command, time::Instant};

use procession::grpc::proto::{self, WaitCondition};

use super::{
    super::{
        calls::{self, status},
        proc,
        support::{Daemon, command, eventually},
    },
    eventually_up, pids,
};

#[tokio::test]
async fn sigterm_keeps_the_processes_where_that_is_asked_for() {
    let mut daemon = Daemon::start_with(&["--on-term", "keep"]);
    let mut client = daemon.client().await;
    let name = calls::create(&mut client, command("one", &["sleep", "1000"])).await;
    let before = calls::wait_for(&mut client, &name, WaitCondition::Running).await;
    drop(client);
    daemon.terminate_and_keep();
    assert!(proc::alive(status(&before).pid));
    daemon.restart();
    let mut client = daemon.client().await;
    let after = calls::get(&mut client, &name).await;
    assert_eq!(status(&after).pid, status(&before).pid);
    assert_eq!(status(&after).restart_count, 0);
    calls::stop(&mut client, &name).await;
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn what_a_full_stop_stopped_is_started_by_the_next_daemon() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    for name in ["up", "down"] {
        calls::create(&mut client, command(name, &["sleep", "1000"])).await;
        calls::wait_for(&mut client, name, WaitCondition::Running).await;
    }
    calls::stop(&mut client, "down").await;
    let pid = status(&calls::get(&mut client, "up").await).pid;
    drop(client);
    daemon.terminate_and_keep();
    assert!(!proc::alive(pid), "SIGTERM stops them by default");
    daemon.restart();
    let mut client = daemon.client().await;
    let up = calls::wait_for(&mut client, "up", WaitCondition::Running).await;
    assert_eq!(status(&up).run_id, 2);
    let down = calls::get(&mut client, "down").await;
    assert_eq!(calls::state(&down), proto::ProcessState::Stopped);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn an_upgrade_in_place_changes_no_pid() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let names: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
    let processes = names.iter().map(|name| command(name, &["sleep", "1000"]));
    calls::apply(&mut client, processes.collect()).await;
    eventually_up(&mut client, &names).await;
    let before = pids(&mut client).await;
    drop(client);
    let began = Instant::now();
    let output = daemon.cli(["upgrade"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("the processes run on"), "{text}");
    println!("upgraded in {:?}: {text}", began.elapsed());
    let mut client = daemon.client().await;
    let after: BTreeMap<String, i32> = pids(&mut client).await;
    assert_eq!(after, before);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn of_two_daemons_on_one_directory_the_second_refuses() {
    let daemon = Daemon::start();
    let other = daemon.directory().join("other-socket");
    let output = Command::new(env!("CARGO_BIN_EXE_procession"))
        .arg("serve")
        .arg("--socket")
        .arg(other)
        .arg("--state-dir")
        .arg(daemon.directory().join("state"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains(&format!("pid {}", daemon.pid())), "{text}");
    let there = eventually("the first still answers", || {
        let output = daemon.cli(["info"]);
        output.status.success().then_some(true)
    });
    assert!(there);
    daemon.ended().await;
}
