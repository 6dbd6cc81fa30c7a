//! Daemons and shims that die at a named step, with the whole daemon around them.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
};

use procession::grpc::proto::{self, ProcessState as State, WaitCondition, exit_status::Outcome};

use super::support::{Rig, until};
use crate::{
    daemon::calls::{self, state, status},
    shim::failpoints::POINTS,
};

/// Where the daemon dies while it starts a run.
const OF_DAEMON: [&str; 2] = ["after_mkdir", "after_spawn"];

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    Daemon,
    Shim,
    /// The daemon as soon as the shim has died.
    Both,
}

#[tokio::test]
async fn a_daemon_that_dies_at_any_step_of_a_start_starts_once() {
    for point in OF_DAEMON {
        let mut rig = Rig::new();
        rig.start_with(&[("PROCESSION_FAILPOINT", &format!("{point}:kill"))]);
        let mut client = rig.client().await;
        let request = proto::CreateProcessRequest {
            process: Some(witness(&rig)),
            ..Default::default()
        };
        let _ = client.create_process(request).await; // it may die before it answers
        drop(client);
        assert_eq!(rig.ended().await.signal(), Some(9), "{point}");
        rig.start();
        check(rig, point, Dies::Daemon, true).await;
    }
}

#[tokio::test]
async fn a_shim_that_dies_at_any_step_has_run_its_program_once_or_never() {
    for (point, ran) in POINTS {
        for dies in [Dies::Shim, Dies::Both] {
            let mut rig = Rig::new();
            let hit = failing_shim(&mut rig, point);
            rig.start();
            let mut client = rig.client().await;
            calls::create(&mut client, witness(&rig)).await;
            drop(client);
            until("the shim dies", async || hit.exists().then_some(())).await;
            if dies == Dies::Both {
                rig.kill();
                rig.start();
            }
            check(rig, point, dies, ran).await;
        }
    }
}

/// Says that it ran, and ends with 41; begun once.
fn witness(rig: &Rig) -> proto::Process {
    let proof = rig.root().join("proof");
    rig.once(
        "one",
        &format!("echo ran >> {proof:?}; echo output; exit 41"),
    )
}

/// Puts the program beside a shim of which the first dies at `point`: the daemon
/// clears the environment of the one that it is installed with. Returns the file
/// that tells of the death.
fn failing_shim(rig: &mut Rig, point: &str) -> std::path::PathBuf {
    let directory = rig.root().join("bin");
    fs::create_dir(&directory).unwrap();
    let program = directory.join("procession");
    let built = Path::new(env!("CARGO_BIN_EXE_procession"));
    if fs::hard_link(built, &program).is_err() {
        fs::copy(built, &program).unwrap();
    }
    let hit = rig.root().join("hit");
    let shim = directory.join("procession-shim");
    let script = format!(
        "#!/bin/sh\nexport PROCESSION_FAILPOINT={point}:kill PROCESSION_FAILPOINT_ONCE={}\n\
         exec {} \"$@\"\n",
        hit.display(),
        env!("CARGO_BIN_EXE_procession-shim"),
    );
    fs::write(&shim, script).unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    rig.use_program(program);
    hit
}

async fn check(rig: Rig, point: &str, dies: Dies, ran: bool) {
    let mut client = rig.client().await;
    let process = calls::wait_for(&mut client, "one", WaitCondition::Settled).await;
    let times = fs::read_to_string(rig.root().join("proof")).unwrap_or_default();
    let now = status(&process);
    let what = format!("{point} ({dies:?} died), {times:?}: {now:?}");
    let over = [State::Failed, State::Unknown];
    assert!(over.contains(&state(&process)), "{what}");
    let outcome = now.last_exit.as_ref().and_then(|exit| exit.outcome.clone());
    match (times.as_str(), outcome.expect(&what)) {
        ("ran\n", Outcome::ExitCode(41)) => {}
        // Nobody was there when it ended.
        ("ran\n", Outcome::UnknownReason(_)) if dies == Dies::Both => {}
        ("", Outcome::SpawnError(_) | Outcome::UnknownReason(_)) if !ran => {}
        _ => panic!("{what}"),
    }
    assert!((1..=2).contains(&now.run_id), "{what}");
    assert_eq!(now.exit_history.len(), 1, "{what}");
    assert_eq!(now.exit_history[0].run_id, now.run_id, "{what}");
    rig.until_clean().await;
    until("its cgroup is gone", async || {
        cgroups(&process.uid).is_empty().then_some(())
    })
    .await;
    println!("{point}, {dies:?}: run {}, {times:?}", now.run_id);
    rig.end(client).await;
}

/// Paths of cgroups that are named after a run of `uid`.
fn cgroups(uid: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut waiting: Vec<std::path::PathBuf> = mounts
        .lines()
        .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, path, "cgroup2", ..] => Some(path.into()),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(uid) {
                found.push(entry.path().display().to_string());
            }
            waiting.push(entry.path());
        }
    }
    found
}
