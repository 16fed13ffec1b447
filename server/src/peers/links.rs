//! Channels to the other members, for what is asked of them beside the log.
//!
//! Owns: one channel to each member that was asked, until its addresses change.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use proto::member::peers_client::PeersClient;
use raft::{Member, MemberId};
use tonic::transport::Channel;

use super::PeerDialer;

/// The way to each member; to none where this one has nothing to prove itself by.
#[derive(Debug)]
pub(crate) struct Links {
    dialer: Option<PeerDialer>,
    channels: Mutex<BTreeMap<MemberId, (Vec<String>, Channel)>>,
}

impl Links {
    pub(crate) fn new(dialer: Option<PeerDialer>) -> Self {
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
                let channel = dialer.channel(Some(member.id), addresses);
                channels.insert(member.id, (addresses.clone(), channel.clone()));
                Some(PeersClient::new(channel))
            }
        }
    }
}
