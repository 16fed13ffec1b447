//! Watching keys change.
//!
//! Owns: the live watchers, and the next revision that each one is owed.
//! In:   published revisions, in order, from the store; `watch` and `cancel` from the stream's one owner.
//! Out:  per stream, deliveries of whole revisions.
//!
//! - A watcher sees each matching event once, in revision order, with no gap, and never half a revision.
//! - Nothing here delays `publish`: it leaves what is new with the hub's dispatcher and goes on.
//! - A dispatcher finds the streams that match by index; a stream finds its watchers that match by index. Neither's
//!   cost follows the watchers that do not match.
//! - A stream that is not read fills its queue; what comes after is not queued but read from history, by the stream
//!   itself when it is read again.
//! - A watcher that is owed a compacted revision is told so and ends; it never skips.

mod batch;
mod event;
mod feed;
mod history;
mod hub;
mod interest;
mod intervals;
mod stream;

#[cfg(test)]
mod tests;

use types::{KeyRange, Revision};

pub use batch::Events;
pub use event::{Change, Event};
pub(crate) use event::{RevisionEvents, Told};
pub(crate) use feed::Feed;
pub use hub::{WatchHub, WatchLoad};
pub use stream::{Delivery, DuplicateWatch, WatchStream};

/// Names a watcher on its stream; the wire's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

/// What a watcher wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// Its name, not yet in use on its stream.
    pub id: WatchId,
    /// Which keys.
    pub keys: KeyRange,
    /// From when on.
    pub start: WatchStart,
    /// Which changes it does not want.
    pub filter: Filter,
    /// Whether events carry the version that they replace.
    pub prev_kv: bool,
}

/// The first revision that a watcher sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// The next one after what is published now.
    Next,
    /// This one: past, if it is not compacted, or future.
    At(Revision),
}

/// Changes that a watcher does not want. The default wants all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// No puts.
    pub no_put: bool,
    /// No deletes.
    pub no_delete: bool,
}
