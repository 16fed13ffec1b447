//! The questions, each with a check of its answer.

use anyhow::{Context, ensure};
use proto::{
    etcdserverpb::{
        Compare, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
        compare::{CompareTarget, TargetUnion},
        request_op,
    },
    mvccpb::KeyValue,
};

use super::grpc::{Answers, Connection, Questions};

/// Keys written and read.
pub(crate) const KEYS: usize = 10_000;
/// Bytes of each value.
pub(crate) const VALUE_BYTES: usize = 256;
/// Keys that one range returns.
const RANGE_KEYS: usize = 1_000;

/// One connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) Connection);

impl Client {
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let (connection, driver) = Connection::open(address).await?;
        // It ends with the connection, whose fault the calls tell.
        drop(driver);
        Ok(Self(connection))
    }

    pub(crate) async fn put(&self, number: usize) -> anyhow::Result<()> {
        let put = PutRequest { key: key(number).into(), value: vec![b'v'; VALUE_BYTES].into(), ..Default::default() };
        let _: PutResponse = self.0.call("/etcdserverpb.KV/Put", &put).await?;
        Ok(())
    }

    pub(crate) async fn get(&self, number: usize, serializable: bool) -> anyhow::Result<()> {
        let found = self.read(RangeRequest { key: key(number).into(), serializable, ..Default::default() }).await?;
        ensure!(found.len() == 1, "{} was written and is not there", key(number));
        Ok(())
    }

    /// A thousand keys, from the key on or from where a thousand are left.
    pub(crate) async fn range(&self, from: usize) -> anyhow::Result<()> {
        let from = key(from.min(KEYS - RANGE_KEYS));
        let limit = i64::try_from(RANGE_KEYS)?;
        let range = RangeRequest { key: from.into(), range_end: "kez".into(), limit, ..Default::default() };
        ensure!(self.read(range).await?.len() == RANGE_KEYS, "a range of {RANGE_KEYS} keys has fewer");
        Ok(())
    }

    /// Makes a counter of its own, and gives the revision that wrote it.
    pub(crate) async fn counter(&self, number: usize) -> anyhow::Result<i64> {
        let put = PutRequest { key: counter(number).into(), value: "0".into(), ..Default::default() };
        let answer: PutResponse = self.0.call("/etcdserverpb.KV/Put", &put).await?;
        Ok(answer.header.context("no header")?.revision)
    }

    /// Writes the counter if `revision` wrote it last, which must hold; gives the revision that wrote it now.
    pub(crate) async fn increment(&self, number: usize, revision: i64) -> anyhow::Result<i64> {
        let compare = Compare {
            target: CompareTarget::Mod.into(),
            key: counter(number).into(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Default::default()
        };
        let put =
            PutRequest { key: counter(number).into(), value: vec![b'v'; VALUE_BYTES].into(), ..Default::default() };
        let write = RequestOp { request: Some(request_op::Request::RequestPut(put)) };
        let txn = TxnRequest { compare: vec![compare], success: vec![write], failure: Vec::new() };
        let answer: TxnResponse = self.0.call("/etcdserverpb.KV/Txn", &txn).await?;
        ensure!(answer.succeeded, "a counter that nobody else writes was written");
        Ok(answer.header.context("no header")?.revision)
    }

    pub(crate) async fn lease(&self) -> anyhow::Result<Lease> {
        let grant = LeaseGrantRequest { ttl: 60, id: 0 };
        let LeaseGrantResponse { id, .. } = self.0.call("/etcdserverpb.Lease/LeaseGrant", &grant).await?;
        let first = LeaseKeepAliveRequest { id };
        let (questions, mut answers) = self.0.stream("/etcdserverpb.Lease/LeaseKeepAlive", &first).await?;
        renewed(&mut answers).await?;
        Ok(Lease { id, questions, answers })
    }

    async fn read(&self, range: RangeRequest) -> anyhow::Result<Vec<KeyValue>> {
        let answer: RangeResponse = self.0.call("/etcdserverpb.KV/Range", &range).await?;
        ensure!(answer.kvs.iter().all(|found| found.value.len() == VALUE_BYTES), "a value is not as it was written");
        Ok(answer.kvs)
    }
}

/// A lease, and the stream that keeps it alive.
pub(crate) struct Lease {
    id: i64,
    questions: Questions,
    answers: Answers,
}

impl Lease {
    pub(crate) async fn renew(&mut self) -> anyhow::Result<()> {
        self.questions.send(&LeaseKeepAliveRequest { id: self.id })?;
        renewed(&mut self.answers).await
    }
}

async fn renewed(answers: &mut Answers) -> anyhow::Result<()> {
    let answer: LeaseKeepAliveResponse = answers.next().await?.context("the keep-alive stream ended")?;
    ensure!(answer.ttl > 0, "lease {} is gone", answer.id);
    Ok(())
}

/// A key by its number.
pub(crate) fn key(number: usize) -> String {
    format!("key/{number:08}")
}

fn counter(number: usize) -> String {
    format!("counter/{number:08}")
}
