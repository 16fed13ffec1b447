//! An image on its way in.
//!
//! Owns: what has come of it, in a folder beside the data, until it is adopted or another image comes.
//!
//! - Nothing that comes touches the engine that is there.
//! - What has come survives a restart, so that a sender goes on where it was. Bytes that a power loss spoils are found by
//!   the checksums at the end; the part is then to be sent again, and no other.
//! - A part's name is another's word: only plain file names are taken.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    EngineError, Options, Part, Space,
    error::io_error,
    folder::sync_folder,
    image::{SUMS, file_sum, sum_line},
    rocks::Rocks,
};

/// Longest name of an image or of a part.
const NAME_BYTES_MAX: usize = 128;

/// An image that is being collected. Dropping it keeps what has come.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) sink: Sink,
    spaces: Arc<[Space]>,
    options: Options,
    is_whole: bool,
}

#[derive(Debug)]
pub(crate) enum Sink {
    Folder(PathBuf),
    Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>),
}

/// Whether this may name an image or a part.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain)
}

impl Incoming {
    pub(crate) fn new(sink: Sink, spaces: Arc<[Space]>, options: Options) -> Self {
        Self { sink, spaces, options, is_whole: false }
    }

    /// How many bytes of a part are here, from its start on: where to go on sending it.
    pub fn held(&self, part: &Part) -> u64 {
        if !is_name(&part.name) {
            return 0;
        }
        let held = match &self.sink {
            Sink::Folder(folder) => fs::metadata(folder.join(&part.name)).map_or(0, |file| file.len()),
            Sink::Memory(parts) => parts.lock().get(&part.name).map_or(0, |bytes| bytes.len() as u64),
        };
        // What is longer than the part is another's.
        if held > part.bytes { 0 } else { held }
    }

    /// Adds bytes of a part at `offset`, which is at most what is [`held`](Incoming::held). Blocks on the disk.
    ///
    /// # Errors
    /// [`EngineError::Image`] for bytes that can not be the part's; the disk's.
    pub fn write(&mut self, part: &Part, offset: u64, data: &[u8]) -> Result<(), EngineError> {
        self.is_whole = false;
        if !is_name(&part.name) {
            return Err(EngineError::image(&part.name, "not a name"));
        }
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= part.bytes);
        if end.is_none() || offset > self.held(part) {
            return Err(EngineError::image(&part.name, format!("no place for bytes at {offset}")));
        }
        match &self.sink {
            Sink::Folder(folder) => {
                let path = folder.join(&part.name);
                write_file(&path, offset, data, offset == 0).map_err(io_error(&path))
            }
            Sink::Memory(parts) => {
                let mut parts = parts.lock();
                let bytes = parts.entry(part.name.clone()).or_default();
                bytes.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
                bytes.extend_from_slice(data);
                Ok(())
            }
        }
    }

    /// Brings all of it to stable storage and reads it all again; after that it may be adopted. `parts`: those of
    /// [`Image::parts`](crate::Image::parts). Blocks on the disk for as long as that takes.
    ///
    /// # Errors
    /// [`EngineError::Image`] if something is missing or not as it was sent: the part named is gone then, and is to be
    /// sent again. All of it is, and no part is named, if it was damaged where it came from. The disk's.
    pub fn finish(&mut self, parts: &[Part]) -> Result<(), EngineError> {
        if let Some(part) = parts.iter().find(|part| self.held(part) != part.bytes) {
            return Err(EngineError::image(&part.name, "not all of it is here"));
        }
        for empty in parts.iter().filter(|part| part.bytes == 0) {
            self.write(empty, 0, &[])?;
        }
        let sums = parts.last().filter(|last| last.name == SUMS);
        let sums = self.whole(sums.ok_or_else(|| EngineError::image(SUMS, "it is not the last one"))?)?;
        let mut expected = Vec::new();
        for part in &parts[..parts.len() - 1] {
            expected.push((part, sum_line(part, self.sum(part)?)));
        }
        if let Some(differs) = expected.iter().zip(lines(&sums)).find(|((_, ours), theirs)| ours.as_bytes() != *theirs)
        {
            let part = differs.0.0;
            self.forget(part)?;
            return Err(EngineError::image(&part.name, "its checksum differs"));
        }
        if expected.iter().map(|(_, line)| line.len()).sum::<usize>() != sums.len() {
            return Err(EngineError::image(SUMS, "it is of other parts"));
        }
        if let Sink::Folder(folder) = &self.sink {
            settle(folder, parts)?;
            if let Err(error) = Rocks::verify(folder, &self.spaces, &self.options) {
                parts.iter().filter(|part| part.name != SUMS).try_for_each(|part| self.forget(part))?;
                // It is not this member's own disk that is damaged.
                return Err(if let EngineError::Damaged(what) = error { EngineError::image("", what) } else { error });
            }
        }
        self.is_whole = true;
        Ok(())
    }

    /// Whether [`Incoming::finish`] found it whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn whole(&self, part: &Part) -> Result<Bytes, EngineError> {
        match &self.sink {
            Sink::Folder(folder) => {
                let path = folder.join(&part.name);
                fs::read(&path).map(Bytes::from).map_err(io_error(&path))
            }
            Sink::Memory(parts) => Ok(parts.lock().get(&part.name).cloned().unwrap_or_default().into()),
        }
    }

    fn sum(&self, part: &Part) -> Result<u32, EngineError> {
        match &self.sink {
            Sink::Folder(folder) => file_sum(&folder.join(&part.name), part.bytes),
            Sink::Memory(_) => self.whole(part).map(|bytes| crc32c::crc32c(&bytes)),
        }
    }

    /// Lets go of what has come of a part.
    fn forget(&self, part: &Part) -> Result<(), EngineError> {
        match &self.sink {
            Sink::Folder(folder) => {
                let path = folder.join(&part.name);
                fs::remove_file(&path).map_err(io_error(&path))
            }
            Sink::Memory(parts) => {
                parts.lock().remove(&part.name);
                Ok(())
            }
        }
    }
}

fn lines(sums: &Bytes) -> impl Iterator<Item = &[u8]> {
    sums.split_inclusive(|&byte| byte == b'\n').chain(std::iter::repeat(&[][..]))
}

fn write_file(path: &Path, offset: u64, data: &[u8], anew: bool) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(anew).mode(0o600).open(path)?;
    file.write_all_at(data, offset)
}

/// Leaves the parts alone in their folder, but for the checksums, and all of them on stable storage.
fn settle(folder: &Path, parts: &[Part]) -> Result<(), EngineError> {
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let path = entry.map_err(io_error(folder))?.path();
        let is_part = |part: &Part| part.name != SUMS && path.file_name().is_some_and(|name| *name == *part.name);
        if parts.iter().any(is_part) {
            File::open(&path).and_then(|file| file.sync_all()).map_err(io_error(&path))?;
        } else if path.file_name().is_some_and(|name| name != SUMS) {
            fs::remove_file(&path).map_err(io_error(&path))?;
        }
    }
    sync_folder(folder)
}
