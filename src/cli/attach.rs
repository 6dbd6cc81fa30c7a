//! `attach`: the standard streams of a running process, here.
//!
//! What is typed is read by a thread of its own, because a read of a terminal
//! cannot be given up; it ends with this process. Invariants: a terminal that was
//! made raw is restored on every way out, also that of a signal; the bytes on
//! stdout and stderr are those of the process, but for one remark on stderr at the
//! end.

pub(crate) mod keys;
mod terminal;

use std::{
    io::{self, IsTerminal as _, Read},
    thread,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    args::AttachArgs,
    errors::CliError,
    exit_code::ExitCode,
    follow::{self, End},
    render::text,
    session::Session,
};
use crate::grpc::proto::{
    AttachOpen, AttachProcessRequest, AttachProcessResponse, ExitStatus, OutputStream,
    attach_process_request::Payload as Ask, attach_process_response::Payload, exit_status::Outcome,
};
use keys::{DetachKeys, Watcher};
use terminal::{Ends, RawMode};

/// Requests that wait to be sent.
const REQUESTS_MAX: usize = 4;
/// Bytes of one piece of stdin.
const PIECE_BYTES: usize = 32 * 1024;
/// Codes of processes that were ended by a signal, as shells have them.
const SIGNAL_CODE: i32 = 128;

pub(crate) async fn attach(
    args: &AttachArgs,
    session: &mut Session<'_>,
) -> Result<ExitCode, CliError> {
    // BOUND: REQUESTS_MAX; who reads stdin waits then.
    let (requests, stream) = mpsc::channel(REQUESTS_MAX);
    let open = AttachOpen {
        name: args.name.clone(),
        precondition: None,
        stdin: !args.no_stdin,
        stdout: true,
        stderr: true,
        terminal_size: terminal::size(),
        backlog_bytes: args.backlog.map_or(0, i64::from),
    };
    let _ = requests.send(request(Ask::Open(open))).await; // its receiver is here
    let call = session.client.attach_process(ReceiverStream::new(stream));
    let responses = follow::open(call).await.map_err(broken)?;
    Attachment {
        args,
        session,
        requests,
        responses,
        raw: None,
    }
    .run()
    .await
}

struct Attachment<'a, 's> {
    args: &'a AttachArgs,
    session: &'a mut Session<'s>,
    requests: mpsc::Sender<AttachProcessRequest>,
    responses: Streaming<AttachProcessResponse>,
    raw: Option<RawMode>,
}

// === impl Attachment ===

impl Attachment<'_, '_> {
    async fn run(mut self) -> Result<ExitCode, CliError> {
        let mut ends = Ends::new()?;
        let mut resized = signal(SignalKind::window_change())?;
        let (detach, mut detached) = mpsc::channel(1);
        let mut detach = Some(detach);
        loop {
            tokio::select! {
                response = follow::next(&mut self.responses, follow::patience(follow::DEFAULT_HEARTBEAT)) => {
                    let payload = response.map_err(broken)?.payload;
                    if let Some(Payload::Opened(opened)) = &payload
                        && let Some(detach) = detach.take()
                        && !self.args.no_stdin
                    {
                        self.read_stdin(opened.tty, detach)?;
                    }
                    if let Some(code) = self.take(payload)? {
                        return Ok(code);
                    }
                }
                Some(()) = detached.recv() => return Ok(self.leave()),
                () = ends.next() => return Ok(self.leave()),
                _ = resized.recv() => if let Some(size) = terminal::size() {
                    // One that finds no room is followed by another one.
                    let _ = self.requests.try_send(request(Ask::Resize(size)));
                },
            }
        }
    }

    fn read_stdin(&mut self, tty: bool, detach: mpsc::Sender<()>) -> Result<(), CliError> {
        let is_terminal = io::stdin().is_terminal();
        if tty && is_terminal {
            self.raw = Some(RawMode::enter()?);
        }
        // In a file these bytes mean nothing.
        let keys = is_terminal.then(|| Watcher::new(self.args.detach_keys.clone()));
        let requests = self.requests.clone();
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || copy(keys, &requests, &detach))?;
        Ok(())
    }

    /// `Some` at the end.
    fn take(&mut self, payload: Option<Payload>) -> Result<Option<ExitCode>, CliError> {
        match payload {
            Some(Payload::Output(output)) if output.stream() == OutputStream::Stderr => {
                self.session.err.0.write_all(&output.data)?;
                self.session.err.0.flush()?;
            }
            Some(Payload::Output(output)) => {
                self.session.out.bytes(&output.data)?;
                self.session.out.flush()?;
            }
            Some(Payload::OutputLost(lost)) => {
                let text = format!("{} bytes of output were lost", lost.lost_bytes);
                self.session.err.say(&text);
            }
            Some(Payload::Exit(exit)) => return Ok(Some(self.exit(&exit))),
            Some(Payload::Closing(_)) => {
                self.raw = None;
                let text = "the daemon ends; the process may run on";
                return Err(CliError::Refused(text.to_owned()));
            }
            Some(Payload::Opened(_) | Payload::Progress(_)) | None => {}
        }
        Ok(None)
    }

    fn exit(&mut self, exit: &ExitStatus) -> ExitCode {
        self.raw = None;
        let (code, what) = match &exit.outcome {
            Some(Outcome::ExitCode(code)) => (Some(*code), format!("exited with code {code}")),
            Some(Outcome::SignalNumber(number)) => (
                Some(SIGNAL_CODE + number),
                format!("was ended by signal {number}"),
            ),
            Some(Outcome::SpawnError(error)) => {
                (None, format!("was never run: {}", text::line(error)))
            }
            Some(Outcome::UnknownReason(reason)) => (
                None,
                format!("ended, it is not known how: {}", text::line(reason)),
            ),
            None => (None, "ended".to_owned()),
        };
        let name = text::line(&self.args.name);
        self.session.err.say(&format!("{name} {what}"));
        let code = code.and_then(|code| u8::try_from(code).ok());
        code.map_or(ExitCode::Failed, ExitCode::Process)
    }

    fn leave(&mut self) -> ExitCode {
        self.raw = None;
        let name = text::line(&self.args.name);
        self.session.err.say(&format!("detached; {name} runs on"));
        ExitCode::Ok
    }
}

/// From standard input to the process, until its end or the keys.
fn copy(
    mut keys: Option<Watcher>,
    requests: &mpsc::Sender<AttachProcessRequest>,
    detach: &mpsc::Sender<()>,
) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let size = match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let typed = buffer.get(..size).unwrap_or_default();
        let (bytes, leave) = match &mut keys {
            Some(keys) => {
                let typed = keys.pass(typed);
                (typed.bytes, typed.detach)
            }
            None => (typed.to_vec(), false),
        };
        if !bytes.is_empty()
            && requests
                .blocking_send(request(Ask::Stdin(bytes.into())))
                .is_err()
        {
            return; // the attachment is over
        }
        if leave {
            let _ = detach.blocking_send(()); // or it is over
            return;
        }
    }
    let _ = requests.blocking_send(request(Ask::StdinEof(true))); // or it is over
}

fn broken(end: End) -> CliError {
    match end {
        End::Broken(status) => status.into(),
        end => CliError::Refused(format!("{}; the process may run on", end.reason())),
    }
}

fn request(payload: Ask) -> AttachProcessRequest {
    AttachProcessRequest {
        payload: Some(payload),
    }
}

/// The keys that detach unless others are asked for.
pub(crate) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// For the command line.
pub(crate) fn detach_keys(text: &str) -> Result<DetachKeys, String> {
    keys::parse(text)
}
