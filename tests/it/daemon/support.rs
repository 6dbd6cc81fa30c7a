//! A daemon of the built program in a directory of its own, and ways to talk to it.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use procession::grpc::proto::{self, process_manager_client::ProcessManagerClient};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

pub(crate) type Client = ProcessManagerClient<Channel>;

/// Longest wait for anything; a test that reaches it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon; dropping it ends it.
pub(crate) struct Daemon {
    child: Option<Child>,
    directory: TempDir,
    wrapper: Vec<String>,
    args: Vec<String>,
    /// It was killed, so its processes may run on.
    killed: bool,
}

// === impl Daemon ===

impl Daemon {
    /// `procession serve` with a socket and a state directory of its own.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Daemon::start`], with further arguments.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        Self::start_under(&[], args)
    }

    /// As [`Daemon::start_with`], by a program that executes its last arguments.
    pub(crate) fn start_under(wrapper: &[&str], args: &[&str]) -> Self {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let mut daemon = Self {
            child: None,
            directory: tempfile::tempdir().unwrap(),
            wrapper: words(wrapper),
            args: words(args),
            killed: false,
        };
        daemon.spawn();
        daemon
    }

    /// Starts the program on its directories and waits until it listens.
    fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let mut words = self.wrapper.clone();
        words.push(env!("CARGO_BIN_EXE_procession").to_owned());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("serve")
            .arg("--socket")
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.directory.path().join("state"))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        self.killed = false;
        eventually("the daemon listens", || self.listens().then_some(()));
    }

    /// Whether the socket is this daemon's: that of a killed one may be open still,
    /// in a shim that it was starting.
    fn listens(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            self.child = None;
            panic!("the daemon ended ({status}); its log:\n{}", self.log());
        }
        let pid = child.id().cast_signed();
        listener(&self.socket()) == Some(pid)
    }

    /// SIGKILL. Its processes run on.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.killed = true;
    }

    /// Another daemon on the same directories, in place of one that is gone.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "it is still there");
        self.spawn();
    }

    /// SIGKILL, and another daemon.
    pub(crate) fn replace(&mut self) {
        self.kill();
        self.restart();
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().cast_signed()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        connect(self.socket()).await.unwrap()
    }

    /// Runs the command line against this daemon.
    pub(crate) fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        Command::new(env!("CARGO_BIN_EXE_procession"))
            .args(args)
            .env("PROCESSION_SOCKET", self.socket())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.end()
    }

    /// SIGTERM; its directories stay for another daemon.
    pub(crate) fn terminate_and_keep(&mut self) -> ExitStatus {
        let status = self.end();
        self.killed = true;
        status
    }

    /// As dropping it, while the runtime goes on: a client's connection that nobody
    /// drives would be waited for.
    pub(crate) async fn ended(self) {
        tokio::task::spawn_blocking(|| drop(self)).await.unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the daemon did not end; its log:\n{}", self.log());
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() && self.child.is_some() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        if self.killed {
            // What it left running is for another one to stop.
            self.restart();
        }
        if self.child.is_some() {
            self.end();
        }
    }
}

/// A client of whoever listens at `socket`.
pub(crate) async fn connect(socket: PathBuf) -> Result<Client, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(Client::new(channel))
}

/// Who made the socket listen; `None` if nobody listens there.
pub(crate) fn listener(socket: &Path) -> Option<i32> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    Some(getsockopt(&stream, PeerCredentials).ok()?.pid())
}

/// Time between two looks of [`eventually`].
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(LOOK);
    }
}

/// A TCP address that nobody uses now.
pub(crate) fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A process that runs `script` with sh and starts by itself.
pub(crate) fn sh(name: &str, script: &str) -> proto::Process {
    command(name, &["sh", "-c", script])
}

/// A process that runs `argv` and starts by itself.
pub(crate) fn command(name: &str, argv: &[&str]) -> proto::Process {
    proto::Process {
        name: name.to_owned(),
        spec: Some(proto::ProcessSpec {
            command: argv.iter().map(|&word| word.to_owned()).collect(),
            autostart: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}
