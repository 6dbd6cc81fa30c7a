//! Round trips, and what is refused.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{process, spec, *};
use crate::{
    domain::{
        run::SignalScope,
        spec::{
            Config, Dependency, DependencyCondition, ExitWith, ForwardStream, ForwardTarget,
            Identity, JournaldTarget, LogForward, LogPolicy, OtlpTarget, RestartBudget,
            RestartMode, RestartPolicy, Rlimit, Stdio, StopPolicy, SyslogTarget,
        },
    },
    grpc::proto,
};

fn text() -> impl Strategy<Value = String> {
    "[a-z/]{1,8}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..4)
}

fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z]{1,6}", "[a-z]{0,6}", 0..4)
}

fn some_duration() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of(
        (0..1_000_000_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n)),
    )
}

fn some_name() -> impl Strategy<Value = ProcessName> {
    "[a-z][a-z0-9]{0,6}".prop_map(|text| ProcessName::new(&text).unwrap())
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    let mode = prop_oneof![
        Just(RestartMode::Unspecified),
        Just(RestartMode::Never),
        Just(RestartMode::OnFailure),
        Just(RestartMode::Always),
    ];
    let durations = [(); 4].map(|()| some_duration());
    let budget = prop::option::of((0..100_i32, some_duration()));
    let codes = || prop::collection::vec(0..256_i32, 0..3);
    let numbers = (0..10_i32, prop::option::of(0.0..1.0_f64), codes(), codes());
    (mode, durations, budget, numbers).prop_map(
        |(mode, [first, last, stable, grace], budget, (failures, jitter_ratio, good, never))| {
            RestartPolicy {
                mode,
                initial_backoff: first,
                max_backoff: last,
                stable_after: stable,
                max_consecutive_failures: failures,
                success_exit_codes: good,
                start_grace: grace,
                jitter_ratio,
                budget: budget.map(|(max_restarts, window)| RestartBudget {
                    max_restarts,
                    window,
                }),
                no_restart_exit_codes: never,
            }
        },
    )
}

fn stop() -> impl Strategy<Value = StopPolicy> {
    let signal = prop::option::of(prop::sample::select(vec![1, 2, 3, 9, 10, 12, 15, 18, 19]));
    let scope = prop::option::of(prop::sample::select(vec![
        SignalScope::Main,
        SignalScope::Group,
        SignalScope::Cgroup,
        SignalScope::Tree,
    ]));
    (signal, some_duration(), scope, some_duration()).prop_map(
        |(signal, grace_period, scope, kill_timeout)| StopPolicy {
            signal,
            grace_period,
            scope,
            kill_timeout,
        },
    )
}

fn dependency() -> impl Strategy<Value = Dependency> {
    let condition = prop::option::of(prop::sample::select(vec![
        DependencyCondition::Running,
        DependencyCondition::Ready,
        DependencyCondition::Exited,
        DependencyCondition::Succeeded,
    ]));
    (some_name(), condition, any::<bool>(), any::<bool>()).prop_map(
        |(name, condition, restart_with, optional)| Dependency {
            name,
            condition,
            restart_with,
            optional,
        },
    )
}

fn stdio() -> impl Strategy<Value = Stdio> {
    let log = (
        (0..1_i64 << 40, 0..1_i64 << 40),
        0..1000_i32,
        some_duration(),
        prop::option::of(any::<bool>()),
    );
    let log = prop::option::of(
        log.prop_map(|(bytes, max_segments, max_age, drop_when_full)| LogPolicy {
            max_bytes: bytes.0,
            segment_bytes: bytes.1,
            max_segments,
            max_age,
            drop_when_full,
        }),
    );
    let forwards = prop::collection::vec(forward(), 0..3);
    (any::<[bool; 3]>(), prop::option::of(text()), log, forwards).prop_map(
        |(flags, stdin_file, log_policy, log_forwards)| Stdio {
            merge_stderr: flags[0],
            open_stdin: flags[1],
            tty: flags[2],
            stdin_file,
            log_policy,
            log_forwards,
        },
    )
}

