//! What is asked of a server.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, SnapshotRequest,
    TxnRequest, kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op,
    watch_client::WatchClient,
};
use tonic::transport::{Channel, Endpoint};

/// Transactions of a load that are on their way.
const LOADING: usize = 16;
/// Most operations of a transaction, and most bytes of their values.
const TXN_OPS_MAX: usize = 128;
const TXN_BYTES_MAX: usize = 1 << 20;
/// Keys of a page.
const PAGE_KEYS: i64 = 1_000;

/// One connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Client(Channel);

impl Client {
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let endpoint = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(8 << 20);
        Ok(Self(endpoint.connect_timeout(Duration::from_secs(5)).connect().await?))
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.0.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.0.clone())
    }

    pub(crate) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.0.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) async fn get(&self, key: &str) -> anyhow::Result<()> {
        self.kv().range(RangeRequest { key: key.to_owned().into(), ..Default::default() }).await?;
        Ok(())
    }

    /// Gives the revision.
    pub(crate) async fn put(&self, key: &str, value_bytes: usize) -> anyhow::Result<i64> {
        let put = put(key.to_owned(), value_bytes, 0);
        let answer = self.kv().put(put).await?.into_inner();
        Ok(answer.header.context("no header")?.revision)
    }

    /// Puts keys `PREFIX000000000…`, attached to `lease` unless that is 0, many in a transaction.
    pub(crate) async fn load(&self, prefix: &str, keys: usize, value_bytes: usize, lease: i64) -> anyhow::Result<()> {
        let at_once = (TXN_BYTES_MAX / value_bytes.max(1)).clamp(1, TXN_OPS_MAX);
        let txns = (0..keys.div_ceil(at_once)).map(|txn| {
            let numbers = txn * at_once..keys.min((txn + 1) * at_once);
            let puts = numbers.map(|number| put(format!("{prefix}{number:09}"), value_bytes, lease));
            let op = |put| RequestOp { request: Some(request_op::Request::RequestPut(put)) };
            let txn = TxnRequest { success: puts.map(op).collect(), ..Default::default() };
            let mut kv = self.kv();
            async move { kv.txn(txn).await.map(drop) }
        });
        Ok(stream::iter(txns).buffer_unordered(LOADING).try_collect::<()>().await?)
    }

    pub(crate) async fn compact(&self, revision: i64) -> anyhow::Result<()> {
        self.kv().compact(CompactionRequest { revision, physical: false }).await?;
        Ok(())
    }

    /// All keys in one answer; gives the bytes of their values.
    pub(crate) async fn whole(&self) -> anyhow::Result<usize> {
        let answer = self.kv().range(everything(Vec::new())).await?.into_inner();
        Ok(answer.kvs.iter().map(|kv| kv.value.len()).sum())
    }

    /// All keys page by page, at one revision.
    pub(crate) async fn pages(&self) -> anyhow::Result<usize> {
        let (mut bytes, mut key, mut revision) = (0, Vec::new(), 0);
        loop {
            let page = RangeRequest { limit: PAGE_KEYS, revision, ..everything(key) };
            let answer = self.kv().range(page).await?.into_inner();
            bytes += answer.kvs.iter().map(|kv| kv.value.len()).sum::<usize>();
            revision = answer.header.context("no header")?.revision;
            match answer.kvs.last() {
                Some(last) if answer.more => key = [&last.key[..], b"\0"].concat(),
                _ => return Ok(bytes),
            }
        }
    }

    /// All keys by `RangeStream`.
    pub(crate) async fn streamed(&self) -> anyhow::Result<usize> {
        let mut answers = self.kv().range_stream(everything(Vec::new())).await?.into_inner();
        let mut bytes = 0;
        while let Some(answer) = answers.message().await? {
            bytes += answer.range_response.iter().flat_map(|piece| &piece.kvs).map(|kv| kv.value.len()).sum::<usize>();
        }
        Ok(bytes)
    }

    /// The bytes of a snapshot.
    pub(crate) async fn snapshot(&self) -> anyhow::Result<usize> {
        let maintenance = MaintenanceClient::new(self.0.clone()).max_decoding_message_size(usize::MAX);
        let mut pieces = maintenance.clone().snapshot(SnapshotRequest {}).await?.into_inner();
        let mut bytes = 0;
        while let Some(piece) = pieces.message().await? {
            bytes += piece.blob.len();
        }
        Ok(bytes)
    }

    /// Grants a lease by its name.
    pub(crate) async fn grant(&self, id: i64, ttl: i64) -> anyhow::Result<()> {
        let granted = self.lease().lease_grant(LeaseGrantRequest { ttl, id }).await?.into_inner();
        ensure!(granted.ttl == ttl, "asked for {ttl} s, granted {} s", granted.ttl);
        Ok(())
    }

    pub(crate) async fn revoke(&self, id: i64) -> anyhow::Result<()> {
        self.lease().lease_revoke(LeaseRevokeRequest { id }).await?;
        Ok(())
    }
}

pub(crate) fn put(key: String, value_bytes: usize, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: vec![b'v'; value_bytes].into(), lease, ..Default::default() }
}

fn everything(from: Vec<u8>) -> RangeRequest {
    let key = if from.is_empty() { vec![0] } else { from };
    RangeRequest { key: key.into(), range_end: "\0".into(), ..Default::default() }
}
