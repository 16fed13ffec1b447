//! Every request that changes or reads keys, from its bytes to the bytes of its answer.

use bytes::{Buf, Bytes};
use engine::{Batch, Durability, Engine};
use prost::Message;
use proto::etcdserverpb as pb;
use store::{Actor, Answer, Command, Compact, Entry, Limits, Store, View};
use tonic::Status;
use types::LeaseId;

use crate::{
    status::{failed, refused},
    wire,
};

/// Serves the requests in `bytes` on a store in memory: one after another a byte that says which, two bytes of length,
/// and the message. Each goes the whole way: decoded, translated, checked, encoded for the log, decoded, applied, and
/// answered on the wire.
///
/// # Panics
/// If a command does not survive the log, or an answer is of another kind than the request.
pub fn requests(bytes: &[u8]) {
    let mut member = InMemory::new();
    let mut rest = Bytes::copy_from_slice(bytes);
    while rest.remaining() >= 3 {
        let (which, length) = (rest.get_u8(), usize::from(rest.get_u16()));
        let message = rest.split_to(length.min(rest.len()));
        // A refusal is an answer as good as any.
        let _answer = member.serve(which, message);
    }
}

/// A member without a log.
struct InMemory {
    engine: Engine,
    store: Store,
    view: View,
    limits: Limits,
}

impl InMemory {
    fn new() -> Self {
        let (engine, limits) = (Engine::in_memory(Store::SPACES), Limits::default());
        let (store, view) = Store::open(engine.clone(), limits.clone()).expect("memory does not fail");
        Self { engine, store, view, limits }
    }

    fn serve(&mut self, which: u8, message: Bytes) -> Result<Vec<u8>, Status> {
        let header = pb::ResponseHeader::default();
        Ok(match which % 8 {
            0 => {
                let range = wire::range(decode(message)?)?;
                store::validate_range(&range).map_err(|refusal| refused(&refusal))?;
                let answer = self.view.range(&range).map_err(|failure| failed(&failure))?;
                wire::range_response(answer, header).encode_to_vec()
            }
            1 => match self.propose(&Command::Put(wire::put(decode(message)?)?))? {
                Answer::Put(answer) => wire::put_response(answer, header).encode_to_vec(),
                other => unreachable!("a put is answered by {other:?}"),
            },
            2 => match self.propose(&Command::DeleteRange(wire::delete_range(decode(message)?)))? {
                Answer::DeleteRange(answer) => wire::delete_range_response(answer, header).encode_to_vec(),
                other => unreachable!("a delete is answered by {other:?}"),
            },
            3 => self.txn(decode(message)?)?.encode_to_vec(),
            4 => {
                let pb::CompactionRequest { revision, .. } = decode(message)?;
                self.propose(&Command::Compact(Compact { revision }))?;
                Vec::new()
            }
            5 => {
                let pb::LeaseGrantRequest { id, ttl } = decode(message)?;
                let ttl = self.limits.lease_ttl(ttl);
                let id = LeaseId::new(id).ok_or_else(|| Status::invalid_argument("the member would choose"))?;
                self.propose(&Command::LeaseGrant(store::LeaseGrant { id, ttl }))?;
                Vec::new()
            }
            6 => {
                let pb::LeaseRevokeRequest { id } = decode(message)?;
                let ids = LeaseId::new(id).into_iter().collect();
                self.propose(&Command::LeaseRevoke(store::LeaseRevoke { ids }))?;
                Vec::new()
            }
            _ => {
                let request: pb::WatchRequest = decode(message)?;
                request.encode_to_vec()
            }
        })
    }

    fn txn(&mut self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        let txn = wire::txn(request)?;
        let answer = match txn.read_only() {
            Some(reads) => {
                store::validate_read_only(&reads, &self.limits).map_err(|refusal| refused(&refusal))?;
                self.view.txn_read_only(&reads).map_err(|failure| failed(&failure))?
            }
            None => match self.propose(&Command::Txn(txn))? {
                Answer::Txn(answer) => answer,
                other => unreachable!("a transaction is answered by {other:?}"),
            },
        };
        Ok(wire::txn_response(answer, pb::ResponseHeader::default()))
    }

    fn propose(&mut self, command: &Command) -> Result<Answer, Status> {
        store::validate(command, &self.limits).map_err(|refusal| refused(&refusal))?;
        let encoded = command.encode_as(&Actor::Nobody);
        self.limits.size(&encoded).map_err(|refusal| refused(&refusal))?;
        let decoded = Entry::decode(&encoded).expect("what was encoded is decoded");
        assert_eq!(decoded.command, *command, "a command survives the log");
        let mut batch = Batch::new();
        let answer = self.store.apply(&mut batch, decoded).expect("memory does not fail");
        self.engine.write(batch, Durability::Buffered).expect("memory does not fail");
        self.store.publish();
        answer.map_err(|refusal| refused(&refusal))
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};
    use proto::etcdserverpb::{RequestOp, compare::TargetUnion, request_op::Request};

    use super::*;

    fn sent(which: u8, message: &impl Message) -> Vec<u8> {
        let message = message.encode_to_vec();
        let length = u16::try_from(message.len()).expect("short");
        [&[which][..], &length.to_be_bytes(), &message].concat()
    }

    /// One of each kind, with most fields set.
    fn samples() -> Vec<Vec<u8>> {
        let (key, range_end) = (Bytes::from_static(b"a"), Bytes::from_static(b"\0"));
        let range = pb::RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            limit: 2,
            sort_order: 2,
            sort_target: 4,
            max_mod_revision: 9,
            ..Default::default()
        };
        let put = pb::PutRequest { key: key.clone(), value: "v".into(), lease: 7, prev_kv: true, ..Default::default() };
        let delete = pb::DeleteRangeRequest { key: "b".into(), range_end, prev_kv: true };
        let compare =
            pb::Compare { key: key.clone(), target_union: Some(TargetUnion::Version(1)), ..Default::default() };
        let op = |request| RequestOp { request: Some(request) };
        let inner = pb::TxnRequest {
            compare: vec![compare.clone()],
            success: vec![op(Request::RequestRange(range.clone()))],
            failure: vec![op(Request::RequestDeleteRange(delete.clone()))],
        };
        let ops = vec![op(Request::RequestPut(put.clone())), op(Request::RequestTxn(inner))];
        let txn = pb::TxnRequest { compare: vec![compare], success: ops.clone(), failure: ops };
        vec![
            sent(5, &pb::LeaseGrantRequest { id: 7, ttl: 60 }),
            sent(1, &put),
            sent(3, &txn),
            sent(0, &range),
            sent(2, &delete),
            sent(4, &pb::CompactionRequest { revision: 2, physical: false }),
            sent(6, &pb::LeaseRevokeRequest { id: 7 }),
        ]
    }

    #[test]
    fn the_samples_are_served() {
        let mut member = InMemory::new();
        for sample in samples() {
            let answer = member.serve(sample[0], Bytes::copy_from_slice(&sample[3..]));
            assert!(answer.is_ok(), "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_served(bytes in vec(any::<u8>(), 0..300)) {
            requests(&bytes);
        }

        #[test]
        fn damaged_requests_are_served(
            order in vec(any::<Index>(), 1..20),
            damage in vec((any::<Index>(), prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()]), 0..12),
        ) {
            let samples = samples();
            let mut bytes: Vec<u8> = order.iter().flat_map(|index| index.get(&samples).clone()).collect();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            requests(&bytes);
        }
    }
}