fn forward() -> impl Strategy<Value = LogForward> {
    let target =
        (0..3_u8, "[a-z]{0,6}", text(), text()).prop_map(|(kind, tag, one, two)| match kind {
            0 => ForwardTarget::Syslog(SyslogTarget {
                address: one,
                facility: two,
                tag,
            }),
            1 => ForwardTarget::Journald(JournaldTarget { identifier: tag }),
            _ => ForwardTarget::Otlp(OtlpTarget { endpoint: one }),
        });
    let streams = vec![ForwardStream::Stdout, ForwardStream::Stderr];
    let streams = prop::sample::subsequence(streams, 0..=2);
    (target, streams).prop_map(|(target, streams)| LogForward { target, streams })
}

#[test]
fn a_forward_needs_a_target_and_streams_that_exist() {
    let refuse = |forward: proto::LogForward| {
        let mut wire = valid();
        let stdio = wire.spec.as_mut().unwrap().stdio.get_or_insert_default();
        stdio.log_forwards.push(forward);
        match process::draft(Some(wire)) {
            Err(Unacceptable::Fields(faults)) => faults[0].field.clone(),
            other => panic!("{other:?}"),
        }
    };
    let empty = proto::LogForward::default();
    assert_eq!(refuse(empty), "spec.stdio.log_forwards[0]");
    for number in [0, 9] {
        let target = proto::log_forward::Target::Journald(proto::JournaldTarget::default());
        let forward = proto::LogForward {
            target: Some(target),
            streams: vec![number],
        };
        assert_eq!(refuse(forward), "spec.stdio.log_forwards[0].streams");
    }
}

fn surroundings() -> impl Strategy<Value = Config> {
    let identity = (text(), "[a-z]{0,4}", texts()).prop_map(|(user, group, groups)| Identity {
        user,
        group,
        supplementary_groups: groups,
    });
    let rlimit = (text(), -1..1000_i64, prop::option::of(-1..1000_i64))
        .prop_map(|(name, soft, hard)| Rlimit { name, soft, hard });
    let exit_with = prop::sample::select(vec![ExitWith::Never, ExitWith::Failure, ExitWith::End]);
    let first = (
        prop::option::of(identity),
        prop::collection::vec(rlimit, 0..3),
        0..100_000_i64,
        prop::option::of(0..0o1000_u32),
    );
    let second = (
        -20..20_i32,
        prop::option::of(-1000..1001_i32),
        some_duration(),
        exit_with,
    );
    (first, second).prop_map(
        |((run_as, rlimits, open_files_max, umask), (nice, oom, start_timeout, exit_with))| {
            Config {
                run_as,
                rlimits,
                open_files_max,
                umask,
                nice,
                oom_score_adj: oom,
                start_timeout,
                exit_with,
                ..Config::default()
            }
        },
    )
}

pub(crate) fn config() -> impl Strategy<Value = Config> {
    let metadata = (pairs(), pairs(), prop::option::of(some_name()));
    let run = (
        texts(),
        pairs(),
        any::<bool>(),
        texts(),
        prop::option::of(text()),
    );
    let policies = (
        any::<bool>(),
        restart(),
        stop(),
        prop::collection::vec(dependency(), 0..3),
        stdio(),
    );
    (metadata, run, policies, surroundings()).prop_map(
        |(
            (labels, annotations, group),
            (command, env, clear_env, env_files, working_directory),
            (autostart, restart, stop, dependencies, stdio),
            surroundings,
        )| Config {
            labels,
            annotations,
            group,
            command,
            env,
            clear_env,
            env_files,
            working_directory,
            autostart,
            restart,
            stop,
            dependencies,
            stdio,
            ..surroundings
        },
    )
}

proptest! {
    #[test]
    fn a_configuration_survives_the_wire(config in config()) {
        let name = ProcessName::new("web").unwrap();
        let wire = process::preview(&crate::supervisor::Draft { name, config: config.clone() });
        let mut faults = Faults::default();
        let back = spec::config(wire, &mut faults);
        prop_assert_eq!(faults.finish(()), Ok(()));
        prop_assert_eq!(back, config);
    }
}

