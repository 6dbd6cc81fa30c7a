//! A scripted daemon: it answers each method with what a test has put in line for
//! it, and keeps what it was asked. It serves on a thread of its own and ends with
//! its value.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::OsString,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use procession::{
    cli::{self, Console, ExitCode, paths::Surroundings},
    grpc::proto::{
        self,
        process_manager_server::{ProcessManager, ProcessManagerServer},
    },
};
use prost::Message;
use tokio::sync::{Notify, oneshot};
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status};

/// 2026-11-25T08:00:00Z: what the command line takes for now.
pub(crate) const NOW: i64 = 1_795_593_600;

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
/// Messages, then the status that ends the stream; none: it stays open.
type Script<T> = (Vec<T>, Option<Status>);

/// An encoded response, or a failure.
type Answer = Result<Vec<u8>, Status>;

/// What the fake answers and was asked.
#[derive(Default)]
pub(crate) struct Book {
    answers: Mutex<HashMap<&'static str, VecDeque<Answer>>>,
    asked: Mutex<Vec<(&'static str, Vec<u8>)>>,
    watches: Mutex<VecDeque<Script<proto::WatchProcessesResponse>>>,
    tails: Mutex<VecDeque<Script<proto::TailLogsResponse>>>,
    ends_on_shutdown: AtomicBool,
    shutdown: Notify,
}

/// The daemon, on a socket in a directory of its own.
pub(crate) struct Fake {
    book: Arc<Book>,
    directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a command line left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: ExitCode,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Surroundings of a command line.
#[derive(Default, Clone)]
pub(crate) struct Setup {
    pub(crate) terminal: bool,
    pub(crate) env: Vec<(&'static str, String)>,
}

// === impl Fake ===

impl Fake {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let book = Arc::new(Book::default());
        let listener = std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&book);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                let book = Arc::clone(&served);
                let server = tonic::transport::Server::builder()
                    .add_service(ProcessManagerServer::new(Daemon(served)))
                    .serve_with_incoming_shutdown(
                        UnixListenerStream::new(listener),
                        book.shutdown.notified(),
                    );
                tokio::select! {
                    served = server => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self {
            book,
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// From now on ShutdownServer is obeyed.
    pub(crate) fn end_on_shutdown(&self) {
        self.book.ends_on_shutdown.store(true, Ordering::SeqCst);
    }

    /// Puts an answer in line for `method`.
    pub(crate) fn answer(&self, method: &'static str, answer: &impl Message) {
        self.put(method, Ok(answer.encode_to_vec()));
    }

    /// Puts a failure in line for `method`.
    pub(crate) fn fail(&self, method: &'static str, status: Status) {
        self.put(method, Err(status));
    }

    pub(crate) fn watch(&self, messages: Vec<proto::WatchProcessesResponse>, end: Option<Status>) {
        self.book.watches.lock().unwrap().push_back((messages, end));
    }

    pub(crate) fn tail(&self, messages: Vec<proto::TailLogsResponse>, end: Option<Status>) {
        self.book.tails.lock().unwrap().push_back((messages, end));
    }

    /// The requests of `method` so far.
    pub(crate) fn asked<Q: Message + Default>(&self, method: &'static str) -> Vec<Q> {
        let asked = self.book.asked.lock().unwrap();
        asked
            .iter()
            .filter(|(asked, _)| *asked == method)
            .map(|(_, bytes)| Q::decode(bytes.as_slice()).unwrap())
            .collect()
    }

    /// The methods that were called, in order.
    pub(crate) fn methods(&self) -> Vec<&'static str> {
        self.book
            .asked
            .lock()
            .unwrap()
            .iter()
            .map(|(method, _)| *method)
            .collect()
    }

    /// Runs `procession ARGS` against this daemon.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_in(&Setup::default(), args)
    }

