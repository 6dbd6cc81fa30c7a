//! L4, the wire: the gRPC service, its conversions, errors and listeners.
pub mod proto;
