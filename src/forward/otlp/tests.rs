//! Against a collector that answers as it is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use prost::Message;
use proto::{
    AnyValue, ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    LogRecord,
    any_value::Value,
    logs_service_server::{LogsService, LogsServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, transport::Server};
use tonic_types::ErrorDetails;

use super::*;
use crate::{
    forward::{
        position::Position,
        queue::Content,
        tests::{line, lost, origin, queue},
    },
    logs::OutputStream,
};

/// How a send went, how many records are left, and how many were refused.
type Outcome = (Result<(), Option<Duration>>, usize, usize);
type Answer = Result<ExportLogsServiceResponse, Status>;

/// Answers in order; then takes everything.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.requests.lock().unwrap().push(request.into_inner());
        let answer = self.answers.lock().unwrap().pop_front();
        answer
            .unwrap_or_else(|| Ok(Default::default()))
            .map(Response::new)
    }
}

impl Collector {
    async fn target(&self) -> Otlp {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(LogsServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Otlp::new(&OtlpTarget { endpoint }, &origin("web")).unwrap()
    }

    fn answer(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }
}

fn lines(count: i64) -> Vec<Content> {
    (1..=count)
        .map(|sequence| line(sequence, OutputStream::Stdout, b"text"))
        .collect()
}

fn records(request: &ExportLogsServiceRequest) -> &[LogRecord] {
    &request.resource_logs[0].scope_logs[0].log_records
}

fn values(attributes: &[proto::KeyValue]) -> Vec<(&str, String)> {
    let value = |value: &proto::KeyValue| match value.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BytesValue(bytes) => format!("{bytes:?}"),
    };
    let pairs = attributes.iter();
    pairs.map(|pair| (pair.key.as_str(), value(pair))).collect()
}

#[tokio::test]
async fn records_say_what_they_are() {
    let collector = Collector::default();
    let mut target = collector.target().await;
    let mut queue = queue([
        line(1, OutputStream::Stdout, b"one"),
        lost(2, 2),
        line(3, OutputStream::Stderr, b"\xff"),
    ]);
    target.send(&mut queue).await.unwrap();
    assert!(queue.is_empty());
    let requests = collector.requests.lock().unwrap();
    let resource = requests[0].resource_logs[0].resource.as_ref().unwrap();
    let wanted = [
        ("service.name", "web".to_owned()),
        ("service.instance.id", "uid".to_owned()),
        ("host.name", "host".to_owned()),
    ];
    assert_eq!(values(&resource.attributes), wanted);
    let records = records(&requests[0]);
    let attributes = |at: usize| values(&records[at].attributes);
    let wanted = |stream: &str, sequence: &str| {
        [
            ("log.iostream", stream.to_owned()),
            ("procession.run", "1".to_owned()),
            ("procession.sequence", sequence.to_owned()),
        ]
    };
    assert_eq!(attributes(0), wanted("stdout", "1"));
    assert_eq!(attributes(2), wanted("stderr", "3"));
    assert_eq!(
        attributes(1)[0],
        ("procession.lost.first_sequence", "2".to_owned())
    );
    let severities = [0, 1, 2].map(|at| records[at].severity_number);
    assert_eq!(severities, [9, 13, 17]);
    let bodies = [0, 1, 2].map(|at| records[at].body.clone().unwrap().value.unwrap());
    let text = |text: &str| Value::StringValue(text.to_owned());
    let loss = text("1 line lost (trimmed): sequences 2 to 2");
    assert_eq!(
        bodies,
        [text("one"), loss, Value::BytesValue(b"\xff"[..].into())]
    );
    assert_eq!(records[0].time_unix_nano, 1_000_002_000);
}

#[tokio::test]
async fn requests_are_bounded() {
    let collector = Collector::default();
    let mut target = collector.target().await;
    let many = i64::try_from(BATCH_RECORDS_MAX).unwrap() + 1;
    let mut few = queue(lines(many));
    target.send(&mut few).await.unwrap();
    assert_eq!(few.len(), 1);
    let large = (1..=40).map(|at| line(at, OutputStream::Stdout, &[b'x'; 60_000]));
    let mut large = queue(large);
    while !large.is_empty() {
        target.send(&mut large).await.unwrap();
    }
    let requests = collector.requests.lock().unwrap();
    assert_eq!(records(&requests[0]).len(), BATCH_RECORDS_MAX);
    let sizes = requests.iter().map(Message::encoded_len);
    assert!(sizes.clone().all(|bytes| bytes <= BATCH_BYTES_MAX));
    assert_eq!(sizes.count(), 1 + 3);
}

