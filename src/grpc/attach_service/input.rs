//! What comes from the client of an attachment.

use bytes::Bytes;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Status, Streaming};

use super::{
    super::{
        convert::{Unacceptable, signal},
        proto::{self, attach_process_request::Payload},
        status,
    },
    STDIN_BYTES_MAX,
};
use crate::{
    domain::run::SignalScope,
    supervisor::{LiveProcess, Refused, StdinTurn},
};

/// The task that carries requests out; dropping this ends it.
#[derive(Debug)]
pub(super) struct Input {
    task: JoinHandle<()>,
    /// What ended it, if that is to end the attachment.
    pub(super) failure: oneshot::Receiver<Status>,
}

struct Feeding {
    live: LiveProcess,
    stdin: Option<StdinTurn>,
    epoch: String,
}

// === impl Input ===

impl Input {
    pub(super) fn new(
        live: LiveProcess,
        stdin: Option<StdinTurn>,
        epoch: String,
        mut requests: Streaming<proto::AttachProcessRequest>,
    ) -> Self {
        let (failed, failure) = oneshot::channel();
        let mut feeding = Feeding { live, stdin, epoch };
        let task = tokio::spawn(async move {
            // Its end, or a client that is gone, ends the input alone.
            while let Ok(Some(request)) = requests.message().await {
                if let Err(status) = feeding.take(request).await {
                    let _ = failed.send(status); // nobody is attached any more
                    return;
                }
            }
        });
        Self { task, failure }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Feeding ===

impl Feeding {
    async fn take(&mut self, request: proto::AttachProcessRequest) -> Result<(), Status> {
        match request.payload {
            Some(Payload::Stdin(bytes)) if bytes.len() > STDIN_BYTES_MAX => {
                let problem = format!("has more than {STDIN_BYTES_MAX} bytes; send it in parts");
                Err(Unacceptable::field("stdin", &problem).into())
            }
            Some(Payload::Stdin(bytes)) => self.write(bytes, false).await,
            Some(Payload::StdinEof(true)) => self.write(Bytes::new(), true).await,
            Some(Payload::Resize(size)) => resize(&self.live, size).await,
            Some(Payload::StdinEof(false)) | None => Ok(()),
            Some(Payload::Signal(number)) => self.signal(number).await,
            Some(Payload::Open(_)) => {
                Err(Unacceptable::field("open", "was sent before; send it once, first").into())
            }
        }
    }

    async fn write(&mut self, bytes: Bytes, close: bool) -> Result<(), Status> {
        let Some(stdin) = &self.stdin else {
            let problem = "was not taken; set open.stdin";
            return Err(Unacceptable::field("stdin", problem).into());
        };
        match stdin.write(bytes, close).await {
            // The run reads no more; how it ends is still to be told.
            Ok(_) | Err(Refused::StdinClosed(_)) => Ok(()),
            Err(refused) => Err(status::refused(&refused, &self.epoch)),
        }
    }

    async fn signal(&self, number: i32) -> Result<(), Status> {
        let known = proto::Signal::try_from(number).ok();
        let Some(number) = known.and_then(signal::number) else {
            return Err(Unacceptable::field("signal", "is no known signal").into());
        };
        match self.live.signal(number, SignalScope::Main).await {
            // It may be over by now.
            Ok(()) | Err(Refused::Signal { .. }) => Ok(()),
            Err(refused) => Err(status::refused(&refused, &self.epoch)),
        }
    }
}

/// Without a terminal it means nothing.
pub(super) async fn resize(live: &LiveProcess, size: proto::TerminalSize) -> Result<(), Status> {
    let of = |field, number: i32| {
        let problem = "must be 1 to 65535";
        u16::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| Unacceptable::field(field, problem))
    };
    let (rows, columns) = (of("rows", size.rows)?, of("columns", size.columns)?);
    live.resize(rows, columns).await;
    Ok(())
}
