//! RocksDB as a replica's disk.
//!
//! Every batch goes through one write-ahead log with one `fdatasync`, so a crash leaves a prefix of the batches.
//! Sized for a site that shares its machine: memory stays small (see the constants), because the views that
//! sign-ins read are a hundred bytes each and the page cache holds the rest.

use std::{
    collections::BTreeSet,
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use gossip::snapshot::{self, Manifest, Sink, SnapshotError, Source};
use rand::RngExt;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, DBRecoveryMode, ErrorKind, Options, PrefixRange, ReadOptions,
    SnapshotWithThreadMode, WriteBatch, WriteOptions, checkpoint::Checkpoint,
};

use super::{
    Batch, Covered, Describe, Disk, DiskError, DiskRead, Family, Visit,
    arriving::FilesSink,
    files::{self, FilesSource},
    swap::Places,
};

/// Blocks of tables kept in memory, over all families.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Unflushed writes kept in memory, over all families.
const WRITE_BUFFERS_BYTES: usize = 8 << 20;
/// The write-ahead log is bounded: families that hardly change are flushed when it exceeds this.
const WAL_BYTES_MAX: u64 = 32 << 20;
/// Open table files; ten sites on one machine must stay below its limit of descriptors.
const OPEN_FILES_MAX: i32 = 256;

/// Tables of one family that wait to be compacted.
const TABLES_UNSORTED_MAX: i32 = 4096;

/// How long a compaction waits for readers who began before it: what they see is not erased.
const READERS_WAIT: Duration = Duration::from_secs(10);
const READERS_LOOK: Duration = Duration::from_millis(10);

/// A RocksDB in a directory of its own, with what belongs to it beside (see [`swap`](super::swap)).
pub struct RocksDisk {
    places: Places,
    /// `None` while closed after a failure. Readers hold the lock for the length of one snapshot.
    db: RwLock<Option<DB>>,
    incoming: Arc<Arrivals>,
    checkpoints: AtomicU64,
    /// Whoever makes a checkpoint, or removes them all, is alone.
    checkpointing: Mutex<()>,
    /// One compaction at a time: a second one would find nothing to do, and wait for it all the same.
    compacting: Mutex<()>,
    /// Those who wait for the database to be closed, and how many ever did: a compaction breaks off then.
    closing: AtomicU64,
    closings: AtomicU64,
}

impl RocksDisk {
    /// Opens the database in `path`, making it if there is none.
    pub fn open(path: &Path) -> Result<RocksDisk, DiskError> {
        let places = Places::of(path);
        places.clear()?;
        places.finish()?;
        let db = open(path)?;
        let incoming = Arc::new(Arrivals::at(places.incoming.clone()));
        Ok(RocksDisk {
            places,
            db: RwLock::new(Some(db)),
            incoming,
            checkpoints: AtomicU64::new(0),
            checkpointing: Mutex::default(),
            compacting: Mutex::default(),
            closing: AtomicU64::new(0),
            closings: AtomicU64::new(0),
        })
    }

    fn with_db<T>(&self, work: impl FnOnce(&DB) -> Result<T, DiskError>) -> Result<T, DiskError> {
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        work(guard.as_ref().ok_or(DiskError::Closed)?)
    }

