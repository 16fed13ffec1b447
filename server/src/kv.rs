//! etcd's `KV` service.

use std::sync::Arc;

use proto::etcdserverpb::{self as pb, kv_server::Kv, request_op};
use store::{Actor, Answer, Command, Compact, Range, RangeAnswer};
use tonic::{Request, Response, Status};

use crate::{
    auth::Caller,
    core::Core,
    long_range, range_stream,
    status::{not_for_learners, refused},
    wire,
};

/// Keys read and written.
#[derive(Clone, Debug)]
pub(crate) struct KvFace {
    pub(crate) core: Arc<Core>,
    pub(crate) limits: store::Limits,
}

#[tonic::async_trait]
impl Kv for KvFace {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let (actor, range) = self.readable(request).await?;
        let answer = self.core.read_range(&actor, &range, usize::MAX).await?;
        Ok(Response::new(self.ranged(answer.expect("no answer is longer"))))
    }

    type RangeStreamStream = range_stream::Chunks;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let serializable = request.serializable;
        let range = range_stream::checked(wire::range(request)?)?;
        if !serializable {
            self.core.confirm_read_until(caller.until()).await?;
        }
        Ok(Response::new(range_stream::start(&self.core, caller.actor(), range)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let caller = Caller::of(&request);
        match self.propose(Command::Put(wire::put(request.into_inner())?), &caller).await? {
            Answer::Put(answer) => {
                let header = self.core.header(answer.revision);
                Ok(Response::new(wire::put_response(answer, header)))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let caller = Caller::of(&request);
        match self.propose(Command::DeleteRange(wire::delete_range(request.into_inner())), &caller).await? {
            Answer::DeleteRange(answer) => {
                let header = self.core.header(answer.revision);
                Ok(Response::new(wire::delete_range_response(answer, header)))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let serializable = is_serializable(&request);
        let txn = wire::txn(request)?;
        let answer = match txn.read_only() {
            Some(reads) => {
                store::validate_read_only(&reads, &self.limits).map_err(|refusal| refused(&refusal))?;
                if !serializable {
                    self.core.confirm_read_until(caller.until()).await?;
                }
                let actor = caller.actor();
                let read = self.core.read(true, move |view| {
                    view.read_as(&actor, |access| Ok(access.read_only(&reads)?), |view| view.txn_read_only(&reads))
                });
                read.await?
            }
            None => match self.propose(Command::Txn(txn), &caller).await? {
                Answer::Txn(answer) => answer,
                other => return Err(mismatched(&other)),
            },
        };
        let header = self.core.header(answer.revision);
        Ok(Response::new(wire::txn_response(answer, header)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        match self.propose(Command::Compact(Compact { revision: request.revision }), &caller).await? {
            Answer::Compact(answer) => {
                if request.physical {
                    self.core.view.swept().await;
                }
                Ok(Response::new(pb::CompactionResponse { header: Some(self.core.header(answer.revision)) }))
            }
            other => Err(mismatched(&other)),
        }
    }
}

/// What a `Range` is answered with.
pub(crate) enum Held {
    Whole(pb::RangeResponse),
    /// To be read in pieces: it would take too much memory.
    TooLong(Actor, Range),
}

impl KvFace {
    /// As `Range`, of an answer that may be too long to be held.
    pub(crate) async fn range_to_be_held(&self, request: Request<pb::RangeRequest>) -> Result<Held, Status> {
        let (actor, range) = self.readable(request).await?;
        let bytes_max = if long_range::has_pieces(&range) { long_range::HELD_BYTES_MAX } else { usize::MAX };
        let answer = self.core.read_range(&actor, &range, bytes_max).await?;
        Ok(answer.map_or_else(|| Held::TooLong(actor, range), |answer| Held::Whole(self.ranged(answer))))
    }

    /// What may be read now.
    async fn readable(&self, request: Request<pb::RangeRequest>) -> Result<(Actor, Range), Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let serializable = request.serializable;
        let range = wire::range(request)?;
        store::validate_range(&range).map_err(|refusal| refused(&refusal))?;
        if !serializable && self.core.raft.is_learner() {
            return Err(not_for_learners());
        }
        if !serializable {
            self.core.confirm_read_until(caller.until()).await?;
        }
        Ok((caller.actor(), range))
    }

    fn ranged(&self, answer: RangeAnswer) -> pb::RangeResponse {
        let header = self.core.header(answer.revision);
        wire::range_response(answer, header)
    }

    async fn propose(&self, command: Command, caller: &Caller) -> Result<Answer, Status> {
        self.core.propose(&command, caller, &self.limits).await
    }
}

/// A command was given another command's answer: our own bug, told rather than hidden.
pub(crate) fn mismatched(answer: &Answer) -> Status {
    Status::internal(format!("etcdserver: answer of another kind: {:?}", std::mem::discriminant(answer)))
}

/// Source: etcd `isTxnSerializable`: all that it does is read, and every read says so.
fn is_serializable(request: &pb::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(&op.request, Some(request_op::Request::RequestRange(range)) if range.serializable))
}
