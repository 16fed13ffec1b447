//! What only the leader knows: how long leases have left.
//!
//! - Whoever is asked asks the leader, and again if there is another one meanwhile, for as long as a request may take.
//! - Both questions can be repeated: a lease that is renewed twice has its full time again.

use std::time::Duration;

use proto::member::{RemainingRequest, RenewRequest, peers_client::PeersClient};
use store::{Lessor, Renewal};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status, transport::Channel};
use types::LeaseId;

use crate::{
    core::Core,
    expiry,
    status::{no_leader, not_leader},
};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What became of renewals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renewed {
    /// The store's revision before.
    pub(crate) revision: i64,
    /// Seconds that each has, in the order asked; 0 for one that is gone.
    pub(crate) ttls: Vec<i64>,
}

/// A lease, and how long it has left.
pub(crate) type Remaining = (LeaseId, Duration);

/// Where the leader is.
enum Leader {
    Here,
    There(PeersClient<Channel>),
}

impl Core {
    fn leader(&self) -> Result<Leader, Status> {
        let leader = self.raft.status().leader.ok_or_else(no_leader)?;
        if leader == self.member {
            return Ok(Leader::Here);
        }
        let members = self.raft.members();
        let member = members.iter().find(|member| member.id == leader).ok_or_else(no_leader)?;
        self.links.to(member).map(Leader::There).ok_or_else(no_leader)
    }
}

/// How long a question may go on being asked.
struct Patience(Instant);

impl Patience {
    fn new(core: &Core) -> Self {
        Self(Instant::now() + core.request_timeout())
    }

    /// The question, to be answered in the time that is left.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.0.saturating_duration_since(Instant::now()));
        request
    }

    /// Waits a little before another try; or gives the answer as it is.
    async fn or_again<T>(&self, answer: Result<T, Status>) -> Option<Result<T, Status>> {
        let may_change = |status: &Status| matches!(status.code(), Code::Unavailable | Code::FailedPrecondition);
        if !answer.as_ref().is_err_and(may_change) || Instant::now() + PAUSE >= self.0 {
            return Some(answer);
        }
        sleep(PAUSE).await;
        None
    }
}

/// Renews leases, wherever they are timed.
pub(crate) async fn renew(core: &Core, ids: Vec<i64>) -> Result<Renewed, Status> {
    let patience = Patience::new(core);
    loop {
        let answer = match core.leader() {
            Ok(Leader::Here) => renew_here(core, &ids).await,
            Ok(Leader::There(mut peers)) => {
                let answer = peers.renew(patience.request(RenewRequest { ids: ids.clone() })).await;
                answer.map(|answer| {
                    let answer = answer.into_inner();
                    Renewed { revision: answer.revision, ttls: answer.ttls }
                })
            }
            Err(status) => Err(status),
        };
        if let Some(answer) = patience.or_again(answer).await {
            return answer;
        }
    }
}

/// How long leases have left, those that end first before the others; all leases, or one.
pub(crate) async fn remaining(core: &Core, one: Option<LeaseId>) -> Result<Vec<Remaining>, Status> {
    let patience = Patience::new(core);
    let id = one.map_or(0, LeaseId::get);
    loop {
        let answer = match core.leader() {
            Ok(Leader::Here) => remaining_here(core, one).await,
            Ok(Leader::There(mut peers)) => {
                let answer = peers.remaining(patience.request(RemainingRequest { id })).await;
                answer.map(|answer| {
                    let lease = |lease: &proto::member::Lease| {
                        Some((LeaseId::new(lease.id)?, Duration::from_millis(lease.remaining_ms)))
                    };
                    answer.into_inner().leases.iter().filter_map(lease).collect()
                })
            }
            Err(status) => Err(status),
        };
        if let Some(answer) = patience.or_again(answer).await {
            return answer;
        }
    }
}

/// Renews leases that are timed here, all of them after one round of questions whether this member still leads.
pub(super) async fn renew_here(core: &Core, ids: &[i64]) -> Result<Renewed, Status> {
    core.confirm_read().await?;
    let revision = core.view.revision().get();
    let renew_all = |lessor: &mut Lessor| {
        let now = core.clock.now();
        let renew = |&id: &i64| match LeaseId::new(id).map(|lease| lessor.renew(lease, now)) {
            Some(Renewal::Renewed(ttl)) => Ok(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
            Some(Renewal::Gone) | None => Ok(0),
            Some(Renewal::NotLeading) => Err(not_leader()),
        };
        ids.iter().map(renew).collect::<Result<_, Status>>()
    };
    let ttls = expiry::renew_once_full(core, ids, renew_all).await??;
    Ok(Renewed { revision, ttls })
}

pub(super) async fn remaining_here(core: &Core, one: Option<LeaseId>) -> Result<Vec<Remaining>, Status> {
    core.confirm_read().await?;
    let lessor = core.lessor.lock();
    if !lessor.is_leading() {
        return Err(not_leader());
    }
    let now = core.clock.now();
    let ids = one.map_or_else(|| lessor.by_deadline(), |id| vec![id]);
    Ok(ids.into_iter().filter_map(|id| Some((id, lessor.remaining(id, now)?))).collect())
}
