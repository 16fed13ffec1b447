//! A server that is just enough of etcd to break in chosen ways.
//!
//! Owns: one store that several nodes serve, and the script of what goes wrong.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unnecessary_wraps,
    reason = "a test that meets the unexpected ends"
)]

use bytes::Bytes;
use proto::{
    etcdserverpb::{
        self as pb,
        kv_server::{Kv, KvServer},
        lease_server::{Lease, LeaseServer},
        watch_request::RequestUnion,
        watch_server::{Watch, WatchServer},
    },
    mvccpb::{self, event::EventType},
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, service::Routes};
use types::KeyRange;

/// What befalls one watch connection, in place of serving it well.
#[derive(Clone, Debug)]
pub enum WatchFault {
    /// The stream ends with an error after so many responses, `created` not counted.
    CutAfter(usize),
    /// It is not created at all.
    Refuse,
    /// It is created, then canceled with this reason.
    Cancel(String),
}

/// What befalls the next put.
#[derive(Clone, Debug)]
pub enum PutFault {
    /// It happens, and its answer is an error.
    AnswerWith(tonic::Code, String),
    /// It happens, and is never answered.
    NeverAnswer,
}

#[derive(Default)]
pub struct State {
    pub revision: i64,
    pub compacted: i64,
    pub keys: BTreeMap<Bytes, mvccpb::KeyValue>,
    pub history: Vec<mvccpb::Event>,
    pub leases: BTreeMap<i64, i64>,
    pub renewals: usize,
    /// Most events in one fragment; 0 sends responses whole.
    pub fragment_events: usize,
    /// Sends a progress report after each batch.
    pub progress: bool,
    pub watch_faults: VecDeque<WatchFault>,
    pub put_faults: VecDeque<PutFault>,
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<i64>,
    pub live_watches: Arc<AtomicUsize>,
}

impl Fake {
    pub fn new() -> Self {
        let state = State { revision: 1, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(1), live_watches: Arc::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes all keys at one revision.
    pub fn write(&self, keys: &[&str]) -> i64 {
        let mut state = self.state();
        state.revision += 1;
        let revision = state.revision;
        for key in keys {
            let key = Bytes::copy_from_slice(key.as_bytes());
            let old = state.keys.get(&key).cloned();
            let kv = mvccpb::KeyValue {
                key: key.clone(),
                value: Bytes::from(revision.to_string()),
                create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                mod_revision: revision,
                version: old.as_ref().map_or(1, |old| old.version + 1),
                lease: 0,
            };
            state.keys.insert(key, kv.clone());
            let event = mvccpb::Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: old };
            state.history.push(event);
        }
        drop(state);
        self.changed.send_replace(revision);
        revision
    }

    pub fn compact(&self, revision: i64) {
        self.state().compacted = revision;
    }

    pub fn routes(&self) -> Routes {
        Routes::new(KvServer::new(self.clone()))
            .add_service(WatchServer::new(self.clone()))
            .add_service(LeaseServer::new(self.clone()))
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: self.state().revision, raft_term: 3 })
    }

    /// Events from `next` on, and the revision up to which that is all.
    fn events(&self, range: &KeyRange, next: i64) -> (Vec<mvccpb::Event>, i64) {
        let state = self.state();
        let revision = |event: &mvccpb::Event| event.kv.as_ref().unwrap().mod_revision;
        let matches =
            |event: &&mvccpb::Event| revision(event) >= next && range.contains(&event.kv.as_ref().unwrap().key);
        (state.history.iter().filter(matches).cloned().collect(), state.revision)
    }
}

/// One process that serves the store on a port of its own; killing it cuts every connection at once.
pub struct Node {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Node {
    pub fn start(fake: &Fake) -> Self {
        Self::start_at(fake, "127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(fake: &Fake, address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let routes = fake.routes();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, runtime: Some(runtime) }
    }

    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `condition` holds; fails the test after ten seconds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        if request.key.is_empty() {
            return Err(Status::invalid_argument("etcdserver: key is not provided"));
        }
        if request.revision != 0 && request.revision < self.state().compacted {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
        }
        let range = KeyRange::from_wire(request.key, request.range_end);
        let kvs: Vec<_> = self.state().keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        let count = i64::try_from(kvs.len()).unwrap();
        Ok(Response::new(pb::RangeResponse { header: self.header(), kvs, more: false, count }))
    }

