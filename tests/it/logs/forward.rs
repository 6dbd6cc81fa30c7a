//! Output that is sent elsewhere by a real daemon to sockets that are listened on.

use std::{
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use procession::{
    forward::otlp::proto::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        any_value::Value,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    grpc::proto::{self, log_forward::Target},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::create;
use crate::daemon::support::{Client, Daemon, PATIENCE, eventually, sh};

fn syslog(address: String) -> proto::LogForward {
    proto::LogForward {
        target: Some(Target::Syslog(proto::SyslogTarget {
            address,
            ..Default::default()
        })),
        streams: Vec::new(),
    }
}

fn otlp(endpoint: String) -> proto::LogForward {
    proto::LogForward {
        target: Some(Target::Otlp(proto::OtlpTarget { endpoint })),
        streams: Vec::new(),
    }
}

fn forwarding(mut process: proto::Process, forwards: Vec<proto::LogForward>) -> proto::Process {
    let spec = process.spec.get_or_insert_default();
    spec.stdio.get_or_insert_default().log_forwards = forwards;
    process
}

/// A socket in the directory of the daemon, and the forward to it.
fn unix(daemon: &Daemon, name: &str) -> (UnixDatagram, proto::LogForward) {
    let path = daemon.directory().join(name);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (socket, syslog(unix_address(&path)))
}

fn unix_address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn received(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 16 * 1024];
    let bytes = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..bytes].to_vec()).unwrap()
}

/// What follows the header of a message.
fn text(message: &str) -> &str {
    message.split_once("\"] ").unwrap().1
}

/// One frame of octet counting.
fn frame(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut length = Vec::new();
    stream.read_until(b' ', &mut length)?;
    let length = String::from_utf8(length).unwrap();
    let Ok(length) = length.trim().parse() else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(String::from_utf8(message).unwrap())
}

fn accepted(listener: &TcpListener) -> BufReader<TcpStream> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

async fn update(client: &mut Client, forwards: Vec<proto::LogForward>) -> proto::Process {
    let mut process = proto::Process {
        name: "web".to_owned(),
        ..Default::default()
    };
    process = forwarding(process, forwards);
    let request = proto::UpdateProcessRequest {
        process: Some(process),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["spec.stdio.log_forwards".to_owned()],
        }),
        ..Default::default()
    };
    let updated = client.update_process(request).await.unwrap();
    updated.into_inner().process.unwrap()
}

#[tokio::test]
async fn a_local_syslog_gets_each_line_and_the_spec_reads_as_written() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let (socket, forward) = unix(&daemon, "syslog");
    let script = "echo out; echo err >&2; exec sleep 1000";
    create(
        &mut client,
        forwarding(sh("web", script), vec![forward.clone()]),
    )
    .await;
    let mut messages = [received(&socket), received(&socket)];
    messages.sort_by_key(|message| text(message).to_owned());
    assert!(messages[0].starts_with("<27>1 ") && text(&messages[0]) == "err");
    assert!(messages[1].starts_with("<30>1 ") && text(&messages[1]) == "out");
    assert!(
        messages[0].contains(" web 1 - [meta sequenceId="),
        "{messages:?}"
    );
    let request = proto::GetProcessRequest {
        name: "web".to_owned(),
        ..Default::default()
    };
    let got = client.get_process(request).await.unwrap().into_inner();
    let stdio = got.process.unwrap().spec.unwrap().stdio.unwrap();
    assert_eq!(stdio.log_forwards, [forward]);
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_forward_that_cannot_be_is_refused_by_its_field() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let forwards = vec![otlp("http://otel".into()), syslog("/dev/log".into())];
    let request = proto::CreateProcessRequest {
        process: Some(forwarding(sh("web", "true"), forwards)),
        ..Default::default()
    };
    let refused = client.create_process(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let field = "spec.stdio.log_forwards[1].syslog.address: must be unix:/";
    assert!(refused.message().contains(field), "{refused:?}");
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_target_that_comes_later_gets_everything_in_order() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let script = "seq 1 5000; exec sleep 1000";
    let forward = syslog(format!("tcp:{address}"));
    create(&mut client, forwarding(sh("web", script), vec![forward])).await;
    eventually("the failure is told", || {
        daemon.log().contains("cannot be forwarded").then_some(())
    });
    let listener = TcpListener::bind(address).unwrap();
    let mut peer = accepted(&listener);
    for number in 1..=5000 {
        assert_eq!(text(&frame(&mut peer).unwrap()), number.to_string());
    }
    eventually("the recovery is told", || {
        daemon.log().contains("forwarded again").then_some(())
    });
    drop(client);
    daemon.ended().await;
}

