//! One batch in a segment.
//!
//! ```text
//! mark     8  the segment's salt: what another file left on the disk is no frame of this one
//! sequence 8  one more than that of the frame before
//! bytes    4  of the rows
//! sum      4  CRC-32C of the rows
//! check    4  CRC-32C of the four above
//! zeros    4
//! rows        each: kind 1, name of the space, key, and what belongs to the kind; texts after their length, in 1 or 4 bytes
//! zeros       up to a multiple of 32, so that a header is in one sector
//! ```
//! Numbers are little-endian.

use bytes::BufMut;

use crate::{EngineError, batch::Write};

pub(super) const HEADER_BYTES: usize = 32;
/// Of the header, before its check.
const CHECKED_BYTES: usize = 24;
/// Frames begin at multiples of this.
pub(super) const ALIGNMENT: usize = 32;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;

/// A frame that was read, and is whole.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    rows: &'a [u8],
    /// Of the rows in the file.
    offset: u64,
}

/// One of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    /// `offset` is the value's place behind [`Frame::offset`].
    Put {
        space: &'a [u8],
        key: &'a [u8],
        value: &'a [u8],
        offset: u64,
    },
    Delete {
        space: &'a [u8],
        key: &'a [u8],
    },
    DeleteRange {
        space: &'a [u8],
        from: &'a [u8],
        to: &'a [u8],
    },
}

impl Row<'_> {
    pub(super) fn space(&self) -> &[u8] {
        match self {
            Self::Put { space, .. } | Self::Delete { space, .. } | Self::DeleteRange { space, .. } => space,
        }
    }
}

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) mark: u64,
    pub(super) sequence: u64,
    pub(super) bytes: u32,
    sum: u32,
}

impl Header {
    /// `None` if `from` does not begin with a sound one.
    pub(super) fn read(from: &[u8]) -> Option<Self> {
        let fields = from.get(..HEADER_BYTES)?;
        let (mark, rest) = fields.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (check, _) = rest.split_first_chunk()?;
        let is_sound = crc32c::crc32c(&fields[..CHECKED_BYTES]) == u32::from_le_bytes(*check);
        is_sound.then_some(Self {
            mark: u64::from_le_bytes(*mark),
            sequence: u64::from_le_bytes(*sequence),
            bytes: u32::from_le_bytes(*bytes),
            sum: u32::from_le_bytes(*sum),
        })
    }
}

/// The whole frame at the start of `from`, which lies at `offset` in its file.
pub(super) fn read(from: &[u8], offset: u64) -> Option<(Header, Frame<'_>)> {
    let header = Header::read(from)?;
    let rows = from.get(HEADER_BYTES..)?.get(..usize::try_from(header.bytes).ok()?)?;
    (crc32c::crc32c(rows) == header.sum).then_some((header, Frame { rows, offset: offset + HEADER_BYTES as u64 }))
}

/// How long a frame with so many bytes of rows is.
pub(super) fn length(bytes: u32) -> usize {
    (HEADER_BYTES + bytes as usize).next_multiple_of(ALIGNMENT)
}

/// Fills `buffer` with the frame of these writes, and tells where in it each one's value begins: 0 for none.
///
/// # Errors
/// A batch of 4 GiB or more.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    salt: u64,
    sequence: u64,
    writes: &[Write],
) -> Result<Vec<u64>, EngineError> {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    let mut offsets = Vec::with_capacity(writes.len());
    for write in writes {
        let (kind, first, second) = match write {
            Write::Put(_, key, value) => (PUT, key, Some(value)),
            Write::Delete(_, key) => (DELETE, key, None),
            Write::DeleteRange(_, from, to) => (DELETE_RANGE, from, Some(to)),
        };
        let name = write.space().name().as_bytes();
        buffer.put_u8(kind);
        buffer.put_u8(u8::try_from(name.len()).map_err(|_| too_large())?);
        buffer.put_slice(name);
        text(buffer, first)?;
        let value = second.map_or(Ok(0), |second| text(buffer, second))?;
        offsets.push(value);
    }
    let bytes = u32::try_from(buffer.len() - HEADER_BYTES).map_err(|_| too_large())?;
    let (mut header, rows) = buffer.split_at_mut(HEADER_BYTES);
    header.put_u64_le(salt);
    header.put_u64_le(sequence);
    header.put_u32_le(bytes);
    header.put_u32_le(crc32c::crc32c(rows));
    let check = crc32c::crc32c(&buffer[..CHECKED_BYTES]);
    buffer[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&check.to_le_bytes());
    buffer.resize(length(bytes), 0);
    Ok(offsets)
}

/// Where it begins.
fn text(buffer: &mut Vec<u8>, text: &[u8]) -> Result<u64, EngineError> {
    buffer.put_u32_le(u32::try_from(text.len()).map_err(|_| too_large())?);
    let at = buffer.len() as u64;
    buffer.put_slice(text);
    Ok(at)
}

/// Gives the frame at the start of `content` checksums that are right; how long it is. `None` if it has no room for its rows.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn seal(content: &mut [u8]) -> Option<usize> {
    let (header, rest) = content.split_at_mut_checked(HEADER_BYTES)?;
    let bytes = u32::from_le_bytes(header.get(16..20)?.try_into().ok()?);
    let rows = rest.get(..usize::try_from(bytes).ok()?)?;
    header[20..24].copy_from_slice(&crc32c::crc32c(rows).to_le_bytes());
    let check = crc32c::crc32c(&header[..CHECKED_BYTES]);
    header[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&check.to_le_bytes());
    Some(length(bytes))
}

fn too_large() -> EngineError {
    EngineError::Storage("a batch of 4 GiB does not fit into a frame of the journal".to_owned())
}

impl<'a> Frame<'a> {
    /// Where its rows begin in the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Its rows, in order; `None` if they are no rows.
    pub(super) fn rows(&self) -> Option<Vec<Row<'a>>> {
        let (mut rows, mut rest) = (Vec::new(), self.rows);
        while !rest.is_empty() {
            let (&[kind, name], after) = rest.split_first_chunk()?;
            let (space, after) = after.split_at_checked(name.into())?;
            let (key, after) = take(after)?;
            let (row, after) = match kind {
                PUT => {
                    let (value, after) = take(after)?;
                    let offset = (self.rows.len() - after.len() - value.len()) as u64;
                    (Row::Put { space, key, value, offset }, after)
                }
                DELETE => (Row::Delete { space, key }, after),
                DELETE_RANGE => {
                    let (to, after) = take(after)?;
                    (Row::DeleteRange { space, from: key, to }, after)
                }
                _ => return None,
            };
            rows.push(row);
            rest = after;
        }
        Some(rows)
    }
}

fn take(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bytes, rest) = from.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*bytes)).ok()?)
}
