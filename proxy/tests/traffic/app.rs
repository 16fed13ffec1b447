//! Applications behind the proxy, and clients in front of it.

use std::{
    convert::Infallible,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Collected, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A port that nobody listens on, and that no connection is given: the kernel gives those from 32768 on. No two tests of
/// this process get the same.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 8_000 + TAKEN.fetch_add(1, SeqCst) % 8_000;
        if std::net::TcpListener::bind(local(port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// An HTTP/1.1 and HTTP/2 server.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) hits: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl App {
    /// Answers with its name, the request line and the headers it got.
    pub(crate) async fn echo(name: &'static str) -> Self {
        Self::echo_at(name, local(0)).await
    }

    /// The same, at an address of its own.
    pub(crate) async fn echo_at(name: &'static str, address: SocketAddr) -> Self {
        Self::start_at(address, move |request, _| {
            Box::pin(async move {
                let mut text = format!("{name} {} {}\n", request.method(), request.uri().path_and_query().unwrap());
                for (name, value) in request.headers() {
                    writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
                }
                let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
                text.push_str(&String::from_utf8_lossy(&body));
                Response::builder().header("x-app", name).header("keep-alive", "timeout=5").body(full(text)).unwrap()
            })
        })
        .await
    }

    /// `handler` gets the request and how many came before it.
    pub(crate) async fn start(
        handler: impl Fn(Request<Incoming>, usize) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(local(0), handler).await
    }

    async fn start_at(
        address: SocketAddr,
        handler: impl Fn(Request<Incoming>, usize) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let hits = Arc::new(AtomicUsize::new(0));
        let (counter, handler) = (hits.clone(), Arc::new(handler));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (handler, counter) = (handler.clone(), counter.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = handler(request, counter.fetch_add(1, SeqCst));
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, hits, task }
    }

    pub(crate) fn hits(&self) -> usize {
        self.hits.load(SeqCst)
    }
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// A response, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    /// The name of the application that answered.
    pub(crate) fn app(&self) -> &str {
        self.body.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn has_line(&self, line: &str) -> bool {
        self.body.lines().any(|other| other == line)
    }
}

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) async fn get(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Result<Reply, Error> {
    send(address, Method::GET, target, headers, Bytes::new()).await
}

/// Sends one request over HTTP/1.1 on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Reply, Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "app");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let reply = read(response).await;
    driver.abort();
    reply
}

pub(crate) async fn read(response: Response<Incoming>) -> Result<Reply, Error> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
