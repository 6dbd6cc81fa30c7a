//! How a run begins: its definition, and a child that does not exec before the
//! daemon was told of it.

use std::os::fd::{AsFd, OwnedFd};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
    unistd::{chdir, dup2_stderr, dup2_stdout},
};

use super::{Main, Shim, own_pid};
use crate::{
    domain::run::SpawnError,
    shim::{
        ShimError,
        cgroup::Cgroup,
        child::Child,
        ctl::{self, Received},
        definition::Definition,
        prepare::{self, Failure, Prepared},
        protocol::{MESSAGE_BYTES_MAX, Message, Step},
        sys, tree,
    },
};

// === impl Shim ===

impl Shim {
    /// Forks the child, tells of it and lets it go on to exec.
    pub(super) fn spawn(&mut self) -> Result<(), Failure> {
        let prepared = Prepared::new(&self.definition)?;
        let cgroup = self
            .definition
            .use_cgroup
            .then(|| Cgroup::create(self.definition.daemon_pid, &self.definition.label))
            .flatten();
        let directory = cgroup.as_ref().and_then(|cgroup| cgroup.open().ok());
        let forked = Child::fork(&prepared, directory.as_ref().map(AsFd::as_fd));
        let usable = forked.as_ref().is_ok_and(|child| {
            child.in_cgroup || cgroup.as_ref().is_some_and(|c| c.place(child.pid).is_ok())
        });
        match cgroup {
            Some(cgroup) if usable => self.cgroup = Some(cgroup),
            Some(cgroup) => cgroup.remove(),
            None => {}
        }
        let mut child =
            forked.map_err(|errno| prepare::describe(&self.definition, Step::Fork, 0, errno))?;
        child.wait_ready();
        let start_ticks = tree::stat(child.pid).map_or(0, |process| process.start_ticks);
        let spawned = Message::Spawned {
            pid: child.pid,
            start_ticks,
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
        };
        self.tell(&spawned);
        // Nobody runs of whom nobody was told. If there is nobody to tell, the
        // gate stays closed, and the child ends when it is let go of.
        self.deliver();
        failpoint("before_gate");
        if self.ctl.is_some() {
            child.open_gate();
        } else {
            self.main = Main::Failed(child.pid);
            return Ok(());
        }
        self.main = Main::Starting(child);
        Ok(())
    }
}

/// `None` if the daemon goes away first, or is not understood.
pub(super) fn receive_definition(ctl: &OwnedFd) -> Result<Option<Definition>, ShimError> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let mut fds = [PollFd::new(ctl.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        let (size, passed) = match ctl::receive(ctl.as_fd(), &mut buffer) {
            Ok(Received::Packet(size, passed)) => (size, passed),
            Ok(Received::Closed) => return Ok(None),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::EMSGSIZE) => continue,
            Err(errno) => {
                return Err(ShimError::Kernel {
                    what: "control socket",
                    errno,
                });
            }
        };
        let memory = match (Message::decode(&buffer[..size]), passed) {
            (Ok((_, Message::Define)), Some(memory)) => memory,
            // A daemon that is not understood cannot be answered either.
            (Err(_), _) => return Ok(None),
            (Ok(_), _) => continue,
        };
        let definition = ctl::read_sealed(memory)
            .ok()
            .and_then(|bytes| Definition::decode(&bytes).ok());
        if let Some(definition) = definition {
            return Ok(Some(definition));
        }
        refuse_definition(ctl);
        return Ok(None);
    }
}

fn refuse_definition(ctl: &OwnedFd) {
    let error = SpawnError {
        errno: libc::EPROTO,
        message: "shim: the definition is not understood".into(),
    };
    let failed = Message::SpawnFailed {
        step: Step::Shim,
        error,
    };
    // Where this is not heard, the daemon still sees the shim end.
    let _ = ctl::send(ctl.as_fd(), &failed.encode(1), None);
    let _ = ctl::send(ctl.as_fd(), &Message::Empty.encode(2), None);
}

/// The pipes of the run belong to the run: they end when it does.
pub(super) fn let_go_of_output() {
    if let Ok(null) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
    let _ = chdir("/"); // hold no mount busy
}

/// Dies here in a debug build told so, as if killed.
fn failpoint(name: &str) {
    if cfg!(debug_assertions)
        && std::env::var_os("PROCESSION_SHIM_FAILPOINT").is_some_and(|value| value == name)
    {
        let _ = sys::kill(own_pid(), libc::SIGKILL);
    }
}
