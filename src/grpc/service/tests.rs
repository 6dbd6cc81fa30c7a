//! The service over the fake runner: every call once, through its handler.

use std::{sync::Mutex, time::Duration};

use tonic::{Code, Request};
use tonic_types::StatusExt;

use super::*;
use crate::{
    domain::id::Uid,
    grpc::proto::{WaitCondition, WaitOutcome, process_manager_server::ProcessManager},
    logs::{Limits as LogLimits, Logs},
    registry::{Limits, Registry},
    runner::fake::FakeRunner,
};

mod batches;
mod commands;
mod configuration;
mod lists;

const EPOCH: &str = "11111111-1111-4111-8111-111111111111";
const ID: &str = "22222222-2222-4222-8222-222222222222";

struct World {
    service: ProcessManagerService,
    runner: FakeRunner,
    /// How the daemon was asked to end last.
    shutdown: Arc<Mutex<Option<Shutdown>>>,
    _logs: tempfile::TempDir,
}

fn world() -> World {
    let runner = FakeRunner::new();
    let logs = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let supervisor = Supervisor::new(crate::supervisor::Setup {
        registry: Registry::new(Limits::default(), Revision::ZERO),
        runtime: tokio::runtime::Handle::current(),
        runner: Arc::new(runner.clone()),
        logs: Logs::new(logs.path().into(), LogLimits::default()).unwrap(),
        clock,
        base_env: Vec::new(),
        new_uid: || Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes()),
        intents: Arc::new(crate::supervisor::Forgetful),
    });
    let lineage = Lineage {
        epoch: EPOCH.into(),
        ancestors: Vec::new(),
    };
    let shutdown = Arc::new(Mutex::new(None));
    let asked = Arc::clone(&shutdown);
    let service = ProcessManagerService::new(Setup {
        supervisor,
        lineage: Arc::new(lineage),
        durability: Durability {
            durable: watch::channel(Revision::ZERO).1,
            health: watch::channel(Health::Writable).1,
        },
        remembered: Vec::new(),
        streams: Arc::new(Streams::default()),
        instance_id: "machine".into(),
        clock,
        started: clock.now().wall,
        capabilities: vec!["test".into()],
        limits: vec![("other_max", 5)],
        shutdown: Arc::new(move |how| *asked.lock().unwrap() = Some(how)),
    });
    World {
        service,
        runner,
        shutdown,
        _logs: logs,
    }
}

fn process(name: &str) -> proto::Process {
    proto::Process {
        name: name.into(),
        spec: Some(proto::ProcessSpec {
            command: vec!["x".into()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn wait(condition: WaitCondition) -> Option<proto::WaitOptions> {
    Some(proto::WaitOptions {
        condition: condition.into(),
        timeout: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
    })
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .expect("every error has a reason")
        .reason
        .clone()
}

fn faulty(status: &Status) -> Vec<String> {
    assert_eq!(
        (status.code(), &*reason(status)),
        (Code::InvalidArgument, "FIELD_INVALID")
    );
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations
        .iter()
        .map(|violation| violation.field.clone())
        .collect()
}

/// Calls a method and takes the answer apart.
macro_rules! call {
    ($world:expr, $rpc:ident, $message:expr) => {
        $world
            .service
            .$rpc(Request::new($message))
            .await
            .map(tonic::Response::into_inner)
    };
}
use call;

impl World {
    async fn create(&self, process: proto::Process) -> proto::CreateProcessResponse {
        let request = proto::CreateProcessRequest {
            process: Some(process),
            ..Default::default()
        };
        call!(self, create_process, request).unwrap()
    }

    async fn start(&self, name: &str) -> proto::StartProcessResponse {
        let request = proto::StartProcessRequest {
            name: name.into(),
            wait: wait(WaitCondition::Running),
            ..Default::default()
        };
        call!(self, start_process, request).unwrap()
    }

    async fn get(&self, name: &str) -> Result<proto::GetProcessResponse, Status> {
        let request = proto::GetProcessRequest {
            name: name.into(),
            ..Default::default()
        };
        call!(self, get_process, request)
    }
}
