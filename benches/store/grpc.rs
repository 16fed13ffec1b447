//! The leanest gRPC client there can be: it shares the machine with the server that is measured.

use anyhow::{Context, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{Method, Request, Version};
use prost::Message;
use tokio::{net::TcpStream, task::JoinHandle};

/// What the server may send before it must wait for us, bytes.
const WINDOW_BYTES: u32 = 16 << 20;
/// A message's header: a flag and its length.
const PREFIX_BYTES: usize = 5;

/// One HTTP/2 connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    authority: String,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> anyhow::Result<(Self, JoinHandle<Result<(), h2::Error>>)> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) = builder.handshake(socket).await?;
        Ok((Self { requests, authority: address.to_owned() }, tokio::spawn(connection)))
    }

    /// One unary call. Anything but a message with status 0 is an error.
    pub(crate) async fn call<A: Message + Default>(&self, path: &str, request: &impl Message) -> anyhow::Result<A> {
        let (response, mut sender) = self.start(path).await?;
        sender.send_data(framed(request), true)?;
        let mut answers = Answers::new(response).await?;
        let answer = answers.next().await?.context("the server sent no message")?;
        answers.end().await?;
        Ok(answer)
    }

    /// A stream both ways.
    pub(crate) async fn stream(&self, path: &str, first: &impl Message) -> anyhow::Result<(Questions, Answers)> {
        let (response, mut sender) = self.start(path).await?;
        sender.send_data(framed(first), false)?;
        Ok((Questions(sender), Answers::new(response).await?))
    }

    async fn start(&self, path: &str) -> anyhow::Result<(ResponseFuture, SendStream<Bytes>)> {
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        Ok(self.requests.clone().ready().await?.send_request(request, false)?)
    }
}

/// What we send on a stream.
pub(crate) struct Questions(SendStream<Bytes>);

impl Questions {
    pub(crate) fn send(&mut self, question: &impl Message) -> anyhow::Result<()> {
        Ok(self.0.send_data(framed(question), false)?)
    }
}

/// What the server sends.
pub(crate) struct Answers {
    body: RecvStream,
    /// Received and not read yet.
    rest: BytesMut,
}

impl Answers {
    async fn new(response: ResponseFuture) -> anyhow::Result<Self> {
        let response = response.await?;
        if let Some(status) = response.headers().get("grpc-status") {
            ensure!(status == "0", "status {status:?}: {:?}", response.headers().get("grpc-message"));
        }
        Ok(Self { body: response.into_body(), rest: BytesMut::new() })
    }

    /// The next message; `None` when there are no more.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> anyhow::Result<Option<A>> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(A::decode(message)?));
            }
            let Some(data) = self.body.data().await.transpose()? else { return Ok(None) };
            self.body.flow_control().release_capacity(data.len())?;
            self.rest.extend_from_slice(&data);
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let prefix = self.rest.get(..PREFIX_BYTES)?;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.rest.len() < PREFIX_BYTES + length {
            return None;
        }
        self.rest.advance(PREFIX_BYTES);
        Some(self.rest.split_to(length).freeze())
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let trailers = self.body.trailers().await?.context("the server sent no trailers")?;
        let status = trailers.get("grpc-status").context("the server sent no status")?;
        ensure!(status == "0", "status {status:?}: {:?}", trailers.get("grpc-message"));
        Ok(())
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put(message.encode_to_vec().as_slice());
    frame.freeze()
}
