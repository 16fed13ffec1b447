//! etcd's `Election` service.
//!
//! - The leader is the oldest key under the election's name; its value is what it proclaims.
//! - A leader is named by its key and the revision that created it, so that one that lost its lease can proclaim nothing.
//! - A candidate that goes away while it waits resigns.

use std::sync::Arc;

use bytes::Bytes;
use proto::{
    etcdserverpb::{ResponseHeader, TxnRequest},
    mvccpb,
    v3electionpb::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
        ResignRequest, ResignResponse, election_server::Election,
    },
};
use store::Change;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::warn;
use types::KeyRange;

use crate::{
    session::{self, Session, Sessions, created_at, delete_op, get, oldest_under, put_op, range_op},
    status::{no_leader_elected, no_leader_key, not_elected, server_stopped},
    wire,
};

/// Leaders that wait for a slow observer; then it misses none, but sees them later.
const OBSERVED_QUEUE_MAX: usize = 16;

/// Elections by name.
#[derive(Clone, Debug)]
pub(crate) struct ElectionFace(pub(crate) Sessions);

#[tonic::async_trait]
impl Election for ElectionFace {
    async fn campaign(&self, request: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        let (CampaignRequest { name, lease, value }, session) = self.0.open(request);
        let lease = session.lease(lease).await?;
        let prefix = session::prefix(&name);
        let candidate = Candidate { key: session::key(&prefix, lease), prefix, lease, value, session };
        let key = candidate.key.clone();
        let (header, rev) = candidate.win().await?;
        let leader = LeaderKey { name, key, rev, lease };
        Ok(Response::new(CampaignResponse { header: Some(header), leader: Some(leader) }))
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        let (ProclaimRequest { leader, value }, session) = self.0.open(request);
        let LeaderKey { key, rev, lease, .. } = leader.ok_or_else(no_leader_key)?;
        let lease = session.lease(lease).await?;
        let header = proclaim(&session, key, rev, lease, value).await?;
        Ok(Response::new(ProclaimResponse { header: Some(header) }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let (LeaderRequest { name }, session) = self.0.open(request);
        let answer = session.range(oldest_under(&session::prefix(&name))).await?;
        let kv = answer.kvs.into_iter().next().ok_or_else(no_leader_elected)?;
        Ok(Response::new(LeaderResponse { header: answer.header, kv: Some(kv) }))
    }

    type ObserveStream = ReceiverStream<Result<LeaderResponse, Status>>;

    /// The task ends with the client, or with the server.
    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let (LeaderRequest { name }, session) = self.0.open(request);
        let (leaders, stream) = mpsc::channel(OBSERVED_QUEUE_MAX);
        let core = Arc::clone(session.core());
        core.tasks.spawn(async move {
            let observer = Observer { session, prefix: session::prefix(&name), leaders: leaders.clone() };
            let stop = observer.session.core().stop.clone();
            tokio::select! {
                () = observer.run() => {}
                () = leaders.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let (ResignRequest { leader }, session) = self.0.open(request);
        let LeaderKey { key, rev, .. } = leader.ok_or_else(no_leader_key)?;
        let header = resign(&session, key, rev).await?;
        Ok(Response::new(ResignResponse { header: Some(header) }))
    }
}

async fn proclaim(
    session: &Session,
    key: Bytes,
    created: i64,
    lease: i64,
    value: Bytes,
) -> Result<ResponseHeader, Status> {
    let success = vec![put_op(key.clone(), value, lease)];
    let request = TxnRequest { compare: vec![created_at(key, created)], success, failure: Vec::new() };
    let outcome = session.txn(request).await?;
    if outcome.succeeded { Ok(outcome.header) } else { Err(not_elected()) }
}

/// A leader that is none any more resigns all the same.
async fn resign(session: &Session, key: Bytes, created: i64) -> Result<ResponseHeader, Status> {
    let success = vec![delete_op(key.clone())];
    let request = TxnRequest { compare: vec![created_at(key, created)], success, failure: Vec::new() };
    Ok(session.txn(request).await?.header)
}

/// One client's candidature.
struct Candidate {
    session: Session,
    prefix: Bytes,
    key: Bytes,
    lease: i64,
    value: Bytes,
}

/// The answer to a campaign: a header, and the revision that created the candidate's key.
type Won = (ResponseHeader, i64);

impl Candidate {
    /// Returns when it leads. If the caller goes away before that, it resigns.
    async fn win(self) -> Result<Won, Status> {
        let (won, outcome) = oneshot::channel();
        let core = self.session.core();
        let stop = core.stop.clone();
        core.tasks.clone().spawn(async move { stop.run_until_cancelled(self.campaign(won)).await });
        outcome.await.map_err(|_stopped| server_stopped())?
    }

    async fn campaign(self, mut won: oneshot::Sender<Result<Won, Status>>) {
        let (header, created) = match self.stand().await {
            Ok(standing) => standing,
            // Nobody is there to be told, or somebody is told.
            Err(status) => return drop(won.send(Err(status))),
        };
        let waited = tokio::select! {
            waited = self.session.wait_for_those_before(&self.prefix, created - 1) => waited,
            () = won.closed() => return self.give_up(created).await,
        };
        let leads = waited.is_ok();
        if won.send(waited.map(|()| (header, created))).is_err() && leads {
            self.give_up(created).await;
        }
    }

    /// Queues up, or takes up the place that its lease has already.
    async fn stand(&self) -> Result<Won, Status> {
        let Self { session, key, lease, value, .. } = self;
        let outcome = session.txn(TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![put_op(key.clone(), value.clone(), *lease)],
            failure: vec![range_op(get(key.clone()))],
        });
        let outcome = outcome.await?;
        match outcome.found.into_iter().flatten().next() {
            None => Ok((outcome.header, outcome.header.revision)),
            Some(standing) => {
                let created = standing.create_revision;
                if standing.value != *value
                    && let Err(status) = proclaim(session, key.clone(), created, *lease, value.clone()).await
                {
                    self.give_up(created).await;
                    return Err(status);
                }
                Ok((outcome.header, created))
            }
        }
    }

    async fn give_up(&self, created: i64) {
        if let Err(error) = resign(&self.session, self.key.clone(), created).await {
            warn!(error = error.message(), "could not withdraw a candidature, its lease will");
        }
    }
}

/// One client that is told who leads.
struct Observer {
    session: Session,
    prefix: Bytes,
    leaders: mpsc::Sender<Result<LeaderResponse, Status>>,
}

impl Observer {
    /// Tells of each leader and what it proclaims, until a read fails. etcd ends the stream then, without a word.
    async fn run(&self) {
        while let Ok(leader) = self.leader().await {
            if self.follow(leader).await.is_err() {
                return;
            }
        }
    }

    /// Who leads, once somebody does.
    async fn leader(&self) -> Result<LeaderResponse, Status> {
        loop {
            let answer = self.session.range(oldest_under(&self.prefix)).await?;
            if let Some(kv) = answer.kvs.into_iter().next() {
                return Ok(LeaderResponse { header: answer.header, kv: Some(kv) });
            }
            let from = answer.header.map_or(0, |header| header.revision);
            let mut changes = self.session.watch(KeyRange::prefix(self.prefix.clone()), from);
            while let Some(change) = changes.next().await? {
                if let Change::Put(kv) = change {
                    return Ok(self.at_its_revision(wire::key_value(kv)));
                }
            }
        }
    }

    /// Tells of a leader, and of what it proclaims until it is gone.
    async fn follow(&self, leader: LeaderResponse) -> Result<(), Status> {
        let key = leader.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
        let from = leader.header.map_or(0, |header| header.revision) + 1;
        let mut changes = self.session.watch(KeyRange::One(key), from);
        self.tell(leader).await?;
        while let Some(Change::Put(kv)) = changes.next().await? {
            self.tell(self.at_its_revision(wire::key_value(kv))).await?;
        }
        Ok(())
    }

    fn at_its_revision(&self, kv: mvccpb::KeyValue) -> LeaderResponse {
        let header = ResponseHeader { revision: kv.mod_revision, ..self.session.core().header_without_revision() };
        LeaderResponse { header: Some(header), kv: Some(kv) }
    }

    async fn tell(&self, leader: LeaderResponse) -> Result<(), Status> {
        self.leaders.send(Ok(leader)).await.map_err(|_gone| server_stopped())
    }
}
