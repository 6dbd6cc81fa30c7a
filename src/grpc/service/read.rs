//! Reads: one, several, pages, and waiting.

use std::sync::Arc;

use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Status};

use super::{BATCH_GET_BYTES_MAX, BATCH_PROCESSES_MAX, ProcessManagerService, call::Call};
use crate::{
    domain::id::{ProcessName, Revision},
    grpc::{
        convert::{Faults, Unacceptable, process, request},
        info,
        mask::Mask,
        page::{self, Cut, PAGE_BYTES_MAX, PageError, Token},
        proto, selector,
        status::{self, Reason},
        watch_service::View,
    },
    supervisor::{ProcessNode, WaitFor},
};

// === impl ProcessManagerService ===

impl ProcessManagerService {
    pub(super) fn info<T>(&self, request: &Request<T>) -> proto::GetServerInfoResponse {
        info::info(self.setup(), &Call::of(request).principal)
    }

    pub(super) fn get(
        &self,
        message: &proto::GetProcessRequest,
    ) -> Result<proto::GetProcessResponse, Status> {
        let name = one_name(&message.name)?;
        let mask = read_mask(message.read_mask.as_ref())?;
        // Before the node: what this client was told of is at or below this head.
        let before = self.head();
        let node = self.existing(&name)?;
        Ok(proto::GetProcessResponse {
            header: self.read_header(before, &node),
            process: Some(mask.show(&node)),
        })
    }

