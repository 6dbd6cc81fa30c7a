//! TCP: certificates on both sides, or a warning.

use std::{path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use procession::grpc::proto::{self, process_manager_client::ProcessManagerClient};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use crate::{
    daemon::support::{Client, Daemon, eventually, free_address},
    pki::{Authority, client_config, dns, spiffe},
};

/// TLS of a client, with a certificate of `authority`.
fn client(authority: &Authority) -> Arc<ClientConfig> {
    client_config(authority, Some(&authority.issue(spiffe())))
}

/// Who the daemon takes us for, or why there was no call.
async fn principal(address: String, tls: Option<Arc<ClientConfig>>) -> Result<String, String> {
    let connector = tower::service_fn(move |_| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream: Box<dyn Stream> = match tls {
                None => Box::new(stream),
                Some(tls) => {
                    let name = ServerName::try_from("localhost").unwrap();
                    Box::new(TlsConnector::from(tls).connect(name, stream).await?)
                }
            };
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|e| e.to_string())?;
    let mut client: Client = ProcessManagerClient::new(channel);
    let info = client.get_server_info(proto::GetServerInfoRequest {}).await;
    Ok(info
        .map_err(|status| status.to_string())?
        .into_inner()
        .principal)
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_needs_a_certificate() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let server = authority.issue(dns());
    let address = free_address();
    let daemon = Daemon::start_with(&[
        "--listen",
        &address,
        "--tls-cert",
        &write(directory.path(), "server.pem", &server.certificate.pem()),
        "--tls-key",
        &write(directory.path(), "server.key", &server.key.serialize_pem()),
        "--tls-client-ca",
        &write(directory.path(), "ca.pem", &authority.certificate.pem()),
    ]);
    let seen = principal(address.clone(), Some(client(&authority))).await;
    assert_eq!(seen.as_deref(), Ok("spiffe://example/client"));
    principal(address.clone(), None)
        .await
        .expect_err("plaintext");
    principal(address, Some(client(&Authority::new())))
        .await
        .expect_err("a stranger");
    daemon.ended().await;
}

#[tokio::test]
async fn without_protection_it_warns() {
    let address = free_address();
    let daemon = Daemon::start_with(&["--insecure-tcp", &address]);
    principal(address, None).await.unwrap();
    let warned = |log: String| log.contains("TCP without any protection").then_some(());
    eventually("the warning", || warned(daemon.log()));
    daemon.ended().await;
}

#[test]
fn a_certificate_that_cannot_be_read_is_told_by_option() {
    let directory = tempfile::tempdir().unwrap();
    let broken = write(directory.path(), "broken.pem", "no certificate");
    for (certificate, says) in [
        ("/no/such.pem", "--tls-cert /no/such.pem: No such file"),
        (&broken, "certificate"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_procession"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--tls-cert",
                certificate,
            ])
            .args(["--tls-key", &broken, "--tls-client-ca", &broken, "--socket"])
            .arg(directory.path().join("socket"))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}
