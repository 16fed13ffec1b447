//! Where an engine lives, and where another may take its place.
//!
//! Owns: the folder around a database, which is `db-N` in it; the images made of it, in `images`; the one that is coming in,
//!       in `incoming`.
//!
//! - The database with the highest number is the one that counts. One is given the next number, by a rename, only after all
//!   of it is on stable storage: a crash leaves the old one in its place, or the new one, and never some of each.
//! - What a start finds beside the one that counts was on its way out, and goes; what was coming in is kept.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::RngExt;

use crate::{
    Engine, EngineError, Image, Incoming, Kind, Options, Pace, Space,
    error::io_error,
    folder::{lock, make, sync_folder},
    image::{Removed, SUMS, Source},
    incoming::{Sink, is_name},
    memory::Memory,
    rocks::OF_ROCKSDB,
};

const DATABASE: &str = "db-";
const IMAGES: &str = "images";
const INCOMING: &str = "incoming";

/// A place for an engine. Clones share it.
#[derive(Clone, Debug)]
pub struct Home(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: ArcSwap<Engine>,
    spaces: Arc<[Space]>,
    options: Options,
    rooms: Rooms,
}

#[derive(Debug)]
enum Rooms {
    Folder {
        path: PathBuf,
        /// Of the database that counts; held while another takes its place.
        number: Mutex<u64>,
        /// Locked by this process.
        _lock: File,
    },
    Memory {
        incoming: Mutex<(String, Parts)>,
    },
}

type Parts = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Names the twin's images: the same in every run of a simulation.
static IMAGES_IN_MEMORY: AtomicU64 = AtomicU64::new(0);

impl Home {
    /// Opens or makes a home in the folder `dir`, with these spaces. One process at a time.
    ///
    /// # Errors
    /// Those of [`Engine::open`]; [`EngineError::Layout`] if the folder is an engine's own.
    pub fn open(dir: &Path, spaces: &[Space], options: &Options) -> Result<Self, EngineError> {
        if dir.join(OF_ROCKSDB).exists() {
            return Err(EngineError::Layout(dir.to_owned()));
        }
        make(dir)?;
        let lock = lock(dir)?;
        let number = numbers(dir)?.into_iter().max().unwrap_or(1);
        let engine = Engine::open(&dir.join(database(number)), spaces, options)?;
        sync_folder(dir)?;
        for old in numbers(dir)?.into_iter().filter(|old| *old != number) {
            remove(&dir.join(database(old)))?;
        }
        remove(&dir.join(IMAGES))?;
        Ok(Self(Arc::new(Inner {
            engine: ArcSwap::from_pointee(engine),
            spaces: spaces.into(),
            options: options.clone(),
            rooms: Rooms::Folder { path: dir.to_owned(), number: Mutex::new(number), _lock: lock },
        })))
    }

    /// The home of an engine that keeps nothing, for simulation and tests.
    pub fn in_memory(spaces: &[Space]) -> Self {
        Self::of(Engine::in_memory(spaces), spaces)
    }

    /// The home of an engine that a simulation can crash and slow.
    pub fn simulated(spaces: &[Space], pace: Pace) -> Self {
        Self::of(Engine::simulated(spaces, pace), spaces)
    }

    fn of(twin: Engine, spaces: &[Space]) -> Self {
        Self(Arc::new(Inner {
            engine: ArcSwap::from_pointee(twin),
            spaces: spaces.into(),
            options: Options::default(),
            rooms: Rooms::Memory { incoming: Mutex::default() },
        }))
    }

    /// The engine that lives here now.
    pub fn engine(&self) -> Engine {
        Engine::clone(&self.0.engine.load())
    }

    /// An image of all that was written until now. It costs a flush of what waits in memory.
    ///
    /// # Errors
    /// The disk's.
    pub fn image(&self) -> Result<Image, EngineError> {
        match (&self.engine().0, &self.0.rooms) {
            (Kind::Rocks(rocks), Rooms::Folder { path, .. }) => {
                let (id, images) = (format!("{:032x}", rand::rng().random::<u128>()), path.join(IMAGES));
                make(&images)?;
                let folder = Removed(images.join(&id));
                rocks.checkpoint(&folder.0)?;
                Image::new(id, Source::Folder(folder))
            }
            (Kind::Memory(memory), _) => {
                let id = format!("memory-{}", IMAGES_IN_MEMORY.fetch_add(1, Ordering::Relaxed));
                Image::new(id, Source::Memory(memory.dump()))
            }
            _ => unreachable!("a home's engine is of the home's kind"),
        }
    }

