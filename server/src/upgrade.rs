//! The cluster's version: which release's commands and formats the members may write.
//!
//! Owns: when it rises, and what is told to those who come too early.
//!
//! - The version is the least release that any member runs, agreed on by the log: a member refuses to propose what is of a
//!   later one, and a member that is older than it takes no part (see [`raft::RaftError::TooOld`]).
//! - It rises only while all members, learners too, are in touch with the leader and have said which release they run. It
//!   never falls: what was written under it may be there for good.
//! - Until one was agreed on, it is the first release.
//! - Etcd's clients are told the version of etcd's API that goes with it, never our own numbers, which they would take for
//!   etcd's: they decide by them what a server can do.

mod face;

use std::{sync::Arc, time::Duration};

use raft::{MemberId, ProposeError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::Release;

pub(crate) use face::UpgradeFace;

use crate::{
    ETCD_API_VERSION,
    core::Core,
    deadline::Deadline,
    machine::{self, ClusterCommand, Proposal},
};

/// How often the leader looks.
const TICK: Duration = Duration::from_millis(250);
/// Since which release which version of etcd's API is spoken, later ones last.
const ETCD_API: [(Release, &str); 1] = [(Release::FIRST, ETCD_API_VERSION)];

/// A member, and what is known of its release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) id: MemberId,
    pub(crate) name: String,
    /// What it said last; `None` if it was not heard of since this member started.
    pub(crate) release: Option<Release>,
    /// It is this member, or answered its last greeting.
    pub(crate) in_touch: bool,
}

/// A command that not all members can read yet. Nothing was proposed.
#[derive(Debug, thiserror::Error)]
#[error("all members must run release {needed} for this, and the cluster is at {version}: {}", those_behind(.members, *.needed))]
pub(crate) struct TooEarly {
    needed: Release,
    version: Release,
    members: Vec<Running>,
}

/// Why a command was not agreed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAgreed {
    #[error(transparent)]
    TooEarly(#[from] TooEarly),
    #[error(transparent)]
    Raft(#[from] ProposeError),
}

impl Core {
    /// The cluster's version, as far as this member has applied the log.
    pub(crate) fn version(&self) -> Release {
        self.raft.version().unwrap_or(Release::FIRST)
    }

    /// Has a command agreed on and applied, if every member can read it. All commands go by here but those that say that
    /// they can. `until`: when the call that it is for is dropped.
    pub(crate) async fn agree(
        &self,
        proposal: Proposal,
        until: Option<Deadline>,
    ) -> Result<machine::Answer, NotAgreed> {
        let (needed, version) = (proposal.since(), self.version());
        if needed > version {
            return Err(TooEarly { needed, version, members: members(self) }.into());
        }
        Ok(self.raft.propose_until(proposal.into_bytes(), until.map(|until| until.0)).await?)
    }
}

/// All members, in the order of their ids.
pub(crate) fn members(core: &Core) -> Vec<Running> {
    let progress = core.raft.progress();
    let running = |member: raft::Member| {
        let (is_this, other) = (member.id == core.member, progress.iter().find(|other| other.member == member.id));
        let release = if is_this { Some(core.config.release) } else { other.and_then(|other| other.release) };
        let in_touch = is_this || other.is_some_and(|other| other.round_trip.is_some());
        Running { id: member.id, name: member.node.name, release, in_touch }
    };
    core.raft.members().into_iter().map(running).collect()
}

/// Raises the version while this member leads, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let raise = async {
        loop {
            sleep(TICK).await;
            if core.raft.leadership().borrow().acting
                && let Some(version) = due(core.version(), &members(&core))
            {
                raise(&core, version).await;
            }
        }
    };
    stop.run_until_cancelled(raise).await;
}

/// The version that the cluster could be at and is not.
fn due(version: Release, members: &[Running]) -> Option<Release> {
    let heard = |member: &Running| member.release.filter(|_| member.in_touch);
    let releases: Option<Vec<Release>> = members.iter().map(heard).collect();
    releases?.into_iter().min().filter(|least| *least > version)
}

async fn raise(core: &Core, version: Release) {
    let proposal = Proposal::cluster(ClusterCommand::Version(version));
    match timeout(core.request_timeout(), core.raft.propose(proposal.into_bytes())).await {
        Ok(Ok(_)) => info!(%version, "all members run this release: the cluster is at it"),
        // It is looked at again.
        Ok(Err(
            ProposeError::NoLeader
            | ProposeError::Busy
            | ProposeError::Unknown
            | ProposeError::Late
            | ProposeError::Stopped,
        ))
        | Err(_) => {}
        Ok(Err(error)) => warn!(%version, %error, "cannot raise the cluster's version, will try again"),
    }
}