#[tokio::test]
async fn answers_mean_what_the_protocol_says() {
    let seconds = Duration::from_secs(3);
    let busy = ErrorDetails::with_retry_info(Some(seconds));
    let exhausted = Code::ResourceExhausted;
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 2,
            error_message: "two are bad".into(),
        }),
    };
    let again = |after| (Err(after), 5, 0);
    let table: [(Answer, Outcome); 7] = [
        (Ok(Default::default()), (Ok(()), 0, 0)),
        (Ok(partial), (Ok(()), 0, 2)),
        (Err(Status::unavailable("")), again(None)),
        (
            Err(Status::with_error_details(exhausted, "", busy)),
            again(Some(seconds)),
        ),
        (Err(Status::resource_exhausted("too large")), (Ok(()), 0, 5)),
        (Err(Status::invalid_argument("")), (Ok(()), 0, 5)),
        (Err(Status::unimplemented("")), (Ok(()), 0, 5)),
    ];
    for (answer, (result, left, refused)) in table {
        let collector = Collector::default();
        let mut target = collector.target().await;
        let what = format!("{answer:?}");
        collector.answer(answer);
        let mut queue = queue(lines(5));
        let sent = target.send(&mut queue).await;
        assert_eq!(
            sent.map_err(|failure| failure.retry_after),
            result,
            "{what}"
        );
        assert_eq!(
            (queue.len(), queue.take_refused().0),
            (left, refused),
            "{what}"
        );
        let reached = if left == 0 {
            Position::behind(5)
        } else {
            Position::default()
        };
        assert_eq!(queue.position(), reached, "{what}");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut target = Otlp::new(&OtlpTarget { endpoint }, &origin("web")).unwrap();
    let mut queue = queue(lines(1));
    let failure = target.send(&mut queue).await.unwrap_err();
    assert!(failure.reason.contains("refused"), "{failure:?}");
    assert_eq!(queue.len(), 1);
}

#[tokio::test]
async fn a_collector_without_the_certificate_of_the_system_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    // A machine may have no certificates at all; then there is no client.
    let Some(mut target) = Otlp::new(&OtlpTarget { endpoint }, &origin("web")) else {
        return;
    };
    let mut queue = queue(lines(1));
    target.send(&mut queue).await.unwrap_err();
    assert_eq!(queue.len(), 1);
}

/// Our messages on both sides would agree on any numbers, so here they are by hand,
/// as `opentelemetry/proto/{common,logs}/v1` have them.
#[test]
fn numbers_of_fields_are_those_of_the_protocol() {
    let tag = |number: u8, wire_type: u8| number << 3 | wire_type;
    let (varint, fixed64, delimited) = (0, 1, 2);
    let any = |value| AnyValue { value: Some(value) };
    let int = any(Value::IntValue(5)).encode_to_vec();
    assert_eq!(int, [tag(3, varint), 5]);
    let text = any(Value::StringValue("a".into())).encode_to_vec();
    assert_eq!(text, [tag(1, delimited), 1, b'a']);
    let bytes = any(Value::BytesValue(b"a"[..].into())).encode_to_vec();
    assert_eq!(bytes, [tag(7, delimited), 1, b'a']);
    let pair = proto::KeyValue {
        key: "k".into(),
        value: Some(AnyValue::default()),
    };
    let pair_bytes = [tag(1, delimited), 1, b'k', tag(2, delimited), 0];
    assert_eq!(pair.encode_to_vec(), pair_bytes);
    let record = LogRecord {
        time_unix_nano: 1,
        severity_number: 9,
        severity_text: "I".into(),
        body: Some(AnyValue::default()),
        attributes: vec![pair],
        observed_time_unix_nano: 2,
    };
    let wanted = [
        &[tag(1, fixed64), 1, 0, 0, 0, 0, 0, 0, 0][..],
        &[tag(2, varint), 9, tag(3, delimited), 1, b'I'],
        &[tag(5, delimited), 0, tag(6, delimited), 5],
        &pair_bytes,
        &[tag(11, fixed64), 2, 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(record.encode_to_vec(), wanted.concat());
    let request = ExportLogsServiceRequest {
        resource_logs: vec![proto::ResourceLogs {
            resource: Some(proto::Resource::default()),
            scope_logs: vec![proto::ScopeLogs {
                scope: Some(proto::InstrumentationScope::default()),
                log_records: vec![LogRecord::default()],
            }],
        }],
    };
    let [one, two] = [1, 2].map(|number| tag(number, delimited));
    let wanted = [one, 8, one, 0, two, 4, one, 0, two, 0];
    assert_eq!(request.encode_to_vec(), wanted);
    let service = "opentelemetry.proto.collector.logs.v1.LogsService";
    let name = <LogsServiceServer<Collector> as tonic::server::NamedService>::NAME;
    assert_eq!(name, service);
}
