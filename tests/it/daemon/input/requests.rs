//! Fields.

use procession::grpc::proto::{self, Probe, ProcessSelector, ProcessSpec, probe};
use tonic::{Code, Request, Status};

use super::{Refusal, paths, registry};
use crate::daemon::support::{Client, Daemon, command};

/// The calls that a bad request goes to.
enum Bad {
    Create(proto::Process),
    Update(proto::Process, &'static [&'static str]),
    Get(&'static str, &'static [&'static str]),
    List(proto::ListProcessesRequest),
    Batch(Vec<proto::Process>),
    Wait(proto::WaitProcessRequest),
    Watch(proto::WatchProcessesRequest),
    Tail(proto::TailLogsRequest),
    Signal(proto::SignalProcessRequest),
}

/// What is wrong, the call, code and reason, and the fields that are named.
type Case = (
    &'static str,
    Bad,
    (Code, &'static str),
    &'static [&'static str],
);

const INVALID: (Code, &str) = (Code::InvalidArgument, "FIELD_INVALID");
const ABSENT: (Code, &str) = (Code::Unimplemented, "CAPABILITY_MISSING");
const UNMET: (Code, &str) = (Code::FailedPrecondition, "DEPENDENCY_MISSING");

// === impl Bad ===

impl Bad {
    async fn call(self, client: &mut Client) -> Result<(), Status> {
        match self {
            Self::Create(process) => {
                let process = Some(process);
                let request = proto::CreateProcessRequest {
                    process,
                    ..Default::default()
                };
                client.create_process(request).await.map(drop)
            }
            Self::Update(process, mask) => {
                let request = proto::UpdateProcessRequest {
                    process: Some(process),
                    update_mask: paths(mask),
                    ..Default::default()
                };
                client.update_process(request).await.map(drop)
            }
            Self::Get(name, mask) => {
                let request = proto::GetProcessRequest {
                    name: name.into(),
                    read_mask: paths(mask),
                };
                client.get_process(request).await.map(drop)
            }
            Self::List(request) => client.list_processes(request).await.map(drop),
            Self::Batch(processes) => {
                let request = proto::BatchApplyProcessesRequest {
                    processes,
                    ..Default::default()
                };
                client.batch_apply_processes(request).await.map(drop)
            }
            Self::Wait(request) => client.wait_process(request).await.map(drop),
            Self::Watch(request) => client.watch_processes(request).await.map(drop),
            Self::Tail(request) => client.tail_logs(request).await.map(drop),
            Self::Signal(request) => client.signal_process(request).await.map(drop),
        }
    }
}

fn with(edit: impl FnOnce(&mut ProcessSpec)) -> Bad {
    Bad::Create(edited("new", edit))
}

fn edited(name: &str, edit: impl FnOnce(&mut ProcessSpec)) -> proto::Process {
    let mut process = command(name, &["sleep", "1000"]);
    edit(process.spec.as_mut().unwrap());
    process
}

fn depending(name: &str, on: &[&str]) -> proto::Process {
    edited(name, |spec| {
        let dependency = |name: &&str| proto::Dependency {
            name: (*name).to_owned(),
            ..Default::default()
        };
        spec.dependencies = on.iter().map(dependency).collect();
    })
}

fn selected(selector: ProcessSelector) -> Bad {
    Bad::List(proto::ListProcessesRequest {
        selector: Some(selector),
        ..Default::default()
    })
}

fn labels(label_selector: &str) -> Bad {
    selected(ProcessSelector {
        label_selector: label_selector.to_owned(),
        ..Default::default()
    })
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn specs() -> Vec<Case> {
    vec![
        (
            "no process",
            Bad::Create(proto::Process::default()),
            INVALID,
            &["name", "spec.command"],
        ),
        (
            "name",
            Bad::Create(command("-web", &["true"])),
            INVALID,
            &["name"],
        ),
        (
            "long name",
            Bad::Create(command(&"x".repeat(64), &["true"])),
            INVALID,
            &["name"],
        ),
        (
            "slash",
            Bad::Create(command("a/b", &["true"])),
            INVALID,
            &["name"],
        ),
        (
            "no command",
            with(|spec| spec.command.clear()),
            INVALID,
            &["spec.command"],
        ),
        (
            "nul",
            with(|spec| spec.command[1] = "a\0b".into()),
            INVALID,
            &["spec.command"],
        ),
        ("nice", with(|spec| spec.nice = 20), INVALID, &["spec.nice"]),
        (
            "umask",
            with(|spec| spec.umask = "9".into()),
            INVALID,
            &["spec.umask"],
        ),
        (
            "relative directory",
            with(|spec| spec.working_directory = "here".into()),
            INVALID,
            &["spec.working_directory"],
        ),
        (
            "enum",
            with(|spec| spec.exit_with = 99),
            INVALID,
            &["spec.exit_with"],
        ),
        (
            "probe",
            with(|spec| {
                let check = proto::TcpCheck {
                    address: "127.0.0.1:1".into(),
                };
                spec.readiness_probe = Some(Probe {
                    check: Some(probe::Check::Tcp(check)),
                    ..Default::default()
                });
            }),
            ABSENT,
            &[],
        ),
        (
            "hooks",
            with(|spec| spec.hooks = Some(proto::Hooks::default())),
            ABSENT,
            &[],
        ),
        (
            "schedule",
            with(|spec| spec.schedule = Some(proto::Schedule::default())),
            ABSENT,
            &[],
        ),
        (
            "self",
            Bad::Create(depending("new", &["new"])),
            INVALID,
            &["spec.dependencies[0].name"],
        ),
        (
            "missing",
            Bad::Create(depending("new", &["ghost"])),
            UNMET,
            &[],
        ),
        (
            "cycle",
            Bad::Batch(vec![
                depending("x", &["y"]),
                depending("y", &["z"]),
                depending("z", &["x"]),
            ]),
            (Code::FailedPrecondition, "DEPENDENCY_CYCLE"),
            &[],
        ),
        (
            "cycle by update",
            Bad::Update(depending("web", &["user"]), &["spec.dependencies"]),
            (Code::FailedPrecondition, "DEPENDENCY_CYCLE"),
            &[],
        ),
        (
            "one of a batch",
            Bad::Batch(vec![
                command("x", &["true"]),
                edited("y", |spec| spec.nice = -21),
            ]),
            INVALID,
            &["processes[1].spec.nice"],
        ),
        (
            "twice in a batch",
            Bad::Batch(vec![command("x", &["true"]), command("x", &["true"])]),
            INVALID,
            &["processes[1].name"],
        ),
        (
            "exists",
            Bad::Create(command("web", &["true"])),
            (Code::AlreadyExists, "PROCESS_EXISTS"),
            &[],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn questions() -> Vec<Case> {
    let selector = (Code::InvalidArgument, "SELECTOR_INVALID");
    let web = || command("web", &["true"]);
    let wait = |condition, name: &str| proto::WaitProcessRequest {
        name: name.to_owned(),
        condition,
        ..Default::default()
    };
    let signal = |target_signal| proto::SignalProcessRequest {
        name: "web".into(),
        target_signal,
        ..Default::default()
    };
    vec![
        ("no name", Bad::Get("", &[]), INVALID, &["name"]),
        (
            "nobody",
            Bad::Get("ghost", &[]),
            (Code::NotFound, "PROCESS_NOT_FOUND"),
            &[],
        ),
        (
            "read mask",
            Bad::Get("web", &["spec", "status.sate"]),
            INVALID,
            &["read_mask"],
        ),
        (
            "no mask",
            Bad::Update(web(), &[]),
            INVALID,
            &["update_mask"],
        ),
        (
            "star",
            Bad::Update(web(), &["*"]),
            INVALID,
            &["update_mask"],
        ),
        (
            "status",
            Bad::Update(web(), &["status.pid"]),
            INVALID,
            &["update_mask"],
        ),
        (
            "map key",
            Bad::Update(web(), &["spec.env.KEY"]),
            INVALID,
            &["update_mask"],
        ),
        (
            "selector",
            labels("app=web,tier in (a"),
            selector,
            &["selector.label_selector"],
        ),
        (
            "garbage",
            labels("=,="),
            selector,
            &["selector.label_selector"],
        ),
        (
            "page size",
            Bad::List(proto::ListProcessesRequest {
                page_size: -1,
                ..Default::default()
            }),
            INVALID,
            &["page_size"],
        ),
        (
            "page token",
            Bad::List(proto::ListProcessesRequest {
                page_token: "?".into(),
                ..Default::default()
            }),
            (Code::InvalidArgument, "PAGE_TOKEN_INVALID"),
            &["page_token"],
        ),
        (
            "no condition",
            Bad::Wait(wait(0, "web")),
            INVALID,
            &["condition"],
        ),
        (
            "condition",
            Bad::Wait(wait(77, "web")),
            INVALID,
            &["condition"],
        ),
        (
            "wait for nobody",
            Bad::Wait(wait(1, "ghost")),
            (Code::NotFound, "PROCESS_NOT_FOUND"),
            &[],
        ),
        ("no signal", Bad::Signal(signal(None)), INVALID, &["signal"]),
        (
            "signal number",
            Bad::Signal(signal(Some(
                proto::signal_process_request::TargetSignal::SignalNumber(99),
            ))),
            INVALID,
            &["signal_number"],
        ),
        (
            "mode",
            Bad::Watch(proto::WatchProcessesRequest {
                mode: 9,
                ..Default::default()
            }),
            INVALID,
            &["mode"],
        ),
        (
            "watch mask",
            Bad::Watch(proto::WatchProcessesRequest {
                read_mask: paths(&["pid"]),
                ..Default::default()
            }),
            INVALID,
            &["read_mask"],
        ),
        (
            "pattern",
            Bad::Tail(proto::TailLogsRequest {
                pattern: "(".into(),
                ..Default::default()
            }),
            INVALID,
            &["pattern"],
        ),
    ]
}

#[tokio::test]
async fn each_fault_is_named_and_nothing_is_done() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    Bad::Batch(vec![edited("web", |spec| spec.autostart = false)])
        .call(&mut client)
        .await
        .unwrap();
    let mut user = depending("user", &["web"]);
    user.spec.as_mut().unwrap().autostart = false;
    Bad::Create(user).call(&mut client).await.unwrap();
    let before = registry(&mut client).await;
    let mut wrong = Vec::new();
    for (case, bad, (code, reason), fields) in specs().into_iter().chain(questions()) {
        let Err(status) = bad.call(&mut client).await else {
            wrong.push(format!("{case}: accepted"));
            continue;
        };
        let refusal = Refusal::of(&status);
        let told = (
            refusal.code,
            refusal.reason.as_str(),
            refusal.fields.clone(),
        );
        if told != (code, reason, fields.iter().map(|&f| f.to_owned()).collect()) {
            wrong.push(format!("{case}: {refusal:?}"));
        }
        if registry(&mut client).await != before {
            wrong.push(format!("{case}: something was done"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    daemon.ended().await;
}

#[tokio::test]
async fn the_offset_of_a_bad_selector_is_told() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let status = labels("app=web,,x").call(&mut client).await.unwrap_err();
    assert!(
        status.message().contains("at offset 8"),
        "{}",
        status.message()
    );
    daemon.ended().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_with_the_limit() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let mut process = command("big", &["true"]);
    process
        .annotations
        .insert("a".into(), "x".repeat(5 * 1024 * 1024));
    let mut request = Request::new(proto::CreateProcessRequest {
        process: Some(process),
        ..Default::default()
    });
    request.set_timeout(std::time::Duration::from_secs(30));
    let refusal = Refusal::of(&client.create_process(request).await.unwrap_err());
    refusal.is(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &[]);
    assert_eq!(refusal.metadata["limit"], (4 * 1024 * 1024).to_string());
    assert_eq!(registry(&mut client).await, (0, vec![]));
    daemon.ended().await;
}
