//! A member: the state machine under one replicated log, and etcd v3 on top of it.
//!
//! Owns: the member's data directory, its identity, the timing of leases, and what lives on its disk together.
//! In:   etcd v3 requests; ledger commands of the CA.
//! Out:  answers at a revision; a [`ca::LedgerView`] of who was issued what.
//!
//! - Store and ledger move together: one log, one atomic write an entry.
//! - A write is answered when it is on stable storage and applied here; a linearizable read when this member has applied
//!   all that was acknowledged before it.
//! - A wire type stops at the first line of its handler.

mod auth;
mod clock;
mod cluster;
mod compactor;
mod compare;
mod config;
mod core;
mod custody;
mod damage;
mod deadline;
mod election;
mod expiry;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod ground;
mod http;
mod identity;
mod ids;
mod joining;
mod kv;
mod lease;
mod led;
mod ledger;
mod lock;
mod log_place;
mod long_range;
mod machine;
mod maintenance;
mod member;
mod members;
mod metrics;
mod peers;
mod pieces;
mod promote;
mod publish;
mod range_stream;
mod session;
mod settle;
mod snapshot;
mod space;
mod start;
mod status;
mod unary;
mod upgrade;
mod urls;
mod watch;
mod wire;

pub use auth::{AuthConfig, JwtConfig, KeyError, SignMethod, TokenConfig};
pub use config::{Config, Founder, Founding};
pub use custody::{member_custody, workload_custody};
pub use ground::SimulatedDisk;
pub use http::{Access, HttpFace, Serves};
pub use identity::IdentityError;
pub use joining::{JoinError, Joined, Remembered, begin, prepare, remembered};
pub use member::{CONTROL_PLANE_TXN_OPS_MAX, Member, PeerPort, ServerError};
pub use metrics::{Answer, Answering, GrpcFace};
pub use peers::PeerFiles;
pub use snapshot::{Progress, Restore, Restored, SnapshotError, SnapshotStatus, restore, snapshot_status};

/// The version of etcd's API that a member speaks, as `Status` tells it.
pub const ETCD_API_VERSION: &str = "3.6.0";
