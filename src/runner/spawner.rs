//! The one thread that starts shims and reaps whatever ends below this process.
//!
//! Invariants: shims are started by posix_spawn, never fork; start and reap are
//! on the same thread, so no end is seen before its start is known; the thread
//! sleeps without a timeout unless a lost run is being cleared. There is one per
//! process, because reaping is. Deliberately absent: talking to a shim
//! (`client`), clearing a lost run (`recovery`).

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        prctl,
    },
};
use tokio::sync::mpsc;

use super::{
    Program, RunnerError,
    recovery::{Lost, Orphan, Surroundings},
};
use crate::{
    domain::run::{RunEvent, SpawnError},
    shim::{
        ctl,
        definition::{DEFINITION_BYTES_MAX, Definition},
        protocol::{Message, VERSION},
        sys::{self, Ended},
        tree::{self, Stat},
    },
};

/// Handle to the thread.
#[derive(Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
    wake: Arc<EventFd>,
    claim_all: Arc<AtomicBool>,
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Request {
    /// Start a shim.
    Spawn(Box<Spawn>),
    /// A shim is gone, or of no use, before its run was empty: clear the run.
    Recover(Box<Lost>),
}

/// All that a shim is started from.
#[derive(Debug)]
pub(super) struct Spawn {
    pub(super) program: Arc<Program>,
    pub(super) shim_env: Vec<(OsString, OsString)>,
    pub(super) definition: Definition,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) notices: mpsc::Sender<Notice>,
}

/// What the thread tells the client of one run.
#[derive(Debug)]
pub(super) enum Notice {
    /// The shim runs and has its definition.
    Spawned {
        shim_pid: i32,
        start_ticks: u64,
        ctl: OwnedFd,
    },
    /// There is no shim.
    SpawnFailed(SpawnError),
    /// The shim ended and was reaped.
    ShimEnded,
    /// Of a lost run.
    Event(RunEvent),
}

/// Notices of one run that nobody has taken yet; there are never more.
pub(super) const NOTICES_MAX: usize = 8;

const REQUESTS_MAX: usize = 256;
/// Ended orphans whose run has not been declared lost yet.
const ORPHANS_MAX: usize = 1024;
const RECOVERY_PAUSE_MIN: Duration = Duration::from_millis(5);
const RECOVERY_PAUSE_MAX: Duration = Duration::from_secs(1);

static SPAWNER: OnceLock<Result<Spawner, String>> = OnceLock::new();

/// The thread's own state.
struct Thread {
    requests: mpsc::Receiver<Request>,
    wake: Arc<EventFd>,
    children: UnixStream,
    claim_all: Arc<AtomicBool>,
    own_pid: i32,
    own_session: i32,
    shims: HashMap<i32, mpsc::Sender<Notice>>,
    orphans: VecDeque<Orphan>,
    lost: Vec<Lost>,
    pause: Duration,
}

// === impl Spawner ===

impl Spawner {
    /// The spawner of this process, started by the first who asks.
    pub(super) fn of_this_process() -> Result<&'static Self, RunnerError> {
        SPAWNER
            .get_or_init(|| Self::start().map_err(|error| error.to_string()))
            .as_ref()
            .map_err(|error| RunnerError::Spawner(error.clone()))
    }

    /// From now on every child that ends is reaped.
    pub(super) fn claim_all(&self) {
        self.claim_all.store(true, Ordering::Relaxed);
    }

    /// Hands in a request, waiting while too many others do.
    pub(super) async fn request(&self, request: Request) {
        // The thread never ends.
        let _ = self.requests.send(request).await;
        // Fails only if it has been told 2^64 - 1 times.
        let _ = self.wake.write(1);
    }

    fn start() -> io::Result<Self> {
        let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let (children, told) = UnixStream::pair()?;
        children.set_nonblocking(true)?;
        told.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(libc::SIGCHLD, told)?;
        prctl::set_child_subreaper(true)?;
        let own_pid = std::process::id().cast_signed();
        let claim_all = Arc::new(AtomicBool::new(false));
        let mut thread = Thread {
            requests: waiting,
            wake: Arc::clone(&wake),
            children,
            claim_all: Arc::clone(&claim_all),
            own_pid,
            own_session: tree::stat(own_pid).map_or(0, |own| own.session),
            shims: HashMap::new(),
            orphans: VecDeque::new(),
            lost: Vec::new(),
            pause: RECOVERY_PAUSE_MIN,
        };
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self {
            requests,
            wake,
            claim_all,
        })
    }
}

// === impl Thread ===

impl Thread {
    fn run(&mut self) {
        loop {
            self.wait();
            while let Ok(request) = self.requests.try_recv() {
                match request {
                    Request::Spawn(spawn) => self.spawn(*spawn),
                    Request::Recover(lost) => self.recover(*lost),
                }
            }
            self.reap();
            self.clear();
        }
    }