    pub(crate) fn run_in(&self, setup: &Setup, args: &[&str]) -> Ran {
        let mut setup = setup.clone();
        setup
            .env
            .push(("PROCESSION_SOCKET", self.socket().display().to_string()));
        let mut stdout = Vec::new();
        let (code, stderr) = run_to(&setup, args, &mut stdout);
        Ran {
            code,
            stdout: String::from_utf8(stdout).unwrap(),
            stderr,
        }
    }

    fn put(&self, method: &'static str, answer: Answer) {
        self.book
            .answers
            .lock()
            .unwrap()
            .entry(method)
            .or_default()
            .push_back(answer);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the fake daemon panicked"
            );
        }
    }
}

/// Runs `procession ARGS` with `stdout`.
pub(crate) fn run_to(
    setup: &Setup,
    args: &[&str],
    stdout: &mut dyn io::Write,
) -> (ExitCode, String) {
    let mut stderr = Vec::new();
    let env: BTreeMap<String, String> = setup
        .env
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs());
    let mut console = Console {
        stdout,
        stderr: &mut stderr,
        stdout_is_terminal: setup.terminal,
        here: Surroundings {
            uid: 1000,
            env: &env,
        },
        now: &now,
    };
    let args = std::iter::once("procession")
        .chain(args.iter().copied())
        .map(OsString::from);
    let code = cli::run(args, &mut console);
    (code, String::from_utf8(stderr).unwrap())
}

/// `seconds` before [`NOW`].
pub(crate) fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: NOW - seconds,
        nanos: 0,
    })
}

