//! The Unix socket's file, and who may stand behind it.

use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixListener},
};

use procession::grpc::server::{Server, ServerConfig, ServerError, UnixConfig};

use super::support::{DRAIN_MAX, World, channel, mode, principal};

#[tokio::test]
async fn the_socket_is_closed_to_others_and_gone_afterwards() {
    let world = World::new();
    let running = world.serve();
    let path = world.path();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let uid = fs::metadata(&path).unwrap().uid();
    let mut client = world.client().await;
    assert_eq!(principal(&mut client).await.unwrap(), format!("uid:{uid}"));
    drop(client);
    assert!(running.shutdown(DRAIN_MAX).await);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_group_opens_socket_and_directory_to_itself() {
    let world = World::new();
    let gid = nix::unistd::getegid().as_raw();
    let config = ServerConfig {
        unix: Some(UnixConfig {
            path: world.path(),
            group: Some(gid),
        }),
        ..world.config()
    };
    let _bound = Server::bind(config).unwrap();
    assert_eq!(mode(&world.path()), 0o660);
    assert_eq!(mode(world.path().parent().unwrap()), 0o750);
    assert_eq!(fs::metadata(world.path()).unwrap().gid(), gid);
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let world = World::new();
    fs::create_dir(world.path().parent().unwrap()).unwrap();
    // The file stays when its listener is gone.
    drop(UnixListener::bind(world.path()).unwrap());
    assert!(world.path().exists());
    let _running = world.serve();
    principal(&mut world.client().await).await.unwrap();
}

#[tokio::test]
async fn a_living_daemon_is_left_alone() {
    let world = World::new();
    let _running = world.serve();
    let refused = Server::bind(world.config()).unwrap_err();
    assert!(matches!(refused, ServerError::Alive(_)));
    let text = refused.to_string();
    assert!(text.starts_with("another daemon serves "), "{text}");
    principal(&mut world.client().await).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let world = World::new();
    fs::create_dir(world.path().parent().unwrap()).unwrap();
    fs::write(world.path(), "precious").unwrap();
    let refused = Server::bind(world.config()).unwrap_err();
    assert!(matches!(refused, ServerError::NotASocket(_)));
    assert_eq!(fs::read(world.path()).unwrap(), b"precious");
}

#[tokio::test]
async fn a_successors_socket_is_not_removed() {
    let world = World::new();
    let running = world.serve();
    fs::remove_file(world.path()).unwrap();
    let _successor = UnixListener::bind(world.path()).unwrap();
    running.shutdown(DRAIN_MAX).await;
    assert!(world.path().exists());
}

#[tokio::test]
async fn a_failed_bind_leaves_nothing_behind() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = ServerConfig {
        tcp: Some(procession::grpc::server::TcpConfig {
            address: taken.local_addr().unwrap(),
            tls: None,
        }),
        ..world.config()
    };
    let refused = Server::bind(config).unwrap_err();
    assert!(matches!(refused, ServerError::Listen { .. }));
    assert!(!world.path().parent().unwrap().exists());

    let dropped = Server::bind(world.config()).unwrap();
    drop(dropped);
    assert!(!world.path().exists());
}

#[test]
fn a_server_needs_a_listener_and_threads() {
    let world = World::new();
    let nowhere = ServerConfig {
        unix: None,
        ..world.config()
    };
    assert!(matches!(
        Server::bind(nowhere),
        Err(ServerError::NoListener)
    ));
    for api_threads in [0, 5] {
        let refused = Server::bind(ServerConfig {
            api_threads,
            ..world.config()
        });
        assert!(matches!(refused, Err(ServerError::Threads(_))));
    }
}

#[tokio::test]
async fn connections_are_dealt_over_the_threads() {
    let world = World::new();
    let _running = world.serve();
    let mut threads = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let channel = channel(&world.path()).await;
        let mut client = super::support::Client::new(channel);
        let answer = client
            .get_server_info(procession::grpc::proto::GetServerInfoRequest {})
            .await
            .unwrap();
        threads.insert(answer.into_inner().instance_id);
    }
    assert_eq!(threads.len(), 2, "{threads:?}");
}
