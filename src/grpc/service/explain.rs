//! `ExplainProcess`.

use tonic::Status;

use super::{EXPLAIN_EVENTS_MAX, ProcessManagerService, read::one_name};
use crate::grpc::{
    convert::{Unacceptable, explain},
    proto,
};

/// Events if the caller does not say.
const EVENTS_DEFAULT: usize = 20;

// === impl ProcessManagerService ===

impl ProcessManagerService {
    pub(super) fn explain(
        &self,
        message: &proto::ExplainProcessRequest,
    ) -> Result<proto::ExplainProcessResponse, Status> {
        let name = one_name(&message.name)?;
        let max = match usize::try_from(message.max_events) {
            Ok(0) => EVENTS_DEFAULT,
            Ok(max) => max.min(EXPLAIN_EVENTS_MAX),
            Err(_) => {
                let problem = "is negative; 0 means the default";
                return Err(Unacceptable::field("max_events", problem).into());
            }
        };
        let before = self.head();
        let node = self.existing(&name)?;
        let registry = self.supervisor().registry();
        let history = registry.history(name.as_str(), max);
        let next = explain::next(&node.body().status);
        Ok(proto::ExplainProcessResponse {
            header: self.read_header(before, &node),
            summary: explain::summary(&node, &next),
            events: history.iter().map(explain::event).collect(),
            blockers: explain::blockers(&node, |name| registry.get(name.as_str())),
            next_action: next.action,
            next_action_time: next.time,
        })
    }
}
