//! HTTP over TLS, with certificates that are replaced under a running server.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tls::web::{Trust, client_config};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use crate::harness::{Server, eventually, free_port};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Authority::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for `localhost` and its key; gives the certificate's bytes.
fn certify(authority: &Authority, folder: &Path) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
    certificate.der().to_vec()
}

async fn connect(address: SocketAddr, ca: &Path, alpn: &[u8]) -> Option<TlsStream<TcpStream>> {
    let config = client_config(&Trust::File(ca.to_owned()), None, &[alpn]).unwrap();
    let socket = TcpStream::connect(address).await.ok()?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), socket).await.ok()
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn health() -> Request<Empty<Bytes>> {
    Request::get("https://localhost/health").header("host", "localhost").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls_with_the_certificate_of_the_moment() {
    let (authority, folder) = (authority(), tempfile::tempdir().unwrap());
    let (path, ca) = (|name: &str| folder.path().join(name).display().to_string(), folder.path().join("ca.crt"));
    fs::write(&ca, authority.pem()).unwrap();
    let first = certify(&authority, folder.path());
    let secure = free_port();
    let (url, cert, key) = (format!("https://{secure}"), path("server.crt"), path("server.key"));
    let server = Server::start_with(&["--listen-client-urls", &url, "--cert-file", &cert, "--key-file", &key]).await;

    let stream = eventually("TLS", || connect(secure, &ca, b"http/1.1")).await;
    assert_eq!(shown(&stream), first);
    let (mut one, serving) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(serving);
    let answer = one.send_request(health()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);

    let stream = connect(secure, &ca, b"h2").await.unwrap();
    let (mut two, serving) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(serving);
    let answer = two.send_request(health()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), r#"{"health":"true","reason":""}"#);

    let second = certify(&authority, folder.path());
    eventually("the new certificate is shown", || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        connect(secure, &ca, b"h2").await.filter(|stream| shown(stream) == second)
    })
    .await;
    drop(server);
}

#[tokio::test]
async fn a_server_without_a_certificate_makes_one() {
    let secure = free_port();
    let url = format!("https://{secure}");
    let mut server = Server::start_with(&["--listen-client-urls", &url, "--auto-tls"]).await;
    let made = server.file("fixtures/client/cert.pem");
    let first = shown(&eventually("TLS", || connect(secure, &made, b"h2")).await);
    for trust in
        [&["--cacert", made.to_str().unwrap()][..], &["--insecure-transport=false", "--insecure-skip-tls-verify"]]
    {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &url, "put", "k", "v"]).args(trust);
        let output = etcdctl.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "OK\n", "{trust:?}: {output:?}");
    }
    server.crash_and_restart().await;
    let again = shown(&eventually("TLS", || connect(secure, &made, b"h2")).await);
    assert_eq!(again, first);
}
