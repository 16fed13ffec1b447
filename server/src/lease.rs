//! etcd's `Lease` service.

use std::sync::Arc;

use futures_util::StreamExt;
use proto::etcdserverpb::{self as pb, lease_server::Lease};
use store::{Answer, Command, LeaseGrant, LeaseRevoke, Renewal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use types::LeaseId;

use crate::{
    core::{Caller, Core},
    kv::mismatched,
    status::{not_confirmed, refused},
};

/// Renewals of one stream that are made together, of those that have arrived.
const KEEP_ALIVE_BATCH_MAX: usize = 1024;
/// Answers of a keep-alive stream that wait for a slow client; then its requests wait too.
const KEEP_ALIVE_QUEUE_MAX: usize = 64;

/// Leases granted, renewed and revoked.
#[derive(Clone, Debug)]
pub(crate) struct LeaseFace {
    pub(crate) core: Arc<Core>,
    pub(crate) caller: Caller,
    pub(crate) limits: store::Limits,
}

#[tonic::async_trait]
impl Lease for LeaseFace {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let ttl = self.limits.lease_ttl(request.ttl).map_err(|refusal| refused(&refusal))?;
        let id = LeaseId::new(request.id).unwrap_or_else(random_lease);
        match self.propose(Command::LeaseGrant(LeaseGrant { id, ttl })).await? {
            Answer::LeaseGrant(answer) => Ok(Response::new(pb::LeaseGrantResponse {
                header: Some(self.core.header(answer.revision)),
                id: answer.id.get(),
                ttl: seconds(answer.ttl),
                error: String::new(),
            })),
            other => Err(mismatched(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let id = named(request.into_inner().id)?;
        match self.propose(Command::LeaseRevoke(LeaseRevoke { ids: vec![id] })).await? {
            Answer::LeaseRevoke(answer) => {
                Ok(Response::new(pb::LeaseRevokeResponse { header: Some(self.core.header(answer.revision)) }))
            }
            other => Err(mismatched(&other)),
        }
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    /// One answer a request, in order. The task ends with either end of the stream.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut requests = request.into_inner().ready_chunks(KEEP_ALIVE_BATCH_MAX);
        let (answers, stream) = mpsc::channel(KEEP_ALIVE_QUEUE_MAX);
        let core = Arc::clone(&self.core);
        self.core.tasks.spawn(async move {
            while let Some(Some(batch)) = core.stop.run_until_cancelled(requests.next()).await {
                let asked = batch.len();
                let ids: Vec<i64> = batch.into_iter().map_while(|request| Some(request.ok()?.id)).collect();
                let broken = ids.len() < asked;
                match keep_alive(&core, ids).await {
                    Ok(renewed) => {
                        for answer in renewed {
                            if answers.send(Ok(answer)).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(status) => {
                        let _client_gone = answers.send(Err(status)).await.is_err();
                        return;
                    }
                }
                if broken {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        self.core.confirm_read().await?;
        let header = Some(self.core.header(self.core.view.revision()));
        let unknown = pb::LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() };
        let Some(lease) = LeaseId::new(request.id).and_then(|id| self.core.view.lease(id)) else {
            return Ok(Response::new(unknown));
        };
        let remaining = self.core.lessor.lock().remaining(lease.id, self.core.clock.now());
        let keys =
            if request.keys { self.core.read(true, move |view| view.lease_keys(lease.id)).await? } else { Vec::new() };
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            ttl: remaining.map_or(0, seconds),
            granted_ttl: seconds(lease.ttl),
            keys,
            ..unknown
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        self.core.confirm_read().await?;
        let ids = self.core.lessor.lock().by_deadline();
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: Some(self.core.header(self.core.view.revision())),
            leases: ids.into_iter().map(|id| pb::LeaseStatus { id: id.get() }).collect(),
        }))
    }
}

impl LeaseFace {
    async fn propose(&self, command: Command) -> Result<Answer, Status> {
        self.core.propose(&command, self.caller, &self.limits).await
    }
}

/// Renews leases, all of them after one round of questions whether this member still leads. An unknown one is no error,
/// but has a TTL of 0; the revision is that before the renewal.
async fn keep_alive(core: &Core, ids: Vec<i64>) -> Result<Vec<pb::LeaseKeepAliveResponse>, Status> {
    core.confirm_read().await?;
    let header = Some(core.header(core.view.revision()));
    let mut lessor = core.lessor.lock();
    let now = core.clock.now();
    let renew = |id| match LeaseId::new(id).map(|lease| lessor.renew(lease, now)) {
        Some(Renewal::Renewed(ttl)) => Ok(pb::LeaseKeepAliveResponse { header, id, ttl: seconds(ttl) }),
        Some(Renewal::Gone) | None => Ok(pb::LeaseKeepAliveResponse { header, id, ttl: 0 }),
        Some(Renewal::NotLeading) => Err(not_confirmed(&raft::ReadError::NotLeader { leader: None })),
    };
    ids.into_iter().map(renew).collect()
}

fn named(id: i64) -> Result<LeaseId, Status> {
    let never_granted = || Status::not_found("etcdserver: requested lease not found");
    LeaseId::new(id).ok_or_else(never_granted)
}

/// Any positive number; the log refuses one that is taken.
fn random_lease() -> LeaseId {
    loop {
        if let Some(id) = LeaseId::new(rand::random::<i64>() & i64::MAX) {
            return id;
        }
    }
}

fn seconds(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}
