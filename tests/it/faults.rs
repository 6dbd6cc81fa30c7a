//! What happens to the whole daemon when something below it fails: it is killed at
//! a named step, its disk is full, fails or loses power, its shims stand still.
//!
//! The number of rounds is small here; `PROCESSION_KILLS=1000` (`make chaos`) makes
//! it large, and `PROCESSION_SEED=n` replays the choices.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what is skipped, and figures"
)]

mod calls_that_fail;
mod census;
mod clock;
mod disk;
#[cfg(debug_assertions)] // only a debug build has them
mod failpoints;
mod full;
mod power;
mod shims;
mod state_dir;
mod support;
