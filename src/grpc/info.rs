//! `GetServerInfo`: who answers, and within what bounds.

use super::{
    convert::{duration, timestamp},
    dedupe::{REQUEST_IDS_MAX, RETENTION},
    page::{CUTS_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
    proto,
    server::REQUEST_BYTES_MAX,
    service::{BATCH_GET_BYTES_MAX, BATCH_PROCESSES_MAX, Durability, EXPLAIN_EVENTS_MAX, Setup},
    stream::HEARTBEAT_DEFAULT,
};
use crate::{
    domain::limits,
    registry::Mode,
    store::{Health, ReasonKind},
};

/// What the domain and the unary calls are bounded by.
const LIMITS: [(&str, usize); 17] = [
    ("name_chars_max", limits::NAME_CHARS_MAX),
    ("label_chars_max", limits::LABEL_CHARS_MAX),
    ("labels_max", limits::LABELS_MAX),
    ("annotations_bytes_max", limits::ANNOTATIONS_BYTES_MAX),
    ("command_bytes_max", limits::COMMAND_BYTES_MAX),
    ("dependencies_max", limits::DEPENDENCIES_MAX),
    ("processes_max", limits::PROCESSES_MAX),
    ("exit_history_max", limits::EXIT_HISTORY_MAX),
    ("mailbox_max", limits::MAILBOX_MAX),
    ("waiters_max", limits::WAITERS_MAX),
    ("batch_processes_max", BATCH_PROCESSES_MAX),
    ("batch_get_bytes_max", BATCH_GET_BYTES_MAX),
    ("list_page_entries_max", PAGE_ENTRIES_MAX),
    ("list_page_bytes_max", PAGE_BYTES_MAX),
    ("list_cuts_max", CUTS_MAX),
    ("request_ids_max", REQUEST_IDS_MAX),
    ("explain_events_max", EXPLAIN_EVENTS_MAX),
];

/// Answers for `principal`, the caller.
pub(super) fn info(setup: &Setup, principal: &str) -> proto::GetServerInfoResponse {
    let registry = setup.supervisor.registry();
    let own = LIMITS.iter().map(|(name, max)| {
        let max = i64::try_from(*max).unwrap_or(i64::MAX);
        ((*name).to_owned(), max)
    });
    let others = setup
        .limits
        .iter()
        .map(|(name, max)| ((*name).to_owned(), *max));
    proto::GetServerInfoResponse {
        header: Some(proto::ResponseHeader {
            epoch: setup.lineage.epoch.to_string(),
            revision: registry.head().get(),
        }),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        instance_id: setup.instance_id.to_string(),
        start_time: timestamp(setup.started),
        server_time: timestamp(setup.clock.now().wall),
        oldest_resumable_revision: registry.oldest_resumable(Mode::EveryChange).get(),
        oldest_resumable_latest_revision: registry.oldest_resumable(Mode::LatestState).get(),
        capabilities: setup.capabilities.clone(),
        max_request_bytes: i64::try_from(REQUEST_BYTES_MAX).unwrap_or(i64::MAX),
        request_id_retention: Some(duration(RETENTION)),
        default_heartbeat_interval: Some(duration(HEARTBEAT_DEFAULT)),
        conditions: vec![store_writable(&setup.durability)],
        durable_revision: setup.durability.durable.borrow().get(),
        limits: own.chain(others).collect(),
        principal: principal.to_owned(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
    }
}

/// Whether what is asked for can be kept.
fn store_writable(durability: &Durability) -> proto::Condition {
    let health = durability.health.borrow().clone();
    let (status, reason, message, since) = match health {
        Health::Writable => (
            proto::ConditionStatus::True,
            "WRITABLE",
            String::new(),
            None,
        ),
        Health::ReadOnly { reason, since } => {
            let kind = match reason.kind {
                ReasonKind::Full => "FULL",
                ReasonKind::Io => "IO",
                ReasonKind::Corrupt => "CORRUPT",
            };
            let text = reason.to_string();
            (proto::ConditionStatus::False, kind, text, timestamp(since))
        }
    };
    proto::Condition {
        r#type: "StoreWritable".to_owned(),
        status: status.into(),
        reason: reason.to_owned(),
        message,
        transition_time: since,
    }
}
