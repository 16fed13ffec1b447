//! Telling the cluster what this member is called and where it is reached.
//!
//! - The name and the clients' addresses are those that it was started with. Peer addresses are, too, when they are others
//!   than at the last start; else those stay that an operator has moved it to.
//! - It is told until the cluster knows it. A member that would be called as another one is stops.

use std::{sync::Arc, time::Duration};

use raft::{ChangeError, Node};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{core::Core, identity::Identity};

/// Between two tries, while nobody leads or this member has not got the log yet.
const RETRY: Duration = Duration::from_millis(200);

/// Tells it until it is known, or until `stop`.
pub(crate) async fn run(core: Arc<Core>, identity: Identity, stop: CancellationToken) {
    let tell = async {
        let mut told = false;
        loop {
            match once(&core, &identity).await {
                Ok(()) => return,
                Err(Some(error @ ChangeError::NameTaken { .. })) => {
                    // It is set here alone, and once.
                    let _set = core.misnamed.set(error);
                    return;
                }
                Err(Some(error)) if !told => {
                    warn!(%error, "could not tell the cluster of this member, will try again");
                    told = true;
                }
                Err(_) => {}
            }
            sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(tell).await;
}

/// Tells it once. `None` for an error: this member is not in the log that it has.
pub(crate) async fn once(core: &Core, identity: &Identity) -> Result<(), Option<ChangeError>> {
    let members = core.raft.members();
    let known = members.iter().find(|member| member.id == core.member).ok_or(None)?;
    let node = wanted(core, identity, &known.node);
    if node != known.node {
        core.raft.update(core.member, node).await.map_err(Some)?;
        info!(member = %core.member, "told the cluster of this member");
    }
    remember(core, identity);
    Ok(())
}

fn wanted(core: &Core, identity: &Identity, known: &Node) -> Node {
    let config = &core.config;
    let moved = config.advertise_peer_urls != identity.peer_urls || known.peer_urls.is_empty();
    Node {
        name: config.name.clone(),
        peer_urls: if moved { config.advertise_peer_urls.clone() } else { known.peer_urls.clone() },
        client_urls: config.advertise_client_urls.clone(),
        ..known.clone()
    }
}

/// What was told is what the next start is compared with.
fn remember(core: &Core, identity: &Identity) {
    let (name, peer_urls) = (core.config.name.clone(), core.config.advertise_peer_urls.clone());
    let now = identity.started_with(name, peer_urls);
    if now != *identity
        && let Err(error) = now.save(&core.config.data_dir)
    {
        warn!(%error, "cannot note what this member was started with: it will be told again");
    }
}