    type RangeStreamStream = futures_util::stream::Empty<Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let fault = self.state().put_faults.pop_front();
        let request = request.into_inner();
        self.write(&[std::str::from_utf8(&request.key).unwrap()]);
        match fault {
            None => Ok(Response::new(pb::PutResponse { header: self.header(), prev_kv: None })),
            Some(PutFault::AnswerWith(code, text)) => Err(Status::new(code, text)),
            Some(PutFault::NeverAnswer) => std::future::pending().await,
        }
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    /// Does every operation of the successful branch; nested transactions have no revision of their own, as in etcd.
    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        use pb::{request_op::Request as Asked, response_op::Response as Answer};
        let mut responses = Vec::new();
        for op in request.into_inner().success {
            let answer = match op.request.unwrap() {
                Asked::RequestPut(put) => Answer::ResponsePut(self.put(Request::new(put)).await?.into_inner()),
                Asked::RequestRange(range) => {
                    let mut response = self.range(Request::new(range)).await?.into_inner();
                    response.header = None;
                    Answer::ResponseRange(response)
                }
                Asked::RequestTxn(txn) => {
                    let mut response = Box::pin(self.txn(Request::new(txn))).await?.into_inner();
                    response.header = Some(pb::ResponseHeader::default());
                    Answer::ResponseTxn(response)
                }
                Asked::RequestDeleteRange(_) => return Err(Status::unimplemented("not needed")),
            };
            responses.push(pb::ResponseOp { response: Some(answer) });
        }
        Ok(Response::new(pb::TxnResponse { header: self.header(), succeeded: true, responses }))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.compact(request.into_inner().revision);
        Ok(Response::new(pb::CompactionResponse { header: self.header() }))
    }
}

type WatchSender = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// Counts itself among the live watches.
struct Live(Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Watch for Fake {
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        assert_eq!(request.metadata().get("hasleader").unwrap(), "true");
        let mut requests = request.into_inner();
        let first = requests.next().await.ok_or_else(|| Status::cancelled("nothing asked"))??;
        let Some(RequestUnion::CreateRequest(create)) = first.request_union else {
            return Err(Status::invalid_argument("not a create request"));
        };
        let fault = self.state().watch_faults.pop_front();
        if matches!(fault, Some(WatchFault::Refuse)) {
            return Err(Status::unavailable("etcdserver: no leader"));
        }
        let (sender, responses) = mpsc::channel(1);
        let fake = self.clone();
        self.live_watches.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let _live = Live(fake.live_watches.clone());
            tokio::select! {
                () = sender.closed() => {}
                _ = serve_watch(&fake, create, fault, &sender) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// Serves one watch until its fault, or for good. `None`: the client is gone.
async fn serve_watch(
    fake: &Fake,
    create: pb::WatchCreateRequest,
    fault: Option<WatchFault>,
    sender: &WatchSender,
) -> Option<()> {
    let mut changed = fake.changed.subscribe();
    let header = fake.header();
    let mut next = if create.start_revision == 0 { header.as_ref()?.revision + 1 } else { create.start_revision };
    let created = pb::WatchResponse { header, created: true, ..Default::default() };
    sender.send(Ok(created)).await.ok()?;
    let mut left = match fault {
        Some(WatchFault::Cancel(cancel_reason)) => {
            let response = pb::WatchResponse { canceled: true, cancel_reason, ..Default::default() };
            return sender.send(Ok(response)).await.ok();
        }
        Some(WatchFault::CutAfter(responses)) => responses,
        Some(WatchFault::Refuse) | None => usize::MAX,
    };
    let compact_revision = fake.state().compacted;
    if next < compact_revision {
        let response = pb::WatchResponse { canceled: true, compact_revision, ..Default::default() };
        return sender.send(Ok(response)).await.ok();
    }
    let range = KeyRange::from_wire(create.key, create.range_end);
    loop {
        let (events, revision) = fake.events(&range, next);
        next = next.max(revision + 1);
        for response in responses(fake, &events) {
            if left == 0 {
                return sender.send(Err(Status::unavailable("cut"))).await.ok();
            }
            left -= 1;
            sender.send(Ok(response)).await.ok()?;
        }
        changed.changed().await.ok()?;
    }
}

/// One batch, in fragments if that is the script, and a progress report behind it.
fn responses(fake: &Fake, events: &[mvccpb::Event]) -> Vec<pb::WatchResponse> {
    let header = fake.header();
    let State { fragment_events, progress, .. } = *fake.state();
    let size = if fragment_events == 0 { usize::MAX } else { fragment_events };
    let mut responses: Vec<_> = events
        .chunks(size)
        .map(|events| pb::WatchResponse { header, events: events.to_vec(), fragment: true, ..Default::default() })
        .collect();
    if let Some(last) = responses.last_mut() {
        last.fragment = false;
    }
    if progress {
        responses.push(pb::WatchResponse { header, ..Default::default() });
    }
    responses
}

#[tonic::async_trait]
impl Lease for Fake {
    type LeaseKeepAliveStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        let id = if id == 0 { 7 } else { id };
        self.state().leases.insert(id, ttl);
        Ok(Response::new(pb::LeaseGrantResponse { header: self.header(), id, ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let known = self.state().leases.remove(&request.into_inner().id).is_some();
        if !known {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.header() }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let fake = self.clone();
        let answers = request.into_inner().map(move |request| {
            let id = request?.id;
            let header = fake.header();
            let mut state = fake.state();
            state.renewals += 1;
            let ttl = state.leases.get(&id).copied().unwrap_or(0);
            Ok(pb::LeaseKeepAliveResponse { header, id, ttl })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let id = request.into_inner().id;
        let granted = self.state().leases.get(&id).copied();
        let (ttl, granted_ttl) = granted.map_or((-1, 0), |ttl| (ttl, ttl));
        Ok(Response::new(pb::LeaseTimeToLiveResponse { header: self.header(), id, ttl, granted_ttl, keys: Vec::new() }))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.state().leases.keys().map(|&id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: self.header(), leases }))
    }
}
