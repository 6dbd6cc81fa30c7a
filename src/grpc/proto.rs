//! Generated messages, client and server of `procession.v1`, and the descriptor
//! set. Always used qualified (`proto::Process`), so that wire types are never
//! taken for domain types.
#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines
)]

tonic::include_proto!("procession.v1");

/// Encoded `FileDescriptorSet` of the contract with all its imports.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/procession.v1.bin"));
