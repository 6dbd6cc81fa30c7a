//! The one thread that starts shims and reaps whatever ends below this process.
//!
//! Invariants: shims are started by posix_spawn, never fork; start and reap are
//! on the same thread, so no end is seen before its start is known; a main process
//! that a dead shim left to us is not reaped before its next shim has told of its
//! end, or could not; the thread sleeps without a timeout unless a lost run is
//! being cleared. There is one per process, because reaping is. Deliberately
//! absent: talking to a shim (`client`), clearing a lost run (`recovery`).

mod start;

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        prctl,
    },
};
use tokio::sync::mpsc;

use self::start::{left_by, start_shim};
use super::{
    Program, RunnerError,
    recovery::{Lost, MainProcess, Orphan},
};
use crate::{
    domain::run::{RunEvent, SpawnError},
    shim::{
        definition::Definition,
        failpoint,
        record::ProcessIdentity,
        rundir::RunDir,
        sys::{self, Ended},
        tree,
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
    /// No shim can be had for a run that is not known to be empty: clear the run.
    Recover(Box<Lost>),
    /// This main process may be reaped, if it is a child of this process by now.
    Release {
        main: MainProcess,
        /// Is told how it ended, as far as that is known.
        tell: Option<mpsc::Sender<Notice>>,
    },
}

/// All that a shim is started from.
#[derive(Debug)]
pub(super) struct Spawn {
    pub(super) program: Arc<Program>,
    pub(super) shim_env: Vec<(OsString, OsString)>,
    /// The run directory.
    pub(super) path: PathBuf,
    pub(super) task: Task,
    pub(super) notices: mpsc::Sender<Notice>,
}

/// What a shim is started for.
#[derive(Debug)]
pub(super) enum Task {
    /// Begin a run; makes its directory.
    Begin(Box<Definition>),
    /// Take over a run whose shim died, with what was kept of it.
    Adopt(RunDir, Arc<Vec<(u8, OwnedFd)>>),
}

/// What the thread tells the client of one run.
#[derive(Debug)]
pub(super) enum Notice {
    /// The shim runs and has its definition.
    Spawned { shim_pid: i32, ctl: OwnedFd },
    /// There is no shim.
    SpawnFailed(SpawnError),
    /// The shim with this pid ended and was reaped.
    ShimEnded(i32),
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
    shims: HashMap<i32, OwnShim>,
    /// Start times of main processes that are not to be reaped yet, by pid.
    guarded: HashMap<i32, u64>,
    orphans: VecDeque<Orphan>,
    lost: Vec<Lost>,
    pause: Duration,
}

/// A shim that is our child.
#[derive(Debug)]
struct OwnShim {
    notices: mpsc::Sender<Notice>,
    /// Its run directory.
    path: PathBuf,
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
            guarded: HashMap::new(),
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
                    Request::Release { main, tell } => self.release(main, tell),
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
        let path = spawn.path.clone();
        let notice = match start_shim(spawn) {
            Ok((shim_pid, ctl)) => {
                failpoint::hit("after_spawn");
                let shim = OwnShim {
                    notices: notices.clone(),
                    path,
                };
                self.shims.insert(shim_pid, shim);
                Notice::Spawned { shim_pid, ctl }
            }
            Err(error) => Notice::SpawnFailed(error),
        };
        // Never full; and whoever is gone needs no notice.
        let _ = notices.try_send(notice);
    }

    /// Nobody but this thread reaps, so the pid is still the shim's.
    fn recover(&mut self, mut lost: Lost) {
        lost.find_members();
        if self.shims.contains_key(&lost.shim_pid) {
            let _ = sys::kill(lost.shim_pid, libc::SIGKILL);
        }
        self.pause = RECOVERY_PAUSE_MIN;
        self.lost.push(lost);
    }

    fn release(&mut self, main: MainProcess, tell: Option<mpsc::Sender<Notice>>) {
        if let Some(notices) = tell {
            let exit = main.end(&self.orphans).unwrap_or_else(sys::lost_exit);
            let _ = notices.try_send(Notice::Event(RunEvent::Exited(exit)));
        }
        self.unguard(main.identity);
    }

    fn unguard(&mut self, main: ProcessIdentity) {
        if self.guarded.get(&main.pid) == Some(&main.start_ticks) {
            self.guarded.remove(&main.pid);
        }
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

    /// Reaps `pid` if it has ended and is ours to reap. `false` if it is not ours,
    /// or not yet.
    fn reap_own(&mut self, pid: i32) -> bool {
        if self.shims.contains_key(&pid) {
            self.reap_shim(pid);
            return true;
        }
        let Some(process) = tree::stat(pid) else {
            return false;
        };
        if !self.claim_all.load(Ordering::Relaxed) && process.session == self.own_session {
            return false;
        }
        // Whoever comes to us comes from a shim that is dead: it is asked first
        // whose main process it was.
        let ended: Vec<i32> = self.shims.keys().copied().collect();
        for shim in ended {
            self.reap_shim(shim);
        }
        if self.guarded.get(&pid) == Some(&process.start_ticks) {
            return false;
        }
        if let Some(reaped) = sys::reap(pid) {
            if self.orphans.len() == ORPHANS_MAX {
                self.orphans.pop_front();
            }
            let identity = ProcessIdentity {
                pid,
                start_ticks: process.start_ticks,
            };
            self.orphans.push_back(Orphan { identity, reaped });
        }
        true
    }

    /// Reaps a shim if it has ended. The main process that it leaves, if it does,
    /// is now our child, and its end is for the next shim to see.
    fn reap_shim(&mut self, pid: i32) {
        if sys::reap(pid).is_none() {
            return;
        }
        let Some(shim) = self.shims.remove(&pid) else {
            return;
        };
        if let Some(main) = left_by(&shim.path) {
            self.guarded.insert(main.pid, main.start_ticks);
        }
        let _ = shim.notices.try_send(Notice::ShimEnded(pid));
    }

    /// One round over all lost runs.
    fn clear(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        // No shim comes any more for which they would be kept.
        let lost: Vec<MainProcess> = self.lost.iter().filter_map(|lost| lost.main).collect();
        for main in lost {
            self.unguard(main.identity);
        }
        let (shims, orphans) = (&self.shims, &self.orphans);
        self.lost
            .retain_mut(|lost| shims.contains_key(&lost.shim_pid) || !lost.clear(orphans));
        self.pause = (self.pause * 2).min(RECOVERY_PAUSE_MAX);
    }
}
