//! Every key comes through, in every language.

use std::{collections::BTreeSet, fs};

use procession::{
    config::{Config, json_schema, load},
    grpc::proto::{
        self, Signal, SignalScope, log_forward::Target, probe::Check, reload_action::Action,
        schedule::When, secret_env::Source,
    },
};
use serde_json::Value;
use tempfile::TempDir;

const FULL: &str = include_str!("full.toml");

#[test]
fn every_key_comes_through_in_every_language() {
    let dir = TempDir::new().unwrap();
    let value: Value = toml::from_str(FULL).unwrap();
    let json = serde_json::to_string_pretty(&value).unwrap();
    let yaml = serde_saphyr::to_string(&value).unwrap();
    let base = std::path::absolute(dir.path()).unwrap();
    let expected = expected(base.to_str().unwrap());
    for (name, text) in [
        ("a.toml", FULL),
        ("a.json", &json),
        ("a.yaml", &yaml),
        ("a.yml", &json),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let config = load(&path, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config, expected, "{name}");
    }
}

/// The file above leaves out no key of the schema.
#[test]
fn the_file_has_every_key() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let mut all = BTreeSet::new();
    let tables = schema["$defs"].as_object().unwrap().iter();
    for (name, table) in tables.chain([(&"File".to_owned(), &schema)]) {
        let keys = table["properties"].as_object().into_iter().flatten();
        all.extend(keys.map(|(key, _)| format!("{name}.{key}")));
    }
    walk(
        &schema,
        "File",
        &schema,
        &toml::from_str(FULL).unwrap(),
        &mut all,
    );
    assert!(all.is_empty(), "not in full.toml: {all:?}");
}

/// Takes from `left` what is in `value`.
fn walk(root: &Value, name: &str, schema: &Value, value: &Value, left: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return walk(root, name, &root["$defs"][name], value, left);
    }
    for branch in schema["anyOf"].as_array().into_iter().flatten() {
        walk(root, name, branch, value, left);
    }
    for item in value.as_array().into_iter().flatten() {
        walk(root, name, &schema["items"], item, left);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        left.remove(&format!("{name}.{key}"));
        walk(root, name, &schema["properties"][key], value, left);
        walk(root, name, &schema["additionalProperties"], value, left);
    }
}

fn expected(base: &str) -> Config {
    let group = |name: &str, restart_budget| proto::ProcessGroup {
        name: name.into(),
        restart_budget,
    };
    Config {
        processes: vec![all(base), cron(base), interval(base)],
        groups: vec![group("backends", Some(budget(5, 60))), group("bare", None)],
    }
}

fn all(base: &str) -> proto::Process {
    proto::Process {
        name: "all".into(),
        labels: [("app".into(), "shop".into())].into(),
        annotations: [("note".into(), "a b".into())].into(),
        group: "backends".into(),
        spec: Some(proto::ProcessSpec {
            command: texts(&["bin/server", "--port", "80 80"]),
            env: [
                ("LEVEL".into(), "info".into()),
                ("TOKEN".into(), "secret".into()),
            ]
            .into(),
            clear_env: true,
            working_directory: format!("{base}/srv"),
            run_as: Some(proto::Identity {
                user: "www".into(),
                group: "web".into(),
                supplementary_groups: texts(&["log", "7"]),
            }),
            autostart: false,
            restart_policy: Some(restart_policy()),
            stop_policy: Some(proto::StopPolicy {
                signal: Signal::Int.into(),
                grace_period: secs(3),
                scope: SignalScope::Tree.into(),
                kill_timeout: secs(4),
            }),
            dependencies: dependencies(),
            stdio: Some(stdio(base)),
            resource_limits: Some(resource_limits()),
            env_files: vec![format!("{base}/common.env"), "/etc/all.env".into()],
            secret_env: texts(&["TOKEN"]),
            hooks: Some(proto::Hooks {
                pre_start: Some(command(&["migrate", "--all"], None)),
                post_start: Some(command(&["notify", "up"], None)),
                pre_stop: Some(command(&["drain"], secs(30))),
                post_stop: Some(command(&["clean", "up"], None)),
            }),
            umask: "022".into(),
            nice: -5,
            sockets: sockets(),
            reload: Some(proto::ReloadAction {
                timeout: secs(5),
                action: Some(Action::Signal(Signal::Hup.into())),
            }),
            start_timeout: secs(90),
            secrets: vec![
                secret("A", Source::File(format!("{base}/keys/a"))),
                secret("B", Source::Command(command(&["vault", "read", "b"], None))),
            ],
            exit_with: proto::ExitWith::Failure.into(),
            oom_score_adj: Some(500),
            file_watch: Some(proto::FileWatch {
                paths: texts(&["conf"]),
                include: texts(&["*.toml"]),
                exclude: texts(&["*.bak"]),
                debounce: secs(1),
                reload: true,
            }),
            schedule: None,
            ..probes()
        }),
        ..Default::default()
    }
}

