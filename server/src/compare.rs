//! Members held against each other.
//!
//! Source: etcd `server/etcdserver/corrupt.go`, `PeriodicCheck`.
//!
//! - Now and then the one that leads asks all others for the hash of their keys and history at a revision of its own. All
//!   members apply the same log: whose hash is another one has lost something, or made it up, where no checksum noticed.
//! - The alarm CORRUPT names it. Until it is disarmed keys are read, but nobody writes them: what rests on a wrong answer
//!   would be wrong everywhere.
//! - What most members have is held to be right; if as many have something else, what the leader has, once all were asked.
//! - A member that cannot be asked, or has compacted more by then, is looked at the next time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::member::HashRequest;
use raft::{Member, MemberId};
use store::{Alarm, AlarmChange, AlarmKind, Command};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use tracing::{debug, error, warn};
use types::Revision;

use crate::{auth::Caller, core::Core};

/// How long a member may take to read all that it has.
const ANSWER_TIME: Duration = Duration::from_mins(10);

/// Of the keys of a member and their history, up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hash {
    /// Below it there is none, in etcd's terms.
    pub(crate) compacted: i64,
    pub(crate) hash: u32,
}

/// Compares all members as often as it is configured, while this one leads, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let Some(interval) = core.config.corrupt_check_interval else { return };
    let look = async {
        loop {
            sleep(interval).await;
            if core.raft.leadership().borrow().acting
                && let Err(status) = compare(&core).await
            {
                warn!(error = status.message(), "could not compare the members, will try again");
            }
        }
    };
    stop.run_until_cancelled(look).await;
}

/// Compares all members once, and raises the alarm for those that have something else.
async fn compare(core: &Core) -> Result<(), Status> {
    core.confirm_read().await?;
    let at = core.view.revision();
    let own = hash_here(core, Some(at)).await?;
    let mut hashes = BTreeMap::from([(core.member, own)]);
    let members = core.raft.members();
    for member in members.iter().filter(|member| member.id != core.member) {
        match hash_there(core, member, at).await {
            Ok(hash) => drop(hashes.insert(member.id, hash)),
            Err(status) => debug!(member = %member.id, error = status.message(), "a member was not compared"),
        }
    }
    for member in differing(core.member, members.len(), &hashes) {
        let alarm = Alarm { member: member.0, kind: AlarmKind::Corrupt };
        if core.view.alarms().contains(&alarm) {
            continue;
        }
        error!(%member, revision = %at, "the keys of this member are not those of the others: replace it");
        let command = Command::Alarm(AlarmChange { alarm, raised: true });
        core.propose(&command, &Caller::ControlPlane, &core.config.store).await?;
    }
    Ok(())
}

/// Of all that this member has, up to a revision.
pub(crate) async fn hash_here(core: &Core, at: Option<Revision>) -> Result<Hash, Status> {
    let hash = core.read(true, move |view| view.hash_keys(at)).await?;
    Ok(Hash { compacted: hash.compacted, hash: hash.hash })
}

async fn hash_there(core: &Core, member: &Member, at: Revision) -> Result<Hash, Status> {
    let mut peers = core.links.to(member).ok_or_else(|| Status::unavailable("there is no way to it"))?;
    let mut request = Request::new(HashRequest { revision: at.get() });
    request.set_timeout(ANSWER_TIME);
    let hash = peers.hash(request).await?.into_inner();
    Ok(Hash { compacted: hash.compact_revision, hash: hash.hash })
}

/// Who of so many members has something else than most, or than the leader where as many have the one and the other.
fn differing(leader: MemberId, members: usize, hashes: &BTreeMap<MemberId, Hash>) -> Vec<MemberId> {
    let Some(own) = hashes.get(&leader) else { return Vec::new() };
    let comparable = || hashes.iter().filter(|(_, hash)| hash.compacted == own.compacted);
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for (_, hash) in comparable() {
        *counts.entry(hash.hash).or_default() += 1;
    }
    let best = counts.iter().max_by_key(|(hash, count)| (**count, **hash == own.hash));
    let knows_enough = |count: usize| 2 * count > members || comparable().count() == members;
    let right = best.filter(|(_, count)| knows_enough(**count)).map(|(hash, _)| *hash);
    let Some(right) = right else { return Vec::new() };
    comparable().filter(|(_, hash)| hash.hash != right).map(|(member, _)| *member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each member has, the leader first: below what it has compacted, and its hash.
    type Hashes = &'static [(i64, u32)];

    #[test]
    fn who_is_alone_with_what_it_has_differs() {
        let cases: [(&str, usize, Hashes, &[u64]); 9] = [
            ("all have the same", 3, &[(0, 7), (0, 7), (0, 7)], &[]),
            ("one has not", 3, &[(0, 7), (0, 8), (0, 7)], &[2]),
            ("the leader has not", 3, &[(0, 8), (0, 7), (0, 7)], &[1]),
            ("one against the leader", 2, &[(0, 7), (0, 9)], &[2]),
            ("one against the leader, and one is away", 3, &[(0, 7), (0, 9)], &[]),
            ("two against one, and one is away", 4, &[(0, 7), (0, 9), (0, 9)], &[]),
            ("two against two", 4, &[(0, 7), (0, 9), (0, 9), (0, 7)], &[2, 3]),
            ("it has compacted more", 3, &[(0, 7), (5, 9), (0, 7)], &[]),
            ("the leader is alone", 1, &[(0, 7)], &[]),
        ];
        for (what, count, hashes, expected) in cases {
            let members = (1..).map(MemberId);
            let hashes = hashes.iter().map(|&(compacted, hash)| Hash { compacted, hash });
            let differing = differing(MemberId(1), count, &members.zip(hashes).collect());
            assert_eq!(differing, expected.iter().copied().map(MemberId).collect::<Vec<_>>(), "{what}");
        }
    }
}
