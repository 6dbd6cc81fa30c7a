//! The integration tests: one binary, a module per theme.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "a test that cannot go on fails; tables are long"
)]

mod chance;
mod cli_offline;
mod config_file;
mod contract;
mod daemon;
mod faults;
mod known;
mod logs;
mod pki;
mod registry_stress;
mod server;
mod shim;
mod store;
mod tidy;
mod watch_unit;
