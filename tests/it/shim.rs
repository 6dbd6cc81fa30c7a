//! Runs carried out by real shims and real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

mod ends;
mod setup;
mod stops;
mod survival;
