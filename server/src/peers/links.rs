//! Channels to the other members, for what is asked of them beside the log.
//!
//! Owns: one channel to each member that was asked, until its addresses change.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;
use proto::member::peers_client::PeersClient;
use raft::{Dialer, Lane, Member, MemberId};
use tonic::transport::Channel;

/// The way to each member; to none where this one has nothing to prove itself by.
pub(crate) struct Links {
    dialer: Option<Arc<dyn Dialer>>,
    channels: Mutex<BTreeMap<MemberId, (Vec<String>, Channel)>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

impl Links {
    pub(crate) fn new(dialer: Option<Arc<dyn Dialer>>) -> Self {
        Self { dialer, channels: Mutex::default() }
    }

    /// Whether other members can be reached at all.
    pub(crate) fn is_open(&self) -> bool {
        self.dialer.is_some()
    }

    /// A client of this member; `None` if there is no way to it.
    pub(crate) fn to(&self, member: &Member) -> Option<PeersClient<Channel>> {
        let dialer = self.dialer.as_ref()?;
        let addresses = &member.node.peer_urls;
        let mut channels = self.channels.lock();
        match channels.get(&member.id) {
            Some((known, channel)) if known == addresses => Some(PeersClient::new(channel.clone())),
            _ => {
                let channel = dialer.dial(member.id, &member.node, Lane::Log).ok()?;
                channels.insert(member.id, (addresses.clone(), channel.clone()));
                Some(PeersClient::new(channel))
            }
        }
    }
}
