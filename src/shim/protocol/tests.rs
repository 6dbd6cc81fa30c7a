mod fixtures;

use proptest::prelude::*;

use std::time::Duration;

use super::*;
use crate::domain::{
    run::{Outcome, OutputState, UnknownReason},
    time::Timestamp,
};
use crate::shim::{
    definition::{Definition, Identity, Rlimit, Stdin},
    output::Policy,
};

fn scopes() -> impl Strategy<Value = SignalScope> {
    prop_oneof![
        Just(SignalScope::Main),
        Just(SignalScope::Group),
        Just(SignalScope::Cgroup),
        Just(SignalScope::Tree),
    ]
}

fn durations() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn plans() -> impl Strategy<Value = StopPlan> {
    (any::<i32>(), scopes(), durations(), durations()).prop_map(
        |(signal, scope, grace, kill_timeout)| StopPlan {
            signal,
            scope,
            grace,
            kill_timeout,
        },
    )
}

fn spawn_errors() -> impl Strategy<Value = SpawnError> {
    (any::<i32>(), ".{0,40}").prop_map(|(errno, text)| SpawnError {
        errno,
        message: text.into(),
    })
}

fn exits() -> impl Strategy<Value = Exit> {
    let outcomes = prop_oneof![
        any::<u8>().prop_map(Outcome::Code),
        any::<i32>().prop_map(Outcome::Signal),
        spawn_errors().prop_map(Outcome::SpawnError),
        Just(Outcome::Unknown(UnknownReason::Reboot)),
        Just(Outcome::Unknown(UnknownReason::Lost)),
    ];
    let flags = any::<(bool, bool, i64, i64)>();
    (outcomes, flags, durations()).prop_map(
        |(outcome, (core_dumped, oom_killed, at, max_rss_bytes), cpu_time)| Exit {
            outcome,
            core_dumped,
            oom_killed,
            at: Timestamp(at),
            cpu_time,
            max_rss_bytes,
        },
    )
}

fn states() -> impl Strategy<Value = OutputState> {
    prop_oneof![
        Just(OutputState::Intact),
        any::<i32>().prop_map(|errno| OutputState::Blocked { errno }),
        any::<u64>().prop_map(|bytes| OutputState::Dropped { bytes }),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let plain = prop_oneof![
        any::<(u16, u16)>().prop_map(|(oldest, newest)| Message::Hello { oldest, newest }),
        any::<Vec<u8>>().prop_map(|held| Message::Adopt { held }),
        ".{0,60}".prop_map(Message::Warning),
        (states(), any::<u64>()).prop_map(|(state, approximate_bytes)| {
            Message::Output(OutputHealth {
                state,
                approximate_bytes,
            })
        }),
        Just(Message::Define),
        Just(Message::Started),
        Just(Message::Killing),
        Just(Message::Empty),
        Just(Message::Freeze),
        Just(Message::Thaw),
        any::<(u64, i32)>().prop_map(|(seq, errno)| Message::Reply { seq, errno }),
        any::<(Option<u64>, Vec<u8>, bool)>().prop_map(|(offset, bytes, close)| Message::Write {
            offset,
            bytes,
            close,
        }),
        any::<(u16, u16)>().prop_map(|(rows, columns)| Message::Resize { rows, columns }),
        policies().prop_map(Message::Keep),
        any::<(u64, i32, u64)>().prop_map(|(seq, errno, total)| Message::Written {
            seq,
            errno,
            total,
        }),
    ];
    let step = (1..=11u8).prop_map(|number| Step::from_number(number).unwrap());
    prop_oneof![
        plain,
        (
            any::<i32>(),
            any::<u64>(),
            proptest::option::of(".{0,60}"),
            any::<Vec<u8>>()
        )
            .prop_map(|(pid, start_ticks, cgroup, held)| Message::Spawned {
                pid,
                start_ticks,
                cgroup,
                held,
            }),
        (step, spawn_errors()).prop_map(|(step, error)| Message::SpawnFailed { step, error }),
        exits().prop_map(Message::Exited),
        proptest::collection::vec(any::<i32>(), 0..100).prop_map(Message::Survivors),
        plans().prop_map(Message::Stop),
        (any::<i32>(), scopes()).prop_map(|(number, scope)| Message::Signal { number, scope }),
    ]
}

fn texts() -> impl Strategy<Value = std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt;
    proptest::collection::vec(any::<u8>(), 0..20).prop_map(OsStringExt::from_vec)
}

fn policies() -> impl Strategy<Value = Policy> {
    (
        any::<u64>(),
        any::<u64>(),
        any::<u32>(),
        durations(),
        any::<bool>(),
    )
        .prop_map(
            |(max_bytes, segment_bytes, max_segments, max_age, drop_when_full)| Policy {
                max_bytes,
                segment_bytes,
                max_segments,
                max_age,
                drop_when_full,
            },
        )
}

