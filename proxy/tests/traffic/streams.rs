//! HTTP/2 with trailers, upgrades, and plain TCP.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    app::{App, free_port, full, local},
    mesh::eventually,
    resources::{assignment, cluster, h2_cluster, route_to, tcp_listener},
    routing::Fixture,
};

/// Answers as a gRPC server would: its status is in the trailers.
async fn grpc() -> App {
    App::start(|request, _| {
        Box::pin(async move {
            assert_eq!(request.version(), Version::HTTP_2);
            let message = request.into_body().collect().await.unwrap().to_bytes();
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
            let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
            let body = http_body_util::combinators::BoxBody::new(SyncBody(std::sync::Mutex::new(body)));
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        })
    })
    .await
}

/// A body behind a lock, to be shared as test responses are.
struct SyncBody(std::sync::Mutex<http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>>);

impl hyper::body::Body for SyncBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::pin::Pin::new(&mut *self.0.lock().unwrap()).poll_frame(cx)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_with_its_trailers() {
    let fixture = Fixture::with(vec![route_to("grpc")], grpc().await, App::echo("b").await).await;
    fixture.mesh.state.put("grpc", &h2_cluster("grpc"));
    fixture.mesh.state.put("grpc", &assignment("grpc", &[fixture.a.address]));
    let stream = TcpStream::connect(local(fixture.port)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut call = async || {
        let request = Request::post(format!("http://grpc:{}/pkg.Service/Method", fixture.port))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(b"\0\0\0\0\x01x")))
            .unwrap();
        sender.send_request(request).await.unwrap()
    };
    // Until the cluster is there, a gRPC client is told in its own words.
    let response = loop {
        let response = call().await;
        if response.headers().get("grpc-status").is_none() {
            break response;
        }
        assert_eq!(response.headers()["grpc-status"], "14");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(&body.to_bytes()[..], b"\0\0\0\0\x01x");
    eventually("the status is counted", async || {
        let metrics = fixture.proxy.metrics().await;
        metrics.contains("request_protocol=\"grpc\"") && metrics.contains("grpc_response_status=\"0\"")
    })
    .await;
    fixture.proxy.stop().await;
}

/// Switches to a protocol that echoes bytes.
async fn echo_socket() -> App {
    App::start(|mut request, _| {
        Box::pin(async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 5];
                io.read_exact(&mut buffer).await.unwrap();
                io.write_all(&buffer).await.unwrap();
            });
            let response =
                Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
            response.body(full("")).unwrap()
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_are_tunnelled() {
    let fixture = Fixture::with(vec![route_to("a")], echo_socket().await, App::echo("b").await).await;
    let stream = TcpStream::connect(local(fixture.port)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/chat")
        .header("host", "a")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    io.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    drop(io);
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_keeps_half_closed_connections() {
    let fixture = Fixture::start(vec![route_to("a")]).await;
    // Reads to the end, then answers: it needs the client's half to close alone.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            said.reverse();
            stream.write_all(&said).await.unwrap();
        }
    });
    let port = free_port();
    fixture.mesh.state.put("bytes", &cluster("bytes"));
    fixture.mesh.state.put("bytes", &assignment("bytes", &[address]));
    fixture.mesh.state.put("tcp", &tcp_listener("tcp", port, &[("bytes", 1), ("never", 0)]));
    let talk = async || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(local(port)).await?;
        stream.write_all(b"abc").await?;
        stream.shutdown().await?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await?;
        Ok(heard)
    };
    eventually("the bytes come back", async || talk().await.is_ok_and(|heard| heard == b"cba")).await;
    eventually("the bytes are counted", async || {
        let metrics = fixture.proxy.metrics().await;
        metrics.contains("istio_tcp_connections_closed_total") && metrics.contains("istio_tcp_received_bytes_total")
    })
    .await;
    fixture.proxy.stop().await;
}
