//! Runs carried out by real shims and real processes.

mod support;

mod ends;
mod setup;
mod stops;
mod survival;
