//! etcd's `Lease` service.

use std::sync::Arc;

use futures_util::StreamExt;
use proto::etcdserverpb::{self as pb, lease_server::Lease};
use store::{Access, Actor, Answer, Command, LeaseGrant, LeaseRevoke};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use types::LeaseId;

use crate::{auth::Caller, core::Core, kv::mismatched, peers, status::auth_refused};

/// Renewals of one stream that are made together, of those that have arrived.
const KEEP_ALIVE_BATCH_MAX: usize = 1024;
/// Answers of a keep-alive stream that wait for a slow client; then its requests wait too.
const KEEP_ALIVE_QUEUE_MAX: usize = 64;

/// Leases granted, renewed and revoked.
#[derive(Clone, Debug)]
pub(crate) struct LeaseFace {
    pub(crate) core: Arc<Core>,
    pub(crate) limits: store::Limits,
}

#[tonic::async_trait]
impl Lease for LeaseFace {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let ttl = self.limits.lease_ttl(request.ttl);
        let id = LeaseId::new(request.id).unwrap_or_else(random_lease);
        match self.propose(Command::LeaseGrant(LeaseGrant { id, ttl }), &caller).await? {
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
        let caller = Caller::of(&request);
        let id = named(request.into_inner().id)?;
        match self.propose(Command::LeaseRevoke(LeaseRevoke { ids: vec![id] }), &caller).await? {
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
        let caller = Caller::of(&request);
        let mut requests = request.into_inner().ready_chunks(KEEP_ALIVE_BATCH_MAX);
        let (answers, stream) = mpsc::channel(KEEP_ALIVE_QUEUE_MAX);
        let core = Arc::clone(&self.core);
        self.core.tasks.spawn(async move {
            loop {
                let batch = tokio::select! {
                    batch = requests.next() => batch,
                    // Nobody is told any more: the client has gone, or the call's time is over.
                    () = answers.closed() => None,
                    () = core.stop.cancelled() => None,
                };
                let Some(batch) = batch else { return };
                let asked = batch.len();
                let ids: Vec<i64> = batch.into_iter().map_while(|request| Some(request.ok()?.id)).collect();
                let broken = ids.len() < asked;
                let (ids, refused) = renewable(&core, &caller, ids).await;
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
                if let Some(status) = refused {
                    let _client_gone = answers.send(Err(status)).await.is_err();
                    return;
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
        let actor = Caller::of(&request).actor();
        let request = request.into_inner();
        self.core.confirm_read().await?;
        let header = Some(self.core.header(self.core.view.revision()));
        let unknown = pb::LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() };
        let Some(lease) = LeaseId::new(request.id).and_then(|id| self.core.view.lease(id)) else {
            return Ok(Response::new(unknown));
        };
        let remaining = peers::remaining(&self.core, Some(lease.id)).await?.first().map(|&(_, remaining)| remaining);
        let keys = if request.keys {
            let read = self.core.read(true, move |view| {
                view.read_as(&actor, |access| view.may_see_lease(access, lease.id), |view| view.lease_keys(lease.id))
            });
            read.await?
        } else {
            Vec::new()
        };
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            ttl: remaining.map_or(0, seconds),
            granted_ttl: seconds(lease.ttl),
            keys,
            ..unknown
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let actor = Caller::of(&request).actor();
        self.core.confirm_read().await?;
        let ids = peers::remaining(&self.core, None).await?.into_iter().map(|(id, _)| id).collect();
        let ids = if self.core.view.auth_is_enabled() { self.visible_leases(actor, ids).await? } else { ids };
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: Some(self.core.header(self.core.view.revision())),
            leases: ids.into_iter().map(|id| pb::LeaseStatus { id: id.get() }).collect(),
        }))
    }
}

impl LeaseFace {
    async fn propose(&self, command: Command, caller: &Caller) -> Result<Answer, Status> {
        self.core.propose(&command, caller, &self.limits).await
    }

    /// These leases, for who may see the keys of all of them.
    async fn visible_leases(&self, actor: Actor, ids: Vec<LeaseId>) -> Result<Vec<LeaseId>, Status> {
        let read = self.core.read(true, move |view| {
            let see_all = |access: &Access<'_>| ids.iter().try_for_each(|&id| view.may_see_lease(access, id));
            view.read_as(&actor, see_all, |_| Ok(()))?;
            Ok(ids)
        });
        read.await
    }
}

/// Renews leases where they are timed. An unknown one is no error, but has a TTL of 0; the revision is that before the
/// renewal.
async fn keep_alive(core: &Core, ids: Vec<i64>) -> Result<Vec<pb::LeaseKeepAliveResponse>, Status> {
    let renewed = peers::renew(core, ids.clone()).await?;
    let header = Some(pb::ResponseHeader { revision: renewed.revision, ..core.header_without_revision() });
    let answer = |(id, ttl)| pb::LeaseKeepAliveResponse { header, id, ttl };
    Ok(ids.into_iter().zip(renewed.ttls).map(answer).collect())
}

/// Those leases that the caller may renew, up to the first that they may not: whoever renews a lease writes all of its
/// keys.
async fn renewable(core: &Core, caller: &Caller, mut ids: Vec<i64>) -> (Vec<i64>, Option<Status>) {
    if !core.view.auth_is_enabled() {
        return (ids, None);
    }
    let recognized = async {
        core.confirm_read().await?;
        core.recognize_again(caller).await
    };
    let actor = match recognized.await {
        Ok(actor) => actor,
        Err(status) => return (Vec::new(), Some(status)),
    };
    let may_renew = |id| match LeaseId::new(id) {
        None => core.view.auth().access(&actor).map(drop).map_err(auth_refused),
        Some(id) => core.view.may_touch_lease(&actor, id).map_err(|failure| core.failed(&failure)),
    };
    let refused = ids.iter().enumerate().find_map(|(at, &id)| Some((at, may_renew(id).err()?)));
    let Some((at, status)) = refused else { return (ids, None) };
    ids.truncate(at);
    (ids, Some(status))
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
