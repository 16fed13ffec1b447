//! The engine on disk.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_LIVE_DATA_SIZE, ESTIMATE_NUM_KEYS};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRawIteratorWithThreadMode, DBRecoveryMode, ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions,
    checkpoint::Checkpoint,
};
use tracing::warn;

use crate::{Batch, Cursor, Durability, EngineError, Options, Space, batch::Write, cursor::Place, error::fault};

/// Threads that RocksDB may use for flushes and compactions.
const BACKGROUND_JOBS: i32 = 2;
/// Bloom filter bits for each key: about 1 % of look-ups of absent keys read a block in vain.
const FILTER_BITS_PER_KEY: f64 = 10.0;
/// Data blocks: small enough for point reads, large enough to compress.
const BLOCK_BYTES: usize = 16 << 10;
/// Writes are gathered in so many tables, which become one file: the place of a row is looked for in the newest alone, which
/// is small enough to stay in the processor's cache.
const TABLES_IN_A_FILE: i32 = 8;
/// Write buffers that the write-ahead log may hold the bytes of: a space that is seldom written must not keep it all.
const LOG_BUFFERS_MAX: usize = 2;
/// Files are written out to the disk each time they have grown by so many bytes: what is left for one sync is little, and
/// others' syncs do not wait long behind it.
const WRITE_OUT_BYTES: u64 = 1 << 20;
/// A file that every database of RocksDB has.
pub(crate) const OF_ROCKSDB: &str = "CURRENT";
/// Bytes that a walk over all of a database reads ahead.
const READ_AHEAD_BYTES: usize = 2 << 20;

pub(crate) type RocksCursor<'engine> = DBRawIteratorWithThreadMode<'engine, DB>;

/// An open database. The last clone to go closes it.
#[derive(Clone)]
pub(crate) struct Rocks(Arc<Open>);

struct Open {
    /// Closed before its folder may go.
    db: DB,
    folder: Folder,
}

/// Where a database lies; it goes with it once another has taken its place.
struct Folder {
    path: PathBuf,
    is_retired: AtomicBool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if *self.is_retired.get_mut()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            // The next start tries again.
            warn!(path = %self.path.display(), %error, "cannot remove a state that another has replaced");
        }
    }
}

impl fmt::Debug for Rocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rocks").field(&self.0.folder.path).finish()
    }
}

impl Rocks {
    pub(crate) fn open(dir: &Path, spaces: &[Space], options: &Options) -> Result<Self, EngineError> {
        let columns = columns(spaces.iter().map(|space| space.name()), options);
        let db = DB::open_cf_descriptors(&database_options(options), dir, columns);
        let db = db.map_err(|error| named(fault(error), dir))?;
        let folder = Folder { path: dir.to_owned(), is_retired: AtomicBool::new(false) };
        Ok(Self(Arc::new(Open { db, folder })))
    }

