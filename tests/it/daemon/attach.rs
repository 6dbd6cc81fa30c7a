//! Standard input of running processes, and clients attached to them.

use procession::grpc::proto::{
    self, AttachOpen, AttachProcessRequest, OutputStream, Process, WaitCondition,
    WriteStdinRequest, attach_process_request as asked, attach_process_response::Payload,
    exit_status::Outcome,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    calls::{self, ended},
    support::{Client, Daemon, PATIENCE, command, sh},
};

/// A process with an open stdin.
fn open(mut process: Process) -> Process {
    let spec = process.spec.as_mut().unwrap();
    spec.stdio.get_or_insert_default().open_stdin = true;
    spec.restart_policy = Some(proto::RestartPolicy {
        mode: proto::RestartMode::Never.into(),
        ..Default::default()
    });
    process
}

async fn running(client: &mut Client, process: Process) {
    let name = calls::create(client, process).await;
    calls::start(client, &name, WaitCondition::Running).await;
}

fn write(name: &str, data: &[u8], offset: Option<i64>, close_after: bool) -> WriteStdinRequest {
    WriteStdinRequest {
        name: name.to_owned(),
        data: data.to_vec().into(),
        offset,
        close_after,
        precondition: None,
    }
}

async fn lines(client: &mut Client, name: &str) -> Vec<String> {
    let entries = calls::output(client, name).await;
    let text = |entry: proto::LogEntry| String::from_utf8_lossy(&entry.data).into_owned();
    entries.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_repeated_write_is_told_and_not_done_twice() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    running(&mut client, open(command("cat", &["cat"]))).await;
    let first = write("cat", b"one\n", Some(0), false);
    let wrote = client
        .write_stdin(first.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((wrote.offset, wrote.run_id), (4, 1));
    let refused = client.write_stdin(first).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let last = write("cat", b"two\n", None, true);
    let wrote = client.write_stdin(last).await.unwrap().into_inner();
    assert_eq!(wrote.offset, 8);
    let process = calls::wait_for(&mut client, "cat", WaitCondition::Exited).await;
    assert_eq!(*ended(&process).1, Outcome::ExitCode(0));
    assert_eq!(lines(&mut client, "cat").await, ["one", "two"]);
    let refused = client.write_stdin(write("cat", b"x", None, false)).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_large_write_waits_for_who_reads_slowly() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    // It reads only after the pipe is full.
    let script = "sleep 1; wc -c; cat";
    running(&mut client, open(sh("count", script))).await;
    let data = vec![b'x'; 1024 * 1024];
    let too_large = [data.as_slice(), b"x"].concat();
    let refused = client.write_stdin(write("count", &too_large, None, false));
    assert_eq!(refused.await.unwrap_err().code(), Code::InvalidArgument);
    let wrote = client.write_stdin(write("count", &data, Some(0), true));
    assert_eq!(wrote.await.unwrap().into_inner().offset, 1024 * 1024);
    calls::wait_for(&mut client, "count", WaitCondition::Exited).await;
    assert_eq!(lines(&mut client, "count").await, ["1048576"]);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_killed_daemon_is_no_end_of_input() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    running(&mut client, open(command("cat", &["cat"]))).await;
    let wrote = client.write_stdin(write("cat", b"one\n", None, false));
    assert_eq!(wrote.await.unwrap().into_inner().offset, 4);
    daemon.replace();
    let mut client = daemon.client().await;
    calls::wait_for(&mut client, "cat", WaitCondition::Running).await;
    let wrote = client.write_stdin(write("cat", b"two\n", Some(4), true));
    let wrote = wrote.await.unwrap().into_inner();
    assert_eq!((wrote.offset, wrote.run_id), (8, 1));
    calls::wait_for(&mut client, "cat", WaitCondition::Exited).await;
    assert_eq!(lines(&mut client, "cat").await, ["one", "two"]);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_stdin_that_is_not_open_is_not_written_to() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    running(&mut client, sh("deaf", "sleep 1000")).await;
    let refused = client.write_stdin(write("deaf", b"x", None, false)).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    calls::stop(&mut client, "deaf").await;
    drop(client);
    daemon.ended().await;
}

/// A client that is attached.
struct Attached {
    requests: mpsc::Sender<AttachProcessRequest>,
    responses: Streaming<proto::AttachProcessResponse>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn open_request(name: &str) -> AttachOpen {
    AttachOpen {
        name: name.to_owned(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    }
}

impl Attached {
    async fn new(client: &mut Client, open: AttachOpen) -> Result<Self, Status> {
        let (requests, stream) = mpsc::channel(16);
        let open = AttachProcessRequest {
            payload: Some(asked::Payload::Open(open)),
        };
        requests.send(open).await.unwrap();
        let responses = client.attach_process(ReceiverStream::new(stream)).await?;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    async fn send(&self, payload: asked::Payload) {
        let request = AttachProcessRequest {
            payload: Some(payload),
        };
        self.requests.send(request).await.unwrap();
    }

    async fn write(&self, text: &str) {
        self.send(asked::Payload::Stdin(text.to_owned().into()))
            .await;
    }

    /// The next message that is no output, which is gathered; `None` at the end.
    async fn next(&mut self) -> Option<Payload> {
        loop {
            let message = timeout(PATIENCE, self.responses.message()).await;
            match message.expect("in time").unwrap()?.payload.unwrap() {
                Payload::Output(output) if output.stream() == OutputStream::Stderr => {
                    self.stderr.extend_from_slice(&output.data);
                }
                Payload::Output(output) => self.stdout.extend_from_slice(&output.data),
                Payload::Progress(_) => {}
                other => return Some(other),
            }
        }
    }

    async fn opened(&mut self) -> proto::AttachOpened {
        match self.next().await {
            Some(Payload::Opened(opened)) => opened,
            other => panic!("{other:?}"),
        }
    }

    /// Reads until its standard output so far contains this.
    async fn until(&mut self, wanted: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(wanted) {
            let message = timeout(PATIENCE, self.responses.message()).await;
            let message = message.unwrap_or_else(|_| {
                panic!(
                    "no {wanted:?} in {:?}",
                    String::from_utf8_lossy(&self.stdout)
                )
            });
            match message.unwrap().unwrap().payload.unwrap() {
                Payload::Output(output) => self.stdout.extend_from_slice(&output.data),
                Payload::Progress(_) | Payload::Opened(_) => {}
                other => panic!("{other:?} before {wanted:?}"),
            }
        }
    }

    async fn exit(&mut self) -> Outcome {
        match self.next().await {
            Some(Payload::Exit(exit)) => {
                assert_eq!(self.next().await, None, "the exit is the last message");
                exit.outcome.unwrap()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_typed_comes_back_and_the_exit_is_last() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    running(&mut client, open(sh("cat", "cat; echo no >&2; exit 7"))).await;
    let mut attached = Attached::new(&mut client, open_request("cat"))
        .await
        .unwrap();
    let opened = attached.opened().await;
    assert_eq!((opened.run_id, opened.tty), (1, false));
    // A line that is not ended comes too.
    attached.write("one").await;
    attached.until("one").await;
    attached.write(" line\nand two\n").await;
    attached.until("and two\n").await;
    let taken = Attached::new(&mut client, open_request("cat")).await;
    assert_eq!(taken.err().unwrap().code(), Code::FailedPrecondition);
    let taken = client.write_stdin(write("cat", b"x", None, false)).await;
    assert_eq!(taken.unwrap_err().code(), Code::FailedPrecondition);
    attached.send(asked::Payload::StdinEof(true)).await;
    assert_eq!(attached.exit().await, Outcome::ExitCode(7));
    assert_eq!(attached.stdout, b"one line\nand two\n");
    assert_eq!(attached.stderr, b"no\n");
    drop((attached, client));
    daemon.ended().await;
}

#[tokio::test]
async fn who_detaches_leaves_the_process_and_its_stdin() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    running(&mut client, open(command("cat", &["cat"]))).await;
    let mut attached = Attached::new(&mut client, open_request("cat"))
        .await
        .unwrap();
    attached.write("one\ntwo\n").await;
    attached.until("two\n").await;
    drop(attached);
    // The daemon sees it a little later.
    let mut attached = loop {
        let backlog = AttachOpen {
            backlog_bytes: 3,
            ..open_request("cat")
        };
        match Attached::new(&mut client, backlog).await {
            Ok(attached) => break attached,
            Err(status) => assert_eq!(status.code(), Code::FailedPrecondition),
        }
    };
    attached.write("three\n").await;
    attached.until("three\n").await;
    assert_eq!(attached.stdout, b"two\nthree\n");
    attached
        .send(asked::Payload::Signal(proto::Signal::Term.into()))
        .await;
    assert_eq!(attached.exit().await, Outcome::SignalNumber(libc::SIGTERM));
    drop((attached, client));
    daemon.ended().await;
}

#[tokio::test]
async fn large_output_is_told_to_its_last_byte_before_the_exit() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let script = "read go; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo \"line $i\"; done";
    running(&mut client, open(sh("many", script))).await;
    let mut attached = Attached::new(&mut client, open_request("many"))
        .await
        .unwrap();
    attached.write("go\n").await;
    attached.opened().await;
    assert_eq!(attached.exit().await, Outcome::ExitCode(0));
    let wanted: String = (1..=20_000).map(|n| format!("line {n}\n")).collect();
    assert!(
        attached.stdout == wanted.as_bytes(),
        "{} bytes",
        attached.stdout.len()
    );
    drop((attached, client));
    daemon.ended().await;
}

#[tokio::test]
async fn the_end_of_the_daemon_closes_the_stream() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    running(&mut client, open(command("cat", &["cat"]))).await;
    let mut attached = Attached::new(&mut client, open_request("cat"))
        .await
        .unwrap();
    attached.opened().await;
    drop(client);
    let ended = tokio::spawn(daemon.ended());
    match attached.next().await {
        Some(Payload::Closing(_) | Payload::Exit(_)) => {}
        other => panic!("{other:?}"),
    }
    drop(attached);
    ended.await.unwrap();
}

/// `procession attach` with something on its standard input.
fn attach_cli(daemon: &Daemon, args: &[&str], input: &str) -> std::process::Output {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_procession"))
        .arg("attach")
        .args(args)
        .env("PROCESSION_SOCKET", daemon.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn the_command_line_copies_a_pipe_and_ends_with_the_code() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    running(&mut client, open(sh("cat", "cat; echo no >&2; exit 7"))).await;
    let output = attach_cli(&daemon, &["cat"], "one\n\x10\x11two");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"one\n\x10\x11two\n");
    assert_eq!(output.stderr, b"no\ncat exited with code 7\n");
    let output = attach_cli(&daemon, &["cat"], "");
    assert_eq!(output.status.code(), Some(1), "it runs no more: {output:?}");
    drop(client);
    daemon.ended().await;
}

/// A process on a terminal.
fn on_tty(process: Process) -> Process {
    let mut process = open(process);
    let stdio = process.spec.as_mut().unwrap().stdio.as_mut().unwrap();
    (stdio.open_stdin, stdio.tty) = (false, true);
    process
}

#[tokio::test]
async fn a_terminal_has_the_size_it_is_told_and_outlives_its_daemon() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let script = "trap 'echo hup' HUP; test -t 0 && test -t 2 && echo tty; \
                  while read line; do stty size; done; exit 7";
    running(&mut client, on_tty(sh("shell", script))).await;
    let mut attached = Attached::new(&mut client, open_request("shell"))
        .await
        .unwrap();
    assert!(attached.opened().await.tty);
    let size = |rows, columns| proto::TerminalSize { rows, columns };
    attached.send(asked::Payload::Resize(size(33, 101))).await;
    attached.write("x\n").await;
    attached.until("33 101").await;
    drop((attached, client));
    daemon.replace();
    let mut client = daemon.client().await;
    calls::wait_for(&mut client, "shell", WaitCondition::Running).await;
    let mut attached = loop {
        let open = AttachOpen {
            terminal_size: Some(size(44, 55)),
            backlog_bytes: 1000,
            ..open_request("shell")
        };
        match Attached::new(&mut client, open).await {
            Ok(attached) => break attached,
            Err(status) => assert_eq!(status.code(), Code::FailedPrecondition),
        }
    };
    attached.write("y\n").await;
    attached.until("44 55").await;
    attached.send(asked::Payload::StdinEof(true)).await;
    assert_eq!(attached.exit().await, Outcome::ExitCode(7));
    let told = String::from_utf8_lossy(&attached.stdout).into_owned();
    assert!(
        told.contains("tty\r\n") && !told.contains("hup"),
        "{told:?}"
    );
    drop(client);
    daemon.ended().await;
}
