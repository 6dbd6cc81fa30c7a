//! L4, the wire: the gRPC service, its conversions, errors and listeners.
mod attach_service;
pub mod auth;
pub mod convert;
pub mod dedupe;
mod info;
pub mod logs_service;
pub mod mask;
pub mod page;
pub mod proto;
mod schema;
pub mod selector;
pub mod server;
pub mod service;
pub mod status;
mod stream;
pub mod watch_service;
