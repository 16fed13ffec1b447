//! Agreement on one log of opaque commands.
//!
//! Owns: the replicated log (entries, vote, commit index) on [`engine`], the member's part in elections, and the thread
//!       on which a [`Machine`] applies what was agreed. Alone names `openraft`; none of its types is visible outside.
//! In:   commands from [`Raft::propose`], reads from [`Raft::read_barrier`].
//! Out:  committed entries to [`Machine::apply`], each answer to the caller who proposed its command.
//!
//! - Nothing is answered before a quorum, the local disk included, has it on stable storage.
//! - Each committed entry is applied once, in log order, whatever crashes in between: the machine stores what it has
//!   applied (`record`) in the same atomic write as its effects.
//! - A failed write or sync of the log stops the member ([`Raft::fatal`]); it is never retried.
//! - A damaged record is an error that names it; it is never skipped, and the log is never cut at it.
//! - Every queue is bounded, and what is refused for a full one was not appended.
//!
//! This version has no peer transport: a member forms a cluster of itself alone, and answers every attempt to reach
//! another one with an error that says so.

mod apply;
mod codec;
mod config;
mod error;
mod fatal;
mod log;
mod machine;
mod member;
mod peers;
mod propose;
mod read;
mod status;
mod types;
mod waiters;

use engine::Space;

pub use config::{ClusterId, Config, MemberId};
pub use error::{MachineError, ProposeError, RaftError, ReadError};
pub use machine::{Collector, Committed, Image, Machine, Part};
pub use member::Raft;
pub use status::{Leadership, Status};

/// The spaces that the engine given to [`Raft::start`] must have been opened with.
pub const SPACES: &[Space] = log::SPACES;

#[cfg(test)]
mod tests;
