//! Whatever is stored reads back exactly.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::domain::{
    id::ProcessName,
    run::{Exit, Outcome, SpawnError, UnknownReason},
    status::{Condition, ConditionKind, Desired, Details, Origin, Reason, RunRecord, Stage, State},
    time::Timestamp,
};

/// States stored and read back per test.
const CASES: u32 = 1000;

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        Just(Timestamp::default()),
        any::<i64>().prop_map(Timestamp),
        (0..2_000_000_000_000_000_000_i64).prop_map(Timestamp),
    ]
}

fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof![Just(String::new()), "\\PC{0,20}"].prop_map(Into::into)
}

fn name() -> impl Strategy<Value = ProcessName> {
    "[a-z][a-z0-9]{0,6}".prop_map(|text| ProcessName::new(&text).unwrap())
}

fn some_cause() -> impl Strategy<Value = Cause> {
    let origin = prop::sample::select(vec![
        Origin::Api,
        Origin::Supervisor,
        Origin::Kernel,
        Origin::Config,
    ]);
    let caller = (text(), text()).prop_map(|(principal, request_id)| {
        Arc::new(Caller {
            principal,
            request_id,
            once: None,
        })
    });
    (origin, prop::option::of(caller)).prop_map(|(origin, caller)| Cause { origin, caller })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<u8>().prop_map(Outcome::Code),
        any::<i32>().prop_map(Outcome::Signal),
        (any::<i32>(), text())
            .prop_map(|(errno, message)| Outcome::SpawnError(SpawnError { errno, message })),
        Just(Outcome::Unknown(UnknownReason::Reboot)),
        Just(Outcome::Unknown(UnknownReason::Lost)),
    ]
}

fn record() -> impl Strategy<Value = Arc<RunRecord>> {
    let cpu = (0..1_u64 << 40, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n));
    let exit = (
        outcome(),
        any::<bool>(),
        any::<bool>(),
        time(),
        cpu,
        any::<i64>(),
    );
    let exit = exit.prop_map(
        |(outcome, core_dumped, oom_killed, at, cpu_time, max_rss_bytes)| Exit {
            outcome,
            core_dumped,
            oom_killed,
            at,
            cpu_time,
            max_rss_bytes,
        },
    );
    (any::<i64>(), exit, any::<bool>(), time(), some_cause()).prop_map(
        |(run_id, exit, stop_requested, start_time, cause)| {
            Arc::new(RunRecord {
                run_id,
                exit,
                stop_requested,
                start_time,
                cause,
            })
        },
    )
}

fn condition() -> impl Strategy<Value = Condition> {
    let kind = prop::sample::select(vec![
        ConditionKind::ConfigCurrent,
        ConditionKind::DependenciesMet,
    ]);
    let reason = prop::sample::select(vec!["MET", "WAITING", "FAILED", "RESTART_NEEDED", "NEW"]);
    (kind, any::<bool>(), reason, text(), time()).prop_map(
        |(kind, holds, reason, message, since)| Condition {
            kind,
            holds,
            reason,
            message,
            since,
        },
    )
}

fn details() -> impl Strategy<Value = Details> {
    (
        text(),
        prop::collection::vec(name(), 0..4),
        prop::collection::vec(any::<i32>(), 0..4),
        text(),
        prop::collection::vec(record(), 0..5),
        prop::collection::vec(condition(), 0..3),
    )
        .prop_map(
            |(message, waiting_on, surviving_pids, cgroup_path, history, conditions)| Details {
                message,
                waiting_on,
                surviving_pids,
                cgroup_path,
                history,
                conditions,
            },
        )
}

fn state() -> impl Strategy<Value = State> {
    prop::sample::select(vec![
        State::Stopped,
        State::Pending,
        State::Starting,
        State::Running,
        State::Reloading,
        State::Paused,
        State::Stopping,
        State::Backoff,
        State::Succeeded,
        State::Failed,
        State::Unknown,
    ])
}

fn reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(vec![
        Reason::None,
        Reason::Dependency,
        Reason::ExitCode,
        Reason::Signal,
        Reason::OomKilled,
        Reason::SpawnError,
        Reason::StartTimeout,
        Reason::RetryLimit,
        Reason::DependencyFailed,
        Reason::StopFailed,
        Reason::Lost,
    ])
}

fn stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(vec![
        Stage::None,
        Stage::Spawn,
        Stage::Probe,
        Stage::Signal,
        Stage::Kill,
        Stage::Reap,
    ])
}

fn status() -> impl Strategy<Value = Status> {
    let desired = prop::sample::select(vec![Desired::Running, Desired::Stopped, Desired::Deleted]);
    let what = (state(), desired, any::<bool>(), reason(), stage());
    let numbers = (any::<[i32; 2]>(), any::<[i64; 3]>());
    let times = [(); 6].map(|()| time());
    (what, numbers, times, some_cause(), details()).prop_map(
        |((state, desired, ready, reason, stage), (small, large), times, cause, details)| Status {
            state,
            desired,
            ready,
            reason,
            stage,
            pid: small[0],
            consecutive_failures: small[1],
            run_id: large[0],
            run_generation: large[1],
            restart_count: large[2],
            start_time: times[0],
            end_time: times[1],
            state_time: times[2],
            deadline_time: times[3],
            next_start_time: times[4],
            ready_time: times[5],
            cause,
            details: Arc::new(details),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn states_read_back_exactly(status in status(), cause in some_cause()) {
        let bytes = ProtoCodec.encode_state(&status, &cause);
        prop_assert_eq!(ProtoCodec.decode_state(&bytes), Ok((status, cause)));
    }

    #[test]
    fn causes_read_back_exactly(cause in some_cause()) {
        let bytes = ProtoCodec.encode_cause(&cause);
        prop_assert_eq!(ProtoCodec.decode_cause(&bytes), Ok(cause));
    }

    #[test]
    fn configurations_read_back_exactly(config in super::super::tests::config()) {
        let bytes = ProtoCodec.encode_config(&config);
        prop_assert_eq!(ProtoCodec.decode_config(&bytes), Ok(config));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = ProtoCodec.decode_state(&bytes);
        let _ = ProtoCodec.decode_config(&bytes);
        let _ = ProtoCodec.decode_cause(&bytes);
    }
}

#[test]
fn what_a_later_version_wrote_is_refused_and_named() {
    let status = Status::new(Desired::Running, Cause::CONFIG, Timestamp(1));
    let mut wire = observed::own(&status);
    wire.reason = "METEOR".into();
    let state = StoredState {
        status: Some(wire),
        cause: Some(stored_cause(&Cause::CONFIG)),
        ..Default::default()
    };
    let refused = ProtoCodec.decode_state(&state.encode_to_vec()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "reason has the unknown value \"METEOR\""
    );

    let spec = proto::ProcessSpec {
        schedule: Some(proto::Schedule::default()),
        ..Default::default()
    };
    let process = proto::Process {
        spec: Some(spec),
        ..Default::default()
    };
    let refused = ProtoCodec.decode_config(&process.encode_to_vec());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "spec.schedule needs schedule, which this version does not have"
    );
}

#[test]
fn a_condition_that_is_not_known_is_left_out() {
    let status = Status::new(Desired::Running, Cause::CONFIG, Timestamp(1));
    let mut wire = observed::own(&status);
    wire.conditions.push(proto::Condition {
        r#type: "Weather".into(),
        ..Default::default()
    });
    assert_eq!(observed::from_wire::status(wire), Ok(status));
}
