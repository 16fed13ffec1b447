//! Bytes of pages: headers, the two meta pages, buckets.
//!
//! - All numbers are little-endian: bbolt writes those of its machine, and etcd supports no big-endian one.

/// A page starts with its number, its kind, how many elements it has, and how many pages more it takes.
pub(crate) const HEADER_BYTES: usize = 16;
/// Before keys and values a page has one of these for each element, whatever its kind.
pub(crate) const ELEMENT_BYTES: usize = 16;
/// A bucket is where its tree starts, and a counter. A tree that starts at page 0 follows right behind.
pub(crate) const BUCKET_BYTES: usize = 16;
/// The page of a file that is written here.
pub(crate) const PAGE_BYTES: usize = WRITTEN_PAGE_BYTES as usize;
/// The same, as a meta page says it.
pub(crate) const WRITTEN_PAGE_BYTES: u32 = 4096;
/// Pages 0 and 1 are meta pages.
pub(crate) const FIRST_PAGE: u64 = 2;

/// Kinds of pages.
pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// The flag of a leaf's element whose value is a bucket.
pub(crate) const BUCKET: u32 = 0x01;

/// Longest key that bbolt takes.
pub(crate) const KEY_BYTES_MAX: usize = 32_768;
/// Longest value that bbolt takes.
pub(crate) const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
pub(crate) const META_BYTES: usize = 64;
/// The checksum covers all that is before it.
const CHECKED_BYTES: usize = META_BYTES - 8;

/// How a page starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) page: u64,
    pub(crate) kind: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&self.page.to_le_bytes());
        out[8..10].copy_from_slice(&self.kind.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..].copy_from_slice(&self.overflow.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let kinds = u32_at(bytes, 8)?;
        let [kind, count] = [kinds & 0xFFFF, kinds >> 16].map(|half| u16::try_from(half).unwrap_or(u16::MAX));
        Some(Self { page: u64_at(bytes, 0)?, kind, count, overflow: u32_at(bytes, 12)? })
    }
}

/// What a meta page says. Two are kept, so that one is whole whenever the other is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    /// Where the tree of buckets starts.
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// How many pages there are.
    pub(crate) pages: u64,
    /// Counts transactions: the higher one is the newer.
    pub(crate) transaction: u64,
}

impl Meta {
    /// The meta page, as far as it is not zeros.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let header = Header { page: self.transaction % 2, kind: META, count: 0, overflow: 0 };
        let mut meta = Vec::with_capacity(META_BYTES);
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            meta.extend(number.to_le_bytes());
        }
        for number in [self.root, 0, self.freelist, self.pages, self.transaction] {
            meta.extend(number.to_le_bytes());
        }
        meta.extend(fnv1a(&meta).to_le_bytes());
        [&header.encode()[..], &meta].concat()
    }

    /// Reads a meta page; `None` if it is none, or not whole.
    pub(crate) fn decode(page: &[u8]) -> Option<Self> {
        let meta = page.get(HEADER_BYTES..HEADER_BYTES + META_BYTES)?;
        let valid = u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && u64_at(meta, CHECKED_BYTES)? == fnv1a(&meta[..CHECKED_BYTES]);
        let read = Self {
            page_bytes: u32_at(meta, 8)?,
            root: u64_at(meta, 16)?,
            freelist: u64_at(meta, 32)?,
            pages: u64_at(meta, 40)?,
            transaction: u64_at(meta, 48)?,
        };
        (valid && PAGE_SIZES.contains(&read.page_bytes) && read.page_bytes.is_power_of_two()).then_some(read)
    }

    /// How much of a page [`Meta::decode`] wants to see.
    pub(crate) const SEEN_BYTES: usize = HEADER_BYTES + META_BYTES;
}

/// Pages are those of the machine that wrote the file, or what its owner chose.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=16 << 20;

/// Where the second meta page may be when the first, which would say so, is damaged.
pub(crate) fn second_meta_offsets() -> impl Iterator<Item = u64> {
    (0..)
        .map(|shift| u64::from(*PAGE_SIZES.start()) << shift)
        .take_while(|offset| *offset <= u64::from(*PAGE_SIZES.end()))
}

/// The value of a bucket's element.
pub(crate) fn bucket_value(root: u64, inline: &[u8]) -> Vec<u8> {
    [&root.to_le_bytes()[..], &[0; BUCKET_BYTES - 8], inline].concat()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The checksum of a meta page: FNV-1a, 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01B3;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        for (text, expected) in
            [("", 0xCBF2_9CE4_8422_2325), ("a", 0xAF63_DC4C_8601_EC8C), ("foobar", 0x8594_4171_F739_67E8)]
        {
            assert_eq!(fnv1a(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_meta_page_is_read_as_it_was_written_and_no_bit_of_it_may_change() {
        let meta = Meta { page_bytes: 4096, root: 7, freelist: 8, pages: 9, transaction: 3 };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Some(meta));
        assert_eq!(Header::decode(&bytes), Some(Header { page: 1, kind: META, count: 0, overflow: 0 }));
        for at in HEADER_BYTES..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Meta::decode(&damaged), None, "byte {at}");
        }
    }
}
