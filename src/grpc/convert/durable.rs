//! What the store keeps, in the messages of the contract: they only grow, so a
//! later version reads what an earlier one wrote.
//!
//! What the contract has no place for stands in a message around it:
//! - why a state came about, which on the wire is a field of the event;
//! - that a cause has a caller who says neither who it is nor which request it is.
//!
//! Deliberately absent: what stands in the rows beside it (name, generation,
//! versions, times).

use prost::Message;

use super::{Faults, Unacceptable, observed, process, spec};
use crate::{
    domain::{
        spec::Config,
        status::{Caller, Cause, Status},
    },
    grpc::proto,
    store::{Codec, CodecError},
};

/// The codec of the daemon.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProtoCodec;

/// A state as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredState {
    #[prost(message, optional, tag = "1")]
    status: Option<proto::ProcessStatus>,
    #[prost(message, optional, tag = "2")]
    cause: Option<StoredCause>,
    #[prost(bool, tag = "3")]
    status_caller_is_silent: bool,
    /// Places in the history whose caller is silent.
    #[prost(uint32, repeated, tag = "4")]
    silent_records: Vec<u32>,
}

/// A cause as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredCause {
    #[prost(message, optional, tag = "1")]
    cause: Option<proto::EventCause>,
    /// There is a caller, with an empty principal and no request id.
    #[prost(bool, tag = "2")]
    caller_is_silent: bool,
}

// === impl ProtoCodec ===

impl Codec for ProtoCodec {
    fn encode_config(&self, config: &Config) -> Vec<u8> {
        process::from_config(config).encode_to_vec()
    }

    fn decode_config(&self, bytes: &[u8]) -> Result<Config, CodecError> {
        let wire = proto::Process::decode(bytes).map_err(undecodable)?;
        let mut faults = Faults::default();
        let config = spec::config(wire, &mut faults);
        faults.finish(config).map_err(|error| match error {
            Unacceptable::Fields(fields) => {
                let all: Vec<String> = fields.iter().map(ToString::to_string).collect();
                CodecError(all.join("; "))
            }
            Unacceptable::Missing(missing) => CodecError(format!(
                "{} needs {}, which this version does not have",
                missing.field, missing.capability
            )),
        })
    }

    fn encode_cause(&self, cause: &Cause) -> Vec<u8> {
        stored_cause(cause).encode_to_vec()
    }

    fn decode_cause(&self, bytes: &[u8]) -> Result<Cause, CodecError> {
        cause(Some(StoredCause::decode(bytes).map_err(undecodable)?))
    }

    fn encode_state(&self, status: &Status, cause: &Cause) -> Vec<u8> {
        let history = status.details.history.iter().zip(0..);
        let silent = history.filter(|(record, _)| is_silent(&record.cause));
        let state = StoredState {
            status: Some(observed::own(status)),
            cause: Some(stored_cause(cause)),
            status_caller_is_silent: is_silent(&status.cause),
            silent_records: silent.map(|(_, place)| place).collect(),
        };
        state.encode_to_vec()
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<(Status, Cause), CodecError> {
        let state = StoredState::decode(bytes).map_err(undecodable)?;
        let wire = state
            .status
            .ok_or_else(|| CodecError("the status is absent".into()))?;
        let mut status = observed::from_wire::status(wire).map_err(unknown)?;
        if state.status_caller_is_silent {
            silence(&mut status.cause);
        }
        if !state.silent_records.is_empty() {
            let details = std::sync::Arc::make_mut(&mut status.details);
            for place in state.silent_records {
                if let Some(record) = details.history.get_mut(place as usize) {
                    silence(&mut std::sync::Arc::make_mut(record).cause);
                }
            }
        }
        Ok((status, cause(state.cause)?))
    }
}

fn stored_cause(cause: &Cause) -> StoredCause {
    StoredCause {
        cause: Some(observed::cause(cause)),
        caller_is_silent: is_silent(cause),
    }
}

fn cause(stored: Option<StoredCause>) -> Result<Cause, CodecError> {
    let stored = stored.unwrap_or_default();
    let mut cause = observed::from_wire::cause(stored.cause).map_err(unknown)?;
    if stored.caller_is_silent {
        silence(&mut cause);
    }
    Ok(cause)
}

/// Whether it has a caller who says nothing: on the wire it reads as none.
fn is_silent(cause: &Cause) -> bool {
    cause.caller.as_deref() == Some(&Caller::default())
}

fn silence(cause: &mut Cause) {
    cause.caller = Some(std::sync::Arc::default());
}

fn undecodable(error: prost::DecodeError) -> CodecError {
    CodecError(error.to_string())
}

fn unknown(error: observed::from_wire::UnknownValue) -> CodecError {
    CodecError(error.to_string())
}

#[cfg(test)]
mod tests;
