//! TCP: mutual TLS, or explicitly nothing.

use std::{net::SocketAddr, sync::Arc};

use hyper_util::rt::TokioIo;
use procession::grpc::server::{Running, ServerConfig, TcpConfig, TlsFiles};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tower::service_fn;

use super::support::{Client, World, principal};
use crate::pki::{Authority, client_config, dns, spiffe};

fn serve(world: &World, authority: &Authority, client_ca: &Authority) -> (Running, SocketAddr) {
    let server = authority.issue(dns());
    let files = TlsFiles {
        certificates: server.certificate.pem().into_bytes(),
        key: server.key.serialize_pem().into_bytes(),
        client_ca: client_ca.certificate.pem().into_bytes(),
    };
    let running = world
        .serve_with(ServerConfig {
            unix: None,
            tcp: Some(TcpConfig {
                address: "127.0.0.1:0".parse().unwrap(),
                tls: Some(files.server_config().unwrap()),
            }),
            ..world.config()
        })
        .unwrap();
    let address = running.addresses().tcp.unwrap();
    (running, address)
}

/// The principal that the server saw, or why there was no call.
async fn call(address: SocketAddr, config: Arc<ClientConfig>) -> Result<String, String> {
    let connector = service_fn(move |_| {
        let config = Arc::clone(&config);
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(|e| e.to_string())?;
    principal(&mut Client::new(channel))
        .await
        .map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_client_with_a_certificate_is_served_under_its_name() {
    let (world, authority) = (World::new(), Authority::new());
    let (_running, address) = serve(&world, &authority, &authority);
    let identity = authority.issue(spiffe());
    let seen = call(address, client_config(&authority, Some(&identity))).await;
    assert_eq!(seen.unwrap(), "spiffe://example/client");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let (world, authority) = (World::new(), Authority::new());
    let (_running, address) = serve(&world, &authority, &authority);
    call(address, client_config(&authority, None))
        .await
        .unwrap_err();
    // The server lives.
    let identity = authority.issue(spiffe());
    call(address, client_config(&authority, Some(&identity)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let (world, authority, other) = (World::new(), Authority::new(), Authority::new());
    let (_running, address) = serve(&world, &authority, &authority);
    let identity = other.issue(spiffe());
    call(address, client_config(&authority, Some(&identity)))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn plain_text_is_served_only_where_it_was_asked_for() {
    let (world, authority) = (World::new(), Authority::new());
    let plain = |address: SocketAddr| async move {
        let endpoint = Endpoint::try_from(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
        principal(&mut Client::new(channel))
            .await
            .map_err(|e| e.to_string())
    };
    let (_running, address) = serve(&world, &authority, &authority);
    plain(address).await.unwrap_err();

    let insecure = world
        .serve_with(ServerConfig {
            unix: None,
            tcp: Some(TcpConfig {
                address: "127.0.0.1:0".parse().unwrap(),
                tls: None,
            }),
            ..world.config()
        })
        .unwrap();
    let seen = plain(insecure.addresses().tcp.unwrap()).await.unwrap();
    assert_eq!(seen, "insecure:127.0.0.1");
}
