//! Agreement on one log of opaque commands.
//!
//! Owns: the replicated log (entries, vote, commit index) on [`engine`], the member's part in elections, what members say
//!       to each other, and the thread on which a [`Machine`] applies what was agreed. Alone names `openraft`; none of its
//!       types is visible outside.
//! In:   commands from [`Raft::propose`], reads from [`Raft::read_barrier`], changes of the members; the connections that
//!       a [`Dialer`] makes, and what comes in at [`Raft::service`].
//! Out:  committed entries to [`Machine::apply`], each answer to the caller who proposed its command; a machine's
//!       [`Image`] to a member that is far behind.
//!
//! - Nothing is answered before a quorum, the local disk included, has it on stable storage.
//! - Each committed entry is applied once, in log order, whatever crashes in between: the machine stores what it has
//!   applied (`record`) in the same atomic write as its effects.
//! - A failed write or sync of the log stops the member ([`Raft::fatal`]); it is never retried.
//! - A damaged record is an error that names it; it is never skipped, and the log is never cut at it.
//! - Every queue is bounded, and what is refused for a full one was not appended.
//!
//! - A command is applied once, whatever happens to leaders while it is on its way from one member to another.
//! - A voter that lost its data is found out by the others, and takes no further part.

mod apply;
mod change;
mod codec;
mod config;
mod dialer;
mod duties;
mod error;
mod fatal;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod life;
mod log;
mod machine;
mod member;
mod node;
mod peer;
mod propose;
mod read;
mod release;
mod standing;
mod status;
mod threads;
mod types;
mod waiters;

use engine::Space;

pub use config::{ClusterId, Config, Formation, MemberId};
pub use dialer::{Alone, DialError, Dialer, Lane, tune};
pub use error::{ChangeError, MachineError, ProposeError, RaftError, ReadError};
pub use machine::{Collector, Committed, Image, Machine, Part};
pub use member::Raft;
pub use node::{Member, Node, Role};
pub use peer::Sender;
pub use status::{Leadership, Progress, Status};

/// The spaces that the engine given to [`Raft::start`] must have been opened with.
pub const SPACES: &[Space] = log::SPACES;

#[cfg(test)]
mod tests;
