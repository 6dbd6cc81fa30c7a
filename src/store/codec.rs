//! How configurations and states are written: decided above this layer, by the
//! messages of the contract, which only grow.

use crate::domain::{
    spec::Config,
    status::{Cause, Status},
};

/// Writes and reads what a row holds. Reading back gives exactly what was written.
pub trait Codec: Send + Sync + 'static {
    /// A configuration.
    fn encode_config(&self, config: &Config) -> Vec<u8>;

    /// A configuration that was written by this or an earlier version.
    ///
    /// # Errors
    /// [`CodecError`]: it was not, or a later version used what this one lacks.
    fn decode_config(&self, bytes: &[u8]) -> Result<Config, CodecError>;

    /// A cause.
    fn encode_cause(&self, cause: &Cause) -> Vec<u8>;

    /// A cause that was written by this or an earlier version.
    ///
    /// # Errors
    /// As [`Codec::decode_config`].
    fn decode_cause(&self, bytes: &[u8]) -> Result<Cause, CodecError>;

    /// A state and why it came about.
    fn encode_state(&self, status: &Status, cause: &Cause) -> Vec<u8>;

    /// A state that was written by this or an earlier version.
    ///
    /// # Errors
    /// As [`Codec::decode_config`].
    fn decode_state(&self, bytes: &[u8]) -> Result<(Status, Cause), CodecError>;
}

/// Why bytes cannot be understood; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);
