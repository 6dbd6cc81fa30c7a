//! What the daemon says about itself: structured log lines on stderr.
//!
//! The level comes from `PROCESSION_LOG` (as `info` or `procession=debug,h2=warn`),
//! else from the caller. Deliberately absent: metrics and traces.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Sends log lines to stderr from now on. A second call changes nothing.
pub fn init(filter: Option<&str>, default: &str) {
    let wanted = filter
        .filter(|filter| !filter.is_empty())
        .unwrap_or(default);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // Already set up: by a test, or by a program that embeds the daemon.
    let _ = subscriber.try_init();
}
