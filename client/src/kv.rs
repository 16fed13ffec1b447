//! Reading and writing keys.

use crate::{
    Client, ClientError,
    transport::{Link, MESSAGE_BYTES_MAX, Repeat},
};
use bytes::Bytes;
use proto::{
    etcdserverpb::{self as pb, kv_client::KvClient},
    mvccpb,
};
use types::{KeyRange, LeaseId, Revision};

/// A range to read. Source: etcd v3 `RangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// The keys.
    pub range: KeyRange,
    /// Most keys to answer; `None` is all.
    pub limit: Option<u32>,
    /// The revision to read at; `None` is the latest.
    pub revision: Option<Revision>,
    /// What to sort by, and how; `None` is by key, ascending.
    pub sort: Option<(SortBy, SortOrder)>,
    /// Answers from the endpoint's own state, which may be stale, without asking its cluster.
    pub serializable: bool,
    /// Leaves values out.
    pub keys_only: bool,
    /// Counts, and answers no keys.
    pub count_only: bool,
    /// Only keys last changed at or after this revision.
    pub min_mod_revision: Option<Revision>,
    /// Only keys last changed at or before this revision.
    pub max_mod_revision: Option<Revision>,
    /// Only keys created at or after this revision.
    pub min_create_revision: Option<Revision>,
    /// Only keys created at or before this revision.
    pub max_create_revision: Option<Revision>,
}

impl Get {
    /// Everything in `range`, as of now.
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            limit: None,
            revision: None,
            sort: None,
            serializable: false,
            keys_only: false,
            count_only: false,
            min_mod_revision: None,
            max_mod_revision: None,
            min_create_revision: None,
            max_create_revision: None,
        }
    }

    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::One(key.into()))
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    pub(crate) fn into_wire(self) -> pb::RangeRequest {
        let (key, range_end) = range_to_wire(&self.range);
        let (target, order) = self.sort.map_or((0, 0), |(by, order)| (by.to_wire().into(), order.to_wire().into()));
        pb::RangeRequest {
            key,
            range_end,
            limit: self.limit.map_or(0, i64::from),
            revision: self.revision.map_or(0, Revision::get),
            sort_order: order,
            sort_target: target,
            serializable: self.serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_revision.map_or(0, Revision::get),
            max_mod_revision: self.max_mod_revision.map_or(0, Revision::get),
            min_create_revision: self.min_create_revision.map_or(0, Revision::get),
            max_create_revision: self.max_create_revision.map_or(0, Revision::get),
        }
    }
}

/// What keys are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The key's bytes.
    Key,
    /// How often it was changed since it was created.
    Version,
    /// When it was created.
    CreateRevision,
    /// When it was last changed.
    ModRevision,
    /// The value's bytes.
    Value,
}

impl SortBy {
    fn to_wire(self) -> pb::range_request::SortTarget {
        use pb::range_request::SortTarget;
        match self {
            Self::Key => SortTarget::Key,
            Self::Version => SortTarget::Version,
            Self::CreateRevision => SortTarget::Create,
            Self::ModRevision => SortTarget::Mod,
            Self::Value => SortTarget::Value,
        }
    }
}

/// How keys are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// Least first.
    Ascending,
    /// Greatest first.
    Descending,
}

impl SortOrder {
    fn to_wire(self) -> pb::range_request::SortOrder {
        match self {
            Self::Ascending => pb::range_request::SortOrder::Ascend,
            Self::Descending => pb::range_request::SortOrder::Descend,
        }
    }
}

/// A key to write. Source: etcd v3 `PutRequest`.
#[derive(Clone, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease that the key lives by; `None` detaches it from any.
    pub lease: Option<LeaseId>,
    /// Answers what the key was before.
    pub prev_kv: bool,
    /// Keeps the key's value; `value` must be empty, and the key must exist.
    pub ignore_value: bool,
    /// Keeps the key's lease; `lease` must be `None`, and the key must exist.
    pub ignore_lease: bool,
}

