//! Votes for those that have caught up.
//!
//! - The leader gives one to each learner that was added to vote, as soon as it would not hold up the others.

use std::{sync::Arc, time::Duration};

use raft::{ChangeError, MemberId, Role};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::core::Core;

/// How often the leader looks.
const TICK: Duration = Duration::from_millis(250);

/// Looks after learners while this member leads, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let promote = async {
        loop {
            sleep(TICK).await;
            if core.raft.leadership().borrow().acting {
                for learner in candidates(&core) {
                    promote(&core, learner).await;
                }
            }
        }
    };
    stop.run_until_cancelled(promote).await;
}

fn candidates(core: &Core) -> Vec<MemberId> {
    let members = core.raft.members().into_iter();
    members.filter(|member| member.role == Role::Learner && member.node.wants_vote).map(|member| member.id).collect()
}

async fn promote(core: &Core, learner: MemberId) {
    match core.raft.promote(learner).await {
        Ok(()) => info!(member = %learner, "a member has caught up, and has a vote now"),
        // It is looked at again: it has not caught up, another change is under way, or somebody else leads.
        Err(
            ChangeError::NotReady { .. }
            | ChangeError::InProgress
            | ChangeError::NotLearner(_)
            | ChangeError::NotFound(_)
            | ChangeError::NameTaken { .. }
            | ChangeError::NoLeader
            | ChangeError::Unknown
            | ChangeError::WouldLoseQuorum
            | ChangeError::Stopped,
        ) => {}
        Err(error) => warn!(member = %learner, %error, "cannot give a member its vote, will try again"),
    }
}
