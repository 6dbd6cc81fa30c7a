//! Writing to standard input.

use tokio::time::timeout_at;
use tonic::{Request, Status};

use super::{ProcessManagerService, call::Call};
use crate::grpc::{convert::Faults, proto, status};

/// Bytes of one call.
const DATA_BYTES_MAX: usize = 1024 * 1024;

// === impl ProcessManagerService ===

impl ProcessManagerService {
    /// What is written when the caller's deadline passes stays written.
    pub(super) async fn write_stdin(
        &self,
        request: Request<proto::WriteStdinRequest>,
    ) -> Result<proto::WriteStdinResponse, Status> {
        let call = Call::of(&request);
        let deadline = call.deadline;
        let mut message = request.into_inner();
        let mut faults = Faults::default();
        if message.data.len() > DATA_BYTES_MAX {
            let problem = format!("has more than {DATA_BYTES_MAX} bytes; send it in parts");
            faults.add("data", &problem);
        }
        let offset = message.offset.map(u64::try_from).transpose();
        if offset.is_err() {
            faults.add("offset", "must not be negative");
        }
        let target = self.target(&message.name, message.precondition.as_ref(), faults)?;
        let data = std::mem::take(&mut message.data);
        let cause = call.write("WriteStdin", "", &message)?.cause;
        let offset = offset.unwrap_or_default();
        let close = message.close_after;
        let supervisor = self.supervisor();
        let writing = supervisor.write_stdin(target, data, offset, close, cause);
        let wrote = match deadline {
            Some(deadline) => timeout_at(deadline, writing)
                .await
                .map_err(|_| status::deadline())?,
            None => writing.await,
        };
        let wrote = wrote.map_err(|refused| self.refused(&refused))?;
        Ok(proto::WriteStdinResponse {
            header: self.header(self.head()),
            offset: i64::try_from(wrote.total).unwrap_or(i64::MAX),
            run_id: wrote.run_id,
        })
    }
}