/// A process in `state`.
pub(crate) fn process(name: &str, state: proto::ProcessState) -> proto::Process {
    use proto::{ProcessPhase as P, ProcessState as S};
    let phase = match state {
        S::Pending | S::Starting | S::Backoff => P::Pending,
        S::Running | S::Reloading | S::Paused | S::Stopping => P::Running,
        S::Stopped => P::Stopped,
        S::Failed => P::Failed,
        S::Succeeded => P::Succeeded,
        S::Unknown | S::Unspecified => P::Unknown,
    };
    proto::Process {
        name: name.into(),
        uid: format!("uid-{name}"),
        version: 1,
        status: Some(proto::ProcessStatus {
            state: state.into(),
            phase: phase.into(),
            state_time: ago(60),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A list of `processes`, at revision 7.
pub(crate) fn listed(processes: Vec<proto::Process>) -> proto::ListProcessesResponse {
    let total_size = i32::try_from(processes.len()).unwrap();
    proto::ListProcessesResponse {
        header: header(7),
        processes,
        total_size,
        ..Default::default()
    }
}

pub(crate) fn header(revision: i64) -> Option<proto::ResponseHeader> {
    Some(proto::ResponseHeader {
        epoch: "e1".into(),
        revision,
    })
}

struct Daemon(Arc<Book>);

// === impl Daemon ===

impl Daemon {
    fn note(&self, method: &'static str, request: &impl Message) {
        self.0
            .asked
            .lock()
            .unwrap()
            .push((method, request.encode_to_vec()));
    }

    fn reply<Q: Message, R: Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
    ) -> Result<Response<R>, Status> {
        self.note(method, request);
        if method == "shutdown_server" && self.0.ends_on_shutdown.load(Ordering::SeqCst) {
            self.0.shutdown.notify_one();
        }
        let mut answers = self.0.answers.lock().unwrap();
        match answers.get_mut(method).and_then(VecDeque::pop_front) {
            Some(Ok(bytes)) => Ok(Response::new(R::decode(bytes.as_slice()).unwrap())),
            Some(Err(status)) => Err(status),
            None => Err(Status::internal(format!(
                "the test has no answer for {method}"
            ))),
        }
    }
}

fn play<T: Send + 'static>(script: Option<Script<T>>) -> Result<Response<BoxStream<T>>, Status> {
    let (messages, end) = script.ok_or_else(|| Status::permission_denied("end of the script"))?;
    let items = messages.into_iter().map(Ok);
    Ok(Response::new(match end {
        Some(status) if status.code() == tonic::Code::Ok => {
            Box::pin(tokio_stream::iter(items.collect::<Vec<_>>()))
        }
        Some(status) => Box::pin(tokio_stream::iter(
            items.chain([Err(status)]).collect::<Vec<_>>(),
        )),
        None => {
            use tokio_stream::StreamExt as _;
            let items = tokio_stream::iter(items.collect::<Vec<_>>());
            Box::pin(items.chain(tokio_stream::pending()))
        }
    }))
}

macro_rules! daemon {
    ($($method:ident: $request:ident -> $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl ProcessManager for Daemon {
            $(async fn $method(
                &self,
                request: Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                self.reply(stringify!($method), &request.into_inner())
            })*

            type WatchProcessesStream = BoxStream<proto::WatchProcessesResponse>;

            async fn watch_processes(
                &self,
                request: Request<proto::WatchProcessesRequest>,
            ) -> Result<Response<Self::WatchProcessesStream>, Status> {
                self.note("watch_processes", &request.into_inner());
                play(self.0.watches.lock().unwrap().pop_front())
            }

            type TailLogsStream = BoxStream<proto::TailLogsResponse>;

            async fn tail_logs(
                &self,
                request: Request<proto::TailLogsRequest>,
            ) -> Result<Response<Self::TailLogsStream>, Status> {
                self.note("tail_logs", &request.into_inner());
                play(self.0.tails.lock().unwrap().pop_front())
            }

            type WatchProcessStatsStream = BoxStream<proto::WatchProcessStatsResponse>;

            async fn watch_process_stats(
                &self,
                _: Request<proto::WatchProcessStatsRequest>,
            ) -> Result<Response<Self::WatchProcessStatsStream>, Status> {
                Err(Status::unimplemented("not scripted"))
            }

            type AttachProcessStream = BoxStream<proto::AttachProcessResponse>;

            async fn attach_process(
                &self,
                _: Request<tonic::Streaming<proto::AttachProcessRequest>>,
            ) -> Result<Response<Self::AttachProcessStream>, Status> {
                Err(Status::unimplemented("not scripted"))
            }
        }
    };
}

daemon! {
    get_server_info: GetServerInfoRequest -> GetServerInfoResponse,
    create_process: CreateProcessRequest -> CreateProcessResponse,
    get_process: GetProcessRequest -> GetProcessResponse,
    list_processes: ListProcessesRequest -> ListProcessesResponse,
    batch_get_processes: BatchGetProcessesRequest -> BatchGetProcessesResponse,
    update_process: UpdateProcessRequest -> UpdateProcessResponse,
    apply_process: ApplyProcessRequest -> ApplyProcessResponse,
    batch_apply_processes: BatchApplyProcessesRequest -> BatchApplyProcessesResponse,
    delete_process: DeleteProcessRequest -> DeleteProcessResponse,
    start_process: StartProcessRequest -> StartProcessResponse,
    stop_process: StopProcessRequest -> StopProcessResponse,
    restart_process: RestartProcessRequest -> RestartProcessResponse,
    signal_process: SignalProcessRequest -> SignalProcessResponse,
    reload_process: ReloadProcessRequest -> ReloadProcessResponse,
    pause_process: PauseProcessRequest -> PauseProcessResponse,
    resume_process: ResumeProcessRequest -> ResumeProcessResponse,
    reset_process: ResetProcessRequest -> ResetProcessResponse,
    explain_process: ExplainProcessRequest -> ExplainProcessResponse,
    batch_control_processes: BatchControlProcessesRequest -> BatchControlProcessesResponse,
    wait_process: WaitProcessRequest -> WaitProcessResponse,
    write_stdin: WriteStdinRequest -> WriteStdinResponse,
    get_process_stats: GetProcessStatsRequest -> GetProcessStatsResponse,
    list_groups: ListGroupsRequest -> ListGroupsResponse,
    shutdown_server: ShutdownServerRequest -> ShutdownServerResponse,
}
