//! The service by which a cluster grows.
//!
//! - The administrator invites; who bears an invitation joins; nobody else is answered.
//! - A member is added before its bearer is told: what the answer says is true. A lost answer costs nothing, since the
//!   same request is given the same one.

use std::{sync::Arc, time::Duration};

use ca::{IssueError, Issuer, JoinToken, Refusal};
use proto::member::{self as pb, membership_server::Membership};
use raft::{ChangeError, Member, MemberId, Node};
use tls::{AuthorityHash, PeerInfo};
use tonic::{Request, Response, Status};
use tracing::info;

use super::{directory::wire_authority, is_member_name};
use crate::{
    clock::unix_time,
    core::Core,
    custody::{member_custody, workload_custody},
    ids,
    members::{has_any, learners, wire_member},
    status::{name_taken, no_way_to_members, not_changed, too_many_learners},
    urls::{is_secure, peer_urls},
};

/// Invites and lets in.
#[derive(Clone)]
pub(crate) struct JoiningFace {
    core: Arc<Core>,
    issuer: Arc<Issuer>,
}

impl JoiningFace {
    pub(crate) fn new(core: Arc<Core>, issuer: Arc<Issuer>) -> Self {
        Self { core, issuer }
    }

    fn require_admin<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let peer = request.extensions().get::<PeerInfo>().and_then(|peer| peer.spiffe_id.clone());
        let peer = peer.ok_or_else(|| Status::unauthenticated("a client certificate is required"))?;
        let admin = Issuer::admin_id(&self.issuer.trust_domain().map_err(|error| unissued(&error))?);
        if peer == admin {
            return Ok(());
        }
        info!(spiffe_id = %peer, "an invitation was asked for by who may not invite");
        Err(Status::permission_denied("only the cluster's administrator may do this"))
    }

    /// Refuses a name that somebody has, or was promised.
    fn check_name(&self, name: &str, members: &[Member], replaces: Option<MemberId>) -> Result<(), Status> {
        if !is_member_name(name) {
            return Err(Status::invalid_argument(format!("{name:?} can not be a member's name")));
        }
        let taken = |member: &&Member| member.node.name == name && Some(member.id) != replaces;
        if let Some(member) = members.iter().find(taken) {
            return Err(name_taken(name, member.id));
        }
        let open = self.issuer.ledger().open_invitations().map_err(|error| Status::unknown(error.to_string()))?;
        if open.iter().any(|invitation| invitation.name == name) {
            return Err(Status::already_exists(format!(
                "a member named {name} is invited already: use that invitation, wait until it expires, or choose \
                 another name"
            )));
        }
        Ok(())
    }

    /// The keys that every member has.
    async fn keys(&self) -> Result<[pb::Authority; 2], Status> {
        let data_dir = self.core.config.data_dir.clone();
        let unseal = move || {
            let [workloads, members] =
                [workload_custody(&data_dir), member_custody(&data_dir)].map(|keys| keys.hand_over());
            Ok([wire_authority(&workloads?), wire_authority(&members?)])
        };
        let unsealed: Result<_, ca::AuthorityError> =
            tokio::task::spawn_blocking(unseal).await.map_err(|_| Status::unavailable("interrupted"))?;
        unsealed
            .map_err(|error| Status::failed_precondition(format!("this member can not hand over its keys: {error}")))
    }

    /// Makes it a member, unless it is one: with no vote before it has caught up.
    async fn let_in(&self, id: MemberId, node: Node) -> Result<(), Status> {
        match self.core.raft.add_learner(id, node).await {
            Ok(()) | Err(ChangeError::Exists(_)) => {}
            Err(ChangeError::Removed(_)) => {
                let text = "the member of this invitation was removed meanwhile: ask for another invitation";
                return Err(Status::failed_precondition(text));
            }
            Err(error) => return Err(not_changed(&error)),
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Membership for JoiningFace {
    async fn invite(&self, request: Request<pb::InviteRequest>) -> Result<Response<pb::InviteResponse>, Status> {
        self.require_admin(&request)?;
        let pb::InviteRequest { name, ttl_seconds, learner, replaces } = request.into_inner();
        let ttl = match u64::try_from(ttl_seconds) {
            Ok(0) => None,
            Ok(asked) => Some(Duration::from_secs(asked)),
            Err(_) => return Err(Status::invalid_argument("ttl_seconds is negative")),
        };
        self.core.confirm_read().await?;
        let members = self.core.raft.members();
        let replaces = Some(MemberId(replaces)).filter(|replaces| replaces.0 != 0);
        self.check_name(&name, &members, replaces)?;
        let own = members.iter().find(|member| member.id == self.core.member);
        let is_reached = own.is_some_and(|own| own.node.peer_urls.iter().any(|url| is_secure(url)));
        if !is_reached || !self.core.links.is_open() {
            return Err(no_way_to_members());
        }
        if learner && learners(&members) >= self.core.config.learners_max {
            return Err(too_many_learners());
        }
        if let Some(replaced) = replaces {
            self.core.raft.remove(replaced).await.map_err(|error| not_changed(&error))?;
            info!(member = %replaced, "a member is replaced");
        }
        let genesis = self.issuer.ledger().genesis().map_err(|error| Status::unknown(error.to_string()))?;
        let authority = genesis.map(|genesis| AuthorityHash::of(&genesis.issuing).to_string()).unwrap_or_default();
        let (token, expires) = self.issuer.invite(name, learner, ttl).await.map_err(|error| unissued(&error))?;
        let (token, expires_at) = (token.reveal().to_owned(), expires.to_wire());
        Ok(Response::new(pb::InviteResponse { token, expires_at, authority }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        let pb::JoinRequest { token, nonce, name, peer_urls: urls } = request.into_inner();
        let nonce: [u8; 32] =
            nonce.as_ref().try_into().map_err(|_| Status::invalid_argument("the nonce must have 32 bytes"))?;
        let urls = peer_urls(&urls).filter(|urls| urls.iter().all(|url| is_secure(url)));
        let urls = urls.ok_or_else(|| Status::invalid_argument("peer addresses are written https://HOST:PORT"))?;
        let token = JoinToken::parse(&token).ok_or_else(unknown_invitation)?;
        self.core.confirm_read().await?;
        let ledger = self.issuer.ledger();
        let invitation = ledger.invitation(&token).map_err(|error| Status::unknown(error.to_string()))?;
        let invitation = invitation.ok_or_else(unknown_invitation)?;
        if invitation.name != name {
            let text = format!("this invitation is for a member named {}, not {name}", invitation.name);
            return Err(Status::permission_denied(text));
        }
        let members = self.core.raft.members();
        let admitted = invitation.admitted.map(|(_, member)| MemberId(member));
        let others = || members.iter().filter(|member| Some(member.id) != admitted);
        if let Some(other) = others().find(|member| has_any(member, &urls)) {
            let text = format!("member {} has the peer address {} already", other.id, urls.join(","));
            return Err(Status::already_exists(text));
        }
        if let Some(other) = others().find(|member| member.node.name == name) {
            return Err(name_taken(&name, other.id));
        }
        // What would not be handed over is found out before the invitation is used up.
        let [workloads, peers] = self.keys().await?;
        let id = ids::added_member_id(&urls, unix_time());
        let id = MemberId(self.issuer.admit(&token, nonce, id.0).await.map_err(|error| unissued(&error))?);
        let node = Node { name: name.clone(), peer_urls: urls, wants_vote: !invitation.learner, ..Node::default() };
        self.let_in(id, node).await?;
        info!(member = %id, name, "a member has joined");
        Ok(Response::new(pb::JoinResponse {
            cluster_id: self.core.cluster.0,
            member_id: id.0,
            members: self.core.raft.members().into_iter().map(wire_member).collect(),
            learner: invitation.learner,
            workloads: Some(workloads),
            peers: Some(peers),
        }))
    }
}

fn unknown_invitation() -> Status {
    Status::permission_denied(
        "this cluster knows of no such invitation: it has expired, or is another cluster's; ask for a new one by \
         'meshstore cluster add'",
    )
}

/// An invitation that was not made, or not accepted.
fn unissued(error: &IssueError) -> Status {
    match error {
        IssueError::Refused(Refusal::TokenUsed) => Status::permission_denied(
            "this invitation was used already: if that was you and was cut short, join with the same --data-dir; if it \
             was not you, remove the member that joined by it, and ask for a new invitation by 'meshstore cluster add'",
        ),
        IssueError::Refused(Refusal::TokenExpired) => {
            Status::permission_denied("this invitation has expired: ask for a new one by 'meshstore cluster add'")
        }
        IssueError::Refused(Refusal::TokenUnknown) => unknown_invitation(),
        IssueError::Invalid(reason) => Status::invalid_argument(reason),
        IssueError::Busy => Status::resource_exhausted(error.to_string()),
        IssueError::Log(_) => Status::unavailable(error.to_string()),
        _ => Status::failed_precondition(error.to_string()),
    }
}
