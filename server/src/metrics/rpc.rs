//! Calls of the gRPC services, counted, and ended when their time is over.
//!
//! Owns: one shard of counters a serving thread, and the layer that counts into it and holds the clients' deadlines.
//!
//! - Counting touches memory of the serving thread alone; a scrape adds the shards up.
//! - A call counts as started when its head has arrived, and as handled once: with the status that was sent, or as
//!   `Canceled` if the client went away before there was one.
//!
//! Source of names and label values: go-grpc-prometheus, as etcd uses it.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use prost_reflect::DescriptorPool;
use tonic::{body::Body, service::Routes};
use tower::Service;
use types::Durations;

use super::text::Page;
use crate::{
    auth::Gated,
    deadline::{Deadline, Timer},
    status::{self, deadline_exceeded},
    unary::{KV_PATHS, KvService},
};

/// gRPC's codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const CANCELED: usize = 1;
const UNKNOWN: usize = 2;
const STATUS: &str = "grpc-status";

/// The methods that are counted.
#[derive(Debug)]
struct Methods {
    /// `grpc_type`, `grpc_service` and `grpc_method` of each.
    labels: Vec<[String; 3]>,
    by_path: HashMap<String, usize>,
}

impl Methods {
    fn all() -> &'static Self {
        static METHODS: OnceLock<Methods> = OnceLock::new();
        METHODS.get_or_init(|| {
            let pool =
                DescriptorPool::decode(proto::ETCD_DESCRIPTORS).expect("the descriptors are checked in, and tested");
            let mut methods = Self { labels: Vec::new(), by_path: HashMap::new() };
            for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
                let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                    (false, false) => "unary",
                    (false, true) => "server_stream",
                    (true, false) => "client_stream",
                    (true, true) => "bidi_stream",
                };
                let service = method.parent_service().full_name().to_owned();
                methods.by_path.insert(format!("/{service}/{}", method.name()), methods.labels.len());
                methods.labels.push([kind.to_owned(), service, method.name().to_owned()]);
            }
            methods
        })
    }
}

/// What one serving thread counted.
#[derive(Debug)]
struct Shard {
    started: Box<[AtomicU64]>,
    /// By method, then by code.
    handled: Box<[AtomicU64]>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// By method, if they are asked for.
    seconds: Option<Box<[Durations]>>,
}

impl Shard {
    fn new(methods: usize, timed: bool) -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let seconds = timed.then(|| (0..methods).map(|_| Durations::new(Durations::REQUEST)).collect());
        Self {
            started: zeros(methods),
            handled: zeros(methods * CODES.len()),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            seconds,
        }
    }
}

/// The shards of all threads.
#[derive(Debug)]
pub(crate) struct Calls {
    shards: Mutex<Vec<Arc<Shard>>>,
    timed: bool,
}

impl Calls {
    /// `timed`: whether to measure how long calls take.
    pub(crate) fn new(timed: bool) -> Self {
        Self { shards: Mutex::default(), timed }
    }

    fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::new(Methods::all().labels.len(), self.timed));
        self.shards.lock().push(Arc::clone(&shard));
        shard
    }

    /// Writes all shards, added up. Codes that never occurred are left out, except `OK`.
    pub(super) fn write(&self, page: &mut Page) {
        let shards = self.shards.lock().clone();
        let methods = &Methods::all().labels;
        let sum = |pick: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
            shards.iter().map(|shard| pick(shard).load(Ordering::Relaxed)).sum()
        };
        let mut started = page.counter("grpc_server_started_total", "RPCs that were begun.");
        for (at, method) in methods.iter().enumerate() {
            started.with(&labels(method), sum(&|shard| &shard.started[at]));
        }
        let mut handled = page.counter("grpc_server_handled_total", "RPCs that were answered, by status.");
        for (at, method) in methods.iter().enumerate() {
            for (code, name) in CODES.iter().enumerate() {
                let count = sum(&|shard| &shard.handled[at * CODES.len() + code]);
                if count > 0 || code == 0 {
                    let [kind, service, method] = labels(method);
                    handled.with(&[("grpc_code", name), method, service, kind], count);
                }
            }
        }
        page.counter("etcd_network_client_grpc_received_bytes_total", "Bytes of requests that gRPC clients sent.")
            .is(sum(&|shard| &shard.received_bytes));
        page.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of answers that were sent to gRPC clients.")
            .is(sum(&|shard| &shard.sent_bytes));
        if self.timed {
            Self::write_seconds(&shards, methods, page);
        }
    }

    fn write_seconds(shards: &[Arc<Shard>], methods: &[[String; 3]], page: &mut Page) {
        let mut family = page.histogram("grpc_server_handling_seconds", "How long RPCs took until they were answered.");
        for (at, method) in methods.iter().enumerate() {
            let total = Durations::new(Durations::REQUEST);
            shards.iter().filter_map(|shard| shard.seconds.as_ref()).for_each(|seconds| total.add(&seconds[at]));
            family.durations(&labels(method), &total);
        }
    }
}

fn labels(method: &[String; 3]) -> [(&str, &str); 3] {
    let [kind, service, method] = method;
    [("grpc_type", kind), ("grpc_service", service), ("grpc_method", method)]
}