fn valid() -> proto::Process {
    proto::Process {
        name: "web".into(),
        spec: Some(proto::ProcessSpec {
            command: vec!["web".into()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn refused(edit: impl FnOnce(&mut proto::ProcessSpec)) -> Unacceptable {
    let mut wire = valid();
    edit(wire.spec.as_mut().unwrap());
    process::draft(Some(wire)).unwrap_err()
}

#[test]
fn what_comes_later_is_refused_by_name_and_never_ignored() {
    type Edit = fn(&mut proto::ProcessSpec);
    let table: [(&str, &str, Edit); 12] = [
        ("probes", "spec.readiness_probe", |s| {
            s.readiness_probe = Some(Default::default())
        }),
        ("probes", "spec.liveness_probe", |s| {
            s.liveness_probe = Some(Default::default())
        }),
        ("probes", "spec.startup_probe", |s| {
            s.startup_probe = Some(Default::default())
        }),
        ("hooks", "spec.hooks", |s| {
            s.hooks = Some(Default::default())
        }),
        ("schedule", "spec.schedule", |s| {
            s.schedule = Some(Default::default())
        }),
        ("sockets", "spec.sockets", |s| {
            s.sockets.push(Default::default())
        }),
        ("reload", "spec.reload", |s| {
            s.reload = Some(Default::default())
        }),
        ("secrets", "spec.secrets", |s| {
            s.secrets.push(Default::default())
        }),
        ("secrets", "spec.secret_env", |s| {
            s.secret_env.push("A".into())
        }),
        ("file_watch", "spec.file_watch", |s| {
            s.file_watch = Some(Default::default())
        }),
        (
            "resource_limits",
            "spec.resource_limits.memory_max_bytes",
            |s| {
                s.resource_limits.get_or_insert_default().memory_max_bytes = 1;
            },
        ),
        ("resource_limits", "spec.resource_limits.cpu_weight", |s| {
            s.resource_limits.get_or_insert_default().cpu_weight = 1;
        }),
    ];
    for (capability, field, edit) in table {
        assert_eq!(refused(edit), Unacceptable::missing(capability, field));
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let mut wire = valid();
    wire.name = "-".into();
    wire.group = "a b".into();
    let spec = wire.spec.as_mut().unwrap();
    spec.command.clear();
    spec.umask = "+22".into();
    spec.exit_with = 99;
    spec.nice = 77;
    spec.start_timeout = Some(prost_types::Duration {
        seconds: -1,
        nanos: 0,
    });
    spec.restart_policy = Some(proto::RestartPolicy {
        mode: 9,
        stable_after: Some(prost_types::Duration {
            seconds: 0,
            nanos: 1_000_000_000,
        }),
        ..Default::default()
    });
    spec.stop_policy = Some(proto::StopPolicy {
        signal: 99,
        scope: -1,
        ..Default::default()
    });
    spec.dependencies = vec![proto::Dependency {
        name: String::new(),
        condition: proto::WaitCondition::Settled.into(),
        ..Default::default()
    }];
    let Unacceptable::Fields(faults) = process::draft(Some(wire)).unwrap_err() else {
        panic!("fields are at fault");
    };
    let mut fields: Vec<_> = faults.iter().map(|fault| &*fault.field).collect();
    fields.sort_unstable();
    let expected = [
        "group",
        "name",
        "spec.command",
        "spec.dependencies[0].condition",
        "spec.dependencies[0].name",
        "spec.exit_with",
        "spec.nice",
        "spec.restart_policy.mode",
        "spec.restart_policy.stable_after",
        "spec.start_timeout",
        "spec.stop_policy.scope",
        "spec.stop_policy.signal",
        "spec.umask",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn signals_have_numbers_and_names_one_to_one() {
    for number in 1..=17 {
        let name = proto::Signal::try_from(number).unwrap();
        let kernel = signal::number(name).unwrap();
        assert_eq!(signal::name(kernel), name);
    }
    assert_eq!(signal::number(proto::Signal::Unspecified), None);
    assert_eq!(signal::name(64), proto::Signal::Unspecified);
}

#[test]
fn an_etag_is_read_back_and_nothing_else_is() {
    let uid = crate::domain::id::Uid::from_bytes([7; 16]);
    let etag = process::etag(uid, 300);
    assert_eq!(process::parse_etag(&etag), Some((uid.to_string(), 300)));
    for text in [
        "",
        "x",
        ".1",
        &format!("{uid}"),
        &format!("{uid}.0"),
        &format!("{uid}.-1"),
    ] {
        assert_eq!(process::parse_etag(text), None, "{text}");
    }
}

#[test]
fn times_before_the_epoch_keep_their_nanoseconds_positive() {
    assert_eq!(timestamp(Timestamp(0)), None);
    let before = timestamp(Timestamp(-1)).unwrap();
    assert_eq!((before.seconds, before.nanos), (-1, 999_999_999));
}