    /// Where an image comes in: what has come of it already is kept, what has come of any other goes. `id` is the image's.
    ///
    /// # Errors
    /// [`EngineError::Image`] if `id` cannot be an image's; the disk's.
    pub fn collect(&self, id: &str) -> Result<Incoming, EngineError> {
        if !is_name(id) {
            return Err(EngineError::image("", "not an id"));
        }
        let sink = match &self.0.rooms {
            Rooms::Folder { path, .. } => {
                let incoming = path.join(INCOMING);
                make(&incoming)?;
                for entry in fs::read_dir(&incoming).map_err(io_error(&incoming))? {
                    let other = entry.map_err(io_error(&incoming))?;
                    if other.file_name() != id {
                        remove(&other.path())?;
                    }
                }
                make(&incoming.join(id))?;
                Sink::Folder(incoming.join(id))
            }
            Rooms::Memory { incoming } => {
                let mut incoming = incoming.lock();
                if incoming.0 != id {
                    *incoming = (id.to_owned(), Parts::default());
                }
                Sink::Memory(Arc::clone(&incoming.1))
            }
        };
        Ok(Incoming::new(sink, Arc::clone(&self.0.spaces), self.0.options.clone()))
    }

    /// Gives an image the place of the engine that lives here, over a crash too, and returns it open. What is written to
    /// the old engine from now on is lost; it can be read until its last clone is dropped, and is deleted then.
    ///
    /// # Errors
    /// [`EngineError::Image`] if it was not found whole; nothing has changed then. After an error of the disk's the member
    /// must stop: its next start finds the one or the other.
    pub fn adopt(&self, image: &Incoming) -> Result<Engine, EngineError> {
        if !image.is_whole() {
            return Err(EngineError::image("", "it is not whole"));
        }
        let engine = match (&image.sink, &self.0.rooms) {
            (Sink::Folder(folder), Rooms::Folder { path, number, .. }) => {
                let mut number = number.lock();
                let next = path.join(database(*number + 1));
                remove_file(&folder.join(SUMS))?;
                fs::rename(folder, &next).map_err(io_error(folder))?;
                sync_folder(path)?;
                *number += 1;
                Engine::open(&next, &self.0.spaces, &self.0.options)?
            }
            (Sink::Memory(parts), Rooms::Memory { .. }) => {
                let parts = std::mem::take(&mut *parts.lock());
                let dump = parts.into_iter().find(|(name, _)| name != SUMS).map(|(_, bytes)| Bytes::from(bytes));
                let memory = Memory::load(&dump.unwrap_or_default(), &self.0.spaces)?;
                let pace = match &self.engine().0 {
                    Kind::Memory(before) => before.pace().cloned(),
                    Kind::Rocks(_) | Kind::Journal(_) => None,
                };
                Engine(Kind::Memory(match pace {
                    Some(pace) => memory.on_disk(pace),
                    None => memory,
                }))
            }
            _ => return Err(EngineError::image("", "it came in elsewhere")),
        };
        let before = self.0.engine.swap(Arc::new(engine.clone()));
        if let Kind::Rocks(rocks) = &before.0 {
            rocks.retire();
        }
        Ok(engine)
    }
}

fn database(number: u64) -> String {
    format!("{DATABASE}{number}")
}

/// The numbers of the databases in a folder.
fn numbers(dir: &Path) -> Result<Vec<u64>, EngineError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let name = entry.map_err(io_error(dir))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(DATABASE)?.parse::<u64>().ok()));
    }
    Ok(numbers)
}

fn remove(dir: &Path) -> Result<(), EngineError> {
    missing_is_fine(fs::remove_dir_all(dir)).map_err(io_error(dir))
}

fn remove_file(path: &Path) -> Result<(), EngineError> {
    missing_is_fine(fs::remove_file(path)).map_err(io_error(path))
}

fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
