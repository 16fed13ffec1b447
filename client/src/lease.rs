//! Leases: keys that live as long as somebody says so.
//!
//! - A [`LeaseKeeper`] renews at a third of the TTL, and says that the lease is lost no later than the TTL after the
//!   last renewal that the server confirmed, measured from when it was sent: the holder stops before the server lets go.

use crate::{
    Client, ClientError, Header,
    backoff::Backoff,
    transport::{Link, MESSAGE_BYTES_MAX, Repeat},
};
use bytes::Bytes;
use proto::etcdserverpb::{self as pb, lease_client::LeaseClient};
use std::{future::Future, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use types::{LeaseId, Revision};

/// etcd's words for a lease that is not there.
const NOT_FOUND: &str = "etcdserver: requested lease not found";

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision.
    pub revision: Revision,
    /// The lease.
    pub id: LeaseId,
    /// How long it lives without renewal; at least what was asked for.
    pub ttl: Duration,
}

/// A lease that was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAliveResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision.
    pub revision: Revision,
    /// The lease.
    pub id: LeaseId,
    /// How long it lives from now on.
    pub ttl: Duration,
}

/// How long a lease still lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLiveResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision.
    pub revision: Revision,
    /// The lease.
    pub id: LeaseId,
    /// What is left, in whole seconds; `None` when there is no such lease.
    pub remaining: Option<Duration>,
    /// What each renewal gives; zero when there is no such lease.
    pub granted: Duration,
    /// The keys that live by it, if they were asked for.
    pub keys: Vec<Bytes>,
}

/// All leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasesResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision.
    pub revision: Revision,
    /// Those that end first come first.
    pub leases: Vec<LeaseId>,
}

fn lease_client(link: Link) -> LeaseClient<Link> {
    LeaseClient::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// The wire's seconds; below 0 means none.
fn seconds(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

fn lease_id(value: i64) -> Result<LeaseId, ClientError> {
    LeaseId::new(value).ok_or(ClientError::Protocol("a lease is 0"))
}

impl Client {
    /// Grants a lease. `ttl`: whole seconds, at most 9,000,000,000; the server raises short ones. `id`: `None` lets the
    /// server choose. Source: etcd v3 `Lease.LeaseGrant`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the id is taken or the TTL too long.
    pub async fn lease_grant(&self, ttl: Duration, id: Option<LeaseId>) -> Result<GrantResponse, ClientError> {
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let request = pb::LeaseGrantRequest { ttl, id: id.map_or(0, LeaseId::get) };
        let grant = |link| async move { lease_client(link).lease_grant(request).await };
        let response: pb::LeaseGrantResponse = self.transport.call(Repeat::IfUnsent, grant).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(GrantResponse { header, revision, id: lease_id(response.id)?, ttl: seconds(response.ttl) })
    }

    /// Ends a lease and deletes its keys, in one revision. Answers the store's revision. Source: etcd v3
    /// `Lease.LeaseRevoke`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NotFound` when there is no such lease.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<(Header, Revision), ClientError> {
        let request = pb::LeaseRevokeRequest { id: id.get() };
        let revoke = |link| async move { lease_client(link).lease_revoke(request).await };
        let response: pb::LeaseRevokeResponse = self.transport.call(Repeat::IfUnsent, revoke).await?;
        Header::with_revision(response.header, None)
    }

    /// Renews a lease once. Source: etcd v3 `Lease.LeaseKeepAlive`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NotFound` when there is no such lease.
    pub async fn lease_keep_alive_once(&self, id: LeaseId) -> Result<KeepAliveResponse, ClientError> {
        let response = self.transport.call(Repeat::Always, |link| renew(link, id)).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        if response.ttl <= 0 {
            return Err(ClientError::Refused { code: Code::NotFound, text: NOT_FOUND.to_owned() });
        }
        Ok(KeepAliveResponse { header, revision, id: lease_id(response.id)?, ttl: seconds(response.ttl) })
    }

    /// Renews a lease for as long as the answer is held.
    ///
    /// # Errors
    /// As [`Client::lease_keep_alive_once`]: the first renewal is made before this returns.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<LeaseKeeper, ClientError> {
        let sent = Instant::now();
        let first = self.lease_keep_alive_once(id).await?;
        let (sender, state) = watch::channel(State::Held(first));
        let task = tokio::spawn(keep(self.clone(), id, sent, first.ttl, sender));
        Ok(LeaseKeeper { id, state, _task: AbortOnDropHandle::new(task) })
    }

    /// Asks how long a lease still lives, and with `keys` also for its keys. Source: etcd v3 `Lease.LeaseTimeToLive`.
    ///
    /// # Errors
    /// As [`ClientError`] says; that there is no such lease is none.
    pub async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<TimeToLiveResponse, ClientError> {
        let request = pb::LeaseTimeToLiveRequest { id: id.get(), keys };
        let ask = |link| async move { lease_client(link).lease_time_to_live(request).await };
        let response: pb::LeaseTimeToLiveResponse = self.transport.call(Repeat::Always, ask).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(TimeToLiveResponse {
            header,
            revision,
            id: lease_id(response.id)?,
            remaining: (response.ttl >= 0).then(|| seconds(response.ttl)),
            granted: seconds(response.granted_ttl),
            keys: response.keys,
        })
    }

    /// Lists all leases. Source: etcd v3 `Lease.LeaseLeases`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn leases(&self) -> Result<LeasesResponse, ClientError> {
        let list = |link| async move { lease_client(link).lease_leases(pb::LeaseLeasesRequest {}).await };
        let response: pb::LeaseLeasesResponse = self.transport.call(Repeat::Always, list).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        let leases = response.leases.iter().map(|lease| lease_id(lease.id)).collect::<Result<_, _>>()?;
        Ok(LeasesResponse { header, revision, leases })
    }
}

