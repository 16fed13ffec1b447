//! Outgoing connections for tonic and hyper clients.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use crate::stream::{Stream, forward_io};

/// Longest wait for TCP, name look-up included, and again for the TLS handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no connection was made. Nothing was sent that a server would act on; another try is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The address has no usable host.
    #[error("{0} names no host to connect to")]
    Address(Uri),
    /// TCP failed.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// HOST:PORT.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed: the server is not who we expect, or does not accept us.
    #[error("TLS handshake with {endpoint} failed: {source}")]
    Handshake {
        /// HOST:PORT.
        endpoint: String,
        /// What `rustls` said.
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("{endpoint} did not answer within {STEP_TIMEOUT:?}")]
    Timeout {
        /// HOST:PORT.
        endpoint: String,
    },
}

/// Connects to the host and port of a URI, for `tonic::transport::Endpoint::connect_with_connector`. Whether TLS is
/// spoken is the connector's choice; the URI's scheme only decides the port where none is given (443 for https).
#[derive(Clone)]
pub struct Connector {
    tls: Option<TlsConnector>,
}

impl Connector {
    /// Without TLS.
    pub fn plain() -> Self {
        Self { tls: None }
    }

    /// With TLS; `config` decides which servers are accepted. The URI's host is sent as server name.
    pub fn tls(config: Arc<ClientConfig>) -> Self {
        Self { tls: Some(TlsConnector::from(config)) }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<ClientStream>, ConnectorError> {
        let host = host(&uri).ok_or_else(|| ConnectorError::Address(uri.clone()))?.to_owned();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let endpoint = uri.authority().map_or_else(String::new, |authority| authority.as_str().to_owned());

        let late = || ConnectorError::Timeout { endpoint: endpoint.clone() };
        let tcp = timeout(STEP_TIMEOUT, TcpStream::connect((host.as_str(), port))).await.map_err(|_| late())?;
        let tcp = tcp.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp));
        let tcp = tcp.map_err(|source| ConnectorError::Connect { endpoint: endpoint.clone(), source })?;
        let Some(tls) = self.tls else {
            return Ok(TokioIo::new(ClientStream(Stream::Plain(tcp))));
        };
        let name = ServerName::try_from(host).map_err(|_| ConnectorError::Address(uri.clone()))?;
        let handshake = tls.connect(name, tcp);
        let stream = timeout(STEP_TIMEOUT, handshake).await.map_err(|_| late())?;
        let stream = stream.map_err(|source| ConnectorError::Handshake { endpoint: endpoint.clone(), source })?;
        Ok(TokioIo::new(ClientStream(Stream::Tls(Box::new(stream)))))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ClientStream>;
    type Error = ConnectorError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectorError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// The host without the brackets that a URI puts around an IPv6 address.
fn host(uri: &Uri) -> Option<&str> {
    let host = uri.host()?;
    Some(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

/// One outgoing connection.
#[derive(Debug)]
pub struct ClientStream(Stream<TlsStream<TcpStream>>);

forward_io!(ClientStream, 0);
