//! A daemon whose program, environment and state directory a test may choose, and
//! which leaves nothing behind, also when the test fails.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procession::grpc::proto::{self, ConditionStatus, Process, RestartMode, RestartPolicy};
use tempfile::TempDir;

use crate::daemon::{
    calls, proc,
    support::{Client, PATIENCE, connect, listener, sh},
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A daemon under test and the directory that all of it lies in.
pub(super) struct Rig {
    root: TempDir,
    program: PathBuf,
    child: Option<Child>,
}

// === impl Rig ===

impl Rig {
    pub(super) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            program: env!("CARGO_BIN_EXE_procession").into(),
            child: None,
        }
    }

    /// The daemon is executed from `path` from now on.
    pub(super) fn use_program(&mut self, path: PathBuf) {
        self.program = path;
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Below a directory of its own, so that something may be mounted there.
    pub(super) fn disk(&self) -> PathBuf {
        self.root().join("disk")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.disk().join("state")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.root().join("socket")
    }

    pub(super) fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().cast_signed()
    }

    /// What all daemons so far logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.root().join("log")).unwrap_or_default()
    }

    pub(super) fn start(&mut self) {
        let ended = self.start_with(&[]);
        assert!(ended.is_none(), "{ended:?}: {}", self.log());
    }

    /// Starts it with further environment and waits until it listens, or has ended.
    pub(super) fn start_with(&mut self, env: &[(&str, &str)]) -> Option<ExitStatus> {
        assert!(self.child.is_none(), "it is still there");
        fs::create_dir_all(self.disk()).unwrap();
        let log = self.root().join("log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(&self.program)
            .args(["serve", "--socket"])
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.state())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begun = Instant::now();
        while listener(&self.socket()) != Some(self.pid()) {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            assert!(begun.elapsed() < PATIENCE, "it does not listen");
            std::thread::sleep(LOOK);
        }
        None
    }

    /// Whether it answers; else how it ended. It listens before it has read what was
    /// kept.
    pub(super) async fn serves(&mut self) -> Result<(), ExitStatus> {
        let path = self.socket();
        loop {
            if let Ok(mut client) = connect(path.clone()).await
                && let asked = client.get_server_info(proto::GetServerInfoRequest {})
                && asked.await.is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return Err(status);
            }
            pass(LOOK).await;
        }
    }

    /// SIGKILL. Its processes run on.
    pub(super) fn kill(&mut self) {
        sigkill(self.pid());
        let status = self.child.take().unwrap().wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it had ended: {}", self.log());
    }

    /// SIGSTOP, and waits until none of its threads is in a system call any more.
    pub(super) async fn freeze(&self) {
        let pid = self.pid();
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        until("all its threads stand still", async || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let mut stats =
                tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
            stats.all(|stat| stat.contains(") T ")).then_some(())
        })
        .await;
    }

    pub(super) fn thaw(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGCONT).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        self.ended_if_begun().await.unwrap()
    }

    /// As [`Rig::ended`]; `None` if its end was seen before.
    pub(super) async fn ended_if_begun(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        Some(until("the daemon ends", async || child.try_wait().unwrap()).await)
    }

    pub(super) async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    /// `None`: nobody listens.
    pub(super) async fn try_client(&self) -> Option<Client> {
        connect(self.socket()).await.ok()
    }

    /// Runs `script` once, marked as one of ours.
    pub(super) fn once(&self, name: &str, script: &str) -> Process {
        let mut process = self.process(name, script);
        process.spec.as_mut().unwrap().restart_policy = Some(RestartPolicy {
            mode: RestartMode::Never.into(),
            ..Default::default()
        });
        process
    }

    /// Keeps `script` running, marked as one of ours.
    pub(super) fn process(&self, name: &str, script: &str) -> Process {
        let mut process = sh(name, script);
        let spec = process.spec.as_mut().unwrap();
        spec.env.insert(proc::MARK.to_owned(), self.mark());
        process
    }

    /// Sleeps, with nothing of the daemon's environment.
    pub(super) fn sleeper(&self, name: &str) -> Process {
        let mut process = self.process(name, "");
        let spec = process.spec.as_mut().unwrap();
        spec.command = ["/bin/sleep", "1000"].map(str::to_owned).into();
        spec.clear_env = true;
        process
    }

    fn mark(&self) -> String {
        self.root().display().to_string()
    }

    /// Main processes and whatever they started.
    pub(super) fn children(&self) -> Vec<i32> {
        let mut pids = proc::marked(&self.mark());
        pids.retain(|pid| Some(*pid) != self.child.as_ref().map(|c| c.id().cast_signed()));
        pids
    }

    /// Processes that hold something below the directory open, but for the daemon:
    /// shims.
    pub(super) fn shims(&self) -> Vec<i32> {
        let own = [std::process::id(), self.child.as_ref().map_or(0, Child::id)];
        let pids = fs::read_dir("/proc").unwrap();
        let pids = pids.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| !own.contains(pid) && holds(*pid, self.root()))
            .map(u32::cast_signed)
            .collect()
    }

    /// Directories of runs.
    pub(super) fn runs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state().join("runs"));
        let entries = entries.into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect()
    }

    /// Nothing of any run is there: no process, no directory, no zombie.
    pub(super) async fn until_clean(&self) {
        until("nothing is left of any run", async || {
            let left = (self.children(), self.shims(), self.runs());
            let below = self.child.as_ref().map(|_| proc::below(self.pid()));
            let none = left.0.is_empty() && left.1.is_empty() && left.2.is_empty();
            (none && below.is_none_or(|below| below.is_empty())).then_some(())
        })
        .await;
    }

    /// SIGTERM: it ends well, leaves nobody, and never panicked.
    pub(super) async fn end(self, client: Client) {
        self.end_and(client, || ()).await;
    }

    /// As [`Rig::end`]; then what it lies on goes away.
    pub(super) async fn end_and(mut self, client: Client, then: impl FnOnce()) {
        drop(client);
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.log());
        // A shim tells that its run is empty, and ends after that.
        until("nobody is left", async || {
            (self.children().is_empty() && self.shims().is_empty()).then_some(())
        })
        .await;
        assert!(!self.log().contains("panicked"), "{}", self.log());
        then();
    }

    /// Kills everything at once, as a power cut does.
    pub(super) fn kill_all(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let begun = Instant::now();
        loop {
            let mut left = self.shims();
            left.extend(self.children());
            if left.is_empty() || begun.elapsed() > PATIENCE {
                return;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(8000);
            eprintln!("the daemon's log:\n{}", log.get(tail..).unwrap_or(&log));
        }
        self.kill_all();
    }
}

