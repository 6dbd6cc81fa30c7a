//! Segments on disk against what a reader gets.

mod damage;
mod following;
mod harness;
mod housekeeping;
mod lines;
pub(crate) mod writer;
