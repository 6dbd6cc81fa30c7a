//! L4, the wire: the gRPC service, its conversions, errors and listeners.
pub mod logs_service;
pub mod proto;
