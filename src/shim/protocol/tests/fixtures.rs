//! What shims of version 1 say and leave, byte by byte as it was when that version
//! came: a daemon that cannot read this any more loses the runs of the daemon
//! before it.
//!
//! `BLESS=1` writes the files again, which is right only for a version that nobody
//! has used yet.

use std::{fs, path::PathBuf};

use super::*;
use crate::shim::record::{
    ExitRecord, RunRecord,
    tests::{exit_record, run_record},
};

const SEQ: u64 = 7;

fn check(name: &str, bytes: &[u8], decoded: impl FnOnce(&[u8]) -> bool) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/shim-v1");
    let path = folder.join(format!("{name}.bin"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let committed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(decoded(&committed), "{name} is not understood any more");
    assert_eq!(committed, bytes, "{name} is written in another way");
}

fn error() -> SpawnError {
    SpawnError {
        errno: 2,
        message: "exec \"x\": No such file or directory".into(),
    }
}

/// What a shim says.
fn said() -> Vec<(&'static str, Message)> {
    let spawned = Message::Spawned {
        pid: 42,
        start_ticks: 1001,
        cgroup: Some("/procession-0123456789abcdef/x.7".to_owned()),
        held: vec![1, 2],
    };
    let failed = Message::SpawnFailed {
        step: Step::Exec,
        error: error(),
    };
    let output = Message::Output(OutputHealth {
        state: OutputState::Blocked { errno: 28 },
        approximate_bytes: 5,
    });
    let written = Message::Written {
        seq: 3,
        errno: 11,
        total: 70_000,
    };
    vec![
        ("hello", Message::hello()),
        ("spawned", spawned),
        ("started", Message::Started),
        ("spawn-failed", failed),
        ("killing", Message::Killing),
        ("survivors", Message::Survivors(vec![42, 43])),
        ("empty", Message::Empty),
        ("reply", Message::Reply { seq: 3, errno: 3 }),
        ("warning", Message::Warning("exit record: x".to_owned())),
        ("output", output),
        ("written", written),
    ]
}

/// What a shim is told.
fn told() -> Vec<(&'static str, Message)> {
    let plan = StopPlan {
        signal: 15,
        scope: SignalScope::Tree,
        grace: Duration::from_secs(10),
        kill_timeout: Duration::from_secs(5),
    };
    let signal = Message::Signal {
        number: 10,
        scope: SignalScope::Group,
    };
    let write = Message::Write {
        offset: Some(69_000),
        bytes: b"line\n".to_vec(),
        close: true,
    };
    vec![
        ("define", Message::Define),
        ("adopt", Message::Adopt { held: vec![1, 2] }),
        ("stop", Message::Stop(plan)),
        ("signal", signal),
        ("freeze", Message::Freeze),
        ("thaw", Message::Thaw),
        ("write", write),
        (
            "resize",
            Message::Resize {
                rows: 24,
                columns: 80,
            },
        ),
        ("keep", Message::Keep(run_record().log_policy)),
    ]
}

/// How a run ends.
fn exits() -> Vec<(&'static str, Message)> {
    let exited = |outcome| {
        Message::Exited(Exit {
            outcome,
            ..exit_record().exit
        })
    };
    vec![
        ("exited-0", exited(Outcome::Code(41))),
        ("exited-1", exited(Outcome::Signal(9))),
        ("exited-2", exited(Outcome::SpawnError(error()))),
        ("exited-3", exited(Outcome::Unknown(UnknownReason::Lost))),
    ]
}

#[test]
fn messages_of_version_1_are_spoken() {
    for (name, message) in said().into_iter().chain(told()).chain(exits()) {
        check(name, &message.encode(SEQ), |bytes| {
            Message::decode(bytes) == Ok((SEQ, message.clone()))
        });
    }
}

#[test]
fn records_of_version_1_are_read() {
    check("run-record", &run_record().encode(), |bytes| {
        RunRecord::decode(bytes) == Ok(run_record())
    });
    check("exit-record", &exit_record().encode(), |bytes| {
        ExitRecord::decode(bytes) == Ok(exit_record())
    });
}

/// A hello is understood whatever the version in its header is.
#[test]
fn a_hello_of_any_version_is_understood() {
    let mut bytes = Message::hello().encode(SEQ);
    bytes[4..6].copy_from_slice(&99u16.to_le_bytes());
    bytes[CRC_AT..HEADER_BYTES].fill(0);
    let crc = crc32(&[&bytes]);
    bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Message::decode(&bytes), Ok((SEQ, Message::hello())));
}