fn holds(pid: u32, root: &Path) -> bool {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"));
    let mut fds = fds.into_iter().flatten().flatten();
    fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(root)))
}

pub(super) fn sigkill(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// Says, also where output is captured, that a test was not run. Who asks for a
/// number of rounds wants them: then it fails.
pub(super) fn not_run(why: &str) {
    let name = std::thread::current();
    let name = name.name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var_os("PROCESSION_KILLS").is_none(),
        "not run: {why}"
    );
    // What is printed by a macro is not seen if the test passes.
    let _ = writeln!(std::io::stderr(), "NOT RUN: {name}: {why}");
}

/// Whether it is seen in time.
pub(super) async fn until_or(mut look: impl AsyncFnMut() -> Option<()>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while look().await.is_none() {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// Looks until there is something to see.
pub(super) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Does nothing for so long.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(super) async fn store_writable(client: &mut Client) -> bool {
    let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
    let conditions = info.unwrap().into_inner().conditions;
    calls::condition(&conditions, "StoreWritable") == Some(ConditionStatus::True)
}

pub(super) async fn until_writable(client: &mut Client, wanted: bool) {
    until("the store is or is not writable", async || {
        (store_writable(client).await == wanted).then_some(())
    })
    .await;
}

/// Whether what is wanted of it is kept.
pub(super) async fn intent_durable(client: &mut Client, name: &str) -> Option<ConditionStatus> {
    let process = calls::get(client, name).await;
    calls::condition(&calls::status(&process).conditions, "IntentDurable")
}