impl Put {
    /// `key` is to have `value`, and no lease.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: None,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    pub(crate) fn into_wire(self) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key,
            value: self.value,
            lease: self.lease.map_or(0, LeaseId::get),
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

/// Without the value, which may be a secret.
impl std::fmt::Debug for Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Put").field("key", &self.key).field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// A range to delete. Source: etcd v3 `DeleteRangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The keys.
    pub range: KeyRange,
    /// Answers what the keys were.
    pub prev_kv: bool,
}

impl Delete {
    /// All keys in `range`.
    pub fn new(range: KeyRange) -> Self {
        Self { range, prev_kv: false }
    }

    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::One(key.into()))
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    pub(crate) fn into_wire(self) -> pb::DeleteRangeRequest {
        let (key, range_end) = range_to_wire(&self.range);
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.prev_kv }
    }
}

/// Who answered. All zero inside the answer of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that served the call.
    pub member_id: u64,
    /// The term of the leader that it followed.
    pub raft_term: u64,
}

impl Header {
    /// The header, and the revision at which it was written if it names one.
    pub(crate) fn from_wire(header: Option<pb::ResponseHeader>) -> (Self, Option<Revision>) {
        header.map_or((Self::default(), None), |header| {
            let pb::ResponseHeader { cluster_id, member_id, revision, raft_term } = header;
            (Self { cluster_id, member_id, raft_term }, Revision::new(revision))
        })
    }

    /// For answers that always name a revision: their own, or that of the transaction around them.
    pub(crate) fn with_revision(
        header: Option<pb::ResponseHeader>,
        outer: Option<Revision>,
    ) -> Result<(Self, Revision), ClientError> {
        let (header, revision) = Self::from_wire(header);
        let revision = revision.or(outer).ok_or(ClientError::Protocol("an answer names no revision"))?;
        Ok((header, revision))
    }
}

/// A key, as it was at some revision.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value; empty where only keys were asked for.
    pub value: Bytes,
    /// When it was created.
    pub create_revision: Revision,
    /// When it was last changed.
    pub mod_revision: Revision,
    /// 1 when it was created, and 1 more for each change since.
    pub version: i64,
    /// The lease that it lives by.
    pub lease: Option<LeaseId>,
}

impl KeyValue {
    pub(crate) fn from_wire(kv: mvccpb::KeyValue) -> Result<Self, ClientError> {
        let revision = |value| Revision::new(value).ok_or(ClientError::Protocol("a key was changed at no revision"));
        Ok(Self {
            key: kv.key,
            value: kv.value,
            create_revision: revision(kv.create_revision)?,
            mod_revision: revision(kv.mod_revision)?,
            version: kv.version,
            lease: LeaseId::new(kv.lease),
        })
    }

    fn all_from_wire(kvs: Vec<mvccpb::KeyValue>) -> Result<Vec<Self>, ClientError> {
        kvs.into_iter().map(Self::from_wire).collect()
    }
}

/// Without the value, which may be a secret.
impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &self.key)
            .field("mod_revision", &self.mod_revision)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What a [`Get`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision when it was read, which may be later than the revision that was read.
    pub revision: Revision,
    /// The keys, sorted as asked.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left keys out.
    pub more: bool,
    /// All keys of the range, whatever the limit and the filters.
    pub count: u64,
}

impl GetResponse {
    pub(crate) fn from_wire(response: pb::RangeResponse, outer: Option<Revision>) -> Result<Self, ClientError> {
        let (header, revision) = Header::with_revision(response.header, outer)?;
        let kvs = KeyValue::all_from_wire(response.kvs)?;
        Ok(Self { header, revision, kvs, more: response.more, count: count(response.count)? })
    }
}

/// What a [`Put`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResponse {
    /// Who answered.
    pub header: Header,
    /// The revision of the change.
    pub revision: Revision,
    /// The key before, if it was asked for and existed.
    pub prev_kv: Option<KeyValue>,
}

impl PutResponse {
    pub(crate) fn from_wire(response: pb::PutResponse, outer: Option<Revision>) -> Result<Self, ClientError> {
        let (header, revision) = Header::with_revision(response.header, outer)?;
        Ok(Self { header, revision, prev_kv: response.prev_kv.map(KeyValue::from_wire).transpose()? })
    }
}

