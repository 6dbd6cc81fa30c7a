//! What the contract promises to a client, with real processes.

mod configuring;
mod lifecycle;
mod reading;
mod resuming;

use procession::grpc::proto::{self, ProcessState, WaitCondition};

use super::{
    calls,
    support::{Client, Daemon},
};

fn until(condition: WaitCondition) -> Option<proto::WaitOptions> {
    Some(proto::WaitOptions {
        condition: condition.into(),
        timeout: Some(prost_types::Duration {
            seconds: 50,
            nanos: 0,
        }),
    })
}

/// A process that does not start by itself.
fn idle(mut process: proto::Process) -> proto::Process {
    process.spec.as_mut().unwrap().autostart = false;
    process
}

async fn create(client: &mut Client, process: proto::Process) -> proto::Process {
    let request = proto::CreateProcessRequest {
        process: Some(process),
        ..Default::default()
    };
    let answer = client.create_process(request).await.unwrap().into_inner();
    answer.process.unwrap()
}

async fn start(client: &mut Client, name: &str) -> proto::Process {
    let request = proto::StartProcessRequest {
        name: name.to_owned(),
        wait: until(WaitCondition::Running),
        ..Default::default()
    };
    let answer = client.start_process(request).await.unwrap().into_inner();
    assert_eq!(answer.wait_outcome(), proto::WaitOutcome::Satisfied);
    answer.process.unwrap()
}

async fn get(client: &mut Client, name: &str) -> proto::GetProcessResponse {
    let request = proto::GetProcessRequest {
        name: name.to_owned(),
        read_mask: None,
    };
    client.get_process(request).await.unwrap().into_inner()
}

fn status(process: &proto::Process) -> &proto::ProcessStatus {
    process.status.as_ref().unwrap()
}

fn state(process: &proto::Process) -> ProcessState {
    status(process).state()
}

fn revision(header: Option<&proto::ResponseHeader>) -> i64 {
    header.unwrap().revision
}

/// Lines that `name` wrote so far.
async fn output(client: &mut Client, name: &str) -> Vec<String> {
    let entries = calls::output(client, name).await.into_iter();
    let text = |entry: proto::LogEntry| String::from_utf8(entry.data.to_vec()).unwrap();
    entries.map(text).collect()
}

/// Waits until `name` wrote `line` `count` times.
async fn wrote(client: &mut Client, name: &str, line: &str, count: usize) {
    let deadline = std::time::Instant::now() + super::support::PATIENCE;
    loop {
        let lines = output(client, name).await;
        if lines.iter().filter(|found| *found == line).count() >= count {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "never {line:?}: {lines:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
