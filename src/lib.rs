//! procession runs and supervises processes and tells the truth about them over
//! gRPC. `ARCHITECTURE.md` has the map; layers import only downwards:
//!
//! ```text
//! cli, daemon, config -> grpc -> store, forward, supervisor, watch, logs -> runner -> registry -> domain
//! ```

pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod forward;
pub mod grpc;
pub mod logs;
pub mod registry;
pub mod runner;
pub mod shim;
pub mod store;
pub mod supervisor;
pub mod sync;
pub mod telemetry;
pub mod watch;
