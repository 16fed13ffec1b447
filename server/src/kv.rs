//! etcd's `KV` service.

use std::sync::Arc;

use proto::etcdserverpb::{self as pb, kv_server::Kv, request_op};
use store::{Answer, Command, Compact};
use tonic::{Request, Response, Status};

use crate::{
    auth::Caller,
    core::Core,
    range_stream,
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
        let actor = Caller::of(&request).actor();
        let request = request.into_inner();
        let serializable = request.serializable;
        let range = wire::range(request)?;
        store::validate_range(&range).map_err(|refusal| refused(&refusal))?;
        if !serializable && self.core.raft.is_learner() {
            return Err(not_for_learners());
        }
        if !serializable {
            self.core.confirm_read().await?;
        }
        let answer = self.core.read_range(actor, range).await?;
        let header = self.core.header(answer.revision);
        Ok(Response::new(wire::range_response(answer, header)))
    }

    type RangeStreamStream = range_stream::Chunks;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let actor = Caller::of(&request).actor();
        let request = request.into_inner();
        let serializable = request.serializable;
        let range = range_stream::checked(wire::range(request)?)?;
        if !serializable {
            self.core.confirm_read().await?;
        }
        Ok(Response::new(range_stream::start(&self.core, actor, range)))
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
                    self.core.confirm_read().await?;
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

impl KvFace {
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
