//! `logs`: captured output, with follow over as many connections as it takes.
//!
//! Invariants: a line is shown once; what is lost is told (on stderr, so that the
//! bytes on stdout are those of the processes).

mod json;
mod position;
mod printer;

use std::time::{Duration, SystemTime};

use super::{
    args::{LogsArgs, StreamArg},
    errors::CliError,
    exit_code::ExitCode,
    follow::{self, Backoff, End},
    list,
    render::{text, time},
    selector::{Empty, Selection},
    session::Session,
};
use crate::grpc::proto::{self, LogGapReason, tail_logs_response::Payload};
use position::Positions;
pub(crate) use printer::Printer;

/// Lines of history that `--follow` begins with.
const FOLLOW_LINES: i32 = 10;

pub(crate) async fn logs(args: &LogsArgs, session: &mut Session<'_>) -> Result<ExitCode, CliError> {
    if args.lines == Some(0) && !args.follow {
        let text = "-n 0 shows nothing without --follow; leave one out";
        return Err(CliError::Usage(text.to_owned()));
    }
    let selection = Selection::parse(&args.select, Empty::All)?;
    if args.run.is_some() && selection.single_name().is_none() {
        let text = "--run counts the runs of one process; give exactly one name with it";
        return Err(CliError::Usage(text.to_owned()));
    }
    let selector = selection.resolve(&mut session.client).await?;
    let names = list::names(&mut session.client, &selection, &selector).await?;
    let mut tail = Tail {
        request: request(args, selector, session.out.now()),
        printer: Printer::new(args, &names, selection.single_name().is_some(), session),
        positions: Positions::default(),
        backoff: Backoff::default(),
        synced: false,
        begun: session.out.now(),
        told_of_loss: false,
    };
    loop {
        let end = tail.stream(session).await?;
        if !args.follow {
            tail.printer.finish(session)?;
            return match end {
                End::Finished | End::Closing(_) => Ok(ExitCode::Ok),
                End::Broken(status) => Err(status.into()),
                End::Silent => Err(CliError::Refused(format!("{}; try again", end.reason()))),
            };
        }
        tail.pause(end, session).await?;
    }
}

/// A tail over all its connections.
struct Tail {
    request: proto::TailLogsRequest,
    printer: Printer,
    positions: Positions,
    backoff: Backoff,
    /// The history was shown; what follows is new.
    synced: bool,
    begun: SystemTime,
    told_of_loss: bool,
}

// === impl Tail ===

impl Tail {
    async fn stream(&mut self, session: &mut Session<'_>) -> Result<End, CliError> {
        let request = self.next_request();
        let resumes = !request.resume_positions.is_empty() || self.told_of_loss;
        let mut stream = match follow::open(session.client.tail_logs(request)).await {
            Ok(stream) => stream,
            Err(End::Broken(status)) if !resumes => return Err(status.into()),
            Err(end) => return Ok(end),
        };
        let patience = follow::patience(follow::DEFAULT_HEARTBEAT);
        loop {
            let mut message = match follow::next(&mut stream, patience).await {
                Ok(message) => message,
                Err(end) => return Ok(end),
            };
            self.backoff.reset();
            self.told_of_loss = false;
            if let Some(Payload::Closing(closing)) = &message.payload {
                return Ok(follow::closing(closing));
            }
            self.accept(&mut message, session)?;
        }
    }

    fn accept(
        &mut self,
        message: &mut proto::TailLogsResponse,
        session: &mut Session<'_>,
    ) -> Result<(), CliError> {
        match &mut message.payload {
            Some(Payload::Entries(entries)) => {
                entries
                    .entries
                    .retain_mut(|entry| self.positions.accept(entry));
                if entries.entries.is_empty() {
                    return Ok(());
                }
            }
            Some(Payload::Gap(gap)) => {
                if !self.positions.skip(gap) {
                    return Ok(());
                }
            }
            Some(Payload::Synced(_)) => self.synced = true,
            Some(Payload::Progress(_) | Payload::Closing(_)) | None => {}
        }
        self.show(message, session)?;
        session.out.flush()
    }

