//! RocksDB as a replica's disk.
//!
//! Every batch goes through one write-ahead log with one `fdatasync`, so a crash leaves a prefix of the batches.
//! Sized for a site that shares its machine: memory stays small (see the constants), because the views that
//! sign-ins read are a hundred bytes each and the page cache holds the rest.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    Direction, ErrorKind, IteratorMode, Options, ReadOptions, SnapshotWithThreadMode, WriteBatch,
    WriteOptions,
};

use super::{Batch, Disk, DiskError, DiskRead, Family, Visit};

/// Blocks of tables kept in memory, over all families.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Unflushed writes kept in memory, over all families.
const WRITE_BUFFERS_BYTES: usize = 8 << 20;
/// The write-ahead log is bounded: families that hardly change are flushed when it exceeds this.
const WAL_BYTES_MAX: u64 = 32 << 20;
/// Open table files; ten sites on one machine must stay below its limit of descriptors.
const OPEN_FILES_MAX: i32 = 256;

/// A RocksDB in a directory of its own.
pub struct RocksDisk {
    path: PathBuf,
    /// `None` while closed after a failure. Readers hold the lock for the length of one snapshot.
    db: RwLock<Option<DB>>,
}

impl RocksDisk {
    /// Opens the database in `path`, making it if there is none.
    pub fn open(path: &Path) -> Result<RocksDisk, DiskError> {
        let db = open(path)?;
        Ok(RocksDisk {
            path: path.to_path_buf(),
            db: RwLock::new(Some(db)),
        })
    }

    /// Flushes and compacts every family: tests and measurements of size want a quiet disk.
    pub fn compact(&self) -> Result<(), DiskError> {
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = guard.as_ref().ok_or(DiskError::Closed)?;
        for family in Family::ALL {
            db.flush_cf(handle(db, family)?).map_err(disk_error)?;
            db.compact_range_cf(handle(db, family)?, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<DB, DiskError> {
    let (options, families) = described();
    DB::open_cf_descriptors(&options, path, families).map_err(disk_error)
}

/// Without writing a byte: the write-ahead log is replayed in memory.
fn open_to_read(path: &Path) -> Result<DB, DiskError> {
    let (options, families) = described();
    DB::open_cf_descriptors_read_only(&options, path, families, false).map_err(disk_error)
}

fn described() -> (Options, [ColumnFamilyDescriptor; Family::ALL.len()]) {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_keep_log_file_num(2);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    // A torn last batch is what a crash leaves; anything else damaged in the log must not pass unseen.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Every block read is checked against its checksum all the same; but a damaged one, met by a compaction, must
    // not end all writing: what it holds is healed from a peer.
    options.set_paranoid_checks(false);
    let families = Family::ALL.map(|family| {
        let mut options = Options::default();
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_bloom_filter(10.0, false);
        table.set_format_version(5);
        options.set_block_based_table_factory(&table);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(2 << 20);
        options.set_max_write_buffer_number(2);
        ColumnFamilyDescriptor::new(family.name(), options)
    });
    (options, families)
}

fn handle(db: &DB, family: Family) -> Result<&ColumnFamily, DiskError> {
    db.cf_handle(family.name())
        .ok_or_else(|| DiskError::Damaged(format!("column family `{}` is missing", family.name())))
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn disk_error(error: rocksdb::Error) -> DiskError {
    let text = error.to_string();
    match error.kind() {
        _ if text.contains("No space left") || text.contains("Disk quota exceeded") => DiskError::Full,
        ErrorKind::Corruption => DiskError::Damaged(text),
        _ => DiskError::Io(text),
    }
}

struct Snapshot<'a> {
    db: &'a DB,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl DiskRead for Snapshot<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let found = self
            .snapshot
            .get_pinned_cf(handle(self.db, family)?, key)
            .map_err(disk_error)?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, family: Family, from: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError> {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        let mode = IteratorMode::From(from, Direction::Forward);
        for entry in self
            .snapshot
            .iterator_cf_opt(handle(self.db, family)?, options, mode)
        {
            let (key, value) = entry.map_err(disk_error)?;
            if visit(&key, &value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

impl Disk for RocksDisk {
    fn read(&self, read: &mut dyn FnMut(&dyn DiskRead)) -> Result<(), DiskError> {
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = guard.as_ref().ok_or(DiskError::Closed)?;
        read(&Snapshot {
            db,
            snapshot: db.snapshot(),
        });
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), DiskError> {
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = guard.as_ref().ok_or(DiskError::Closed)?;
        let mut rocks = WriteBatch::default();
        for (family, key, value) in batch.entries() {
            match value {
                Some(value) => rocks.put_cf(handle(db, *family)?, key, value),
                None => rocks.delete_cf(handle(db, *family)?, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(rocks, &options).map_err(disk_error)
    }

    fn reopen(&self) -> Result<(), DiskError> {
        let mut guard = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first: two instances of one directory would exclude each other.
        drop(guard.take());
        let opened = open(&self.path);
        // Opening writes, which a full disk does not let it; whoever only reads need not wait for room.
        let (db, result) = match opened {
            Ok(db) => (Some(db), Ok(())),
            Err(error) => (open_to_read(&self.path).ok(), Err(error)),
        };
        *guard = db;
        result
    }

    fn close(&self) {
        drop(self.db.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn compact(&self) -> Result<(), DiskError> {
        RocksDisk::compact(self)
    }

    fn bytes_used(&self) -> u64 {
        std::fs::read_dir(&self.path)
            .map(|entries| {
                entries
                    .flatten()
                    .filter_map(|entry| entry.metadata().ok())
                    .map(|meta| meta.len())
                    .sum()
            })
            .unwrap_or(0)
    }
}
