//! Reading processes: all pages of a list at one revision.

use std::collections::BTreeSet;

use super::{
    client::{self, Client},
    errors::CliError,
    selector::Selection,
};
use crate::grpc::proto;

const PAGE_SIZE: i32 = 1000;
/// Bound: how often a list that expired between two pages is begun again.
const ATTEMPTS_MAX: u32 = 3;

/// Everything that matches, as one response: the pages merged.
pub(crate) async fn list(
    client: &mut Client,
    selector: &proto::ProcessSelector,
    fields: &[&str],
) -> Result<proto::ListProcessesResponse, CliError> {
    let mut attempt = 1;
    loop {
        match pages(client, selector, fields).await {
            Err(status) if status.code() == tonic::Code::Aborted && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            outcome => return outcome.map_err(CliError::from),
        }
    }
}

/// The names that match `selector`, the resolved `selection`; fails where what was
/// asked for does not exist.
pub(crate) async fn names(
    client: &mut Client,
    selection: &Selection,
    selector: &proto::ProcessSelector,
) -> Result<Vec<String>, CliError> {
    let listed = list(client, selector, &["name"]).await?.processes;
    selection.require(&name_set(&listed))?;
    Ok(listed.into_iter().map(|process| process.name).collect())
}

/// The names of `processes`.
pub(crate) fn name_set(processes: &[proto::Process]) -> BTreeSet<&str> {
    processes
        .iter()
        .map(|process| process.name.as_str())
        .collect()
}

/// A read mask of `fields`; none: everything.
pub(crate) fn mask(fields: &[&str]) -> Option<prost_types::FieldMask> {
    (!fields.is_empty()).then(|| prost_types::FieldMask {
        paths: fields.iter().map(|&field| field.to_owned()).collect(),
    })
}

async fn pages(
    client: &mut Client,
    selector: &proto::ProcessSelector,
    fields: &[&str],
) -> Result<proto::ListProcessesResponse, tonic::Status> {
    let mut merged = proto::ListProcessesResponse::default();
    let mut page_token = String::new();
    loop {
        let request = proto::ListProcessesRequest {
            page_size: PAGE_SIZE,
            page_token,
            selector: Some(selector.clone()),
            read_mask: mask(fields),
        };
        let page = client
            .list_processes(client::call(request))
            .await?
            .into_inner();
        merged.header = page.header;
        merged.total_size = page.total_size;
        merged.processes.extend(page.processes);
        if page.next_page_token.is_empty() {
            return Ok(merged);
        }
        page_token = page.next_page_token;
    }
}