fn definitions() -> impl Strategy<Value = Definition> {
    use proptest::{collection::vec, option::of};
    let pairs = || vec((texts(), texts()), 0..4);
    let paths = || texts().prop_map(std::path::PathBuf::from);
    let identity = (of(".{0,9}"), of(".{0,9}"), vec(".{0,9}", 0..3)).prop_map(
        |(user, group, supplementary_groups)| Identity {
            user,
            group,
            supplementary_groups,
        },
    );
    let rlimit = (".{0,9}", any::<(u64, u64)>()).prop_map(|(resource, (soft, hard))| Rlimit {
        resource,
        soft,
        hard,
    });
    let stdin = prop_oneof![
        Just(Stdin::Null),
        Just(Stdin::Pipe),
        Just(Stdin::Tty),
        paths().prop_map(Stdin::File)
    ];
    (
        (".{0,50}", any::<i64>(), ".{0,9}", ".{0,9}", any::<bool>()),
        (vec(texts(), 0..4), pairs(), vec(paths(), 0..3), pairs()),
        (of(paths()), of(identity), vec(rlimit, 0..3), stdin, plans()),
        any::<(Option<u32>, Option<i32>, Option<i32>)>(),
        (paths(), policies(), any::<bool>()),
    )
        .prop_map(|(names, texts, rest, numbers, output)| {
            let (label, run_id, name, group, use_cgroup) = names;
            let (umask, nice, oom_score_adj) = numbers;
            let (log_dir, log_policy, merge_stderr) = output;
            let (argv, env, env_files, env_overrides) = texts;
            let (working_directory, identity, rlimits, stdin, stop) = rest;
            Definition {
                label,
                run_id,
                name,
                group,
                use_cgroup,
                argv,
                env,
                env_files,
                env_overrides,
                working_directory,
                identity,
                umask,
                nice,
                oom_score_adj,
                rlimits,
                stdin,
                log_dir,
                log_policy,
                merge_stderr,
                stop,
            }
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(message in messages(), seq in any::<u64>()) {
        let packet = message.encode(seq);
        prop_assert!(packet.len() <= MESSAGE_BYTES_MAX);
        prop_assert_eq!(Message::decode(&packet), Ok((seq, message)));
    }

    #[test]
    fn what_is_cut_short_is_refused(message in messages(), cut in any::<prop::sample::Index>()) {
        let packet = message.encode(1);
        let end = cut.index(packet.len());
        prop_assert!(Message::decode(&packet[..end]).is_err());
    }

    #[test]
    fn what_is_longer_is_refused(message in messages(), extra in 1..9usize) {
        let mut packet = message.encode(1);
        packet.extend(std::iter::repeat_n(0, extra));
        prop_assert_eq!(Message::decode(&packet), Err(DecodeError::Trailing));
    }

    #[test]
    fn a_flipped_bit_is_refused(
        message in messages(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut packet = message.encode(1);
        let at = at.index(packet.len());
        packet[at] ^= 1 << bit;
        prop_assert!(Message::decode(&packet).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(&bytes);
        let _ = Definition::decode(&bytes);
    }

    /// Past the checksum too: the payload is anything, its header is right.
    #[test]
    fn any_payload_is_read_without_panic(
        kind in 0..30u16,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = Message::read(kind, &mut Reader(&payload));
    }

    #[test]
    fn a_definition_is_read_as_written(
        definition in definitions(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = definition.encode();
        prop_assert!(Definition::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert_eq!(Definition::decode(&bytes), Ok(definition));
    }
}

#[test]
fn the_checksum_is_the_well_known_one() {
    assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
}

#[test]
fn a_false_count_reserves_nothing() {
    let mut payload = Writer::default();
    payload.u32(u32::MAX);
    assert_eq!(
        Message::read(8, &mut Reader(&payload.0)),
        Err(DecodeError::Truncated)
    );
}

#[test]
fn another_version_and_an_unknown_type_are_told_apart() {
    let packet = |version: u16, kind: u16| {
        let mut bytes = Message::Define.encode(1);
        bytes[4..6].copy_from_slice(&version.to_le_bytes());
        bytes[6..8].copy_from_slice(&kind.to_le_bytes());
        bytes[CRC_AT..HEADER_BYTES].fill(0);
        let crc = crc32(&[&bytes]);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    assert_eq!(Message::decode(&packet(2, 2)), Err(DecodeError::Version(2)));
    assert_eq!(
        Message::decode(&packet(VERSION, 99)),
        Err(DecodeError::Type(99))
    );
    assert_eq!(
        Message::decode(&packet(VERSION, 2)),
        Ok((1, Message::Define))
    );
}

#[test]
fn what_is_too_long_for_a_message_is_cut() {
    let survivors = Message::Survivors((0..100_000).collect()).encode(1);
    assert!(survivors.len() <= MESSAGE_BYTES_MAX);
    assert!(Message::decode(&survivors).is_ok());
    let error = SpawnError {
        errno: 1,
        message: "\u{e9}".repeat(100_000).into(),
    };
    let failed = Message::SpawnFailed {
        step: Step::Exec,
        error,
    };
    assert!(Message::decode(&failed.encode(1)).is_ok());
}
