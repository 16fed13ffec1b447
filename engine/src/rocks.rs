//! The engine on disk.

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_LIVE_DATA_SIZE, ESTIMATE_NUM_KEYS};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRawIteratorWithThreadMode, DBRecoveryMode, ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions,
};

use crate::{Batch, Cursor, Durability, EngineError, Options, Space, batch::Write, cursor::Place};

/// Threads that RocksDB may use for flushes and compactions.
const BACKGROUND_JOBS: i32 = 2;
/// Bloom filter bits for each key: about 1 % of look-ups of absent keys read a block in vain.
const FILTER_BITS_PER_KEY: f64 = 10.0;
/// Data blocks: small enough for point reads, large enough to compress.
const BLOCK_BYTES: usize = 16 << 10;

pub(crate) type RocksCursor<'engine> = DBRawIteratorWithThreadMode<'engine, DB>;

#[derive(Clone)]
pub(crate) struct Rocks(Arc<DB>);

impl fmt::Debug for Rocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rocks").field(&self.0.path()).finish()
    }
}

impl Rocks {
    pub(crate) fn open(dir: &Path, spaces: &[Space], options: &Options) -> Result<Self, EngineError> {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let columns =
            spaces.iter().map(|space| ColumnFamilyDescriptor::new(space.name(), column_options(options, &cache)));
        let db = DB::open_cf_descriptors(&database_options(), dir, columns).map_err(EngineError::Storage)?;
        Ok(Self(Arc::new(db)))
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.0.get_cf(self.column(space)?, key).map_err(EngineError::Storage)?;
        Ok(value.map(Bytes::from))
    }

    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        Ok(Cursor(Place::Rocks(self.0.raw_iterator_cf(self.column(space)?))))
    }

    pub(crate) fn pin(&self) -> PinnedRocks<'_> {
        PinnedRocks { rocks: self, snapshot: self.0.snapshot() }
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
        self.0.write_opt(writes, &options).map_err(EngineError::Storage)
    }

    pub(crate) fn sync(&self) -> Result<(), EngineError> {
        self.0.flush_wal(true).map_err(EngineError::Storage)
    }

    pub(crate) fn disk_bytes(&self) -> Result<u64, EngineError> {
        let files = self.0.live_files().map_err(EngineError::Storage)?;
        let log = self.0.property_int_value("rocksdb.cur-size-all-mem-tables").map_err(EngineError::Storage)?;
        Ok(files.iter().map(|file| file.size as u64).sum::<u64>() + log.unwrap_or(0))
    }

    pub(crate) fn live_bytes(&self, spaces: &[Space]) -> Result<u64, EngineError> {
        let mut bytes = 0;
        for space in spaces {
            let column = self.column(*space)?;
            for property in [ESTIMATE_LIVE_DATA_SIZE, CUR_SIZE_ALL_MEM_TABLES] {
                let value = self.0.property_int_value_cf(column, property).map_err(EngineError::Storage)?;
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
            self.0.flush_cf(column).map_err(EngineError::Storage)?;
            self.0.compact_range_cf_opt(column, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    pub(crate) fn key_count(&self, space: Space) -> Result<u64, EngineError> {
        let keys =
            self.0.property_int_value_cf(self.column(space)?, ESTIMATE_NUM_KEYS).map_err(EngineError::Storage)?;
        Ok(keys.unwrap_or(0))
    }

    pub(crate) fn rest(&self) {
        self.0.cancel_all_background_work(false);
    }

    fn column(&self, space: Space) -> Result<&ColumnFamily, EngineError> {
        self.0.cf_handle(space.name()).ok_or(EngineError::UnknownSpace(space))
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
        let value = self.snapshot.get_cf(self.rocks.column(space)?, key).map_err(EngineError::Storage)?;
        Ok(value.map(Bytes::from))
    }

    /// What a walk over all of a space reads would only push out of the cache what others read.
    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        Ok(Cursor(Place::Rocks(self.snapshot.raw_iterator_cf_opt(self.rocks.column(space)?, options))))
    }
}

fn database_options() -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    // A torn tail of the log is cut at the last whole record; damage before it stops the member.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_keep_log_file_num(4);
    options.set_bytes_per_sync(1 << 20);
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
    column.set_write_buffer_size(options.write_buffer_bytes);
    column.set_compression_type(DBCompressionType::Lz4);
    column.set_bottommost_compression_type(DBCompressionType::Zstd);
    column.set_level_compaction_dynamic_level_bytes(true);
    column
}