    /// The database, to be closed. A compaction that is under way breaks off, for nobody reads while it is waited for.
    fn taken(&self) -> RwLockWriteGuard<'_, Option<DB>> {
        self.closing.fetch_add(1, Ordering::SeqCst);
        self.closings.fetch_add(1, Ordering::SeqCst);
        let _ = self.with_db(|db| {
            db.cancel_all_background_work(false);
            Ok(())
        });
        let taken = self.db.write().unwrap_or_else(PoisonError::into_inner);
        self.closing.fetch_sub(1, Ordering::SeqCst);
        taken
    }

    /// Takes out of every file what was deleted, unless the database is closed meanwhile.
    fn rewrite(&self, closings: u64) -> Result<(), DiskError> {
        let upto = self.with_db(|db| Ok(db.latest_sequence_number()))?;
        // A compaction keeps what an open snapshot still sees, and RocksDB tells nobody when one is released: so it is asked,
        // now and then, up to a limit.
        let begun = Instant::now();
        while self.with_db(|db| sees_before(db, upto))? {
            if begun.elapsed() > READERS_WAIT {
                return Err(DiskError::Io(
                    "a reader holds on to what is to be erased; try again".into(),
                ));
            }
            thread::sleep(READERS_LOOK);
        }
        for family in Family::ALL {
            self.with_db(|db| db.flush_cf(handle(db, family)?).map_err(disk_error))?;
        }
        let before = self.with_db(tables)?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        // Family by family, so that whoever must close the database does not wait for the next one.
        for family in Family::ALL {
            self.with_db(|db| {
                let handle = handle(db, family)?;
                db.compact_range_cf_opt(handle, None::<&[u8]>, None::<&[u8]>, &options);
                Ok(())
            })?;
            self.undisturbed_since(closings)?;
        }
        // RocksDB does not say whether it could compact.
        let after = self.with_db(tables)?;
        if let Some(kept) = before.intersection(&after).next() {
            return Err(DiskError::Damaged(format!(
                "table {kept} could not be rewritten, so what was erased may still be in it: it may hold a damaged block"
            )));
        }
        // Checkpoints hold on to the tables of before; their readers ask again.
        let _alone = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        files::remove(&self.places.checkpoints)?;
        Ok(self.incoming.let_go()?)
    }

    /// Whether what was begun after so many closings had the database for itself.
    fn undisturbed_since(&self, closings: u64) -> Result<(), DiskError> {
        let is_open = self.closing.load(Ordering::SeqCst) == 0;
        if is_open && self.closings.load(Ordering::SeqCst) == closings {
            return Ok(());
        }
        Err(DiskError::Io(
            "the disk was closed while it was rewritten; try again".into(),
        ))
    }
}

/// Opens it twice. First strictly: what is damaged in the write-ahead log, but for a torn last batch, ends that, since
/// batches that were answered would be passed over in silence; a peer's copy or a backup takes the place of such a store.
/// Then as it is to run: every block that is read is checked, but one that a compaction finds damaged does not end all
/// writing, since what it held is healed from a peer.
fn open(path: &Path) -> Result<DB, DiskError> {
    drop(open_strictly(path)?);
    open_to_run(path)
}

fn open_to_run(path: &Path) -> Result<DB, DiskError> {
    let (mut options, families) = described(&Family::ALL);
    options.set_paranoid_checks(false);
    DB::open_cf_descriptors(&options, path, families).map_err(disk_error)
}

fn open_strictly(path: &Path) -> Result<DB, DiskError> {
    let (options, _) = described(&[]);
    DB::open_cf_descriptors(&options, path, at_rest(&Family::ALL)).map_err(disk_error)
}

/// Families that nothing compacts on its own.
fn at_rest(families: &[Family]) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    families.iter().map(move |family| {
        let mut options = family_options(&cache);
        options.set_disable_auto_compactions(true);
        ColumnFamilyDescriptor::new(family.name(), options)
    })
}

/// Without writing a byte: the write-ahead log is replayed in memory.
fn open_to_read(path: &Path) -> Result<DB, DiskError> {
    let (options, families) = described(&Family::ALL);
    DB::open_cf_descriptors_read_only(&options, path, families, false).map_err(disk_error)
}

/// A copy, to be looked at and made ready: nothing is rewritten on its own.
fn open_aside(path: &Path, families: &[Family]) -> Result<DB, DiskError> {
    let (mut options, _) = described(&[]);
    // One that has gone meanwhile is not made anew, and empty.
    options.create_if_missing(false);
    DB::open_cf_descriptors(&options, path, at_rest(families)).map_err(disk_error)
}

fn described(families: &[Family]) -> (Options, Vec<ColumnFamilyDescriptor>) {
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
    options.set_paranoid_checks(true);
    let families = families
        .iter()
        .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(&cache)))
        .collect();
    (options, families)
}

fn family_options(cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(5);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(2 << 20);
    options.set_max_write_buffer_number(2);
    // A compaction that meets a damaged block is tried again for ever; no writer waits for that, since nobody could tell
    // such a wait from a slow disk.
    options.set_level_zero_slowdown_writes_trigger(TABLES_UNSORTED_MAX);
    options.set_level_zero_stop_writes_trigger(TABLES_UNSORTED_MAX);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options
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
        self.visit(family, from, ReadOptions::default(), visit)
    }

    fn scan_prefix(&self, family: Family, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError> {
        // Told where to end, RocksDB opens no table and no block behind that.
        let mut options = ReadOptions::default();
        options.set_iterate_range(PrefixRange(prefix));
        self.visit(family, prefix, options, visit)
    }
}

