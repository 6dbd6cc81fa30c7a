//! Programs that cannot be started: a process that is FAILED and says the kernel's
//! reason, never an exit code.

use std::os::unix::fs::PermissionsExt as _;

use procession::grpc::proto::{
    self, ProcessState, WaitCondition, WaitOutcome, exit_status::Outcome,
};

use crate::daemon::support::{Client, Daemon, command};

const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const ENOEXEC: i32 = 8;

async fn started(client: &mut Client, process: proto::Process) -> proto::Process {
    let name = process.name.clone();
    let request = proto::CreateProcessRequest {
        process: Some(process),
        ..Default::default()
    };
    client.create_process(request).await.unwrap();
    let request = proto::StartProcessRequest {
        name,
        wait: Some(proto::WaitOptions {
            condition: WaitCondition::Running.into(),
            timeout: None,
        }),
        ..Default::default()
    };
    let answer = client.start_process(request).await.unwrap().into_inner();
    assert_eq!(
        answer.wait_outcome(),
        WaitOutcome::Unsatisfiable,
        "{answer:?}"
    );
    answer.process.unwrap()
}

fn failed(process: &proto::Process, errno: i32, says: &[&str]) {
    let status = process.status.as_ref().unwrap();
    assert_eq!(status.state(), ProcessState::Failed, "{process:?}");
    assert_eq!(status.reason, "SPAWN_ERROR");
    assert_eq!(status.pid, 0);
    let exit = status.last_exit.as_ref().unwrap();
    assert_eq!(exit.spawn_errno, errno, "{exit:?}");
    let Some(Outcome::SpawnError(text)) = &exit.outcome else {
        panic!("not a failed spawn: {exit:?}");
    };
    for part in says {
        assert!(text.contains(part), "{part:?} in {text:?}");
        assert!(
            status.message.contains(part),
            "{part:?} in {:?}",
            status.message
        );
    }
}

fn idle(name: &str, program: &str, edit: impl FnOnce(&mut proto::ProcessSpec)) -> proto::Process {
    let mut process = command(name, &[program]);
    let spec = process.spec.as_mut().unwrap();
    spec.autostart = false;
    edit(spec);
    process
}

#[tokio::test]
async fn the_kernel_s_reason_is_told() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let plain = daemon.directory().join("plain");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    let garbage = daemon.directory().join("garbage");
    std::fs::write(&garbage, "\u{1}\u{2}").unwrap();
    std::fs::set_permissions(&garbage, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (plain, garbage) = (plain.to_str().unwrap(), garbage.to_str().unwrap());

    let missing = started(&mut client, idle("missing", "/no/such/program", |_| {})).await;
    failed(
        &missing,
        ENOENT,
        &["/no/such/program", "No such file or directory"],
    );
    let unknown = started(&mut client, idle("unknown", "no-such-word", |_| {})).await;
    failed(
        &unknown,
        ENOENT,
        &["no-such-word", "No such file or directory"],
    );
    let denied = started(&mut client, idle("denied", plain, |_| {})).await;
    failed(&denied, EACCES, &[plain, "Permission denied"]);
    let format = started(&mut client, idle("format", garbage, |_| {})).await;
    failed(&format, ENOEXEC, &[garbage, "Exec format error"]);
    let directory = idle("directory", "true", |spec| {
        spec.working_directory = "/no/such".into()
    });
    let directory = started(&mut client, directory).await;
    failed(&directory, ENOENT, &["working directory", "/no/such"]);
    let user = idle("user", "true", |spec| {
        spec.run_as = Some(proto::Identity {
            user: "nobody-of-that-name".into(),
            ..Default::default()
        });
    });
    failed(
        &started(&mut client, user).await,
        0,
        &["user", "nobody-of-that-name", "no such user"],
    );
    daemon.ended().await;
}
