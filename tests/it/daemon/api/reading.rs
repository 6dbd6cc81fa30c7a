//! Reads: never older than what was told, and exact.

use procession::grpc::proto::{self, ProcessState};
use tonic::Code;

use super::{Daemon, create, get, idle, revision, start, status};
use crate::daemon::support::command;

fn sleeper(name: &str) -> proto::Process {
    idle(command(name, &["sleep", "1000"]))
}

#[tokio::test]
async fn a_read_is_never_older_than_a_write_of_the_same_client() {
    let daemon = Daemon::start();
    let (mut writer, mut reader) = (daemon.client().await, daemon.client().await);
    let mut last = 0;
    for i in 0..20 {
        let process = sleeper(&format!("p{i}"));
        let request = proto::CreateProcessRequest {
            process: Some(process),
            ..Default::default()
        };
        let written = writer.create_process(request).await.unwrap().into_inner();
        let at = revision(written.header.as_ref());
        assert!(at > last, "each write has a revision of its own");
        last = at;
        let read = get(&mut reader, &format!("p{i}")).await;
        assert!(revision(read.header.as_ref()) >= at);
        let listed = reader
            .list_processes(proto::ListProcessesRequest::default())
            .await;
        let listed = listed.unwrap().into_inner();
        assert!(revision(listed.header.as_ref()) >= at);
        assert_eq!(listed.total_size, i + 1);
    }
    daemon.ended().await;
}

#[tokio::test]
async fn pages_are_of_one_revision_while_things_change() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    for i in 0..10 {
        create(&mut client, sleeper(&format!("p{i}"))).await;
    }
    let mut request = proto::ListProcessesRequest {
        page_size: 3,
        ..Default::default()
    };
    let (mut names, mut first) = (Vec::new(), None);
    loop {
        let page = client
            .list_processes(request.clone())
            .await
            .unwrap()
            .into_inner();
        let header = page.header.unwrap();
        assert_eq!(first.get_or_insert(header.clone()), &header);
        assert_eq!(page.total_size, 10);
        for process in &page.processes {
            assert!(process.revision <= header.revision);
            assert_eq!(status(process).state(), ProcessState::Stopped);
        }
        names.extend(page.processes.into_iter().map(|process| process.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        // Between two pages: one starts, one comes, one goes.
        let round = names.len();
        start(&mut client, &format!("p{round}")).await;
        create(&mut client, sleeper(&format!("p{round}new"))).await;
        let last = proto::DeleteProcessRequest {
            name: format!("p{}", 9 - round / 3),
            ..Default::default()
        };
        client.delete_process(last).await.unwrap();
    }
    let all: Vec<_> = (0..10).map(|i| format!("p{i}")).collect();
    assert_eq!(names, all);
    daemon.ended().await;
}

#[tokio::test]
async fn a_batch_read_is_all_or_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    for name in ["a", "b"] {
        create(&mut client, sleeper(name)).await;
    }
    let names = |names: &[&str]| proto::BatchGetProcessesRequest {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        read_mask: None,
    };
    let both = client
        .batch_get_processes(names(&["b", "a"]))
        .await
        .unwrap()
        .into_inner();
    let found: Vec<_> = both
        .processes
        .iter()
        .map(|process| process.name.as_str())
        .collect();
    assert_eq!(found, ["b", "a"], "in the order of the request");
    let refused = client
        .batch_get_processes(names(&["a", "x", "y"]))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "no such process: x, y")
    );
    daemon.ended().await;
}

#[tokio::test]
async fn the_server_tells_who_it_is_and_what_it_can_do() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
    let info = info.unwrap().into_inner();
    assert_eq!(info.pid, daemon.pid());
    assert_eq!(info.principal, format!("uid:{}", nix::unistd::geteuid()));
    assert_eq!(info.server_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.max_request_bytes, 4 * 1024 * 1024);
    assert!(info.capabilities.contains(&"pause".to_owned()), "{info:?}");
    assert!(
        !info.capabilities.contains(&"probes".to_owned()),
        "{info:?}"
    );
    for limit in ["processes_max", "watch_streams_max", "list_page_bytes_max"] {
        assert!(info.limits[limit] > 0, "{limit}");
    }
    daemon.ended().await;
}

#[tokio::test]
async fn an_explanation_names_what_holds_a_process() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    create(&mut client, sleeper("db")).await;
    let mut web = sleeper("web");
    web.spec.as_mut().unwrap().dependencies = vec![proto::Dependency {
        name: "db".into(),
        ..Default::default()
    }];
    create(&mut client, web).await;
    let request = proto::StartProcessRequest {
        name: "web".into(),
        ..Default::default()
    };
    client.start_process(request).await.unwrap();
    let request = proto::ExplainProcessRequest {
        name: "web".into(),
        max_events: 2,
    };
    let told = client.explain_process(request).await.unwrap().into_inner();
    assert!(
        told.summary.starts_with("web is PENDING: "),
        "{}",
        told.summary
    );
    assert!(told.summary.contains("db"), "{}", told.summary);
    assert_eq!(told.next_action, "start run 1 once db allows it");
    let blocker = &told.blockers[0];
    assert_eq!(
        (blocker.reason.as_str(), blocker.name.as_str()),
        ("DEPENDENCY", "db")
    );
    assert!(blocker.message.contains("start it"), "{}", blocker.message);
    assert_eq!(told.events.len(), 2);
    assert!(
        told.events[0].revision > told.events[1].revision,
        "newest first"
    );
    daemon.ended().await;
}
