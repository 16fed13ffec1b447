//! The twin as bytes, for an image.
//!
//! For each space: its name, how many keys there are, and each key with its value; lengths and counts are 4 bytes,
//! big-endian.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Keys, Memory};
use types::Bug;

use crate::{EngineError, Space};

impl Memory {
    /// All that it holds now.
    pub(crate) fn dump(&self) -> Bytes {
        let mut out = BytesMut::new();
        for (space, keys) in self.all() {
            put(&mut out, space.name().as_bytes());
            out.put_u32(length(keys.len()));
            for (key, value) in &*keys {
                put(&mut out, key);
                put(&mut out, value);
            }
        }
        out.freeze()
    }

    /// A twin with these spaces that holds what another held.
    pub(crate) fn load(dump: &Bytes, spaces: &[Space]) -> Result<Self, EngineError> {
        let cut = || EngineError::image("memory", "it is cut short");
        let mut loaded: BTreeMap<Space, Arc<Keys>> = spaces.iter().map(|&space| (space, Arc::default())).collect();
        let mut rest = dump.clone();
        while rest.has_remaining() {
            let name = take(&mut rest).ok_or_else(cut)?;
            let space = spaces.iter().find(|space| space.name().as_bytes() == name);
            let space = *space.ok_or_else(|| EngineError::image("memory", "it has a space that is not known"))?;
            let mut keys = Keys::new();
            for _ in 0..rest.try_get_u32().map_err(|_| cut())? {
                let key = take(&mut rest).ok_or_else(cut)?;
                keys.insert(key, take(&mut rest).ok_or_else(cut)?);
            }
            loaded.insert(space, Arc::new(keys));
            if Bug::ImageCutShort.is_planted() && space.name().ends_with("history") {
                loaded.insert(space, Arc::default());
            }
        }
        Ok(Self::of(loaded))
    }
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(length(bytes.len()));
    out.put_slice(bytes);
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let bytes = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    (bytes <= rest.len()).then(|| rest.split_to(bytes))
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a twin is small")
}
