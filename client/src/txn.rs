//! Transactions: compare, then do one list of operations or the other, at one revision.

use crate::{
    Client, ClientError, Delete, DeleteResponse, Get, GetResponse, Header, Put, PutResponse,
    kv::{kv_client, range_to_wire},
    transport::Repeat,
};
use bytes::Bytes;
use proto::etcdserverpb as pb;
use types::{KeyRange, LeaseId, Revision};

/// If all of `when` hold, does `then`, else `otherwise`; all at once. Source: etcd v3 `TxnRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    when: Vec<Comparison>,
    then: Vec<Op>,
    otherwise: Vec<Op>,
}

impl Txn {
    /// One that does nothing, successfully.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, comparison: Comparison) -> Self {
        self.when.push(comparison);
        self
    }

    /// Adds what to do when all conditions hold.
    #[must_use]
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Adds what to do when one does not.
    #[must_use]
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Whether it changes nothing, whatever it finds.
    pub fn is_read_only(&self) -> bool {
        self.then.iter().chain(&self.otherwise).all(Op::is_read_only)
    }

    fn into_wire(self) -> pb::TxnRequest {
        let ops = |ops: Vec<Op>| ops.into_iter().map(Op::into_wire).collect();
        pb::TxnRequest {
            compare: self.when.into_iter().map(Comparison::into_wire).collect(),
            success: ops(self.then),
            failure: ops(self.otherwise),
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads what the transaction's earlier operations left.
    Get(Get),
    /// Writes; a transaction may write a key once.
    Put(Put),
    /// Deletes.
    Delete(Delete),
    /// A transaction inside; its comparisons see the state before the outermost.
    Txn(Txn),
}

impl Op {
    /// Reads one key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get(Get::key(key))
    }

    /// Writes one key.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put(Put::new(key, value))
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete(Delete::key(key))
    }

    fn is_read_only(&self) -> bool {
        match self {
            Self::Get(_) => true,
            Self::Put(_) | Self::Delete(_) => false,
            Self::Txn(txn) => txn.is_read_only(),
        }
    }

    fn into_wire(self) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match self {
            Self::Get(get) => Request::RequestRange(get.into_wire()),
            Self::Put(put) => Request::RequestPut(put.into_wire()),
            Self::Delete(delete) => Request::RequestDeleteRange(delete.into_wire()),
            Self::Txn(txn) => Request::RequestTxn(txn.into_wire()),
        };
        pb::RequestOp { request: Some(request) }
    }
}

/// What is compared. A key that does not exist has 0 for every number, and no value that compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// How often the key was changed since it was created; 0 when it does not exist.
    Version(i64),
    /// When it was created.
    CreateRevision(i64),
    /// When it was last changed.
    ModRevision(i64),
    /// Its value.
    Value(Bytes),
    /// Its lease; `None` is no lease.
    Lease(Option<LeaseId>),
}

/// A condition of a transaction: holds if it holds for every key of `range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    range: KeyRange,
    target: CompareTarget,
    result: pb::compare::CompareResult,
}

impl Comparison {
    /// The same condition on all keys of `range` instead of one.
    #[must_use]
    pub fn over(self, range: KeyRange) -> Self {
        Self { range, ..self }
    }

    fn into_wire(self) -> pb::Compare {
        use pb::compare::{CompareTarget as Target, TargetUnion};
        let (key, range_end) = range_to_wire(&self.range);
        let (target, union) = match self.target {
            CompareTarget::Version(version) => (Target::Version, TargetUnion::Version(version)),
            CompareTarget::CreateRevision(revision) => (Target::Create, TargetUnion::CreateRevision(revision)),
            CompareTarget::ModRevision(revision) => (Target::Mod, TargetUnion::ModRevision(revision)),
            CompareTarget::Value(value) => (Target::Value, TargetUnion::Value(value)),
            CompareTarget::Lease(lease) => (Target::Lease, TargetUnion::Lease(lease.map_or(0, LeaseId::get))),
        };
        pb::Compare { result: self.result.into(), target: target.into(), key, range_end, target_union: Some(union) }
    }
}

