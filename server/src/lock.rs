//! etcd's `Lock` service.
//!
//! - The lock belongs to the oldest key under its name, for as long as that key exists: until it is unlocked, or its lease
//!   ends. It is advice: who writes elsewhere under it must present the key's revision there.
//! - Whoever has waited looks once more whether its own key is still there before it is told that it has the lock.
//! - A client that goes away while it waits leaves no key behind.

use bytes::Bytes;
use proto::{
    etcdserverpb::{ResponseHeader, TxnRequest},
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock},
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::{
    session::{self, Session, Sessions, created_at, get, oldest_under, put_op, range_op},
    status::{server_stopped, session_expired},
};

/// Locks by name.
#[derive(Clone, Debug)]
pub(crate) struct LockFace(pub(crate) Sessions);

#[tonic::async_trait]
impl Lock for LockFace {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let (LockRequest { name, lease }, session) = self.0.open(request);
        let lease = session.lease(lease).await?;
        let prefix = session::prefix(&name);
        let claim = Claim { key: session::key(&prefix, lease), prefix, lease, session };
        let key = claim.key.clone();
        let header = claim.hold().await?;
        Ok(Response::new(LockResponse { header: Some(header), key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let (UnlockRequest { key }, session) = self.0.open(request);
        let header = session.delete(key).await?;
        Ok(Response::new(UnlockResponse { header: Some(header) }))
    }
}

/// One client's place in the queue for a lock.
struct Claim {
    session: Session,
    prefix: Bytes,
    key: Bytes,
    lease: i64,
}

impl Claim {
    /// Returns when the lock is held. If the caller goes away before that, so does the claim.
    async fn hold(self) -> Result<ResponseHeader, Status> {
        let (held, outcome) = oneshot::channel();
        let core = self.session.core();
        let stop = core.stop.clone();
        core.tasks.clone().spawn(async move { stop.run_until_cancelled(self.acquire(held)).await });
        outcome.await.map_err(|_stopped| server_stopped())?
    }

    /// A task of its own, so that it can clean up after a caller who is gone.
    async fn acquire(self, mut held: oneshot::Sender<Result<ResponseHeader, Status>>) {
        let outcome = match self.queue_up().await {
            Ok(Place::First(header)) => Ok(header),
            Ok(Place::Behind { created }) => tokio::select! {
                outcome = self.wait(created) => outcome,
                () = held.closed() => return self.give_up().await,
            },
            Err(status) => Err(status),
        };
        let acquired = outcome.is_ok();
        if held.send(outcome).is_err() && acquired {
            self.give_up().await;
        }
    }

    async fn queue_up(&self) -> Result<Place, Status> {
        let Self { key, prefix, lease, .. } = self;
        let owner = || range_op(oldest_under(prefix));
        let outcome = self.session.txn(TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![put_op(key.clone(), Bytes::new(), *lease), owner()],
            failure: vec![range_op(get(key.clone())), owner()],
        });
        let outcome = outcome.await?;
        let created_first = |kvs: &Vec<proto::mvccpb::KeyValue>| kvs.first().map(|kv| kv.create_revision);
        let created = match outcome.found.first() {
            Some(own) if !outcome.succeeded => created_first(own).unwrap_or(outcome.header.revision),
            _ => outcome.header.revision,
        };
        let owner = outcome.found.last().and_then(created_first);
        let is_first = owner.is_none_or(|owner| owner == created);
        Ok(if is_first { Place::First(outcome.header) } else { Place::Behind { created } })
    }

    /// Waits for those before it, and for the answer whether its own place is still there (Jepsen found etcd to forget
    /// that: etcd-io/etcd#11456).
    async fn wait(&self, created: i64) -> Result<ResponseHeader, Status> {
        let waited = async {
            self.session.wait_for_those_before(&self.prefix, created - 1).await?;
            self.session.range(get(self.key.clone())).await
        };
        match waited.await {
            Ok(own) if own.kvs.first().is_some_and(|kv| kv.create_revision == created) => {
                Ok(own.header.unwrap_or_default())
            }
            Ok(_) => Err(session_expired()),
            Err(status) => {
                self.give_up().await;
                Err(status)
            }
        }
    }

    async fn give_up(&self) {
        if let Err(error) = self.session.delete(self.key.clone()).await {
            warn!(error = error.message(), "could not give up a place in a lock's queue, its lease will");
        }
    }
}

/// Where a claim stands.
enum Place {
    First(ResponseHeader),
    Behind {
        /// The revision that created its key.
        created: i64,
    },
}
