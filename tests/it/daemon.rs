//! The whole daemon from outside: the built program, real processes, real clients.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what is skipped, and the log of a daemon that failed"
)]

mod api;
mod cli;
mod grpcurl;
mod input;
mod support;
mod up;