/// Half a condition: `Compare::version("key").equal(0)`.
#[derive(Clone, Debug)]
pub struct Compare<V> {
    key: Bytes,
    target: fn(V) -> CompareTarget,
}

impl Compare<i64> {
    /// The version of `key`.
    pub fn version(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), target: CompareTarget::Version }
    }

    /// The revision that created `key`.
    pub fn create_revision(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), target: CompareTarget::CreateRevision }
    }

    /// The revision that last changed `key`.
    pub fn mod_revision(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), target: CompareTarget::ModRevision }
    }
}

impl Compare<Bytes> {
    /// The value of `key`.
    pub fn value(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), target: CompareTarget::Value }
    }
}

impl Compare<Option<LeaseId>> {
    /// The lease of `key`.
    pub fn lease(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), target: CompareTarget::Lease }
    }
}

impl<V> Compare<V> {
    /// Holds if it is `operand`.
    pub fn equal(self, operand: impl Into<V>) -> Comparison {
        self.comparison(pb::compare::CompareResult::Equal, operand.into())
    }

    /// Holds if it is not `operand`.
    pub fn not_equal(self, operand: impl Into<V>) -> Comparison {
        self.comparison(pb::compare::CompareResult::NotEqual, operand.into())
    }

    /// Holds if it is greater than `operand`.
    pub fn greater(self, operand: impl Into<V>) -> Comparison {
        self.comparison(pb::compare::CompareResult::Greater, operand.into())
    }

    /// Holds if it is less than `operand`.
    pub fn less(self, operand: impl Into<V>) -> Comparison {
        self.comparison(pb::compare::CompareResult::Less, operand.into())
    }

    fn comparison(self, result: pb::compare::CompareResult, operand: V) -> Comparison {
        Comparison { range: KeyRange::One(self.key), target: (self.target)(operand), result }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// Who answered.
    pub header: Header,
    /// The revision of the change; the present one if nothing was changed.
    pub revision: Revision,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One for each operation that was done, in order.
    pub responses: Vec<OpResponse>,
}

/// What one operation of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    /// Of [`Op::Get`].
    Get(GetResponse),
    /// Of [`Op::Put`].
    Put(PutResponse),
    /// Of [`Op::Delete`].
    Delete(DeleteResponse),
    /// Of [`Op::Txn`].
    Txn(TxnResponse),
}

impl TxnResponse {
    fn from_wire(response: pb::TxnResponse, outer: Option<Revision>) -> Result<Self, ClientError> {
        let (header, revision) = Header::with_revision(response.header, outer)?;
        let responses =
            response.responses.into_iter().map(|op| OpResponse::from_wire(op, revision)).collect::<Result<_, _>>()?;
        Ok(Self { header, revision, succeeded: response.succeeded, responses })
    }
}

impl OpResponse {
    fn from_wire(response: pb::ResponseOp, outer: Revision) -> Result<Self, ClientError> {
        use pb::response_op::Response;
        let outer = Some(outer);
        Ok(match response.response.ok_or(ClientError::Protocol("a transaction has an empty answer"))? {
            Response::ResponseRange(range) => Self::Get(GetResponse::from_wire(range, outer)?),
            Response::ResponsePut(put) => Self::Put(PutResponse::from_wire(put, outer)?),
            Response::ResponseDeleteRange(delete) => Self::Delete(DeleteResponse::from_wire(delete, outer)?),
            Response::ResponseTxn(txn) => Self::Txn(TxnResponse::from_wire(txn, outer)?),
        })
    }
}

impl Client {
    /// Runs a transaction. Source: etcd v3 `KV.Txn`. One that only reads is repeated as reads are.
    ///
    /// # Errors
    /// As [`ClientError`] says; when one operation is refused, none is done.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, ClientError> {
        let repeat = if txn.is_read_only() { Repeat::Always } else { Repeat::IfUnsent };
        let request = txn.into_wire();
        let txn = |link| {
            let request = request.clone();
            async move { kv_client(link).txn(request).await }
        };
        TxnResponse::from_wire(self.transport.call(repeat, txn).await?, None)
    }
}