    /// Reads all that a database holds, which may be that of a version with fewer spaces, and changes nothing.
    pub(crate) fn verify(dir: &Path, spaces: &[Space], options: &Options) -> Result<(), EngineError> {
        let database_options = database_options(options);
        let names = DB::list_cf(&database_options, dir).map_err(fault)?;
        let is_known = |name: &&String| **name == DEFAULT_COLUMN || spaces.iter().any(|space| space.name() == **name);
        if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
            return Err(EngineError::image("", format!("it has a space {unknown:?}: a newer version made it")));
        }
        let columns = columns(names.iter().map(String::as_str), options);
        let db = DB::open_cf_descriptors_read_only(&database_options, dir, columns, false).map_err(fault)?;
        for name in &names {
            let Some(column) = db.cf_handle(name) else { continue };
            let mut read = ReadOptions::default();
            read.fill_cache(false);
            read.set_readahead_size(READ_AHEAD_BYTES);
            let mut cursor = db.raw_iterator_cf_opt(column, read);
            cursor.seek_to_first();
            while cursor.valid() {
                cursor.next();
            }
            cursor.status().map_err(fault)?;
        }
        Ok(())
    }

    /// Makes the folder `into` hold all that was written until now, and nothing that is written later: files that never
    /// change again are shared, the rest is copied.
    pub(crate) fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        Checkpoint::new(&self.0.db).and_then(|checkpoint| checkpoint.create_checkpoint(into)).map_err(fault)
    }

    /// Another database has taken this one's place: its files go when it is closed.
    pub(crate) fn retire(&self) {
        self.0.folder.is_retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.0.db.get_cf(self.column(space)?, key).map_err(fault)?;
        Ok(value.map(Bytes::from))
    }

    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        Ok(Cursor(Place::Rocks(self.0.db.raw_iterator_cf(self.column(space)?))))
    }

    pub(crate) fn pin(&self) -> PinnedRocks<'_> {
        PinnedRocks { rocks: self, snapshot: self.0.db.snapshot() }
    }

    pub(crate) fn write(&self, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
        let mut writes = WriteBatch::default();
        for write in &batch.writes {
            match write {
                Write::Put(space, key, value) => writes.put_cf(self.column(*space)?, key, value),
                Write::Delete(space, key) => writes.delete_cf(self.column(*space)?, key),
                Write::DeleteRange(space, from, to) => writes.delete_range_cf(self.column(*space)?, from, to),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.0.db.write_opt(writes, &options).map_err(fault)
    }

    pub(crate) fn sync(&self) -> Result<(), EngineError> {
        self.0.db.flush_wal(true).map_err(fault)
    }

    pub(crate) fn disk_bytes(&self) -> Result<u64, EngineError> {
        let files = self.0.db.live_files().map_err(fault)?;
        let log = self.0.db.property_int_value("rocksdb.cur-size-all-mem-tables").map_err(fault)?;
        Ok(files.iter().map(|file| file.size as u64).sum::<u64>() + log.unwrap_or(0))
    }

    pub(crate) fn live_bytes(&self, spaces: &[Space]) -> Result<u64, EngineError> {
        let mut bytes = 0;
        for space in spaces {
            let column = self.column(*space)?;
            for property in [ESTIMATE_LIVE_DATA_SIZE, CUR_SIZE_ALL_MEM_TABLES] {
                let value = self.0.db.property_int_value_cf(column, property).map_err(fault)?;
                bytes += value.unwrap_or(0);
            }
        }
        Ok(bytes)
    }

    pub(crate) fn reclaim(&self, spaces: &[Space]) -> Result<(), EngineError> {
        let mut options = CompactOptions::default();
        // Others may go on meanwhile, and so does the engine's own compaction.
        options.set_exclusive_manual_compaction(false);
        for space in spaces {
            let column = self.column(*space)?;
            self.0.db.flush_cf(column).map_err(fault)?;
            self.0.db.compact_range_cf_opt(column, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    pub(crate) fn key_count(&self, space: Space) -> Result<u64, EngineError> {
        let keys = self.0.db.property_int_value_cf(self.column(space)?, ESTIMATE_NUM_KEYS).map_err(fault)?;
        Ok(keys.unwrap_or(0))
    }

    pub(crate) fn rest(&self) {
        self.0.db.cancel_all_background_work(false);
    }

    fn column(&self, space: Space) -> Result<&ColumnFamily, EngineError> {
        self.0.db.cf_handle(space.name()).ok_or(EngineError::UnknownSpace(space))
    }
}

/// What a snapshot of RocksDB shows.
pub(crate) struct PinnedRocks<'engine> {
    rocks: &'engine Rocks,
    snapshot: SnapshotWithThreadMode<'engine, DB>,
}

impl fmt::Debug for PinnedRocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rocks.fmt(f)
    }
}

impl PinnedRocks<'_> {
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.snapshot.get_cf(self.rocks.column(space)?, key).map_err(fault)?;
        Ok(value.map(Bytes::from))
    }

    /// What a walk over all of a space reads would only push out of the cache what others read.
    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        Ok(Cursor(Place::Rocks(self.snapshot.raw_iterator_cf_opt(self.rocks.column(space)?, options))))
    }
}

/// RocksDB names the file that is damaged, unless it is one of the write-ahead log.
fn named(error: EngineError, dir: &Path) -> EngineError {
    match error {
        EngineError::Damaged(text) if !text.contains('/') => {
            let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut logs: Vec<String> = names
                .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
                .map(|path| path.display().to_string())
                .collect();
            logs.sort();
            EngineError::Damaged(format!("{text}, in the write-ahead log: {}", logs.join(", ")))
        }
        other => other,
    }
}

/// The space that every database of RocksDB has, and that nothing is written to.
const DEFAULT_COLUMN: &str = "default";

fn columns<'a>(
    names: impl Iterator<Item = &'a str>,
    options: &Options,
) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.cache_bytes);
    names.map(move |name| ColumnFamilyDescriptor::new(name, column_options(options, &cache)))
}

fn database_options(engine: &Options) -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    // A torn tail of the log is cut at the last whole record; damage before it stops the member.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_max_total_wal_size((LOG_BUFFERS_MAX * engine.write_buffer_bytes) as u64);
    options.set_keep_log_file_num(4);
    options.set_bytes_per_sync(WRITE_OUT_BYTES);
    options.set_wal_bytes_per_sync(WRITE_OUT_BYTES);
    options
}

fn column_options(options: &Options, cache: &Cache) -> rocksdb::Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    if options.point_filter {
        blocks.set_bloom_filter(FILTER_BITS_PER_KEY, false);
    }
    let mut column = rocksdb::Options::default();
    column.set_block_based_table_factory(&blocks);
    column.set_write_buffer_size(options.write_buffer_bytes / TABLES_IN_A_FILE as usize);
    column.set_min_write_buffer_number_to_merge(TABLES_IN_A_FILE);
    // As many again are written to while those become a file.
    column.set_max_write_buffer_number(2 * TABLES_IN_A_FILE);
    column.set_compression_type(DBCompressionType::Lz4);
    column.set_bottommost_compression_type(DBCompressionType::Zstd);
    column.set_level_compaction_dynamic_level_bytes(true);
    column
}