fn cron(base: &str) -> proto::Process {
    process(
        "cron",
        proto::ProcessSpec {
            command: texts(&["backup"]),
            working_directory: base.into(),
            autostart: true,
            schedule: Some(proto::Schedule {
                when: Some(When::Cron("0 3 * * *".into())),
                time_zone: "Europe/Paris".into(),
                replace_running: true,
                missed_runs: proto::MissedRuns::RunOnce.into(),
                max_jitter: secs(300),
                run_on_start: true,
            }),
            startup_probe: Some(probe(Check::LogPattern("^ready".into()))),
            readiness_probe: Some(probe(Check::Tcp(proto::TcpCheck {
                address: "localhost:1".into(),
            }))),
            liveness_probe: Some(probe(Check::Notify(proto::NotifyCheck {
                notification_fd: 3,
                from_any_process: true,
            }))),
            reload: Some(proto::ReloadAction {
                timeout: None,
                action: Some(Action::Command(command(&["reload", "now"], secs(1)))),
            }),
            ..Default::default()
        },
    )
}

fn interval(base: &str) -> proto::Process {
    process(
        "interval",
        proto::ProcessSpec {
            command: texts(&["tick"]),
            working_directory: base.into(),
            autostart: true,
            schedule: Some(proto::Schedule {
                when: secs(3600).map(When::Interval),
                missed_runs: proto::MissedRuns::Skip.into(),
                ..Default::default()
            }),
            exit_with: proto::ExitWith::End.into(),
            ..Default::default()
        },
    )
}

fn restart_policy() -> proto::RestartPolicy {
    proto::RestartPolicy {
        mode: proto::RestartMode::Always.into(),
        initial_backoff: Some(prost_types::Duration {
            seconds: 0,
            nanos: 250_000_000,
        }),
        max_backoff: secs(60),
        stable_after: secs(20),
        max_consecutive_failures: 7,
        success_exit_codes: vec![0, 3],
        start_grace: secs(2),
        jitter_ratio: Some(0.5),
        budget: Some(budget(9, 600)),
        no_restart_exit_codes: vec![78],
    }
}

fn dependencies() -> Vec<proto::Dependency> {
    use proto::WaitCondition as Condition;
    let dependency = |name: &str, condition: Condition, both| proto::Dependency {
        name: name.into(),
        condition: condition.into(),
        restart_with: both,
        optional: both,
    };
    vec![
        dependency("db", Condition::Unspecified, false),
        dependency("cache", Condition::Unspecified, false),
        dependency("queue", Condition::Running, true),
        dependency("setup", Condition::Succeeded, false),
        dependency("once", Condition::Exited, false),
        dependency("api", Condition::Ready, false),
    ]
}