    pub(super) fn batch_get(
        &self,
        message: &proto::BatchGetProcessesRequest,
    ) -> Result<proto::BatchGetProcessesResponse, Status> {
        let mut faults = Faults::default();
        if message.names.len() > BATCH_PROCESSES_MAX {
            faults.add("names", format!("at most {BATCH_PROCESSES_MAX}"));
        }
        let named = message.names.iter().enumerate();
        let names: Vec<_> = named
            .filter_map(|(i, text)| faults.name(&format!("names[{i}]"), text))
            .collect();
        let names = faults.finish(names)?;
        let mask = read_mask(message.read_mask.as_ref())?;
        let (revision, nodes) = self.at_one_revision(&names)?;
        let mut bytes = 0;
        let mut processes = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let process = mask.show(node);
            bytes += process.encoded_len();
            if bytes > BATCH_GET_BYTES_MAX {
                return Err(status::response_too_large(BATCH_GET_BYTES_MAX));
            }
            processes.push(process);
        }
        Ok(proto::BatchGetProcessesResponse {
            header: self.header(revision),
            processes,
        })
    }

    /// The states of `names`, all at one revision.
    fn at_one_revision(
        &self,
        names: &[ProcessName],
    ) -> Result<(Revision, Vec<ProcessNode>), Status> {
        let head = self.head();
        let registry = self.supervisor().registry();
        let nodes: Vec<_> = names.iter().map(|n| registry.get(n.as_str())).collect();
        // A state read after the head that is not newer was the state at the head.
        let quiet = |node: &ProcessNode| node.revision() <= head;
        if nodes.iter().all(|node| node.as_ref().is_some_and(quiet)) {
            return Ok((head, nodes.into_iter().flatten().collect()));
        }
        let cut = registry.snapshot();
        let find = |name: &ProcessName| {
            let at = cut
                .nodes
                .binary_search_by(|node| node.body().name().cmp(name));
            at.ok().map(|at| Arc::clone(&cut.nodes[at]))
        };
        let found: Vec<_> = names.iter().map(find).collect();
        let missing: Vec<_> = names
            .iter()
            .zip(&found)
            .filter(|(_, node)| node.is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        if missing.is_empty() {
            Ok((cut.revision, found.into_iter().flatten().collect()))
        } else {
            Err(status::not_found(missing))
        }
    }

    pub(super) fn list(
        &self,
        message: &proto::ListProcessesRequest,
    ) -> Result<proto::ListProcessesResponse, Status> {
        let size = page::size(message.page_size).map_err(Unacceptable::Fields)?;
        let filter = selector::filter(message.selector.as_ref())?;
        let mask = read_mask(message.read_mask.as_ref())?;
        let arguments = page::arguments(message);
        let now = Instant::now();
        let (cut, start) = if message.page_token.is_empty() {
            let all = self.supervisor().registry().snapshot();
            let mut nodes = all.nodes;
            nodes.retain(|node| filter.matches(node.body()));
            (Arc::new(Cut::new(all.revision, nodes, arguments)), 0)
        } else {
            let token = Token::decode(&message.page_token, arguments).map_err(page_error)?;
            let epoch = self.epoch();
            let cut = self
                .shared
                .pages
                .resume(&token, epoch, now)
                .map_err(page_error)?;
            let start = cut.start(&token.after);
            (cut, start)
        };
        let rest = cut.nodes.get(start..).unwrap_or_default();
        let processes = page_of(rest, size, &mask);
        let mut next_page_token = String::new();
        if let Some(last) = processes.len().checked_sub(1)
            && processes.len() < rest.len()
        {
            let after = rest[last].body().name().clone();
            next_page_token = Token::new(self.epoch(), &cut, after).encode();
            self.shared.pages.keep(&cut, now);
        }
        Ok(proto::ListProcessesResponse {
            header: self.header(cut.revision),
            processes,
            next_page_token,
            total_size: i32::try_from(cut.nodes.len()).unwrap_or(i32::MAX),
        })
    }

    pub(super) async fn wait_for(
        &self,
        request: Request<proto::WaitProcessRequest>,
    ) -> Result<proto::WaitProcessResponse, Status> {
        let call = Call::of(&request);
        let message = request.into_inner();
        let mut faults = Faults::default();
        let name = request::name(&message.name, &mut faults);
        let condition = faults
            .known("condition", message.condition)
            .map(request::condition);
        if condition == Some(None) {
            faults.add("condition", "is required: what to wait for");
        }
        let uid = request::uid("uid", &message.uid, &mut faults);
        let timeout = request::timeout("timeout", message.timeout.as_ref(), &mut faults);
        for (field, value) in [
            ("run_id", message.run_id),
            ("min_revision", message.min_revision),
        ] {
            if value < 0 {
                faults.add(field, "is negative; 0 means any");
            }
        }
        let parts = name.zip(condition.flatten());
        let (name, condition) = faults.finish_some(parts)?;
        let before = self.head();
        let wait = WaitFor {
            name: name.clone(),
            uid,
            condition,
            run_id: message.run_id,
            from: Revision::new(message.min_revision),
        };
        let (outcome, judged) = self.wait(&call, wait, timeout).await?;
        let (before, node) = match judged {
            Some(node) => (before, Some(node)),
            None => {
                let before = self.head();
                let now = self.supervisor().registry().get(name.as_str());
                (before, now.filter(|n| uid.is_none_or(|uid| n.uid() == uid)))
            }
        };
        let revision = node.as_ref().map(|node| node.revision());
        Ok(proto::WaitProcessResponse {
            header: self.header(revision.unwrap_or_default().max(before)),
            outcome: outcome.into(),
            process: node.as_ref().map(process::process),
        })
    }

    /// The process of this name.
    pub(super) fn existing(&self, name: &ProcessName) -> Result<ProcessNode, Status> {
        let node = self.supervisor().registry().get(name.as_str());
        node.ok_or_else(|| status::not_found([name.as_str()]))
    }
}

/// The first `size` of `nodes`, or fewer: it ends before it is too large, but not
/// before the first.
fn page_of(nodes: &[ProcessNode], size: usize, mask: &Mask) -> Vec<proto::Process> {
    let mut page = Vec::with_capacity(nodes.len().min(size));
    let mut bytes = 0;
    for node in nodes.iter().take(size) {
        let process = mask.show(node);
        bytes += process.encoded_len();
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(process);
    }
    page
}

fn read_mask(mask: Option<&prost_types::FieldMask>) -> Result<Mask, Unacceptable> {
    Mask::parse(mask).map_err(Unacceptable::Fields)
}

/// The name of a request that has nothing else to check.
pub(super) fn one_name(text: &str) -> Result<ProcessName, Unacceptable> {
    ProcessName::new(text).map_err(|error| Unacceptable::field("name", error.to_string()))
}

fn page_error(error: PageError) -> Status {
    match error {
        PageError::Expired => status::list_expired(),
        PageError::Invalid(problem) => status::invalid(
            Reason::PageTokenInvalid,
            &[crate::domain::spec::FieldError {
                field: "page_token".into(),
                problem: problem.into(),
            }],
        ),
    }
}
