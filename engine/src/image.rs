//! All that an engine held at one moment, to be sent elsewhere.
//!
//! Owns: the form in which an engine travels: parts of bytes, the last of which has the checksums of the others.
//!
//! - An image never changes, and is read from disk piece by piece: it takes no memory.
//! - RocksDB's files are shared with the database, not copied; they go when the image is dropped.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::warn;

use crate::{EngineError, error::io_error};

/// The part with the checksum of each other one.
pub(crate) const SUMS: &str = "checksums";
/// Bytes of a file that are read at once to sum it up.
const PIECE_BYTES: usize = 256 << 10;

/// One part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name, which no other part of the image has: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// All that an engine held at one moment.
#[derive(Debug)]
pub struct Image {
    id: String,
    parts: Vec<Part>,
    source: Source,
    /// The last part, made when it is first asked for.
    sums: Mutex<Option<Bytes>>,
}

#[derive(Debug)]
pub(crate) enum Source {
    /// A folder of the image's own with a file for each part.
    Folder(Removed),
    /// The one part.
    Memory(Bytes),
}

/// A folder that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Removed(pub(crate) PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next start tries again.
            warn!(path = %self.0.display(), %error, "cannot remove an image");
        }
    }
}

impl Image {
    /// Over what `source` holds now.
    pub(crate) fn new(id: String, source: Source) -> Result<Self, EngineError> {
        let mut parts = match &source {
            Source::Folder(folder) => files(&folder.0)?,
            Source::Memory(bytes) => vec![Part { name: "memory".to_owned(), bytes: bytes.len() as u64 }],
        };
        let bytes = parts.iter().map(|part| sum_line(part, 0).len() as u64).sum();
        parts.push(Part { name: SUMS.to_owned(), bytes });
        Ok(Self { id, parts, source, sums: Mutex::new(None) })
    }

    /// Names what it holds: no other image, of whatever engine, has the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it consists of, in the order in which to send it.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Up to `bytes` bytes of the part of that number, from `offset` on; none past its end. Blocks on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&self, part: usize, offset: u64, bytes: usize) -> Result<Bytes, EngineError> {
        let Some(Part { name, bytes: end }) = self.parts.get(part) else { return Ok(Bytes::new()) };
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        match &self.source {
            _ if name == SUMS => Ok(piece(&self.sums()?, offset, bytes)),
            Source::Memory(whole) => Ok(piece(whole, offset, bytes)),
            Source::Folder(folder) => {
                let path = folder.0.join(name);
                let mut piece = vec![0; bytes.min(left)];
                let file = File::open(&path).map_err(io_error(&path))?;
                file.read_exact_at(&mut piece, offset).map_err(io_error(&path))?;
                Ok(piece.into())
            }
        }
    }

    /// Costs a walk over all of the image, once.
    fn sums(&self) -> Result<Bytes, EngineError> {
        let mut sums = self.sums.lock();
        if let Some(sums) = &*sums {
            return Ok(sums.clone());
        }
        let mut text = String::new();
        for part in self.parts.iter().filter(|part| part.name != SUMS) {
            let sum = match &self.source {
                Source::Memory(whole) => crc32c::crc32c(whole),
                Source::Folder(folder) => file_sum(&folder.0.join(&part.name), part.bytes)?,
            };
            text.push_str(&sum_line(part, sum));
        }
        Ok(sums.insert(text.into()).clone())
    }
}

fn piece(whole: &Bytes, offset: u64, bytes: usize) -> Bytes {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
    whole.slice(from..from.saturating_add(bytes).min(whole.len()))
}

/// What the sums say of a part: as long for every sum.
pub(crate) fn sum_line(part: &Part, sum: u32) -> String {
    format!("{sum:08x} {}\n", part.name)
}

/// CRC-32C of a file's first bytes.
pub(crate) fn file_sum(path: &Path, bytes: u64) -> Result<u32, EngineError> {
    let file = File::open(path).map_err(io_error(path))?;
    let (mut sum, mut at, mut piece) = (0, 0, vec![0; PIECE_BYTES]);
    while at < bytes {
        let length = usize::try_from(bytes - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        file.read_exact_at(&mut piece[..length], at).map_err(io_error(path))?;
        sum = crc32c::crc32c_append(sum, &piece[..length]);
        at += length as u64;
    }
    Ok(sum)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<Part>, EngineError> {
    let part = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok(Part { name: entry.file_name().to_string_lossy().into_owned(), bytes: entry.metadata()?.len() })
    };
    let parts: io::Result<Vec<Part>> = fs::read_dir(folder).and_then(|entries| entries.map(part).collect());
    let mut parts = parts.map_err(io_error(folder))?;
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}