#[tokio::test]
async fn a_killed_daemon_is_gone_on_from_and_nothing_is_missing() {
    const LINES: usize = 30_000;
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = syslog(format!("tcp:{}", listener.local_addr().unwrap()));
    // Slow enough to be killed in between, however fast the machine is.
    let script = "for i in $(seq 0 100 29900); do seq $((i + 1)) $((i + 100)); sleep 0.02; done; \
                  exec sleep 1000";
    create(&mut client, forwarding(sh("web", script), vec![forward])).await;
    drop(client);
    let mut seen = vec![false; LINES + 1];
    let mut take = |peer: &mut BufReader<TcpStream>, count: usize| {
        for _ in 0..count {
            let Ok(message) = frame(peer) else {
                return false;
            };
            let number: usize = text(&message).parse().unwrap();
            assert!(
                number == 1 || seen[number - 1],
                "{number} without the one before"
            );
            seen[number] = true;
        }
        seen[LINES]
    };
    for count in [1, 5000, 5000] {
        let mut peer = accepted(&listener);
        assert!(!take(&mut peer, count));
        daemon.kill();
        // What the kernel took before is there to be read.
        take(&mut peer, usize::MAX);
        daemon.restart();
    }
    let mut peer = accepted(&listener);
    while !take(&mut peer, 1) {}
    daemon.ended().await;
}

#[tokio::test]
async fn a_stuck_target_holds_up_neither_the_run_nor_another_target() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    // It accepts by its backlog and never reads.
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let stuck_forward = syslog(format!("tcp:{}", stuck.local_addr().unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = syslog(format!("tcp:{}", listener.local_addr().unwrap()));
    let script = "yes 0123456789012345678901234567890123456789 | head -n 200000; \
                  echo end; exec sleep 1000";
    let forwards = vec![stuck_forward, forward];
    create(&mut client, forwarding(sh("web", script), forwards)).await;
    eventually("the end of 8 MB", || {
        let lines = super::shown(&daemon, &["web", "-n", "1"]);
        lines.iter().any(|line| line["text"] == "end").then_some(())
    });
    let mut peer = accepted(&listener);
    let mut count = 0;
    while text(&frame(&mut peer).unwrap()) != "end" {
        count += 1;
    }
    assert_eq!(count, 200_000);
    drop(client);
    let began = Instant::now();
    daemon.ended().await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "nor the daemon's end"
    );
}

#[tokio::test]
async fn forwards_change_while_the_run_goes_on() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let (one, to_one) = unix(&daemon, "one");
    let (two, to_two) = unix(&daemon, "two");
    let pipe = daemon.directory().join("pipe");
    let script = format!("mkfifo {pipe:?}; echo ready; while cat {pipe:?}; do :; done");
    create(&mut client, forwarding(sh("web", &script), vec![to_one])).await;
    assert_eq!(text(&received(&one)), "ready");
    let before = super::shown(&daemon, &["web"]).len();
    assert_eq!(before, 1);
    let process = update(&mut client, vec![to_two]).await;
    let status = process.status.unwrap();
    assert_eq!(status.run_id, 1);
    // Until the change is heard of, a line goes to the old target; then to the new.
    let second = two.try_clone().unwrap();
    second.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1024];
    let mut number = 0;
    eventually("the new target gets a line", || {
        number += 1;
        std::fs::write(&pipe, format!("{number}\n")).unwrap();
        second.recv(&mut buffer).ok()
    });
    let got = super::shown(&daemon, &["web"]);
    assert_eq!(
        got[0]["run_id"],
        super::shown(&daemon, &["web", "-n", "1"])[0]["run_id"]
    );
    update(&mut client, Vec::new()).await;
    drop(client);
    daemon.ended().await;
}

/// What a collector was told, and how often it still says that it is busy.
#[derive(Clone, Default)]
struct Collector {
    told: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    busy: Arc<Mutex<u32>>,
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut busy = self.busy.lock().unwrap();
        if *busy > 0 {
            *busy -= 1;
            return Err(Status::unavailable("not yet"));
        }
        self.told.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Collector {
    fn texts(&self) -> Vec<String> {
        let told = self.told.lock().unwrap();
        let resources = told.iter().flat_map(|request| &request.resource_logs);
        let scopes = resources.flat_map(|resource| &resource.scope_logs);
        let records = scopes.flat_map(|scope| &scope.log_records);
        records
            .map(|record| match record.body.clone().unwrap().value {
                Some(Value::StringValue(text)) => text,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[tokio::test]
async fn a_collector_that_is_busy_at_first_gets_all_lines() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forward = otlp(format!("http://{}", listener.local_addr().unwrap()));
    let collector = Collector::default();
    *collector.busy.lock().unwrap() = 2;
    let server = Server::builder().add_service(LogsServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let script = "seq 1 2000; exec sleep 1000";
    create(&mut client, forwarding(sh("web", script), vec![forward])).await;
    let texts = tokio::task::spawn_blocking(move || {
        eventually("all lines", || {
            let texts = collector.texts();
            (texts.len() >= 2000).then_some(texts)
        })
    });
    let wanted: Vec<_> = (1..=2000).map(|number: i32| number.to_string()).collect();
    assert_eq!(texts.await.unwrap(), wanted);
    drop(client);
    daemon.ended().await;
}