/// gRPC services, their calls counted. A clone counts into the same shard: make one for each serving thread by
/// [`GrpcFace::for_thread`].
#[derive(Clone, Debug)]
pub struct GrpcFace {
    routes: Routes,
    /// Asked before `routes`, since most calls are for it.
    kv: Option<Gated<KvService>>,
    calls: Arc<Calls>,
    shard: Arc<Shard>,
}

impl GrpcFace {
    pub(crate) fn new(routes: Routes, kv: Option<Gated<KvService>>, calls: Arc<Calls>) -> Self {
        let shard = calls.shard();
        Self { routes: routes.prepare(), kv, calls, shard }
    }

    /// `routes` that are none of the client port's: nobody counts their calls.
    pub fn uncounted(routes: Routes) -> Self {
        Self::new(routes, None, Arc::new(Calls::new(false)))
    }

    /// Answers one call.
    pub fn answer<B>(&self, request: Request<B>) -> Answering
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let method = Methods::all().by_path.get(request.uri().path()).copied();
        if let Some(method) = method {
            self.shard.started[method].fetch_add(1, Ordering::Relaxed);
        }
        let begun = self.shard.seconds.as_ref().map(|_| Instant::now());
        let deadline = Deadline::of(request.headers());
        let mut request = request.map(|body| Question { body, shard: Arc::clone(&self.shard) });
        let call = Some(Call { shard: Arc::clone(&self.shard), method, begun });
        let deadline = match deadline {
            Ok(deadline) => deadline,
            Err(malformed) => {
                let refused = ready(Ok(malformed.into_http()));
                return Answering { answer: Either::Right(Box::pin(refused)), call, timer: None };
            }
        };
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let answer = match &self.kv {
            Some(kv) if request.uri().path().starts_with(KV_PATHS) => {
                Either::Right(kv.clone().call(request.map(Body::new)))
            }
            Some(_) | None => Either::Left(self.routes.clone().call(request)),
        };
        Answering { answer, call, timer: deadline.map(Timer::new) }
    }

    /// The same services with counters of their own.
    #[must_use]
    pub fn for_thread(&self) -> Self {
        Self { shard: self.calls.shard(), ..self.clone() }
    }
}

impl<B> Service<Request<B>> for GrpcFace
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // as `Routes` is, always
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        self.answer(request)
    }
}

/// One call until it is counted as handled: at the latest when it is dropped.
#[derive(Debug)]
struct Call {
    shard: Arc<Shard>,
    /// None once it is counted, or if its method is none of those that are.
    method: Option<usize>,
    begun: Option<Instant>,
}

impl Call {
    fn handled(&mut self, code: usize) {
        let Some(method) = self.method.take() else { return };
        self.shard.handled[method * CODES.len() + code].fetch_add(1, Ordering::Relaxed);
        if let (Some(seconds), Some(begun)) = (&self.shard.seconds, self.begun) {
            seconds[method].record(begun.elapsed());
        }
    }

    /// Counts the status that stands among `headers`, if one does.
    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(STATUS) {
            let code = status.to_str().ok().and_then(|text| text.parse().ok());
            self.handled(code.filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.handled(CANCELED);
    }
}

type AnswerOf<S> = <S as Service<Request<Body>>>::Future;

/// An answer on its way.
pub struct Answering {
    answer: Either<AnswerOf<Routes>, AnswerOf<Gated<KvService>>>,
    call: Option<Call>,
    timer: Option<Timer>,
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match Pin::new(&mut self.answer).poll(cx) {
            Poll::Ready(Ok(response)) => response,
            Poll::Pending => {
                ready!(poll_over(&mut self.timer, cx));
                self.timer = None;
                deadline_exceeded().into_http()
            }
        };
        let mut call = self.call.take().expect("a future is not polled after it is ready");
        call.note(response.headers());
        let timer = self.timer.take();
        Poll::Ready(Ok(response.map(|body| Answer { body, call, timer, has_begun: false })))
    }
}

/// The body of a request, its bytes counted.
struct Question<B> {
    body: B,
    shard: Arc<Shard>,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Question<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            self.shard.received_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ready when a call's time is over, if it has an end.
fn poll_over(timer: &mut Option<Timer>, cx: &mut Context<'_>) -> Poll<()> {
    timer.as_mut().map_or(Poll::Pending, |timer| timer.poll_over(cx))
}

/// The body of an answer, its bytes and its status counted.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    call: Call,
    timer: Option<Timer>,
    /// It has told something, so that whatever comes next is part of a stream.
    has_begun: bool,
}

impl Answer {
    /// The next piece, or that the call's time is over.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let piece = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(poll_over(&mut self.timer, cx));
                None
            }
            // A stream may have something to tell at all times.
            Poll::Ready(Some(Ok(piece))) if piece.is_data() && self.has_begun => {
                Some(piece).filter(|_| !self.timer.as_ref().is_some_and(Timer::is_over))
            }
            Poll::Ready(piece) => {
                self.has_begun = true;
                return Poll::Ready(piece);
            }
        };
        Poll::Ready(Some(piece.map_or_else(|| self.end(), Ok)))
    }

    fn end(&mut self) -> Result<Frame<Bytes>, tonic::Status> {
        self.timer = None;
        self.body = Body::empty();
        status::trailers(&deadline_exceeded())
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(self.poll_piece(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.call.shard.sent_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            } else if let Some(trailers) = frame.trailers_ref() {
                self.call.note(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