    fn wait(&mut self) {
        let timeout = if self.lost.is_empty() {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(self.pause).unwrap_or(PollTimeout::MAX)
        };
        let mut fds = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut fds, timeout);
        let ended = fds[1].any().unwrap_or(true);
        let _ = self.wake.read();
        if ended {
            self.pause = RECOVERY_PAUSE_MIN;
            let mut buffer = [0; 512];
            while matches!((&self.children).read(&mut buffer), Ok(n) if n > 0) {}
        }
    }

    fn spawn(&mut self, spawn: Spawn) {
        let notices = spawn.notices.clone();
        let notice = match start_shim(spawn) {
            Ok((shim_pid, ctl)) => {
                self.shims.insert(shim_pid, notices.clone());
                Notice::Spawned {
                    shim_pid,
                    start_ticks: tree::stat(shim_pid).map_or(0, |shim| shim.start_ticks),
                    ctl,
                }
            }
            Err(error) => Notice::SpawnFailed(error),
        };
        // Never full; and whoever is gone needs no notice.
        let _ = notices.try_send(notice);
    }

    /// Nobody but this thread reaps, so the pid is still the shim's.
    fn recover(&mut self, mut lost: Lost) {
        lost.find_cgroup();
        if self.shims.contains_key(&lost.shim_pid) {
            let _ = sys::kill(lost.shim_pid, libc::SIGKILL);
        }
        self.pause = RECOVERY_PAUSE_MIN;
        self.lost.push(lost);
    }

    fn reap(&mut self) {
        while let Ended::Pid(pid) = sys::peek_ended() {
            if !self.reap_own(pid) {
                // A child of others stands first and stays until they take it,
                // so each of ours is asked about by itself.
                for pid in tree::children(self.own_pid) {
                    self.reap_own(pid);
                }
                return;
            }
        }
    }

    /// Reaps `pid` if it has ended and is ours to reap. `false` if it is not ours.
    fn reap_own(&mut self, pid: i32) -> bool {
        if self.shims.contains_key(&pid) {
            if sys::reap(pid).is_some()
                && let Some(notices) = self.shims.remove(&pid)
            {
                let _ = notices.try_send(Notice::ShimEnded);
            }
            return true;
        }
        let Some(process) = tree::stat(pid) else {
            return false;
        };
        if !self.claim_all.load(Ordering::Relaxed) && process.session == self.own_session {
            return false;
        }
        if let Some(reaped) = sys::reap(pid) {
            if self.orphans.len() == ORPHANS_MAX {
                self.orphans.pop_front();
            }
            self.orphans.push_back(Orphan {
                pid,
                start_ticks: process.start_ticks,
                reaped,
            });
        }
        true
    }

    /// One round over all lost runs.
    fn clear(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        let claim_all = self.claim_all.load(Ordering::Relaxed);
        let is_others = |process: &Stat| {
            self.shims.contains_key(&process.pid)
                || (!claim_all && process.session == self.own_session)
        };
        let surroundings = Surroundings {
            orphans: &self.orphans,
            below: tree::below(&tree::all(), self.own_pid, is_others),
        };
        let shims = &self.shims;
        self.lost
            .retain_mut(|lost| shims.contains_key(&lost.shim_pid) || !lost.clear(&surroundings));
        self.pause = (self.pause * 2).min(RECOVERY_PAUSE_MAX);
    }
}

/// Starts a shim and gives it its definition.
fn start_shim(spawn: Spawn) -> Result<(i32, OwnedFd), SpawnError> {
    let bytes = spawn.definition.encode();
    if bytes.len() > DEFINITION_BYTES_MAX {
        return Err(SpawnError {
            errno: libc::E2BIG,
            message: format!(
                "command and environment have {} bytes; at most {DEFINITION_BYTES_MAX} are allowed",
                bytes.len()
            )
            .into(),
        });
    }
    let refused = |error: io::Error| {
        let errno = error.raw_os_error().unwrap_or(0);
        SpawnError {
            errno,
            message: format!("shim {:?}: {}", spawn.program.path, sys::describe(&error)).into(),
        }
    };
    let errno = |errno: Errno| refused(io::Error::from(errno));
    let memory = ctl::seal(&bytes).map_err(refused)?;
    let (ours, theirs) = ctl::pair().map_err(errno)?;
    // Sent first: what a shim finds when it starts needs no second wake-up.
    let hello = Message::Hello { version: VERSION }.encode(1);
    ctl::send(ours.as_fd(), &hello, None).map_err(errno)?;
    let define = Message::Define.encode(2);
    ctl::send(ours.as_fd(), &define, Some(memory.as_fd())).map_err(errno)?;
    let child = Command::new(&spawn.program.path)
        .args(spawn.program.args)
        .env_clear()
        .envs(spawn.shim_env)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(spawn.stdout))
        .stderr(Stdio::from(spawn.stderr))
        .process_group(0)
        .spawn()
        .map_err(refused)?;
    Ok((child.id().cast_signed(), ours))
}