impl Snapshot<'_> {
    fn visit(
        &self,
        family: Family,
        from: &[u8],
        mut options: ReadOptions,
        visit: &mut Visit<'_>,
    ) -> Result<(), DiskError> {
        options.set_verify_checksums(true);
        let family = handle(self.db, family)?;
        let mut entries = self.snapshot.raw_iterator_cf_opt(family, options);
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            if visit(key, value) == ControlFlow::Break(()) {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(disk_error)
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
        self.with_db(|db| write(db, batch))
    }

    fn reopen(&self) -> Result<(), DiskError> {
        let mut guard = self.taken();
        // Closed first: two instances of one directory would exclude each other.
        drop(guard.take());
        // Opening makes a store where there is none: only once the one that is to be here is here.
        let installed = self.places.finish()?;
        // A store that takes its place just now was opened strictly while it was staged.
        let opened = match installed {
            true => open_to_run(&self.places.store),
            false => open(&self.places.store),
        };
        // Opening writes, which a full disk does not let it; whoever only reads need not wait for room.
        let (db, result) = match opened {
            Ok(db) => (Some(db), Ok(())),
            Err(error) => (open_to_read(&self.places.store).ok(), Err(error)),
        };
        *guard = db;
        result
    }

    fn checkpoint(&self, describe: &mut Describe<'_>) -> Result<Box<dyn Source>, DiskError> {
        let _alone = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        files::make_private(&self.places.checkpoints)?;
        let path = self.places.checkpoints.join(number.to_string());
        let made = self
            .with_db(|db| {
                let checkpoint = Checkpoint::new(db).map_err(disk_error)?;
                checkpoint.create_checkpoint(&path).map_err(disk_error)
            })
            .and_then(|()| strip(&path, describe))
            .and_then(|covered| Ok((covered, files::describe(&path, data_files(&path)?)?)));
        match made {
            Ok((covered, files)) => {
                let nonce = rand::rng().random();
                let manifest = Manifest::new(nonce, covered.vector, covered.trimmed, covered.note, files);
                Ok(Box::new(FilesSource::passing(path, manifest)))
            }
            Err(error) => {
                let _ = files::remove(&path);
                Err(error)
            }
        }
    }

    fn incoming(&self) -> Result<Box<dyn Sink>, DiskError> {
        let turn = Turn::take(&self.incoming)?;
        Ok(Box::new(Incoming {
            sink: FilesSink::new(self.places.incoming.clone()),
            _turn: turn,
        }))
    }

    fn arrived(&self) -> Result<Option<Manifest>, DiskError> {
        files::arrived(&self.places.incoming)
    }

    fn install(&self, copy: &Manifest, own: &Batch) -> Result<(), DiskError> {
        let _turn = Turn::take(&self.incoming)?;
        stage(&self.places, copy, own)?;
        Ok(self.places.decide()?)
    }

    fn compact(&self) -> Result<(), DiskError> {
        let _one = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let closings = self.closings.load(Ordering::SeqCst);
        self.undisturbed_since(closings)?;
        let rewritten = self.rewrite(closings);
        // Where it broke off, whatever RocksDB says of that says nothing of the disk.
        self.undisturbed_since(closings)?;
        rewritten
    }

    fn close(&self) {
        drop(self.taken().take());
    }

    fn bytes_used(&self) -> u64 {
        fs::read_dir(&self.places.store)
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

fn write(db: &DB, batch: &Batch) -> Result<(), DiskError> {
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

/// The names of all table files.
fn tables(db: &DB) -> Result<BTreeSet<String>, DiskError> {
    let files = db.live_files().map_err(disk_error)?;
    Ok(files.into_iter().map(|file| file.name).collect())
}

/// Whether a reader sees the store as it was before `sequence`.
fn sees_before(db: &DB, sequence: u64) -> Result<bool, DiskError> {
    let oldest = db
        .property_int_value("rocksdb.oldest-snapshot-sequence")
        .map_err(disk_error)?
        .ok_or_else(|| DiskError::Io("RocksDB does not tell its oldest snapshot".into()))?;
    // 0: there is none.
    Ok((1..sequence).contains(&oldest))
}

/// Reads what a checkpoint covers, and takes out of it what does not travel. An empty family may stay: dropping one costs as
/// much as opening half of them.
fn strip(path: &Path, describe: &mut Describe<'_>) -> Result<Covered, DiskError> {
    let mut db = open_aside(path, &Family::ALL)?;
    let covered = describe(&Snapshot {
        db: &db,
        snapshot: db.snapshot(),
    })?;
    // Opening has put into tables whatever was in the write-ahead log.
    let tables = db.live_files().map_err(disk_error)?;
    let has_table = |family: &Family| {
        tables
            .iter()
            .any(|table| table.column_family_name == family.name())
    };
    let (dropped, kept): (Vec<Family>, Vec<Family>) = Family::ALL
        .into_iter()
        .partition(|family| !family.travels() && has_table(family));
    for family in dropped {
        db.drop_cf(family.name()).map_err(disk_error)?;
    }
    drop(db);
    // Opening once more writes a new index of all files, without any trace of what was dropped, and removes the
    // dropped files and the replayed write-ahead log.
    drop(open_aside(path, &kept)?);
    Ok(covered)
}

/// The files that hold data: tables, the index of them with its name, and a write-ahead log that is not empty. What is
/// left out (the log for people, options, lock, the instance's own name) is made anew by whoever opens the copy.
fn data_files(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let data = name == "CURRENT"
            || name.starts_with("MANIFEST-")
            || name.ends_with(".sst")
            || name.ends_with(".log");
        if data && entry.metadata()?.len() > 0 {
            names.push(name);
        }
    }
    Ok(names)
}

/// Makes the copy that has come this replica's own.
fn stage(places: &Places, copy: &Manifest, own: &Batch) -> Result<(), DiskError> {
    if files::arrived(&places.incoming)?.is_none_or(|arrived| arrived.id != copy.id) {
        return Err(DiskError::Io(
            "the copy that is to be installed is not here whole".into(),
        ));
    }
    files::take_out(&places.incoming, &places.staged)?;
    let db = open_aside(&places.staged, &Family::ALL)?;
    write(&db, own)
}

/// Whether there is a store in `path`, or one that is to be there.
pub(in crate::store) fn is_there(path: &Path) -> bool {
    Places::of(path).is_there()
}

/// Makes the store in `path`, which nobody has open, from a copy; what was there is moved to `aside`, a name beside it. A
/// process that dies on the way leaves what was there, or what was to be there.
pub(in crate::store) fn restore(
    path: &Path,
    copy: &dyn Source,
    own: &Batch,
    aside: &Path,
) -> Result<(), DiskError> {
    let places = Places::of(path);
    places.clear()?;
    places.finish()?;
    let mut sink = FilesSink::new(places.incoming.clone());
    snapshot::copy(copy, &mut sink).map_err(|error| DiskError::Io(error.to_string()))?;
    stage(&places, copy.manifest(), own)?;
    if path.exists() {
        places.keep_as(aside)?;
    }
    places.decide()?;
    places.finish()?;
    Ok(())
}

/// `store.incoming`, which one at a time fills or empties.
struct Arrivals {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// A copy is coming, or being installed.
    taken: bool,
    /// The disk was rewritten meanwhile. Nobody rewrites it again for the sake of what is here, so this goes with whoever holds it.
    outdated: bool,
}

impl Arrivals {
    fn at(path: PathBuf) -> Arrivals {
        Arrivals {
            path,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what came: at once, or when its turn is over.
    fn let_go(&self) -> io::Result<()> {
        let mut held = self.held();
        if held.taken {
            held.outdated = true;
            return Ok(());
        }
        files::remove(&self.path)
    }
}

/// The right to fill or to empty `store.incoming`.
struct Turn(Arc<Arrivals>);

impl Turn {
    fn take(arrivals: &Arc<Arrivals>) -> Result<Turn, DiskError> {
        if std::mem::replace(&mut arrivals.held().taken, true) {
            return Err(DiskError::Io("a copy is on its way already".into()));
        }
        Ok(Turn(arrivals.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.0.held();
        if held.outdated
            && let Err(error) = files::remove(&self.0.path)
        {
            tracing::warn!(%error, "a copy from before the disk was rewritten could not be removed; rewriting it again does that");
        }
        *held = Held::default();
    }
}

/// Takes a copy in, as the only one.
struct Incoming {
    sink: FilesSink,
    /// Given back last: until then the sink may still write.
    _turn: Turn,
}

impl Sink for Incoming {
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError> {
        self.sink.begin(manifest)
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.sink.write(file, offset, bytes)
    }

    fn complete(&mut self, file: usize, hash: &[u8; 32]) -> Result<(), SnapshotError> {
        self.sink.complete(file, hash)
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        self.sink.finish()
    }
}
