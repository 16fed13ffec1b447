//! The way to other members, which somebody else knows.

use std::{error::Error, time::Duration};

use tonic::transport::{Channel, Endpoint};

use crate::{Config, MemberId, Node};

/// What a connection is for. Each purpose has its own, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Entries, proposals and questions.
    Log,
    /// Heartbeats, votes and first contacts: little, and never late.
    Beat,
    /// Images.
    Bulk,
}

/// Why there is no way to a member.
pub type DialError = Box<dyn Error + Send + Sync>;

/// Makes connections to other members.
pub trait Dialer: Send + Sync + 'static {
    /// A channel to a member: lazy and reconnecting, made once for each lane and each change of the member's URLs. It must
    /// authenticate the other side as that member of the cluster, and this side to it. [`tune`] an endpoint to have a
    /// dead connection noticed in time.
    ///
    /// # Errors
    /// The member's URLs lead nowhere: it is as if it were down, and is asked for again later.
    fn dial(&self, member: MemberId, node: &Node, lane: Lane) -> Result<Channel, DialError>;
}

/// The dialer of a member that has no others.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Dialer for Alone {
    fn dial(&self, member: MemberId, _node: &Node, _lane: Lane) -> Result<Channel, DialError> {
        Err(format!("this member has no way to others, and none to {member}").into())
    }
}

/// Windows that a part of an image or a burst of entries fits in.
const WINDOW_BYTES: u32 = 8 << 20;

/// The endpoint with what a connection between members needs: a silent one is given up after an election timeout.
pub fn tune(endpoint: Endpoint, config: &Config) -> Endpoint {
    let silence = config.election_timeout.min(Duration::from_secs(30));
    endpoint
        .connect_timeout(silence)
        .http2_keep_alive_interval(silence / 2)
        .keep_alive_timeout(silence / 2)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 2)
}
