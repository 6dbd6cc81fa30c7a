//! What the command line answers to the shell. The numbers are part of the
//! interface: scripts test them.

/// Exit codes of `procession`. 0 to 4 are those of `supervisorctl`, 124 that of
/// `timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Done.
    Ok,
    /// The request was understood and failed, or `diff` found differences.
    Failed,
    /// The command line, or the file it names, cannot be understood.
    Usage,
    /// `ps` with a name or selector: something it lists is not running.
    NotRunning,
    /// A process that was named does not exist, or nothing matches.
    NotFound,
    /// Nobody answers on the socket.
    Unreachable,
    /// A wait ran out of time; the request itself was carried out.
    TimedOut,
    /// `serve` and `up`: the code of the process that `exit_with` names; `attach`:
    /// that of the process.
    Process(u8),
}

// === impl ExitCode ===

impl ExitCode {
    /// The number the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::NotFound => 4,
            Self::Unreachable => 5,
            Self::TimedOut => 124,
            Self::Process(code) => code,
        }
    }

    /// The one that tells more: the first that is not [`ExitCode::Ok`].
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Ok { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_documented_ones() {
        let codes = [
            (ExitCode::Ok, 0),
            (ExitCode::Failed, 1),
            (ExitCode::Usage, 2),
            (ExitCode::NotRunning, 3),
            (ExitCode::NotFound, 4),
            (ExitCode::Unreachable, 5),
            (ExitCode::TimedOut, 124),
        ];
        for (code, number) in codes {
            assert_eq!(code.code(), number);
        }
    }

    #[test]
    fn the_first_failure_wins() {
        assert_eq!(ExitCode::Ok.or(ExitCode::TimedOut), ExitCode::TimedOut);
        assert_eq!(ExitCode::Failed.or(ExitCode::TimedOut), ExitCode::Failed);
        assert_eq!(ExitCode::Ok.or(ExitCode::Ok), ExitCode::Ok);
    }
}
