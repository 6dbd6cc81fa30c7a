//! The whole daemon from outside: the built program, real processes, real clients.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what is skipped, figures, and the log of a daemon that failed"
)]

mod api;
mod attach;
pub(crate) mod calls;
mod changes;
mod cli;
mod ends;
mod grpcurl;
mod history;
mod input;
mod leaks;
mod load;
mod lost;
pub(crate) mod proc;
mod races;
mod stops;
pub(crate) mod support;
mod surroundings;
mod survival;
mod up;