/// One renewal, on a stream of its own: it then follows the client from endpoint to endpoint as every call does.
async fn renew(link: Link, id: LeaseId) -> Result<tonic::Response<pb::LeaseKeepAliveResponse>, Status> {
    let request = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: id.get() }]);
    let mut responses = lease_client(link).lease_keep_alive(request).await?.into_inner();
    let response = responses.message().await?;
    response.map(tonic::Response::new).ok_or_else(|| Status::unavailable("a renewal was not answered"))
}

/// Why a lease is no longer ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// It was revoked, or it ended.
    #[error("the lease is gone")]
    Gone,
    /// Nobody confirmed it for the length of its TTL: it may live on, but not for sure.
    #[error("the lease was not confirmed within its TTL: {0}")]
    Unconfirmed(ClientError),
    /// The server refuses to renew it.
    #[error("the lease can not be renewed: {0}")]
    Refused(ClientError),
}

#[derive(Clone, Debug)]
enum State {
    Held(KeepAliveResponse),
    Lost(LeaseLost),
}

/// Keeps a lease alive until it is dropped. Dropping it does not end the lease, which then lapses by itself.
#[derive(Debug)]
pub struct LeaseKeeper {
    id: LeaseId,
    state: watch::Receiver<State>,
    _task: AbortOnDropHandle<()>,
}

impl LeaseKeeper {
    /// The lease.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Waits until the lease is lost. Cancel-safe.
    pub async fn lost(&mut self) -> LeaseLost {
        let state = self.state.wait_for(|state| matches!(state, State::Lost(_))).await;
        match state.as_deref() {
            Ok(State::Lost(lost)) => lost.clone(),
            Ok(State::Held(_)) | Err(_) => LeaseLost::Gone,
        }
    }

    /// Waits for the next renewal. Renewals that nobody waited for are skipped. Cancel-safe.
    ///
    /// # Errors
    /// How the lease was lost, from then on at once.
    pub async fn renewed(&mut self) -> Result<KeepAliveResponse, LeaseLost> {
        if let State::Lost(lost) = &*self.state.borrow() {
            return Err(lost.clone());
        }
        let changed = self.state.changed().await;
        match &*self.state.borrow_and_update() {
            State::Lost(lost) => Err(lost.clone()),
            State::Held(response) if changed.is_ok() => Ok(*response),
            State::Held(_) => Err(LeaseLost::Gone),
        }
    }
}

/// Renews at a third of the TTL; a renewal that fails is tried again until the TTL is over.
async fn keep(client: Client, id: LeaseId, sent: Instant, ttl: Duration, state: watch::Sender<State>) {
    let (mut sent, mut ttl) = (sent, ttl);
    loop {
        sleep_until(sent + ttl / 3).await;
        match renew_within(&client, id, sent + ttl).await {
            Ok((at, response)) => {
                (sent, ttl) = (at, response.ttl);
                state.send_replace(State::Held(response));
            }
            Err(lost) => {
                state.send_replace(State::Lost(lost));
                return;
            }
        }
    }
}

/// The renewal, and when the one that was confirmed was sent.
async fn renew_within(
    client: &Client,
    id: LeaseId,
    deadline: Instant,
) -> Result<(Instant, KeepAliveResponse), LeaseLost> {
    let mut backoff = Backoff::default();
    let mut last = ClientError::Unavailable { text: "no answer".to_owned() };
    loop {
        let sent = Instant::now();
        match before(deadline, client.lease_keep_alive_once(id)).await {
            Some(Ok(response)) => return Ok((sent, response)),
            Some(Err(ClientError::Refused { code: Code::NotFound, .. })) => return Err(LeaseLost::Gone),
            Some(Err(error)) if error.is_repeatable() => last = error,
            Some(Err(error)) => return Err(LeaseLost::Refused(error)),
            None => return Err(LeaseLost::Unconfirmed(last)),
        }
        sleep_until((Instant::now() + backoff.wait()).min(deadline)).await;
    }
}

async fn before<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    timeout_at(deadline, work).await.ok()
}