/// The version of etcd's API that a member of this release speaks.
pub(crate) fn etcd_api(release: Release) -> &'static str {
    let spoken = ETCD_API.iter().rev().find(|(since, _)| *since <= release);
    spoken.map_or(ETCD_API_VERSION, |(_, version)| version)
}

/// The same as a cluster has it, whose version has no patches: `3.6`.
pub(crate) fn etcd_minor(release: Release) -> &'static str {
    let version = etcd_api(release);
    version.rsplit_once('.').map_or(version, |(minor, _patch)| minor)
}

/// This program's version, or the first of the release that it acts as.
pub(crate) fn program_version(release: Release) -> String {
    if release == Release::THIS { env!("CARGO_PKG_VERSION").to_owned() } else { format!("{release}.0") }
}

/// Whom a release waits for.
fn those_behind(members: &[Running], needed: Release) -> String {
    let name = |member: &Running| if member.name.is_empty() { member.id.to_string() } else { member.name.clone() };
    let told = |member: &Running| match member.release {
        Some(release) if release < needed => Some(format!("{} runs {release}", name(member))),
        Some(_) if member.in_touch => None,
        Some(_) | None => Some(format!("{} is not in touch", name(member))),
    };
    let told: Vec<_> = members.iter().filter_map(told).collect();
    if told.is_empty() { "all do by now, try again in a moment".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const FIRST: Release = Release::FIRST;
    const THIS: Release = Release::THIS;

    fn running(name: &str, release: Option<Release>, in_touch: bool) -> Running {
        Running { id: MemberId(0xa), name: name.to_owned(), release, in_touch }
    }

    #[test]
    fn the_version_rises_once_the_last_member_is_in_touch_with_its_release() {
        let all = |releases: &[(Option<Release>, bool)]| {
            due(FIRST, &releases.iter().map(|(release, in_touch)| running("", *release, *in_touch)).collect::<Vec<_>>())
        };
        let [old, new] = [FIRST, THIS].map(|release| (Some(release), true));
        assert_eq!(all(&[new]), Some(THIS));
        assert_eq!(all(&[new, new, new]), Some(THIS));
        assert_eq!(all(&[new, old, new]), None);
        assert_eq!(all(&[new, (None, false), new]), None, "it was not heard of");
        assert_eq!(all(&[new, (Some(THIS), false), new]), None, "it may come back as another");
        assert_eq!(all(&[]), None);
        assert_eq!(due(THIS, &[running("", Some(THIS), true)]), None, "it is there already");
        assert_eq!(due(THIS, &[running("", Some(FIRST), true)]), None, "it never falls");
    }

    proptest! {
        #[test]
        fn the_version_is_never_above_a_members_release_and_never_falls(
            version in 1..5_u32,
            members in vec((proptest::option::of(1..5_u32), any::<bool>()), 0..7),
        ) {
            let release = |number: u32| Release::from_number(number);
            let members: Vec<_> = members.into_iter().map(|(number, in_touch)| running("", number.map(release), in_touch)).collect();
            if let Some(due) = due(release(version), &members) {
                prop_assert!(due > release(version));
                prop_assert!(members.iter().all(|member| member.in_touch && member.release.is_some_and(|one| one >= due)));
            }
        }
    }

    #[test]
    fn who_comes_too_early_is_told_whom_to_upgrade() {
        let members = vec![
            running("a", Some(THIS), true),
            running("b", Some(FIRST), true),
            running("", Some(FIRST), false),
            running("d", None, false),
            running("e", Some(THIS), false),
        ];
        let told = TooEarly { needed: THIS, version: FIRST, members }.to_string();
        let expected = "all members must run release 0.2 for this, and the cluster is at 0.1: \
            b runs 0.1, a runs 0.1, d is not in touch, e is not in touch";
        assert_eq!(told, expected);
        let told = TooEarly { needed: THIS, version: FIRST, members: vec![running("a", Some(THIS), true)] }.to_string();
        assert!(told.ends_with("all do by now, try again in a moment"), "{told}");
    }

    #[test]
    fn etcds_clients_are_told_etcds_version() {
        assert_eq!(etcd_api(THIS), ETCD_API_VERSION);
        assert_eq!((etcd_api(FIRST), etcd_minor(FIRST)), ("3.6.0", "3.6"));
        assert!(ETCD_API.is_sorted_by_key(|(since, _)| *since));
    }

    #[test]
    fn a_member_that_acts_as_another_release_says_so() {
        assert_eq!(program_version(THIS), env!("CARGO_PKG_VERSION"));
        assert_eq!(program_version(FIRST), "0.1.0");
    }
}
