//! The simplest store that could be right: what this room asks of etcd v3, in a map.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use bytes::Bytes;
use client::Client;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use proto::{
    etcdserverpb::{
        self as pb,
        compare::{CompareResult, TargetUnion},
        kv_server, lease_server, request_op, response_op,
        watch_request::RequestUnion,
        watch_server,
    },
    mvccpb::{Event, KeyValue, event::EventType},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, service::Routes};
use types::KeyRange;

#[derive(Debug)]
struct State {
    revision: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    history: Vec<Event>,
    leases: Vec<i64>,
    leases_granted: i64,
}

/// A store in memory. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<i64>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let state =
            State { revision: 1, keys: BTreeMap::new(), history: Vec::new(), leases: Vec::new(), leases_granted: 0 };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::channel(1).0 }
    }

    pub(crate) fn client(&self) -> Client {
        let routes = Routes::new(kv_server::KvServer::new(self.clone()))
            .add_service(watch_server::WatchServer::new(self.clone()))
            .add_service(lease_server::LeaseServer::new(self.clone()));
        Client::in_process(routes)
    }

    pub(crate) fn revision(&self) -> i64 {
        self.state.lock().revision
    }

    /// The key's value and lease.
    pub(crate) fn get(&self, key: &str) -> Option<(String, i64)> {
        let state = self.state.lock();
        let found = state.keys.get(key.as_bytes())?;
        Some((String::from_utf8_lossy(&found.value).into_owned(), found.lease))
    }

    /// Lets a lease run out.
    pub(crate) fn expire(&self, lease: i64) {
        self.change(|state| state.revoke(lease));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.changed.send_replace(state.revision);
        result
    }
}

impl State {
    fn header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: self.revision, cluster_id: 1, member_id: 1, raft_term: 1 }
    }

    fn range(&self, key: &Bytes, end: &Bytes) -> Vec<KeyValue> {
        let range = KeyRange::from_wire(key.clone(), end.clone());
        self.keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect()
    }

    fn put(&mut self, put: pb::PutRequest, revision: i64) {
        let before = self.keys.get(&put.key);
        let kv = KeyValue {
            create_revision: before.map_or(revision, |kv| kv.create_revision),
            version: before.map_or(1, |kv| kv.version + 1),
            mod_revision: revision,
            key: put.key.clone(),
            value: put.value,
            lease: put.lease,
        };
        self.history.push(Event { r#type: EventType::Put.into(), kv: Some(kv.clone()), prev_kv: None });
        self.keys.insert(put.key, kv);
    }

    fn delete(&mut self, key: &Bytes, revision: i64) {
        if self.keys.remove(key).is_some() {
            let kv = KeyValue { key: key.clone(), mod_revision: revision, ..Default::default() };
            self.history.push(Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None });
        }
    }

    fn revoke(&mut self, lease: i64) -> bool {
        let keys: Vec<_> = self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect();
        let revision = self.revision + i64::from(!keys.is_empty());
        for key in &keys {
            self.delete(key, revision);
        }
        self.revision = revision;
        let known = self.leases.contains(&lease);
        self.leases.retain(|other| *other != lease);
        known
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let Some(TargetUnion::ModRevision(operand)) = compare.target_union else { panic!("{compare:?}") };
        let mut found: Vec<_> = self.range(&compare.key, &compare.range_end).iter().map(|kv| kv.mod_revision).collect();
        if found.is_empty() {
            found.push(0);
        }
        found.into_iter().all(|revision| match compare.result() {
            CompareResult::Equal => revision == operand,
            CompareResult::Less => revision < operand,
            other => panic!("{other:?}"),
        })
    }
}

#[tonic::async_trait]
impl kv_server::Kv for Store {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        let state = self.state.lock();
        let kvs = state.range(&request.key, &request.range_end);
        let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        let kvs = if request.count_only { Vec::new() } else { kvs };
        Ok(Response::new(pb::RangeResponse { header: Some(state.header()), kvs, more: false, count }))
    }

    type RangeStreamStream = futures_util::stream::Empty<Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.change(|state| {
            state.revision += 1;
            state.put(request.into_inner(), state.revision);
            Ok(Response::new(pb::PutResponse { header: Some(state.header()), prev_kv: None }))
        })
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        self.change(|state| {
            let succeeded = request.compare.iter().all(|compare| state.holds(compare));
            let mut responses = Vec::new();
            if succeeded {
                let revision = state.revision + 1;
                for op in request.success {
                    let response = match op.request {
                        Some(request_op::Request::RequestPut(put)) => {
                            state.put(put, revision);
                            response_op::Response::ResponsePut(pb::PutResponse::default())
                        }
                        Some(request_op::Request::RequestDeleteRange(delete)) => {
                            state.delete(&delete.key, revision);
                            response_op::Response::ResponseDeleteRange(pb::DeleteRangeResponse::default())
                        }
                        other => panic!("{other:?}"),
                    };
                    responses.push(pb::ResponseOp { response: Some(response) });
                }
                state.revision = revision;
            }
            Ok(Response::new(pb::TxnResponse { header: Some(state.header()), succeeded, responses }))
        })
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn compact(&self, _: Request<pb::CompactionRequest>) -> Result<Response<pb::CompactionResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl watch_server::Watch for Store {
    type WatchStream = Responses<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let Some(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }) =
            requests.message().await?
        else {
            return Err(Status::invalid_argument("create first"));
        };
        let (sender, responses) = mpsc::channel(16);
        let (store, mut changed) = (self.clone(), self.changed.subscribe());
        tokio::spawn(async move {
            let _requests = requests;
            let header = Some(store.state.lock().header());
            let created = pb::WatchResponse { header, created: true, ..Default::default() };
            let range = KeyRange::from_wire(create.key, create.range_end);
            let mut sent = sender.send(Ok(created)).await;
            let mut next = create.start_revision;
            while sent.is_ok() {
                let response = {
                    let state = store.state.lock();
                    let is_due = |event: &&Event| {
                        event.kv.as_ref().is_some_and(|kv| kv.mod_revision >= next && range.contains(&kv.key))
                    };
                    let events: Vec<_> = state.history.iter().filter(is_due).cloned().collect();
                    next = state.revision + 1;
                    pb::WatchResponse { header: Some(state.header()), events, ..Default::default() }
                };
                if !response.events.is_empty() {
                    sent = sender.send(Ok(response)).await;
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

#[tonic::async_trait]
impl lease_server::Lease for Store {
    type LeaseKeepAliveStream = Responses<pb::LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.change(|state| {
            state.leases_granted += 1;
            state.leases.push(state.leases_granted);
            let (header, id) = (Some(state.header()), state.leases_granted);
            Ok(Response::new(pb::LeaseGrantResponse {
                header,
                id,
                ttl: request.into_inner().ttl,
                error: String::new(),
            }))
        })
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.change(|state| {
            if !state.revoke(request.into_inner().id) {
                return Err(Status::not_found("etcdserver: requested lease not found"));
            }
            Ok(Response::new(pb::LeaseRevokeResponse { header: Some(state.header()) }))
        })
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let store = self.clone();
        let answers = request.into_inner().map(move |request| {
            let id = request?.id;
            let state = store.state.lock();
            let ttl = if state.leases.contains(&id) { 10 } else { 0 };
            Ok(pb::LeaseKeepAliveResponse { header: Some(state.header()), id, ttl })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}
