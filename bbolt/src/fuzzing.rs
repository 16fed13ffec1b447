//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics and everything ends unless the reader is wrong.

use std::{io::Cursor, sync::LazyLock};

use crate::{
    Writer, check,
    format::{FIRST_PAGE, HEADER_BYTES, META_BYTES, Meta, PAGE_BYTES, fnv1a},
};

/// A file with an empty bucket, a small one, and one that is a tree of several levels.
static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut writer = Writer::new(Cursor::new(Vec::new())).expect("memory does not fail");
    for (name, entries) in [("empty", 0_u32), ("few", 3), ("many", 5_000)] {
        let mut bucket = writer.bucket(name.as_bytes()).expect("memory does not fail");
        for key in 0..entries {
            bucket.put(&key.to_be_bytes(), name.as_bytes()).expect("keys ascend");
        }
        bucket.finish().expect("memory does not fail");
    }
    writer.finish().expect("memory does not fail").0.into_inner()
});

/// Bytes of one change of [`damaged`].
const CHANGE_BYTES: usize = 4;

/// The least page that there is.
const SMALL_PAGE_BYTES: u32 = 512;

/// Reads `bytes` as a file; and as the pages of a file whose meta pages are in order, after two bytes for where in it the
/// tree and the list of free pages start.
pub fn file(bytes: &[u8]) {
    // An error is as good an answer as any.
    let _summary = check(bytes);
    let [root, freelist, pages @ ..] = bytes else { return };
    let page_bytes = SMALL_PAGE_BYTES as usize;
    let count = FIRST_PAGE + pages.len().div_ceil(page_bytes) as u64;
    let mut file = Vec::new();
    for transaction in [2, 3] {
        let (root, freelist) = (u64::from(*root), u64::from(*freelist));
        let meta = Meta { page_bytes: SMALL_PAGE_BYTES, root, freelist, pages: count, transaction };
        file.extend(meta.encode());
        file.resize(file.len().next_multiple_of(page_bytes), 0);
    }
    file.extend(pages);
    file.resize(file.len().next_multiple_of(page_bytes), 0);
    let _summary = check(&file[..]);
}

/// Reads a file that was whole until `bytes` changed it: four at a time name a page, a place in it, and what is there. Its
/// meta pages have their checksums again afterwards, so that the reader does not stop there.
pub fn damaged(bytes: &[u8]) {
    let mut damaged = SAMPLE.clone();
    let pages = damaged.len() / PAGE_BYTES;
    for change in bytes.chunks_exact(CHANGE_BYTES) {
        let page = usize::from(change[0]) % pages;
        let place = usize::from(u16::from_be_bytes([change[1], change[2]])) % PAGE_BYTES;
        damaged[page * PAGE_BYTES + place] = change[3];
    }
    for meta in damaged.chunks_exact_mut(PAGE_BYTES).take(2) {
        let checked = HEADER_BYTES..HEADER_BYTES + META_BYTES - size_of::<u64>();
        let checksum = fnv1a(&meta[checked.clone()]).to_le_bytes();
        meta[checked.end..checked.end + checksum.len()].copy_from_slice(&checksum);
    }
    let _summary = check(&damaged[..]);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_sample_is_whole_when_nothing_is_changed() {
        let summary = check(&SAMPLE[..]).expect("whole");
        assert_eq!((summary.buckets, summary.values), (3, 5_003));
        damaged(&[]);
    }

    /// Changes that meet what pages say of themselves more often than what they hold.
    fn change() -> impl Strategy<Value = [u8; CHANGE_BYTES]> {
        let place = prop_oneof![3 => 0_u16..96, 1 => any::<u16>()];
        (any::<u8>(), place, any::<u8>()).prop_map(|(page, place, byte)| {
            let [high, low] = place.to_be_bytes();
            [page, high, low, byte]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_file_or_an_error(bytes in vec(any::<u8>(), 0..2000)) {
            file(&bytes);
        }

        #[test]
        fn a_damaged_file_is_read_or_refused(changes in vec(change(), 0..12)) {
            damaged(&changes.concat());
        }
    }
}
