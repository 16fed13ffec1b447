//! Ranges read piece by piece.
//!
//! - A piece is bounded in keys and in bytes, whatever the range holds: no counting goes on behind it.
//! - Pieces of one revision put together are the range at that revision, as long as it is not compacted.

use std::ops::ControlFlow::{Break, Continue};

use bytes::Bytes;
use types::{KeyRange, Revision};

use crate::{Failure, KeyValue, Show, View};

/// A piece of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The store's revision when it was read.
    pub revision: Revision,
    /// The keys, in order.
    pub kvs: Vec<KeyValue>,
    /// Where the range goes on; `None` at its end.
    pub rest: Option<KeyRange>,
}

impl View {
    /// The first keys of a range, in key order: at most `keys_max`, and none more once they take `bytes_max`. At the
    /// published revision if none is given.
    ///
    /// # Errors
    /// Those of [`View::range`].
    pub fn chunk(
        &self,
        keys: &KeyRange,
        at: Option<Revision>,
        show: Show,
        (keys_max, bytes_max): (u64, usize),
    ) -> Result<Chunk, Failure> {
        let shared = self.shared();
        let mut snapshot = shared.snapshot()?;
        let at = snapshot.at(at)?;
        let (mut kvs, mut bytes, mut rest) = (Vec::new(), 0, None);
        snapshot.scan(keys, at, |found| {
            if kvs.len() as u64 >= keys_max || bytes >= bytes_max {
                rest = Some(from(found.key()?, keys));
                return Ok(Break(()));
            }
            let kv = if show == Show::Whole { found.whole()? } else { found.without_value()? };
            bytes += kv.bytes();
            kvs.push(kv);
            Ok(Continue(()))
        })?;
        Ok(Chunk { revision: snapshot.revision(), kvs, rest })
    }
}

/// What is left of a range from a key of it on.
fn from(key: Bytes, of: &KeyRange) -> KeyRange {
    match of {
        KeyRange::One(_) => KeyRange::One(key),
        KeyRange::Between(_, end) => KeyRange::Between(key, end.clone()),
        KeyRange::AtLeast(_) => KeyRange::AtLeast(key),
    }
}
