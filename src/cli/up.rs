//! `up`: the daemon with a file of processes, their output and their states, in one
//! terminal. It shows what any client would see, through the daemon's own socket.

use std::path::{Path, PathBuf};

use tonic::Streaming;

use super::{
    CliError, Console, ExitCode, apply,
    args::{GlobalArgs, LogsArgs, OutputFormat, UpArgs},
    foreground::{self, Signals},
    list,
    logs::{Printer, describe_gap},
    paths,
    render::{Output, style::Palette},
    session::Session,
    watch::{View, news_line},
};
use crate::{
    config::Config,
    daemon::{Daemon, Prune, Shutdown},
    grpc::proto::{self, WatchMode, tail_logs_response::Payload},
    telemetry,
};

/// Where `up` looks when no file is named.
const DEFAULT_FILES: [&str; 4] = [
    "procession.toml",
    "procession.yaml",
    "procession.yml",
    "procession.json",
];

pub(crate) fn up(
    args: &UpArgs,
    global: &GlobalArgs,
    console: &mut Console<'_>,
) -> Result<ExitCode, CliError> {
    telemetry::init(
        console.here.env.get("PROCESSION_LOG").map(String::as_str),
        "warn",
    );
    let file = file(args.file.as_deref())?;
    let config = apply::load(&file, console.here.env)?;
    let mut options = foreground::options(&args.listen, global, console.here)?;
    if args.listen.state_dir.is_none() {
        options.state_dir = paths::up_state_dir(&file, console.here)?;
    }
    let socket = options.socket.path.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let daemon = foreground::start(options, &args.listen).await?;
        let palette = match args.no_color {
            true => Palette::Plain,
            false => Palette::choose(console.stdout_is_terminal, console.here),
        };
        let terminal = console.stdout_is_terminal;
        let output = Output::new(
            console.stdout,
            OutputFormat::Table,
            terminal,
            palette,
            console.now,
        );
        let mut session = Session::open(socket, output, console.stderr).await?;
        let (how, code, text) = match show(&daemon, config, &mut signals, &mut session).await {
            Ok(end) => end,
            Err(error) => {
                daemon.end(Shutdown::Keep).await;
                return Err(error);
            }
        };
        daemon.end(how).await;
        if let Some(text) = text {
            session.err.say(&text);
        }
        Ok(code)
    })
}

/// From the file being applied to every process being stopped.
async fn show(
    daemon: &Daemon,
    config: Config,
    signals: &mut Signals,
    session: &mut Session<'_>,
) -> Result<(Shutdown, ExitCode, Option<String>), CliError> {
    let names: Vec<String> = config.processes.iter().map(|p| p.name.clone()).collect();
    let mut feed = Feed::open(&names, session).await?;
    session.err.say(&format!(
        "up with {} on {}; Ctrl-C stops them",
        match names.len() {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        },
        session.socket.display(),
    ));
    // The file is all there is: what an earlier one had and this one has not, goes.
    daemon.apply(config, Prune::All).await?;
    let trigger = {
        let mut trigger = std::pin::pin!(foreground::trigger(daemon, signals, true));
        loop {
            tokio::select! {
                trigger = &mut trigger => break trigger,
                shown = feed.next(session) => shown?,
            }
        }
    };
    let how = foreground::shutdown(&trigger, Shutdown::Stop);
    if how != Shutdown::Stop {
        session
            .err
            .say("the processes run on; `procession up` takes them over");
        let (code, text) = foreground::verdict(&trigger, &[]);
        return Ok((how, code, text));
    }
    session
        .err
        .say("stopping every process; Ctrl-C again kills them");
    let left = {
        let mut stopped = std::pin::pin!(foreground::stop_all(daemon, signals));
        loop {
            tokio::select! {
                left = &mut stopped => break left,
                shown = feed.next(session) => shown?,
            }
        }
    };
    feed.rest(session).await?;
    let (code, text) = foreground::verdict(&trigger, &left);
    Ok((how, code, text))
}

/// What clients are told: every change, and all output.
struct Feed {
    changes: Streaming<proto::WatchProcessesResponse>,
    output: Streaming<proto::TailLogsResponse>,
    view: View,
    printer: Printer,
}

/// Silence after which all output of stopped processes has arrived.
const QUIET: std::time::Duration = std::time::Duration::from_millis(200);

// === impl Feed ===

impl Feed {
    async fn open(names: &[String], session: &mut Session<'_>) -> Result<Self, CliError> {
        let changes = proto::WatchProcessesRequest {
            read_mask: list::mask(&["status"]),
            mode: WatchMode::EveryChange.into(),
            ..Default::default()
        };
        let output = proto::TailLogsRequest {
            follow: true,
            ..Default::default()
        };
        let args = LogsArgs {
            select: Default::default(),
            follow: true,
            lines: None,
            since: None,
            until: None,
            run: None,
            stream: None,
            timestamps: false,
            grep: None,
            raw: false,
        };
        Ok(Self {
            changes: session.client.watch_processes(changes).await?.into_inner(),
            output: session.client.tail_logs(output).await?.into_inner(),
            view: View::default(),
            printer: Printer::new(&args, names, false, session),
        })
    }

    /// Shows the next thing that happens.
    async fn next(&mut self, session: &mut Session<'_>) -> Result<(), CliError> {
        tokio::select! {
            change = self.changes.message() => match change? {
                Some(change) => self.changed(&change, session)?,
                None => std::future::pending().await,
            },
            output = self.output.message() => match output?.and_then(|output| output.payload) {
                Some(Payload::Entries(entries)) => {
                    for entry in &entries.entries {
                        self.printer.entry(entry, session)?;
                    }
                }
                Some(Payload::Gap(gap)) => session.err.say(&describe_gap(&gap)),
                Some(_) => {}
                None => std::future::pending().await,
            },
        }
        session.out.flush()
    }

    fn changed(
        &mut self,
        change: &proto::WatchProcessesResponse,
        session: &mut Session<'_>,
    ) -> Result<(), CliError> {
        let news = self
            .view
            .accept(change)
            .map_err(|broken| CliError::Refused(broken.to_string()))?;
        for item in &news {
            self.printer.finish(session)?;
            let line = news_line(item, session);
            session.out.line(&line)?;
        }
        Ok(())
    }

    /// Shows what is still on its way once everything is stopped.
    async fn rest(&mut self, session: &mut Session<'_>) -> Result<(), CliError> {
        while let Ok(shown) = tokio::time::timeout(QUIET, self.next(session)).await {
            shown?;
        }
        self.printer.finish(session)?;
        session.out.flush()
    }
}

/// The file named, or the first of the default ones that is here.
fn file(named: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let found = DEFAULT_FILES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        CliError::Usage(format!(
            "there is no {} here; name a file",
            DEFAULT_FILES.join(" or ")
        ))
    })
}
