//! `watch`: the processes as they change, over as many connections as it takes.
//!
//! ```text
//! stream -> View (chain checked, applied) -> lines | live table | JSON
//!    ^---- resume token <----'
//! ```
//! Invariants: a message is shown after the view has accepted it, and its token is
//! used only then, so that nothing is shown twice or left out; every reset, gap
//! and broken chain is told. A daemon that goes away is waited for, without end.

mod screen;
mod view;

use std::time::Duration;

use super::{
    args::WatchArgs,
    errors::CliError,
    exit_code::ExitCode,
    follow::{self, Backoff, End},
    list,
    render::{change, time},
    selector::{Empty, Selection},
    session::Session,
};
use crate::grpc::proto::{self, WatchMode, watch_processes_response::Payload};
use screen::Screen;
use view::News;
pub(crate) use view::View;

/// What lines and the table need. Changes elsewhere are not told.
const FIELDS: &[&str] = &["labels", "group", "generation", "update_time", "status"];
const WIDE_FIELDS: &[&str] = &[
    "labels",
    "group",
    "generation",
    "update_time",
    "status",
    "spec.command",
];
/// A person does not read faster.
const LIVE_INTERVAL: Duration = Duration::from_millis(100);
/// Ages grow on the screen this often.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn watch(
    args: &WatchArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    let selection = Selection::parse(&args.select, Empty::All)?;
    let selector = selection.resolve(&mut session.client).await?;
    let mut watch = Watch {
        request: request(args, selector, session),
        view: View::default(),
        screen: is_live(session).then(Screen::default),
        backoff: Backoff::default(),
        told_of_loss: false,
    };
    loop {
        let end = watch.stream(session).await?;
        watch.pause(end, session).await?;
    }
}

/// A watch over all its connections.
struct Watch {
    request: proto::WatchProcessesRequest,
    view: View,
    /// A terminal gets a live table.
    screen: Option<Screen>,
    backoff: Backoff,
    told_of_loss: bool,
}

// === impl Watch ===

impl Watch {
    /// One connection, from the request to its end.
    async fn stream(&mut self, session: &mut Session<'_>) -> Result<End, CliError> {
        let mut request = self.request.clone();
        request.resume_token = self.view.token();
        let mut stream = match follow::open(session.client.watch_processes(request)).await {
            Ok(stream) => stream,
            Err(End::Broken(status)) if self.view.is_new() => return Err(status.into()),
            Err(end) => return Ok(end),
        };
        let mut patience = follow::FIRST_MESSAGE_WAIT;
        let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
        loop {
            let message = tokio::select! {
                message = follow::next(&mut stream, patience) => message,
                _ = redraw.tick(), if self.screen.is_some() => {
                    self.draw(session)?;
                    continue;
                }
            };
            let message = match message {
                Ok(message) => message,
                Err(end) => return Ok(end),
            };
            if let Some(Payload::Opened(opened)) = &message.payload {
                let heartbeat = time::duration(opened.heartbeat_interval.as_ref());
                patience = follow::patience(heartbeat.unwrap_or(follow::DEFAULT_HEARTBEAT));
                self.backoff.reset();
            }
            if let Some(end) = self.accept(&message, session)? {
                return Ok(end);
            }
        }
    }

    /// Takes one message in and shows it.
    fn accept(
        &mut self,
        message: &proto::WatchProcessesResponse,
        session: &mut Session<'_>,
    ) -> Result<Option<End>, CliError> {
        let news = match self.view.accept(message) {
            Ok(news) => news,
            Err(broken) => {
                session
                    .err
                    .say(&format!("warning: {broken}; taking a new snapshot"));
                self.view.distrust();
                return Ok(Some(End::Finished));
            }
        };
        if session.out.is_json() {
            session.out.json_line(message)?;
        } else if self.screen.is_some() {
            if !news.is_empty() {
                self.draw(session)?;
            }
        } else {
            for item in &news {
                session.out.line(&news_line(item, session))?;
            }
        }
        session.out.flush()?;
        self.back_again(session);
        Ok(match &message.payload {
            Some(Payload::Closing(closing)) => Some(follow::closing(closing)),
            _ => None,
        })
    }

    /// Waits before the next connection; the error is one that will not pass.
    async fn pause(&mut self, end: End, session: &mut Session<'_>) -> Result<(), CliError> {
        let end = end.fatal()?;
        let delay = match end {
            End::Closing(Some(delay)) => delay,
            _ => self.backoff.next_delay(),
        };
        if !self.told_of_loss && !matches!(end, End::Closing(_)) {
            self.told_of_loss = true;
            session
                .err
                .say(&format!("note: {}; connecting again", end.reason()));
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn back_again(&mut self, session: &mut Session<'_>) {
        if std::mem::take(&mut self.told_of_loss) {
            session.err.say("note: connected again");
        }
    }

    fn draw(&mut self, session: &mut Session<'_>) -> Result<(), CliError> {
        let Some(screen) = &mut self.screen else {
            return Ok(());
        };
        let (now, palette) = (session.out.now(), session.out.palette());
        let frame = screen.frame(&self.view, session.out.is_wide(), palette, now);
        session.out.bytes(frame.as_bytes())?;
        session.out.flush()
    }
}

fn request(
    args: &WatchArgs,
    selector: proto::ProcessSelector,
    session: &Session<'_>,
) -> proto::WatchProcessesRequest {
    let mode = match args.every_change {
        true => WatchMode::EveryChange,
        false => WatchMode::LatestState,
    };
    let fields: &[&str] = match (session.out.is_json(), session.out.is_wide()) {
        (true, _) => &[],
        (false, true) => WIDE_FIELDS,
        (false, false) => FIELDS,
    };
    let live = is_live(session) && !args.every_change;
    proto::WatchProcessesRequest {
        selector: Some(selector),
        read_mask: list::mask(fields),
        mode: mode.into(),
        min_update_interval: live.then(|| time::wire(LIVE_INTERVAL)),
        ..proto::WatchProcessesRequest::default()
    }
}

fn is_live(session: &Session<'_>) -> bool {
    session.out.is_terminal() && !session.out.is_json()
}

/// One line for a person.
pub(crate) fn news_line(news: &News, session: &Session<'_>) -> String {
    let palette = session.out.palette();
    match news {
        News::Found(new) => change::line(change::Change::Found, None, new, palette),
        News::Event { event, old, new } => {
            change::line(change::Change::Event(event), old.as_deref(), new, palette)
        }
        News::Resynced { old, new, gone } => change::line(
            change::Change::Resynced { gone: *gone },
            old.as_deref(),
            new,
            palette,
        ),
        News::Reset(reason) => {
            let reason = reason.as_str_name().trim_start_matches("RESET_REASON_");
            format!("-- reset: {reason}; comparing with a new snapshot --")
        }
    }
}
