//! A daemon that is killed while it starts a shim: until the shim executes its
//! program, it holds all that the daemon had open. These tests hold it instead.
#![allow(unsafe_code, reason = "pidfd_getfd")]

use std::{
    fs,
    net::TcpStream,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use procession::grpc::proto::WaitCondition;

use super::super::{
    calls::{self, status},
    support::{Daemon, command, eventually, free_address},
};

/// A copy of every descriptor of `pid`.
fn descriptors(pid: i32) -> Vec<OwnedFd> {
    let process = opened(libc::SYS_pidfd_open, pid, 0).unwrap();
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // One may be closed meanwhile.
        .filter_map(|name| {
            let number = name.parse().unwrap();
            opened(libc::SYS_pidfd_getfd, process.as_raw_fd(), number)
        })
        .collect()
}

/// What a system call opens that takes two numbers and flags.
fn opened(call: libc::c_long, first: i32, second: i32) -> Option<OwnedFd> {
    // SAFETY: both calls take integers only, and give a descriptor that is ours.
    unsafe {
        let fd = libc::syscall(call, first, second, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()))
    }
}

#[tokio::test]
async fn what_a_shim_being_started_holds_is_not_a_daemon() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    calls::create(&mut client, command("one", &["sleep", "1000"])).await;
    let before = calls::wait_for(&mut client, "one", WaitCondition::Running).await;
    drop(client);
    let held = descriptors(daemon.pid());
    assert!(held.len() > 10, "{held:?}");
    daemon.replace();
    let mut client = daemon.client().await;
    let after = calls::get(&mut client, "one").await;
    assert_eq!(status(&after).pid, status(&before).pid);
    calls::stop(&mut client, "one").await;
    drop(client);
    drop(held);
    daemon.ended().await;
}

#[tokio::test]
async fn an_address_that_a_shim_being_started_holds_is_waited_for() {
    let address = free_address();
    let mut daemon = Daemon::start_with(&["--insecure-tcp", &address]);
    let held = descriptors(daemon.pid());
    daemon.kill();
    let log = daemon.directory().join("log");
    let executes = std::thread::spawn(move || {
        eventually("it waits", || {
            let log = fs::read_to_string(&log).unwrap();
            log.contains("in use; waiting").then_some(())
        });
        drop(held);
    });
    daemon.restart();
    executes.join().unwrap();
    TcpStream::connect(&address).unwrap();
    daemon.ended().await;
}
