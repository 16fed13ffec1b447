//! The other members: how they are known, reached and let in, and what is asked of them beside the log.
//!
//! Owns: the member's identity among members, the way to the others, and the services of the peer port.
//!
//! - The peer port speaks mTLS alone: who shows no certificate of the cluster's members ends at the handshake.
//! - What a member says is taken for that member's only: its certificate names it, and its messages must agree.

mod dialer;
mod guard;
mod introduce;
mod leader;
mod links;
mod name;
mod security;
mod service;
mod traffic;

pub(crate) use dialer::PeerDialer;
pub(crate) use guard::Guarded;
pub(crate) use introduce::{Introduced, introduce};
pub(crate) use leader::{remaining, renew};
pub(crate) use links::Links;
pub(crate) use name::members_of;
pub use security::PeerFiles;
pub(crate) use security::PeerSecurity;
pub(crate) use service::PeersFace;
pub(crate) use traffic::{Counts, Traffic};
