//! A checked request.

use std::{collections::HashMap, time::Duration};

use regex::bytes::RegexBuilder;
use tonic::Status;

use super::{
    super::{
        proto,
        stream::{HEARTBEAT_DEFAULT, HEARTBEAT_MAX, HEARTBEAT_MIN},
    },
    field_invalid,
    filter::{Filter, Streams},
};
use crate::{
    domain::{id::ProcessName, time::Timestamp},
    logs::OutputStream,
};

/// Bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 4 * 1024;

/// Bytes a compiled pattern may take.
const PATTERN_PROGRAM_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Query {
    pub(super) selector: proto::ProcessSelector,
    pub(super) filter: Filter,
    pub(super) follow: bool,
    pub(super) heartbeat: Duration,
    backlog_entries: u64,
    positions: Positions,
}

/// Where a process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    Oldest,
    End,
    /// After this sequence.
    After(i64),
    /// This many matching entries back.
    Back(u64),
}

/// By name; a client may know several incarnations of one.
type Positions = HashMap<String, Vec<Position>>;

#[derive(Debug)]
struct Position {
    /// Empty: whichever incarnation there is.
    uid: String,
    sequence: i64,
}

// === impl Query ===

impl Query {
    pub(super) fn parse(request: proto::TailLogsRequest) -> Result<Self, Status> {
        let selector = request.selector.clone().unwrap_or_default();
        let run_id = match request.run_id {
            0 => None,
            run_id if run_id < 0 => return Err(field_invalid("run_id", "must not be negative")),
            _ if !is_one_name(&selector) => {
                let remedy = "needs a selector of exactly one name and nothing else";
                return Err(field_invalid("run_id", remedy));
            }
            run_id => Some(run_id),
        };
        let filter = Filter {
            streams: streams(&request.streams)?,
            run_id,
            since: time("since_time", request.since_time)?,
            until: time("until_time", request.until_time)?,
            pattern: match request.pattern.as_str() {
                "" => None,
                text => Some(pattern(text)?),
            },
        };
        let heartbeat = request
            .heartbeat_interval
            .map_or(HEARTBEAT_DEFAULT, |asked| {
                Duration::try_from(asked)
                    .unwrap_or(HEARTBEAT_MIN)
                    .clamp(HEARTBEAT_MIN, HEARTBEAT_MAX)
            });
        Ok(Self {
            selector,
            filter,
            follow: request.follow,
            heartbeat,
            backlog_entries: u64::try_from(request.backlog_entries)
                .map_err(|_| field_invalid("backlog_entries", "must not be negative"))?,
            positions: positions(request.after_sequences, request.resume_positions)?,
        })
    }

    /// Where a process starts that is there when the call comes.
    pub(super) fn begin(&self, name: &str, uid: &str) -> Begin {
        if let Some(known) = self.positions.get(name) {
            let same = known.iter().find(|position| position.uid == uid);
            let any = match known.as_slice() {
                [position] if position.uid.is_empty() => Some(position),
                _ => None,
            };
            return same
                .or(any)
                .map_or(Begin::After(0), |position| Begin::After(position.sequence));
        }
        if self.backlog_entries > 0 {
            return Begin::Back(self.backlog_entries);
        }
        if !self.positions.is_empty() {
            return Begin::After(0);
        }
        if self.filter.since.is_some() || !self.follow {
            return Begin::Oldest;
        }
        Begin::End
    }
}

fn is_one_name(selector: &proto::ProcessSelector) -> bool {
    let names_only = proto::ProcessSelector {
        names: selector.names.clone(),
        ..Default::default()
    };
    selector.names.len() == 1 && *selector == names_only
}

fn streams(asked: &[i32]) -> Result<Streams, Status> {
    let mut streams = None;
    for &number in asked {
        let stream = match proto::OutputStream::try_from(number) {
            Ok(proto::OutputStream::Stdout) => OutputStream::Stdout,
            Ok(proto::OutputStream::Stderr) => OutputStream::Stderr,
            Ok(proto::OutputStream::Unspecified) | Err(_) => {
                let problem = format!("has {number}; use STDOUT or STDERR, or none for both");
                return Err(field_invalid("streams", problem));
            }
        };
        match streams {
            Some(Streams::Only(other)) if other != stream => streams = Some(Streams::Both),
            Some(_) => {}
            None => streams = Some(Streams::Only(stream)),
        }
    }
    Ok(streams.unwrap_or_default())
}

fn time(field: &str, time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Status> {
    let Some(time) = time else {
        return Ok(None);
    };
    time.seconds
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(time.nanos.into()))
        .map(|nanos| Some(Timestamp(nanos)))
        .ok_or_else(|| field_invalid(field, "is out of range; use a year from 1678 to 2261"))
}

fn pattern(text: &str) -> Result<regex::bytes::Regex, Status> {
    if text.len() > PATTERN_BYTES_MAX {
        let problem = format!("has {} bytes; at most {PATTERN_BYTES_MAX}", text.len());
        return Err(field_invalid("pattern", problem));
    }
    RegexBuilder::new(text)
        .size_limit(PATTERN_PROGRAM_BYTES_MAX)
        .build()
        .map_err(|error| {
            // The last line says it; those before draw a picture of the text.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.trim_start_matches("error: ");
            field_invalid("pattern", format!("is no RE2-style expression: {why}"))
        })
}

fn positions(
    after_sequences: HashMap<String, i64>,
    resume_positions: Vec<proto::LogPosition>,
) -> Result<Positions, Status> {
    let mut positions = Positions::new();
    let by_name = after_sequences
        .into_iter()
        .map(|(name, sequence)| ("after_sequences", name, String::new(), sequence));
    let by_uid = resume_positions.into_iter().map(|position| {
        let proto::LogPosition {
            name,
            uid,
            sequence,
        } = position;
        ("resume_positions", name, uid, sequence)
    });
    for (field, name, uid, sequence) in by_name.chain(by_uid) {
        ProcessName::new(&name).map_err(|error| {
            field_invalid(field, format!("has the name {name:?}, which {error}"))
        })?;
        if sequence < 0 {
            let problem = format!("has {sequence} for {name}; a sequence is 0 or more");
            return Err(field_invalid(field, problem));
        }
        positions
            .entry(name)
            .or_default()
            .push(Position { uid, sequence });
    }
    Ok(positions)
}
