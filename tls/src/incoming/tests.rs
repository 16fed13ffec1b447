use std::{sync::Arc, time::Instant};

use futures_util::StreamExt;
use http::Uri;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::*;
use crate::{
    ClientAuth, Connector, ConnectorError, Credentials, Expect, H2, client_config, server_config, testing::Authority,
    web,
};

async fn listen(security: Security, limits: Limits) -> (Incoming, SocketAddr) {
    let incoming = Incoming::bind("127.0.0.1:0".parse().unwrap(), security, limits).await.unwrap();
    let addr = incoming.local_addr().unwrap();
    (incoming, addr)
}

fn mesh(authority: &Authority, client_auth: ClientAuth) -> Security {
    Security::Mesh(server_config(&authority.credentials("server"), client_auth, H2))
}

fn client(credentials: &Credentials) -> Arc<ClientConfig> {
    client_config(credentials, Expect::AnyInTrustDomain, H2)
}

async fn connect(addr: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, TcpStream::connect(addr).await?).await
}

/// Reads to the end; gives the error's kind where the peer broke off.
async fn end_of(mut socket: TcpStream) -> Result<usize, io::ErrorKind> {
    socket.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_connection_knows_its_peer() {
    let authority = Authority::new("cluster.local");
    let (mut incoming, addr) = listen(mesh(&authority, ClientAuth::Optional), Limits::default()).await;
    for credentials in [authority.credentials("client"), Credentials::new(authority.bundle(), None).unwrap()] {
        let (ours, theirs) = tokio::join!(incoming.next(), connect(addr, client(&credentials)));
        let (mut ours, mut theirs) = (ours.unwrap().unwrap(), theirs.unwrap());
        assert_eq!(ours.peer().spiffe_id, credentials.id());
        assert_eq!(ours.peer().addr, theirs.get_ref().0.local_addr().unwrap());
        assert_eq!(ours.alpn(), Some(&b"h2"[..]));
        theirs.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        ours.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
    }
}

#[tokio::test]
async fn garbage_and_silence_are_cut_and_delay_nobody() {
    let authority = Authority::new("cluster.local");
    let limits = Limits { handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let (mut incoming, addr) = listen(mesh(&authority, ClientAuth::Required), limits).await;
    let silent = TcpStream::connect(addr).await.unwrap();
    let mut garbage = TcpStream::connect(addr).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();

    let good = authority.credentials("client");
    let (ours, theirs) = tokio::join!(incoming.next(), connect(addr, client(&good)));
    assert_eq!(ours.unwrap().unwrap().peer().spiffe_id, good.id());
    theirs.unwrap();

    tokio::select! {
        _ = incoming.next() => panic!("neither may come through"),
        (silent, garbage) = async { tokio::join!(end_of(silent), end_of(garbage)) } => {
            assert_eq!(silent, Ok(0));
            assert!(garbage != Ok(0), "an alert, or a reset for what was not read: {garbage:?}");
        }
    }
}

#[tokio::test]
async fn a_full_listener_lets_wait() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let (mut incoming, addr) = listen(Security::Plain, limits).await;
    let _clients = (TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap());
    let first = incoming.next().await.unwrap().unwrap();
    assert!(futures_util::poll!(incoming.next()).is_pending());
    drop(first);
    incoming.next().await.unwrap().unwrap();
}

#[tokio::test]
async fn handshakes_under_way_are_bounded() {
    let authority = Authority::new("cluster.local");
    let limits = Limits { handshakes_max: 2, handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let (mut incoming, addr) = listen(mesh(&authority, ClientAuth::None), limits).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    assert!(futures_util::poll!(incoming.next()).is_pending());
    assert!(incoming.handshakes.len() <= 2);
    let good = authority.credentials("client");
    let (ours, theirs) = tokio::join!(incoming.next(), connect(addr, client(&good)));
    ours.unwrap().unwrap();
    theirs.unwrap();
}

#[tokio::test]
async fn a_dropped_listener_is_closed_and_its_connections_live() {
    let (mut incoming, addr) = listen(Security::Plain, Limits::default()).await;
    let mut theirs = TcpStream::connect(addr).await.unwrap();
    let mut ours = incoming.next().await.unwrap().unwrap();
    drop(incoming);
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    ours.write_all(b"still here").await.unwrap();
    drop(ours);
    let mut heard = String::new();
    theirs.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "still here");
}

#[tokio::test]
async fn a_failing_accept_is_tried_again_ever_later() {
    let mut pause = Pause::default();
    let mut waits = Vec::new();
    for _ in 0..6 {
        let before = Instant::now();
        pause.begin(&io::Error::from_raw_os_error(24)); // EMFILE
        let wait = pause.last.expect("a pause");
        std::future::poll_fn(|cx| pause.poll(cx)).await;
        assert!(before.elapsed() >= wait);
        waits.push(wait.as_millis());
    }
    assert_eq!(waits, [10, 20, 40, 80, 100, 100]);
    pause.reset();
    assert_eq!(pause.last, None);
}

#[tokio::test]
async fn the_connector_reaches_both_kinds_of_listener() {
    let authority = Authority::new("cluster.local");
    let cases = [
        (Security::Plain, Connector::plain()),
        (mesh(&authority, ClientAuth::Required), Connector::tls(client(&authority.credentials("client")))),
    ];
    for (security, mut connector) in cases {
        let (mut incoming, addr) = listen(security, Limits::default()).await;
        let uri: Uri = format!("http://localhost:{}", addr.port()).parse().unwrap();
        let (ours, theirs) = tokio::join!(incoming.next(), connector.call(uri));
        ours.unwrap().unwrap().write_all(b"x").await.unwrap();
        let mut heard = [0; 1];
        theirs.unwrap().into_inner().read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"x");
    }
}

