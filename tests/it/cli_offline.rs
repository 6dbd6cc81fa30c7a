//! The command line against a scripted daemon on a Unix socket: what is sent, what
//! is printed, and the exit code. No daemon, no process.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod apply;
mod fake;
mod output;
mod requests;
mod streams;
mod unreachable;
