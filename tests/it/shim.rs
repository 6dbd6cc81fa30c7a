//! Runs carried out by real shims and real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::print_stdout, reason = "what is skipped says so")]

mod support;

mod adoption;
mod ends;
#[cfg(debug_assertions)]
pub(crate) mod failpoints;
mod policy;
mod setup;
mod stdin;
mod stops;
mod survival;