/// What a [`Delete`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteResponse {
    /// Who answered.
    pub header: Header,
    /// The revision of the change; the present one if there was nothing to delete.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: u64,
    /// The keys before, if they were asked for.
    pub prev_kvs: Vec<KeyValue>,
}

impl DeleteResponse {
    pub(crate) fn from_wire(response: pb::DeleteRangeResponse, outer: Option<Revision>) -> Result<Self, ClientError> {
        let (header, revision) = Header::with_revision(response.header, outer)?;
        let prev_kvs = KeyValue::all_from_wire(response.prev_kvs)?;
        Ok(Self { header, revision, deleted: count(response.deleted)?, prev_kvs })
    }
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactResponse {
    /// Who answered.
    pub header: Header,
    /// The store's present revision.
    pub revision: Revision,
}

/// A range's `key` and `range_end`. No key is empty, so a range from the empty key is one from the least key there is;
/// etcd wants it said so.
pub(crate) fn range_to_wire(range: &KeyRange) -> (Bytes, Bytes) {
    let (key, range_end) = range.to_wire();
    let from_least = key.is_empty() && !range_end.is_empty();
    (if from_least { Bytes::from_static(b"\0") } else { key }, range_end)
}

fn count(value: i64) -> Result<u64, ClientError> {
    u64::try_from(value).map_err(|_| ClientError::Protocol("a count is negative"))
}

pub(crate) fn kv_client(link: Link) -> KvClient<Link> {
    KvClient::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

impl Client {
    /// Reads a range. Source: etcd v3 `KV.Range`.
    ///
    /// # Errors
    /// [`ClientError::Compacted`] when `get.revision` is gone; `Refused` when it is still to come.
    pub async fn get(&self, get: Get) -> Result<GetResponse, ClientError> {
        let request = get.into_wire();
        let range = |link| {
            let request = request.clone();
            async move { kv_client(link).range(request).await }
        };
        GetResponse::from_wire(self.transport.call(Repeat::Always, range).await?, None)
    }

    /// Writes a key. Source: etcd v3 `KV.Put`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NotFound` when the lease does not exist, and for what else the server refuses.
    pub async fn put(&self, put: Put) -> Result<PutResponse, ClientError> {
        let request = put.into_wire();
        let put = |link| {
            let request = request.clone();
            async move { kv_client(link).put(request).await }
        };
        PutResponse::from_wire(self.transport.call(Repeat::IfUnsent, put).await?, None)
    }

    /// Deletes a range. Source: etcd v3 `KV.DeleteRange`.
    ///
    /// # Errors
    /// As [`ClientError`] says; a range without keys is no error.
    pub async fn delete(&self, delete: Delete) -> Result<DeleteResponse, ClientError> {
        let request = delete.into_wire();
        let delete = |link| {
            let request = request.clone();
            async move { kv_client(link).delete_range(request).await }
        };
        DeleteResponse::from_wire(self.transport.call(Repeat::IfUnsent, delete).await?, None)
    }

    /// Gives up all history before `revision`; with `physical`, answers when its space was given back. Source: etcd v3
    /// `KV.Compact`.
    ///
    /// # Errors
    /// [`ClientError::Compacted`] when it was given up already; `Refused` when it is still to come.
    pub async fn compact(&self, revision: Revision, physical: bool) -> Result<CompactResponse, ClientError> {
        let request = pb::CompactionRequest { revision: revision.get(), physical };
        let compact = |link| async move { kv_client(link).compact(request).await };
        let response: pb::CompactionResponse = self.transport.call(Repeat::IfUnsent, compact).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(CompactResponse { header, revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_from_the_empty_key_starts_at_the_least_key() {
        let cases: [(KeyRange, &[u8], &[u8]); 4] = [
            (KeyRange::prefix(""), b"\0", b"\0"),
            (KeyRange::Between("".into(), "b".into()), b"\0", b"b"),
            (KeyRange::prefix("a"), b"a", b"b"),
            (KeyRange::One("".into()), b"", b""),
        ];
        for (range, key, end) in cases {
            assert_eq!(range_to_wire(&range), (Bytes::from_static(key), Bytes::from_static(end)), "{range:?}");
        }
    }
}