fn probes() -> proto::ProcessSpec {
    proto::ProcessSpec {
        startup_probe: Some(proto::Probe {
            initial_delay: secs(1),
            period: secs(2),
            timeout: Some(prost_types::Duration {
                seconds: 0,
                nanos: 300_000_000,
            }),
            success_threshold: 2,
            failure_threshold: 4,
            check: Some(Check::Exec(proto::ExecCheck {
                command: texts(&["check", "--fast"]),
            })),
        }),
        readiness_probe: Some(probe(Check::Http(proto::HttpCheck {
            url: "https://localhost/ready".into(),
            expected_status_codes: vec![200, 204],
            headers: [("Accept".into(), "*/*".into())].into(),
            method: "HEAD".into(),
            skip_tls_verify: true,
        }))),
        liveness_probe: Some(probe(Check::Grpc(proto::GrpcCheck {
            address: "unix:/run/a".into(),
            service: "shop.Cart".into(),
            tls: true,
            skip_tls_verify: true,
        }))),
        ..Default::default()
    }
}

fn stdio(base: &str) -> proto::Stdio {
    use proto::OutputStream::{Stderr, Stdout};
    let forward = |target, streams: &[proto::OutputStream]| proto::LogForward {
        target: Some(target),
        streams: streams.iter().map(|stream| (*stream).into()).collect(),
    };
    proto::Stdio {
        tty: true,
        open_stdin: true,
        merge_stderr: true,
        stdin_file: format!("{base}/input"),
        log_policy: Some(proto::LogPolicy {
            max_bytes: 64 << 20,
            segment_bytes: 1 << 20,
            max_segments: 8,
            max_age: secs(7 * 86_400),
            full_action: proto::LogFullAction::Drop.into(),
        }),
        log_forwards: vec![
            forward(
                Target::Syslog(proto::SyslogTarget {
                    address: "udp:log:514".into(),
                    facility: "local0".into(),
                    tag: "shop".into(),
                }),
                &[Stderr],
            ),
            forward(
                Target::Journald(proto::JournaldTarget {
                    identifier: "shop".into(),
                }),
                &[Stdout, Stderr],
            ),
            forward(
                Target::Otlp(proto::OtlpTarget {
                    endpoint: "http://otel:4317".into(),
                }),
                &[],
            ),
        ],
    }
}

fn resource_limits() -> proto::ResourceLimits {
    let rlimit = |name: &str, soft, hard| proto::Rlimit {
        name: name.into(),
        soft,
        hard,
    };
    proto::ResourceLimits {
        memory_max_bytes: 1 << 30,
        cpu_max_millis: 1500,
        pids_max: 100,
        open_files_max: 4096,
        memory_high_bytes: 1000,
        cpu_weight: 200,
        rlimits: vec![rlimit("core", 0, None), rlimit("memlock", -1, Some(-1))],
    }
}

fn sockets() -> Vec<proto::ListenSocket> {
    vec![
        proto::ListenSocket {
            name: "http".into(),
            address: "[::1]:80".into(),
            r#type: proto::SocketType::Stream.into(),
            backlog: 16,
            ..Default::default()
        },
        proto::ListenSocket {
            name: "log".into(),
            address: "unix:/run/log".into(),
            r#type: proto::SocketType::Datagram.into(),
            file_mode: "0660".into(),
            file_owner: Some(proto::Identity {
                user: "www".into(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ]
}

// === small parts ===

fn process(name: &str, spec: proto::ProcessSpec) -> proto::Process {
    proto::Process {
        name: name.into(),
        spec: Some(spec),
        ..Default::default()
    }
}

fn probe(check: Check) -> proto::Probe {
    proto::Probe {
        check: Some(check),
        ..Default::default()
    }
}

fn secret(name: &str, source: Source) -> proto::SecretEnv {
    proto::SecretEnv {
        name: name.into(),
        source: Some(source),
    }
}

fn command(words: &[&str], timeout: Option<prost_types::Duration>) -> proto::HookCommand {
    proto::HookCommand {
        command: texts(words),
        timeout,
    }
}

fn budget(max_restarts: i32, window: i64) -> proto::RestartBudget {
    proto::RestartBudget {
        max_restarts,
        window: secs(window),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn secs(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}
