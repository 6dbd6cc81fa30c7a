//! `ProcessSpec` to [`Config`](crate::domain::spec::Config) and back.
//!
//! The domain keeps what the user wrote, so unset and default stay apart here
//! too. An empty message where the domain has no "present but empty" (such as
//! `restart_policy {}`) reads back as absent.

mod forward;
mod from_wire;
mod to_wire;

pub use from_wire::{config, stop_policy};
pub use to_wire::spec;
