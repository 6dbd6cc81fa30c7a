//! Calls as tests make them: what is not under test succeeds or panics.

use std::time::Duration;

use procession::grpc::proto::{
    self, ExitStatus, Process, ProcessState as State, ProcessStatus, WaitCondition, WaitOptions,
    exit_status::Outcome,
};

use super::support::{Client, PATIENCE};

/// The wait of a call, bounded.
pub(crate) fn wait(condition: WaitCondition) -> Option<WaitOptions> {
    Some(WaitOptions {
        condition: condition.into(),
        timeout: Some(duration(PATIENCE)),
    })
}

pub(crate) fn duration(time: Duration) -> prost_types::Duration {
    time.try_into().unwrap()
}

/// Creates and returns the name.
pub(crate) async fn create(client: &mut Client, process: Process) -> String {
    let request = proto::CreateProcessRequest {
        process: Some(process),
        ..Default::default()
    };
    let created = client.create_process(request).await.unwrap().into_inner();
    created.process.unwrap().name
}

/// Creates or replaces, and restarts if the change needs it.
pub(crate) async fn apply(
    client: &mut Client,
    processes: Vec<Process>,
) -> proto::BatchApplyProcessesResponse {
    let request = proto::BatchApplyProcessesRequest {
        processes,
        rollout: proto::RolloutMode::RestartIfNeeded.into(),
        ..Default::default()
    };
    let applied = client.batch_apply_processes(request).await.unwrap();
    let applied = applied.into_inner();
    for item in &applied.results {
        assert_eq!(item.status.as_ref().map_or(0, |s| s.code), 0, "{item:?}");
    }
    applied
}

pub(crate) async fn start(client: &mut Client, name: &str, condition: WaitCondition) -> Process {
    let request = proto::StartProcessRequest {
        name: name.to_owned(),
        wait: wait(condition),
        ..Default::default()
    };
    let started = client.start_process(request).await.unwrap().into_inner();
    started.process.unwrap()
}

pub(crate) async fn restart(client: &mut Client, name: &str, condition: WaitCondition) -> Process {
    let request = proto::RestartProcessRequest {
        name: name.to_owned(),
        wait: wait(condition),
        ..Default::default()
    };
    let restarted = client.restart_process(request).await.unwrap().into_inner();
    restarted.process.unwrap()
}

/// Stops, and returns once nothing is left.
pub(crate) async fn stop(client: &mut Client, name: &str) -> Process {
    let request = proto::StopProcessRequest {
        name: name.to_owned(),
        wait: wait(WaitCondition::Settled),
        ..Default::default()
    };
    let stopped = client.stop_process(request).await.unwrap().into_inner();
    assert_eq!(
        stopped.wait_outcome(),
        proto::WaitOutcome::Satisfied,
        "{stopped:?}"
    );
    stopped.process.unwrap()
}

/// Waits, whatever comes of it.
pub(crate) async fn wait_for(client: &mut Client, name: &str, condition: WaitCondition) -> Process {
    let request = proto::WaitProcessRequest {
        name: name.to_owned(),
        condition: condition.into(),
        timeout: Some(duration(PATIENCE)),
        ..Default::default()
    };
    let waited = client.wait_process(request).await.unwrap().into_inner();
    waited.process.unwrap()
}

pub(crate) async fn control_all(client: &mut Client, action: proto::ControlAction) {
    let request = proto::BatchControlProcessesRequest {
        selector: Some(proto::ProcessSelector::default()),
        action: action.into(),
        ..Default::default()
    };
    let done = client.batch_control_processes(request).await.unwrap();
    for item in done.into_inner().results {
        assert_eq!(item.status.as_ref().map_or(0, |s| s.code), 0, "{item:?}");
    }
}

pub(crate) async fn get(client: &mut Client, name: &str) -> Process {
    let request = proto::GetProcessRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    let got = client.get_process(request).await.unwrap().into_inner();
    got.process.unwrap()
}

pub(crate) async fn head(client: &mut Client) -> i64 {
    let info = client.get_server_info(proto::GetServerInfoRequest {});
    info.await.unwrap().into_inner().header.unwrap().revision
}

/// All that is kept of its output, a line each.
pub(crate) async fn output(client: &mut Client, name: &str) -> Vec<proto::LogEntry> {
    let request = proto::TailLogsRequest {
        selector: Some(proto::ProcessSelector {
            names: vec![name.to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut stream = client.tail_logs(request).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        match message.payload.unwrap() {
            proto::tail_logs_response::Payload::Entries(more) => entries.extend(more.entries),
            proto::tail_logs_response::Payload::Synced(_) => {}
            other => panic!("{other:?}"),
        }
    }
    entries
}

pub(crate) fn status(process: &Process) -> &ProcessStatus {
    process.status.as_ref().unwrap()
}

pub(crate) fn state(process: &Process) -> State {
    status(process).state()
}

/// How the latest run ended.
pub(crate) fn ended(process: &Process) -> (&ExitStatus, &Outcome) {
    let exit = status(process).last_exit.as_ref().expect("a record");
    (exit, exit.outcome.as_ref().unwrap())
}

/// The condition of that type, if it is told of.
pub(crate) fn condition(
    conditions: &[proto::Condition],
    kind: &str,
) -> Option<proto::ConditionStatus> {
    let found = conditions.iter().find(|c| c.r#type == kind);
    found.map(proto::Condition::status)
}