    fn show(
        &mut self,
        message: &proto::TailLogsResponse,
        session: &mut Session<'_>,
    ) -> Result<(), CliError> {
        match &message.payload {
            Some(Payload::Entries(entries)) => {
                entries
                    .entries
                    .iter()
                    .try_for_each(|entry| match session.out.is_json() {
                        true => session.out.line(&json::entry(entry)?),
                        false => self.printer.entry(entry, session),
                    })
            }
            Some(Payload::Gap(gap)) if session.out.is_json() => session.out.line(&json::gap(gap)?),
            Some(Payload::Gap(gap)) => {
                session.err.say(&describe_gap(gap));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The first request, or one that goes on after what was shown.
    fn next_request(&mut self) -> proto::TailLogsRequest {
        let mut request = self.request.clone();
        request.resume_positions = self.positions.resume();
        if self.synced {
            // A process that was silent has no position: all it wrote since the
            // beginning is new.
            request.backlog_entries = i32::MAX;
            request.since_time = Some(wire_time(self.begun));
        }
        request
    }

    async fn pause(&mut self, end: End, session: &mut Session<'_>) -> Result<(), CliError> {
        let end = end.fatal()?;
        let delay = match end {
            End::Closing(Some(delay)) => delay,
            _ => self.backoff.next_delay(),
        };
        if !std::mem::replace(&mut self.told_of_loss, true) && !matches!(end, End::Closing(_)) {
            session
                .err
                .say(&format!("note: {}; connecting again", end.reason()));
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

fn request(
    args: &LogsArgs,
    selector: proto::ProcessSelector,
    now: SystemTime,
) -> proto::TailLogsRequest {
    // Lines since a time are all of those, unless a number is given too.
    let lines = args.lines.unwrap_or(match (args.follow, args.since) {
        (true, None) => FOLLOW_LINES,
        (true, Some(_)) => i32::MAX,
        (false, _) => 0,
    });
    proto::TailLogsRequest {
        selector: Some(selector),
        backlog_entries: lines,
        follow: args.follow,
        since_time: args.since.map(|since| wire_time(since.instant(now))),
        until_time: args.until.map(|until| wire_time(until.instant(now))),
        run_id: args.run.unwrap_or_default(),
        streams: args
            .stream
            .map(proto::OutputStream::from)
            .into_iter()
            .map(i32::from)
            .collect(),
        pattern: args.grep.clone().unwrap_or_default(),
        heartbeat_interval: Some(time::wire(follow::DEFAULT_HEARTBEAT)),
        ..proto::TailLogsRequest::default()
    }
}

pub(crate) fn describe_gap(gap: &proto::LogGap) -> String {
    let reason = match gap.reason() {
        LogGapReason::Trimmed => "removed by retention",
        LogGapReason::Dropped => "dropped because they could not be stored",
        LogGapReason::Crash => "lost by a crash, or damaged",
        LogGapReason::Unspecified => "lost",
    };
    let bytes = match gap.lost_bytes {
        0 => String::new(),
        bytes => format!(", {bytes} bytes"),
    };
    let (name, first, last) = (text::line(&gap.name), gap.first_sequence, gap.last_sequence);
    format!("-- {name}: lines {first} to {last} are missing: {reason}{bytes} --")
}

impl From<StreamArg> for proto::OutputStream {
    fn from(stream: StreamArg) -> Self {
        match stream {
            StreamArg::Stdout => Self::Stdout,
            StreamArg::Stderr => Self::Stderr,
        }
    }
}

fn wire_time(time: SystemTime) -> prost_types::Timestamp {
    let since: Duration = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let wire = time::wire(since);
    prost_types::Timestamp {
        seconds: wire.seconds,
        nanos: wire.nanos,
    }
}
