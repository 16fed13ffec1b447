//! Mirrors: a prefix of one cluster kept as it is on another.
//!
//! - What is there is copied at one revision, in pages, and then each later revision as one transaction, in order.
//! - A mirror that broke off goes on from the revision that it reached; what it does twice changes nothing.

use crate::{Client, ClientError, Delete, Event, Get, Op, Put, Txn, WatchOptions};
use bytes::Bytes;
use futures_util::StreamExt;
use types::{KeyRange, Revision};

/// How many keys are read at once.
const PAGE_KEYS: u32 = 1000;
/// How much is written at once, bytes of keys and values; a single key may have more. Servers take at least 1.5 MiB.
const TXN_BYTES_MAX: usize = 1 << 20;

/// What to mirror, and to where.
#[derive(Clone, Debug)]
pub struct Mirror {
    source: Client,
    destination: Client,
    prefix: Bytes,
    destination_prefix: Bytes,
    txn_ops_max: usize,
}

/// How far a mirror has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The destination has everything up to this revision of the source's.
    pub revision: Revision,
    /// How many keys were written or deleted since the last report.
    pub keys: u64,
}

impl Mirror {
    /// Mirrors the keys of `source` that start with `prefix` to `destination`, where they start with
    /// `destination_prefix` instead. `txn_ops_max`: most operations of a transaction that the destination takes, at least
    /// 1; a revision of more is written as several.
    pub fn new(
        (source, prefix): (Client, impl Into<Bytes>),
        (destination, destination_prefix): (Client, impl Into<Bytes>),
        txn_ops_max: usize,
    ) -> Self {
        let (prefix, destination_prefix) = (prefix.into(), destination_prefix.into());
        Self { source, destination, prefix, destination_prefix, txn_ops_max: txn_ops_max.max(1) }
    }

    /// Copies all that is there now. `told` hears of each page.
    ///
    /// # Errors
    /// Those of the source or of the destination. Copying may start over.
    pub async fn copy(&self, mut told: impl FnMut(Mirrored)) -> Result<Revision, ClientError> {
        let mut from = self.prefix.clone();
        let mut revision = None;
        let mut range = KeyRange::prefix(self.prefix.clone());
        loop {
            let page = self.source.get(Get { limit: Some(PAGE_KEYS), revision, ..Get::new(range.clone()) }).await?;
            let at = *revision.get_or_insert(page.revision);
            if let Some(last) = page.kvs.last() {
                from = [&last.key[..], b"\0"].concat().into();
            }
            let keys = page.kvs.len() as u64;
            let puts: Vec<_> = page.kvs.into_iter().map(|kv| self.put(&kv.key, kv.value)).collect();
            self.write(puts).await?;
            told(Mirrored { revision: at, keys });
            if !page.more {
                return Ok(at);
            }
            range = match KeyRange::prefix(self.prefix.clone()) {
                KeyRange::Between(_, end) => KeyRange::Between(from.clone(), end),
                _ => KeyRange::AtLeast(from.clone()),
            };
        }
    }

    /// Follows the source from a revision on, until an error. `told` hears of each batch of revisions.
    ///
    /// # Errors
    /// Those of the source or of the destination; [`ClientError::Compacted`] when `from` is gone: copy again.
    pub async fn follow(&self, from: Revision, mut told: impl FnMut(Mirrored)) -> Result<(), ClientError> {
        let options = WatchOptions { start: Some(from), progress: true, ..WatchOptions::default() };
        let mut watch = self.source.watch(KeyRange::prefix(self.prefix.clone()), options).await?;
        while let Some(batch) = watch.next().await {
            let batch = batch?;
            for one in batch.events.chunk_by(|a, b| a.revision() == b.revision()) {
                self.write(one.iter().map(|event| self.op(event)).collect()).await?;
            }
            told(Mirrored { revision: batch.revision, keys: batch.events.len() as u64 });
        }
        Err(ClientError::Protocol("a watch ended without saying why"))
    }

    fn op(&self, event: &Event) -> Op {
        match event {
            Event::Put { kv, .. } => self.put(&kv.key, kv.value.clone()),
            Event::Delete { key, .. } => Op::Delete(Delete::key(self.renamed(key))),
        }
    }

    /// Leases are the source's own and are not mirrored.
    fn put(&self, key: &Bytes, value: Bytes) -> Op {
        Op::Put(Put::new(self.renamed(key), value))
    }

    fn renamed(&self, key: &Bytes) -> Bytes {
        let rest = key.strip_prefix(&self.prefix[..]).unwrap_or(key);
        [&self.destination_prefix[..], rest].concat().into()
    }

    async fn write(&self, ops: Vec<Op>) -> Result<(), ClientError> {
        let mut ops = ops.into_iter().peekable();
        while ops.peek().is_some() {
            let (mut txn, mut count, mut bytes) = (Txn::new(), 0, 0);
            while let Some(op) =
                ops.next_if(|op| count == 0 || (count < self.txn_ops_max && bytes + size(op) <= TXN_BYTES_MAX))
            {
                count += 1;
                bytes += size(&op);
                txn = txn.then(op);
            }
            self.again_if_unsure(txn).await?;
        }
        Ok(())
    }

    /// Writing the same twice in a row changes nothing, so a write whose outcome is unknown is made again, once.
    async fn again_if_unsure(&self, txn: Txn) -> Result<(), ClientError> {
        match self.destination.txn(txn.clone()).await {
            Err(ClientError::Uncertain { .. }) => self.destination.txn(txn).await.map(drop),
            outcome => outcome.map(drop),
        }
    }
}

/// Bytes of keys and values.
fn size(op: &Op) -> usize {
    match op {
        Op::Put(put) => put.key.len() + put.value.len(),
        Op::Delete(delete) => delete.range.start().len(),
        Op::Get(_) | Op::Txn(_) => 0,
    }
}
