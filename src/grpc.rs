//! L4, the wire: the gRPC service, its conversions, errors and listeners.
pub mod auth;
pub mod logs_service;
pub mod proto;
pub mod selector;
pub mod server;
pub mod watch_service;
