//! The connection to the daemon: a Unix socket, plaintext HTTP/2, authority
//! `localhost`. It reconnects by itself with the next call.

use std::{path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use super::errors::CliError;
use crate::grpc::proto::process_manager_client::ProcessManagerClient;

/// The generated client over the socket.
pub(crate) type Client = ProcessManagerClient<Channel>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that wait for nothing.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What a call that waits on the daemon is given beyond the wait itself.
const WAIT_MARGIN: Duration = Duration::from_secs(15);
/// Bound: one message in either direction.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Connects to the daemon on `socket`.
///
/// # Errors
/// [`CliError::Unreachable`] when nobody answers there.
pub(crate) async fn connect(socket: &Path) -> Result<Client, CliError> {
    let path = socket.to_path_buf();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector(connector)
        .await?;
    Ok(ProcessManagerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// A request that is answered at once.
pub(crate) fn call<T>(message: T) -> Request<T> {
    with_timeout(message, CALL_TIMEOUT)
}

/// A request that is answered when a wait of at most `wait` is over.
pub(crate) fn waiting_call<T>(message: T, wait: Option<Duration>) -> Request<T> {
    with_timeout(
        message,
        wait.unwrap_or_default()
            .saturating_add(CALL_TIMEOUT + WAIT_MARGIN),
    )
}

fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A fresh ID, so that a retry by anything on the way is not carried out twice.
pub(crate) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
