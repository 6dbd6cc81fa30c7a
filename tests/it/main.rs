//! The integration tests: one binary, a module per theme.

mod cli_offline;
mod config_file;
mod contract;
mod daemon;
mod logs;
mod registry_stress;
mod server;
mod shim;
mod tidy;
mod watch_unit;
