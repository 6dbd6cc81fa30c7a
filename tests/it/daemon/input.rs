//! What is wrong is refused: with the documented code and reason, naming the field,
//! and with nothing half done.

mod files;
mod guards;
mod positions;
mod programs;
mod requests;

use procession::grpc::proto;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::support::Client;

/// What a client is told.
#[derive(Debug)]
struct Refusal {
    code: Code,
    reason: String,
    fields: Vec<String>,
    metadata: std::collections::HashMap<String, String>,
    message: String,
}

// === impl Refusal ===

impl Refusal {
    fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details
            .error_info()
            .cloned()
            .unwrap_or_else(|| panic!("no reason: {status:?}"));
        assert_eq!(info.domain, "procession.v1", "{status:?}");
        let bad = details
            .bad_request()
            .map_or(&[][..], |bad| &bad.field_violations);
        let refusal = Self {
            code: status.code(),
            reason: info.reason,
            fields: bad.iter().map(|v| v.field.clone()).collect(),
            metadata: info.metadata,
            message: status.message().to_owned(),
        };
        for violation in bad {
            assert!(!violation.description.is_empty(), "{refusal:?}");
        }
        assert!(refusal.message.len() > 10, "readable: {refusal:?}");
        refusal
    }

    fn is(&self, code: Code, reason: &str, fields: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.reason, reason, "{self:?}");
        assert_eq!(self.fields, fields, "{self:?}");
    }
}

/// The head revision and the names there are.
async fn registry(client: &mut Client) -> (i64, Vec<String>) {
    let all = proto::ListProcessesRequest::default();
    let listed = client.list_processes(all).await.unwrap().into_inner();
    let names = listed.processes.into_iter().map(|process| process.name);
    (listed.header.unwrap().revision, names.collect())
}

fn paths(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    })
}
