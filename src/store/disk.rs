//! The narrow waist between commit logic and what keeps bytes.
//!
//! Commit logic sees families of ordered keys, one snapshot to read through, and one atomic, synced batch. Two
//! things implement it: [`rocks`] (RocksDB, a replica's real disk) and [`memory`] (a model with an explicit
//! *synced so far* prefix and injectable faults). One conformance suite (`tests/disk_conformance.rs`) runs
//! against both, so what the simulation learns about the model holds for the real thing.

pub mod arriving;
pub mod files;
pub mod memory;
pub mod rocks;
mod swap;
mod writing;

use std::{io, ops::ControlFlow};

use gossip::{
    Vector,
    snapshot::{Manifest, Sink, Source},
};

/// A family of keys: one subject each, ordered by key bytes. `STORAGE.md` gives every key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// What this replica knows of itself: replica id, starts, clock, vector, what it has trimmed. Never travels.
    Meta,
    /// Record key → Automerge document.
    Documents,
    /// Record key → what the record says, ready to be read.
    Views,
    /// Account id, email id → nothing: which emails claim to be of an account, losers included.
    Index,
    /// Vault id → salt and value: personal data, erasable.
    Vault,
    /// Kind, key, slot → a small expiring value.
    Cells,
    /// Record key → state digest.
    Digests,
    /// Local commit order → transaction, the very bytes that its writer made.
    Log,
    /// Writer, number → place in [`Family::Log`].
    Dots,
    /// Record key, place → a part of a transaction that could not be merged.
    Quarantine,
    /// Partition → sum of the keyed hashes of its records' digests.
    Sums,
    /// What a catch-up has brought so far: states and cells that are not merged yet. Never served.
    Side,
}

impl Family {
    /// Every family, in the order in which a scan of a whole replica visits them.
    pub const ALL: [Family; 12] = [
        Family::Meta,
        Family::Documents,
        Family::Views,
        Family::Index,
        Family::Vault,
        Family::Cells,
        Family::Digests,
        Family::Log,
        Family::Dots,
        Family::Quarantine,
        Family::Sums,
        Family::Side,
    ];

    /// Whether it is in a copy for another replica. What a replica knows of itself is not, nor what it has set
    /// aside.
    pub const fn travels(self) -> bool {
        !matches!(self, Family::Meta | Family::Side)
    }

    /// The name on disk. A promise: names are retired, not reused.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Documents => "documents",
            Family::Views => "views",
            Family::Index => "index",
            Family::Vault => "vault",
            Family::Cells => "cells",
            Family::Digests => "digests",
            Family::Log => "log",
            Family::Dots => "dots",
            Family::Quarantine => "quarantine",
            Family::Sums => "sums",
            Family::Side => "side",
        }
    }
}

/// What becomes durable together or not at all. Later entries for a key win over earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

/// One change of one key: `None` deletes.
pub type Entry = (Family, Vec<u8>, Option<Vec<u8>>);

impl Batch {
    /// A batch that changes nothing.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        let key = key.into();
        self.bytes += key.len() + value.len();
        self.entries.push((family, key, Some(value)));
    }

    /// Removes a key, present or not.
    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.entries.push((family, key, None));
    }

    /// The changes, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// True if nothing would change.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Why the disk said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum DiskError {
    /// No space left. Freeing some and reopening cures it.
    #[error("the disk is full")]
    Full,
    /// Reading or writing failed. After a write its outcome is unknown until the disk is reopened.
    #[error("the disk failed: {0}")]
    Io(String),
    /// Bytes on the disk are not what was written.
    #[error("the disk returned damaged bytes: {0}")]
    Damaged(String),
    /// The disk is closed: it failed, and could not be opened again yet.
    #[error("the disk is closed after a failure")]
    Closed,
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> DiskError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
            _ => DiskError::Io(error.to_string()),
        }
    }
}

impl DiskError {
    /// Whether this says something of a few bytes only, and not of the disk as a whole: one damaged block must not
    /// stop what has nothing to do with it.
    pub fn is_local(&self) -> bool {
        matches!(self, DiskError::Damaged(_))
    }
}

/// What a scan calls for each key and value; `Break` ends it.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Reads that all see one moment.
pub trait DiskRead {
    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError>;

    /// Visits keys from `from` on, in order, until the visitor breaks or the family ends.
    fn scan(&self, family: Family, from: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError>;

    /// Visits the keys that begin with `prefix`, in order.
    fn scan_prefix(&self, family: Family, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError> {
        self.scan(family, prefix, &mut |key, value| {
            if key.starts_with(prefix) {
                visit(key, value)
            } else {
                ControlFlow::Break(())
            }
        })
    }
}

/// What a checkpoint's manifest says beside its files.
pub struct Covered {
    /// What has been applied.
    pub vector: Vector,
    /// What the log no longer holds.
    pub trimmed: Vector,
    /// What whoever installs it needs to know besides.
    pub note: Vec<u8>,
}

/// Reads what a checkpoint covers, from the very moment that it holds.
pub type Describe<'d> = dyn FnMut(&dyn DiskRead) -> Result<Covered, DiskError> + 'd;

/// A replica's disk. One thread writes; any number read beside it.
pub trait Disk: Send + Sync + 'static {
    /// Calls `read` once with a snapshot: what was committed when it began, and nothing later.
    fn read(&self, read: &mut dyn FnMut(&dyn DiskRead)) -> Result<(), DiskError>;

    /// Makes a batch durable: whole and synced when this returns `Ok`. After an error nothing may be assumed about
    /// it: the disk must be reopened, and then holds the batch whole or not at all.
    fn write(&self, batch: &Batch) -> Result<(), DiskError>;

    /// Closes and opens again, so that what is read is what is really there.
    fn reopen(&self) -> Result<(), DiskError>;

    /// A copy of this moment without the families that do not travel, kept until it is dropped. Writing goes on.
    fn checkpoint(&self, describe: &mut Describe<'_>) -> Result<Box<dyn Source>, DiskError>;

    /// Where a copy of another disk is kept while it comes; what came before a restart is still there. One at a time.
    fn incoming(&self) -> Result<Box<dyn Sink>, DiskError>;

    /// The manifest of the copy that has come whole; none if there is none.
    fn arrived(&self) -> Result<Option<Manifest>, DiskError>;

    /// Decides that the copy that has come takes the place of everything, `own` with it: what this replica knows of
    /// itself. The disk must be reopened, and then holds all of the new; after an error, or a crash, all of the old or
    /// all of the new. Nothing may be written before it is.
    fn install(&self, copy: &Manifest, own: &Batch) -> Result<(), DiskError>;

    /// Rewrites everything, so that what was deleted before is physically gone: from the tables, the write-ahead log, the
    /// checkpoints (which end), and a copy that came and was not installed; one that is coming goes with its sink. Writing
    /// goes on. An error says that some may still be there.
    fn compact(&self) -> Result<(), DiskError>;

    /// Closes for good, once those who read now are done. A process that ends while a database is open may still
    /// have its threads at work in it when what they need is gone.
    fn close(&self) {}

    /// Bytes that the store takes on the disk, roughly, for people to read.
    fn bytes_used(&self) -> u64;
}
