//! What members say to each other.
//!
//! Owns: the connections to the other members, and what is known of the disks that they are on.
//! In:   openraft's calls to other members; the calls of other members, as the service `meshstore.peer.v1.Peer`.
//! Out:  the same, on the other side.
//!
//! - No call is answered before its sender is checked: it is of this cluster, on the disk it always had, and still a
//!   member, and it means this member on this disk. A voter that forgot its votes is found out by this, on both sides.
//! - Heartbeats and votes have a connection of their own, and so do images.
//! - Bytes from another member are bounded in number, and an error or a value; never a panic.

mod acquaintance;
mod client;
mod greet;
mod image;
mod network;
mod receive;
mod refusal;
mod service;
pub(crate) mod wire;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::receive::Offer;
pub use self::service::Sender;
pub(crate) use self::{
    acquaintance::Acquaintances,
    client::{Forwarding, Peers},
    greet::{Contacts, greet},
    network::Network,
    receive::Receiving,
    service::{Inner, Service},
};
