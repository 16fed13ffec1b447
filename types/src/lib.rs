//! The words that all rooms share.
//!
//! Owns: names that mean one thing everywhere, and the rules for spelling them.
//!
//! - A value of a type here is valid: only `parse` and `new` make one, and nobody checks it again.
//! - Nothing here does IO, reads a clock or draws randomness.

mod bug;
mod durations;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod identity;
mod key_range;
mod release;
mod revision;

pub use bug::Bug;
pub use durations::{Durations, DurationsCounted};
pub use identity::{IdentityError, Namespace, ServiceAccount, SpiffeId, TrustDomain};
pub use key_range::KeyRange;
pub use release::{Release, UnknownRelease};
pub use revision::{LeaseId, Revision};
