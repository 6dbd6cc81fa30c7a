//! The JSON form is the canonical one of protobuf.

use serde_json::{Value, json};

use super::*;
use crate::grpc::proto::tail_logs_response::Payload;

#[test]
fn every_printed_message_is_in_the_descriptors() {
    for name in FULL_NAMES {
        assert!(
            pool().unwrap().get_message_by_name(name).is_some(),
            "{name}"
        );
    }
}

#[test]
fn types_take_their_canonical_form() {
    let response = proto::GetServerInfoResponse {
        header: Some(proto::ResponseHeader {
            epoch: "e".into(),
            revision: i64::MAX,
        }),
        start_time: Some(prost_types::Timestamp {
            seconds: 0,
            nanos: 5_000_000,
        }),
        request_id_retention: Some(prost_types::Duration {
            seconds: 1,
            nanos: 500_000_000,
        }),
        limits: [("processes_max".to_owned(), 7)].into(),
        pid: 42,
        ..Default::default()
    };
    let value: Value = serde_json::from_str(&to_json(&response, false).unwrap()).unwrap();
    let expected = json!({
        "header": {"epoch": "e", "revision": "9223372036854775807"},
        "startTime": "1970-01-01T00:00:00.005Z",
        "requestIdRetention": "1.500s",
        "limits": {"processes_max": "7"},
        "pid": 42,
    });
    assert_eq!(value, expected);
}

#[test]
fn bytes_are_base64_and_enums_are_names() {
    let entry = proto::LogEntry {
        data: vec![0xff, 0, b'a'].into(),
        stream: proto::OutputStream::Stderr.into(),
        ..Default::default()
    };
    let payload = Some(Payload::Entries(proto::LogEntries {
        entries: vec![entry],
    }));
    let text = to_json(&proto::TailLogsResponse { payload }, false).unwrap();
    assert_eq!(
        text,
        r#"{"entries":{"entries":[{"stream":"OUTPUT_STREAM_STDERR","data":"/wBh"}]}}"#
    );
}

#[test]
fn pretty_is_the_same_on_several_lines() {
    let response = proto::ListProcessesResponse {
        total_size: 1,
        ..Default::default()
    };
    assert_eq!(
        to_json(&response, true).unwrap(),
        "{\n  \"totalSize\": 1\n}"
    );
    assert_eq!(to_json(&response, false).unwrap(), "{\"totalSize\":1}");
}

#[test]
fn a_value_of_the_future_is_a_number() {
    let response = proto::WaitProcessResponse {
        outcome: 99,
        ..Default::default()
    };
    assert_eq!(to_json(&response, false).unwrap(), "{\"outcome\":99}");
}
