//! A file of frames.
//!
//! ```text
//! magic  8  what this is
//! number 8  also its name
//! first  8  the sequence of its first frame
//! salt   8  marks its frames; at random
//! sum    4  CRC-32C of the above
//! zeros  28
//! frames    without a gap; after the last one there are zeros
//! ```
//! Numbers are little-endian.
//!
//! - A segment gets its name when its header is on stable storage: one without a header was damaged.
//! - A frame is written into zeros, and the disk writes 512 bytes wholly or not at all. So a frame that was being written
//!   when the power went is the last one, and some of its sectors still are zeros. Any other that is not whole was damaged.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::{BufMut, Bytes};
use rand::RngExt;

use super::frame::{self, ALIGNMENT, Frame, Header};
use crate::{EngineError, error::io_error, folder::sync_folder};

pub(super) const HEADER_BYTES: usize = 64;
/// Of the header, before its sum.
const SUMMED_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"meshjrn1";
const EXTENSION: &str = "journal";
/// Segments and frames are counted one by one from 1: a number above this was never given. So who counts on need not fear
/// that the numbers end.
const COUNT_MAX: u64 = u64::MAX >> 1;
/// A segment that has no name yet.
const UNNAMED: &str = "next";
const SECTOR_BYTES: usize = 512;

/// Why a value cannot be read.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Damaged(String),
    Storage(String),
}

impl From<Fault> for EngineError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(text) => Self::Damaged(text),
            Fault::Storage(text) => Self::Storage(text),
        }
    }
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    number: u64,
    first: u64,
    salt: u64,
}

impl Segment {
    /// The numbers of the segments of a folder, in order. What never got a name goes.
    pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, EngineError> {
        let unnamed = dir.join(UNNAMED);
        match fs::remove_file(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&unnamed)(error)),
            _ => {}
        }
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir).map_err(io_error(dir))? {
            let path = entry.map_err(io_error(dir))?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                let number = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
                numbers.push(number.ok_or_else(|| damaged(&path, "its name is no number"))?);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes an empty one; its name is durable.
    pub(super) fn create(dir: &Path, number: u64, first: u64) -> Result<Self, EngineError> {
        let (unnamed, path) = (dir.join(UNNAMED), path_of(dir, number));
        let salt: u64 = rand::rng().random_range(1..=u64::MAX);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.put_slice(MAGIC);
        header.put_u64_le(number);
        header.put_u64_le(first);
        header.put_u64_le(salt);
        header.put_u32_le(crc32c::crc32c(&header));
        header.resize(HEADER_BYTES, 0);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unnamed);
        let file = file.map_err(io_error(&unnamed))?;
        file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(io_error(&unnamed))?;
        fs::rename(&unnamed, &path).map_err(io_error(&unnamed))?;
        sync_folder(dir)?;
        Ok(Self { path, file, number, first, salt })
    }

    /// Opens one to read its frames, and then to write more.
    pub(super) fn open(dir: &Path, number: u64) -> Result<(Self, Reading), EngineError> {
        let path = path_of(dir, number);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error(&path))?;
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let Some((first, salt)) = header(&bytes, number) else { return Err(damaged(&path, "it has no header")) };
        if number.max(first) > COUNT_MAX {
            return Err(damaged(&path, "its header has a number to which nothing counts"));
        }
        let reading = Reading { path: path.clone(), bytes, salt, at: HEADER_BYTES };
        Ok((Self { path, file, number, first, salt }, reading))
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when the bytes are on stable storage.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<(), EngineError> {
        self.file.write_all_at(bytes, at).and_then(|()| self.file.sync_data()).map_err(io_error(&self.path))
    }

    /// Removes all from `at` on.
    pub(super) fn cut(&self, at: u64) -> Result<(), EngineError> {
        self.file.set_len(at).and_then(|()| self.file.sync_all()).map_err(io_error(&self.path))
    }

    /// A value whose sum is known.
    pub(super) fn value(&self, offset: u64, bytes: usize, sum: u32) -> Result<Bytes, Fault> {
        let mut value = vec![0; bytes];
        let read = self.file.read_exact_at(&mut value, offset);
        read.map_err(|error| Fault::Storage(format!("{}: {error}", self.path.display())))?;
        if crc32c::crc32c(&value) == sum {
            Ok(value.into())
        } else {
            Err(Fault::Damaged(format!("{}: the value at byte {offset} is not what was written", self.path.display())))
        }
    }

    pub(super) fn damaged(&self, what: impl AsRef<str>) -> EngineError {
        damaged(&self.path, what)
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{EXTENSION}"))
}

