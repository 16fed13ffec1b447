//! What etcd's locks and elections are made of: keys that live as long as a lease, in the order in which they came.
//!
//! Owns: one client's request of `Lock` or `Election`, asked of `KV` and `Lease` with that client's own credentials.
//!
//! - Who came first is who has the least create revision under a name; each waits for the one before it alone.
//! - An error reaches the client as etcd tells it there: with its words, and no code of its own.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use proto::etcdserverpb::{
    self as pb, ResponseHeader, compare, kv_server::Kv, lease_server::Lease, range_request, request_op, response_op,
};
use store::{Change, Delivery, Filter, WatchId, WatchRequest, WatchStart, WatchStream};
use tonic::{Extensions, Request, Status, metadata::MetadataMap};
use types::{KeyRange, Revision};

use crate::{
    auth::Caller,
    core::Core,
    deadline::Deadline,
    kv::KvFace,
    lease::LeaseFace,
    status::{failed, server_stopped, without_code},
};

/// How long a lease lives that is granted to who brings none, seconds. Source: etcd `concurrency.defaultSessionTTL`.
const TTL_SECONDS: i64 = 60;

/// Where sessions start.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) core: Arc<Core>,
    pub(crate) kv: KvFace,
    pub(crate) lease: LeaseFace,
}

/// One client's request, and who the client is.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    sessions: Sessions,
    metadata: MetadataMap,
    extensions: Extensions,
}

/// A transaction's answer: its header, whether it succeeded, and the keys that each of its reads found.
pub(crate) struct Outcome {
    pub(crate) header: ResponseHeader,
    pub(crate) succeeded: bool,
    pub(crate) found: Vec<Vec<proto::mvccpb::KeyValue>>,
}

impl Sessions {
    /// Takes a request apart: what is asked, and a session of who asks. What a session does may outlive the call, to
    /// clean up after it, and so has no deadline of the call's.
    pub(crate) fn open<T>(&self, request: Request<T>) -> (T, Session) {
        let (metadata, mut extensions, message) = request.into_parts();
        extensions.remove::<Deadline>();
        if let Some(caller) = extensions.get_mut::<Caller>() {
            caller.forget_deadline();
        }
        (message, Session { sessions: self.clone(), metadata, extensions })
    }
}

impl Session {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.sessions.core
    }

    /// The lease that the client brings, or one of its own that nobody keeps alive.
    pub(crate) async fn lease(&self, brought: i64) -> Result<i64, Status> {
        if brought != 0 {
            return Ok(brought);
        }
        let grant = self.request(pb::LeaseGrantRequest { ttl: TTL_SECONDS, id: 0 });
        let granted = self.sessions.lease.lease_grant(grant).await.map_err(|status| without_code(&status))?;
        Ok(granted.into_inner().id)
    }

    pub(crate) async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        let answer = self.sessions.kv.range(self.request(request)).await.map_err(|status| without_code(&status))?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn delete(&self, key: Bytes) -> Result<ResponseHeader, Status> {
        let request = self.request(pb::DeleteRangeRequest { key, ..Default::default() });
        let answer = self.sessions.kv.delete_range(request).await.map_err(|status| without_code(&status))?;
        Ok(answer.into_inner().header.unwrap_or_default())
    }

    pub(crate) async fn txn(&self, request: pb::TxnRequest) -> Result<Outcome, Status> {
        let answer = self.sessions.kv.txn(self.request(request)).await.map_err(|status| without_code(&status))?;
        let pb::TxnResponse { header, succeeded, responses } = answer.into_inner();
        let found = responses.into_iter().filter_map(|op| match op.response {
            Some(response_op::Response::ResponseRange(range)) => Some(range.kvs),
            _ => None,
        });
        Ok(Outcome { header: header.unwrap_or_default(), succeeded, found: found.collect() })
    }

    /// Returns once no key under the prefix is left that was created at `created_max` or before.
    pub(crate) async fn wait_for_those_before(&self, prefix: &Bytes, created_max: i64) -> Result<(), Status> {
        loop {
            let last = pb::RangeRequest { max_create_revision: created_max, ..newest_under(prefix) };
            let answer = self.range(last).await?;
            let Some(last) = answer.kvs.into_iter().next() else { return Ok(()) };
            let mut changes = self.watch(KeyRange::One(last.key), answer.header.map_or(0, |header| header.revision));
            // Whatever it was that ended the wait, a look at the keys tells what is so.
            while changes.next().await?.is_some_and(|change| !matches!(change, Change::Delete { .. })) {}
        }
    }

    /// The changes of keys from a revision on.
    pub(crate) fn watch(&self, keys: KeyRange, from: i64) -> Changes {
        let mut stream = self.core().view.watches().stream();
        let start = Revision::new(from).map_or(WatchStart::Next, WatchStart::At);
        let request = WatchRequest { id: WatchId(0), keys, start, filter: Filter::default(), prev_kv: false };
        stream.watch(request).expect("it is the stream's only watch");
        Changes { stream, waiting: VecDeque::new() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }
}