#[tokio::test]
async fn the_connector_says_what_failed() {
    let authority = Authority::new("cluster.local");
    let (incoming, addr) = listen(Security::Plain, Limits::default()).await;
    drop(incoming);
    let uri: Uri = format!("http://{addr}").parse().unwrap();
    let error = Connector::plain().call(uri).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Connect { .. }), "{error}");

    let (mut incoming, addr) =
        listen(mesh(&Authority::new("cluster.local"), ClientAuth::None), Limits::default()).await;
    let uri: Uri = format!("https://{addr}").parse().unwrap();
    let mut connector = Connector::tls(client(&authority.credentials("client")));
    let error = tokio::select! {
        _ = incoming.next() => panic!("another root's server is not accepted"),
        result = connector.call(uri) => result.unwrap_err(),
    };
    assert!(matches!(error, ConnectorError::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn a_certificate_of_the_web_tells_its_common_name() {
    use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let write = |file: &str, text: String| {
        let path = dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        path
    };
    let issue = |name: &str, common_name: Option<&str>| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(text) = common_name {
            params.distinguished_name.push(DnType::CommonName, text);
        }
        let cert = write(&format!("{name}.crt"), params.signed_by(&key, &ca).unwrap().pem());
        (cert, write(&format!("{name}.key"), key.serialize_pem()))
    };
    let root = write("ca.crt", ca.pem());
    let (cert, key) = issue("server", None);
    let files = web::ServerFiles { client_ca: Some(root.clone()), ..web::ServerFiles::new(cert, key) };
    let security = Security::Web(web::server_config(files, &crate::Policy::default(), H2).unwrap());
    let (mut incoming, addr) = listen(security, Limits::default()).await;
    for common_name in [Some("alice"), Some(""), None] {
        let (cert, key) = issue("client", common_name);
        let config = web::client_config(&web::Trust::File(root.clone()), Some((&cert, &key)), H2).unwrap();
        let (ours, _theirs) = tokio::join!(incoming.next(), connect(addr, config));
        let peer = ours.unwrap().unwrap().peer().clone();
        assert_eq!((peer.common_name.as_deref(), peer.spiffe_id), (common_name.filter(|name| !name.is_empty()), None));
    }
}