fn damaged(path: &Path, what: impl AsRef<str>) -> EngineError {
    EngineError::Damaged(format!("{}: {}", path.display(), what.as_ref()))
}

/// Gives a segment's header a checksum that is right.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn seal(content: &mut [u8]) {
    let sum = crc32c::crc32c(&content[..SUMMED_BYTES]);
    content[SUMMED_BYTES..SUMMED_BYTES + 4].copy_from_slice(&sum.to_le_bytes());
}

/// The first sequence and the salt.
fn header(bytes: &[u8], number: u64) -> Option<(u64, u64)> {
    let (fields, rest) = bytes.get(..HEADER_BYTES)?.split_at(SUMMED_BYTES);
    let (sum, _) = rest.split_first_chunk()?;
    let (magic, fields_after) = fields.split_first_chunk::<8>()?;
    let (found, fields_after) = fields_after.split_first_chunk()?;
    let (first, fields_after) = fields_after.split_first_chunk()?;
    let (salt, _) = fields_after.split_first_chunk()?;
    let is_sound = crc32c::crc32c(fields) == u32::from_le_bytes(*sum);
    let is_it = is_sound && magic == MAGIC && u64::from_le_bytes(*found) == number;
    is_it.then(|| (u64::from_le_bytes(*first), u64::from_le_bytes(*salt)))
}

/// A segment's content, read from the start on.
#[derive(Debug)]
pub(super) struct Reading {
    path: PathBuf,
    bytes: Vec<u8>,
    salt: u64,
    at: usize,
}

impl Reading {
    /// Where the next frame begins.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    /// The file's length.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The next whole frame, if it is the one that belongs here.
    ///
    /// # Errors
    /// A whole frame that belongs elsewhere.
    pub(super) fn next(&mut self, sequence: u64) -> Result<Option<Frame<'_>>, EngineError> {
        let at = self.at;
        let rest = self.bytes.get(at..).unwrap_or_default();
        let Some((header, frame)) = frame::read(rest, at as u64).filter(|(header, _)| header.mark == self.salt) else {
            return Ok(None);
        };
        if header.sequence != sequence {
            let what = format!("at byte {at} is frame {}, where frame {sequence} belongs", header.sequence);
            return Err(damaged(&self.path, what));
        }
        self.at += frame::length(header.bytes);
        Ok(Some(frame))
    }

    /// Whether what follows the last whole frame is what a write may have left that was not finished.
    ///
    /// # Errors
    /// It is damage.
    pub(super) fn check_torn(&self, sequence: u64) -> Result<(), EngineError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !self.may_be_torn(rest, sequence) {
            return Err(damaged(&self.path, format!("frame {sequence}, at byte {}, is not what was written", self.at)));
        }
        for at in (ALIGNMENT..rest.len()).step_by(ALIGNMENT) {
            let follows = |header: Header| header.mark == self.salt && frame::read(&rest[at..], 0).is_some();
            if Header::read(&rest[at..]).is_some_and(follows) {
                let what = format!("frame {sequence}, at byte {}, is missing, and others follow it", self.at);
                return Err(damaged(&self.path, what));
            }
        }
        Ok(())
    }

    /// Whether a frame that was being written can have left this: its header is not there, or a sector of the others.
    fn may_be_torn(&self, rest: &[u8], sequence: u64) -> bool {
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if is_zero(&rest[..rest.len().min(frame::HEADER_BYTES)]) {
            return true;
        }
        let Some(header) = Header::read(rest).filter(|header| (header.mark, header.sequence) == (self.salt, sequence))
        else {
            return false;
        };
        let Some(frame) = rest.get(..frame::HEADER_BYTES + header.bytes as usize) else { return true };
        let (_, others) = frame.split_at(frame.len().min(SECTOR_BYTES - self.at % SECTOR_BYTES));
        others.chunks(SECTOR_BYTES).any(is_zero)
    }
}
