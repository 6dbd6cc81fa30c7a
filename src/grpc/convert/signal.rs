//! Signals: portable names on the wire, kernel numbers inside.

use nix::libc;

use crate::{domain::run::SignalScope, grpc::proto};

/// Every portable signal with its number on this architecture.
const SIGNALS: [(proto::Signal, i32); 17] = [
    (proto::Signal::Hup, libc::SIGHUP),
    (proto::Signal::Int, libc::SIGINT),
    (proto::Signal::Quit, libc::SIGQUIT),
    (proto::Signal::Kill, libc::SIGKILL),
    (proto::Signal::Usr1, libc::SIGUSR1),
    (proto::Signal::Usr2, libc::SIGUSR2),
    (proto::Signal::Term, libc::SIGTERM),
    (proto::Signal::Cont, libc::SIGCONT),
    (proto::Signal::Stop, libc::SIGSTOP),
    (proto::Signal::Winch, libc::SIGWINCH),
    (proto::Signal::Abrt, libc::SIGABRT),
    (proto::Signal::Alrm, libc::SIGALRM),
    (proto::Signal::Ttin, libc::SIGTTIN),
    (proto::Signal::Ttou, libc::SIGTTOU),
    (proto::Signal::Tstp, libc::SIGTSTP),
    (proto::Signal::Pipe, libc::SIGPIPE),
    (proto::Signal::Pwr, libc::SIGPWR),
];

/// Kernel number; `None` for UNSPECIFIED.
#[must_use]
pub fn number(signal: proto::Signal) -> Option<i32> {
    SIGNALS
        .iter()
        .find(|(known, _)| *known == signal)
        .map(|(_, number)| *number)
}

/// Portable name; UNSPECIFIED for a number that has none.
#[must_use]
pub fn name(number: i32) -> proto::Signal {
    SIGNALS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or(proto::Signal::Unspecified, |(signal, _)| *signal)
}

/// The domain's scope; `None` for UNSPECIFIED.
#[must_use]
pub fn scope(scope: proto::SignalScope) -> Option<SignalScope> {
    match scope {
        proto::SignalScope::Unspecified => None,
        proto::SignalScope::MainProcess => Some(SignalScope::Main),
        proto::SignalScope::ProcessGroup => Some(SignalScope::Group),
        proto::SignalScope::Cgroup => Some(SignalScope::Cgroup),
        proto::SignalScope::Tree => Some(SignalScope::Tree),
    }
}

/// The wire's scope.
#[must_use]
pub fn scope_wire(scope: Option<SignalScope>) -> proto::SignalScope {
    match scope {
        None => proto::SignalScope::Unspecified,
        Some(SignalScope::Main) => proto::SignalScope::MainProcess,
        Some(SignalScope::Group) => proto::SignalScope::ProcessGroup,
        Some(SignalScope::Cgroup) => proto::SignalScope::Cgroup,
        Some(SignalScope::Tree) => proto::SignalScope::Tree,
    }
}
