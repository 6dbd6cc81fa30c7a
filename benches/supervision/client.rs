//! A client with a runtime of its own; dropping it closes its connection.

use std::{collections::BTreeMap, future::Future, path::Path};

use hyper_util::rt::TokioIo;
use procession::grpc::proto::{
    self, ConditionStatus, Process, ProcessState as State, process_manager_client,
};
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::transport::{Channel, Endpoint, Error};

use super::daemon::eventually;

pub(crate) type Client = process_manager_client::ProcessManagerClient<Channel>;

/// Messages of a full page are larger than the default.
const MESSAGE_MAX: usize = 64 << 20;

pub(crate) struct Session {
    pub(crate) client: Client,
    // Dropped after the client.
    runtime: Runtime,
}

/// What a list shows of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) pid: i32,
    pub(crate) state: State,
    /// This daemon has spoken with its shim.
    pub(crate) adopted: bool,
    pub(crate) restarts: i64,
}

pub(crate) async fn connect(socket: &Path) -> Result<Client, Error> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(Client::new(channel).max_decoding_message_size(MESSAGE_MAX))
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A process that runs `argv` and starts by itself.
pub(crate) fn command(name: &str, argv: &[&str]) -> Process {
    Process {
        name: name.to_owned(),
        spec: Some(proto::ProcessSpec {
            command: argv.iter().map(|&word| word.to_owned()).collect(),
            autostart: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

// === impl Session ===

impl Session {
    pub(crate) fn open(socket: &Path) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(connect(socket)).expect("a connection");
        Self { client, runtime }
    }

    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Creates all of them in one call.
    pub(crate) fn apply(&self, processes: Vec<Process>) {
        let request = proto::BatchApplyProcessesRequest {
            processes,
            ..Default::default()
        };
        let mut client = self.client.clone();
        let applied = self.wait(client.batch_apply_processes(request));
        for item in applied.expect("applied").into_inner().results {
            assert_eq!(item.status.as_ref().map_or(0, |s| s.code), 0, "{item:?}");
        }
    }

    /// Makes them `count` sleepers, and returns once all run.
    pub(crate) fn sleepers(&self, count: usize) -> BTreeMap<String, Shown> {
        let have = self.list().len();
        let sleeper = |n| command(&format!("p{n:04}"), &["sleep", "1000000"]);
        self.apply((have..count).map(sleeper).collect());
        let mut seen = BTreeMap::new();
        eventually("all run", || {
            seen = self.list();
            seen.len() == count && seen.values().all(|shown| shown.state == State::Running)
        });
        seen
    }

    /// All processes, by ListProcesses.
    pub(crate) fn list(&self) -> BTreeMap<String, Shown> {
        let mut client = self.client.clone();
        let mut request = proto::ListProcessesRequest {
            page_size: 1000,
            ..Default::default()
        };
        let mut seen = BTreeMap::new();
        loop {
            let page = self.wait(client.list_processes(request.clone()));
            let page = page.expect("a page").into_inner();
            seen.extend(page.processes.into_iter().map(show));
            if page.next_page_token.is_empty() {
                return seen;
            }
            request.page_token = page.next_page_token;
        }
    }

    pub(crate) fn stop(&self, name: &str) {
        let request = proto::StopProcessRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let mut client = self.client.clone();
        let stopped = self.wait(client.stop_process(request));
        stopped.expect("stopped");
    }

    pub(crate) fn delete(&self, name: &str) {
        let request = proto::DeleteProcessRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let mut client = self.client.clone();
        let deleted = self.wait(client.delete_process(request));
        deleted.expect("deleted");
    }
}

fn show(process: Process) -> (String, Shown) {
    let status = process.status.unwrap_or_default();
    let is_adopted =
        |c: &proto::Condition| c.r#type == "Adopted" && c.status() == ConditionStatus::True;
    let shown = Shown {
        pid: status.pid,
        state: status.state(),
        adopted: status.conditions.iter().any(is_adopted),
        restarts: status.restart_count,
    };
    (process.name, shown)
}