/// Changes as they come.
pub(crate) struct Changes {
    stream: WatchStream,
    waiting: VecDeque<Change>,
}

impl Changes {
    /// The next change; `None` if it was compacted before it was seen, so that the keys are to be read again.
    pub(crate) async fn next(&mut self) -> Result<Option<Change>, Status> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Ok(Some(change));
            }
            match self.stream.next().await.map_err(|error| failed(&error.into()))? {
                Some(Delivery::Events(events)) => self.waiting.extend(events.iter().map(|(change, _)| change.clone())),
                Some(Delivery::Compacted { .. }) => return Ok(None),
                Some(Delivery::Progress { .. }) => {}
                None => return Err(server_stopped()),
            }
        }
    }
}

/// What all keys of a lock or an election start with.
pub(crate) fn prefix(name: &Bytes) -> Bytes {
    [name, &b"/"[..]].concat().into()
}

/// A lease's key under a prefix: the lease in hexadecimal, as Go prints a signed number.
pub(crate) fn key(prefix: &Bytes, lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// Reads who came first under a prefix.
pub(crate) fn oldest_under(prefix: &Bytes) -> pb::RangeRequest {
    one_under(prefix, range_request::SortOrder::Ascend)
}

/// Reads who came last under a prefix.
fn newest_under(prefix: &Bytes) -> pb::RangeRequest {
    one_under(prefix, range_request::SortOrder::Descend)
}

fn one_under(prefix: &Bytes, order: range_request::SortOrder) -> pb::RangeRequest {
    let (key, range_end) = KeyRange::prefix(prefix.clone()).to_wire();
    let sort_target = range_request::SortTarget::Create.into();
    pb::RangeRequest { key, range_end, limit: 1, sort_order: order.into(), sort_target, ..Default::default() }
}

/// Reads one key.
pub(crate) fn get(key: Bytes) -> pb::RangeRequest {
    pb::RangeRequest { key, ..Default::default() }
}

/// Holds if a key was created at a revision; 0 if it does not exist.
pub(crate) fn created_at(key: Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        key,
        target: compare::CompareTarget::Create.into(),
        result: compare::CompareResult::Equal.into(),
        target_union: Some(compare::TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

pub(crate) fn put_op(key: Bytes, value: Bytes, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key, value, lease, ..Default::default() };
    pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

pub(crate) fn range_op(range: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

pub(crate) fn delete_op(key: Bytes) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key, ..Default::default() };
    pb::RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_name_and_its_lease() {
        let prefix = prefix(&"lock".into());
        let cases = [(1, "lock/1"), (0x2267_a205_ccd1_6716, "lock/2267a205ccd16716"), (-5, "lock/-5")];
        for (lease, expected) in cases {
            assert_eq!(key(&prefix, lease), expected);
        }
        assert_eq!(key(&super::prefix(&Bytes::new()), 255), "/ff");
    }
}
