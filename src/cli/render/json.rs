//! Canonical protobuf JSON of the API's messages, from the descriptor set: lower
//! camel case, enum names, `1.5s`, RFC 3339, 64-bit integers as text, base64.
//! Absent and default fields are left out.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::{cli::errors::CliError, grpc::proto};

/// A message the command line prints, by its full name.
pub(crate) trait Wire: Message {
    /// As in the descriptor set.
    const FULL_NAME: &'static str;
}

macro_rules! wire {
    ($($message:ident),* $(,)?) => {
        $(impl Wire for proto::$message {
            const FULL_NAME: &'static str = concat!("procession.v1.", stringify!($message));
        })*
        /// Every message above, for the test that they exist.
        #[cfg(test)]
        const FULL_NAMES: &[&str] = &[$(<proto::$message as Wire>::FULL_NAME),*];
    };
}

wire!(
    BatchApplyProcessesResponse,
    BatchControlProcessesResponse,
    CreateProcessResponse,
    DeleteProcessResponse,
    ExplainProcessResponse,
    GetProcessResponse,
    GetServerInfoResponse,
    ListProcessesResponse,
    PauseProcessResponse,
    ReloadProcessResponse,
    ResetProcessResponse,
    RestartProcessResponse,
    ResumeProcessResponse,
    ShutdownServerResponse,
    SignalProcessResponse,
    StartProcessResponse,
    StopProcessResponse,
    TailLogsResponse,
    WaitProcessResponse,
    WatchProcessesResponse,
);

/// `message` as JSON, `pretty` over several lines.
///
/// # Errors
/// [`CliError::Json`] where the message holds what the descriptors do not know.
pub(crate) fn to_json<M: Wire>(message: &M, pretty: bool) -> Result<String, CliError> {
    let descriptor = pool()?
        .get_message_by_name(M::FULL_NAME)
        .ok_or_else(|| CliError::Json(format!("{} is unknown", M::FULL_NAME)))?;
    let dynamic =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(failed)?;
    let options = SerializeOptions::new();
    let mut bytes = Vec::new();
    let done = if pretty {
        dynamic.serialize_with_options(&mut serde_json::Serializer::pretty(&mut bytes), &options)
    } else {
        dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &options)
    };
    done.map_err(failed)?;
    String::from_utf8(bytes).map_err(failed)
}

/// Leaves only those details of a nested status that JSON can say; the code and
/// the message always stay.
pub(crate) fn keep_known_details(status: &mut tonic_types::Status) {
    let Ok(pool) = pool() else { return };
    status.details.retain(|detail| {
        let name = detail.type_url.rsplit('/').next().unwrap_or_default();
        pool.get_message_by_name(name)
            .is_some_and(|known| DynamicMessage::decode(known, detail.value.as_slice()).is_ok())
    });
}

/// The contract and the error details of `google.rpc`.
pub(crate) fn pool() -> Result<&'static DescriptorPool, CliError> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    POOL.get_or_init(|| build_pool().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|error| CliError::Json(error.clone()))
}

fn build_pool() -> Result<DescriptorPool, Box<dyn std::error::Error>> {
    let mut pool = DescriptorPool::decode(proto::DESCRIPTOR_SET)?;
    let mut details = prost_types::FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    // The two sets call the same files by different names: what counts is the messages.
    details.file.retain(|file| {
        let known = |message: &prost_types::DescriptorProto| {
            let name = format!("{}.{}", file.package(), message.name());
            pool.get_message_by_name(&name).is_some()
        };
        !file.message_type.iter().any(known)
    });
    pool.add_file_descriptor_set(details)?;
    Ok(pool)
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Json(error.to_string())
}

#[cfg(test)]
mod tests;
