//! A whole copy of a replica's data for one that has nothing: files, in pieces, resumable, checksummed.
//!
//! Pure, as the core is: frames in, actions out; what a file holds is opaque here.

use serde::{Deserialize, Serialize};

use crate::Vector;

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Names this checkpoint: a transfer is resumed from the same one, or starts over.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// What it covers.
    pub vector: Vector,
    /// What its log no longer holds.
    pub trimmed: Vector,
    /// In this order.
    pub files: Vec<File>,
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// A plain name, without directories.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its contents.
    #[serde(with = "serde_bytes")]
    pub hash: [u8; 32],
}

/// Reading or keeping a snapshot failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("snapshot: {0}")]
pub struct SnapshotError(pub String);

/// A checkpoint that its owner keeps while it is read.
pub trait Source: Send + Sync {
    /// What it consists of.
    fn manifest(&self) -> &Manifest;
    /// A piece of a file: at most `bytes_max`, and fewer only at its end.
    fn read(&self, file: usize, offset: u64, bytes_max: usize) -> Result<Vec<u8>, SnapshotError>;
}

/// Where a snapshot is kept while it comes.
pub trait Sink: Send {
    /// What is kept already, whole files and the beginning of one: where to go on. If it is of another checkpoint
    /// it is thrown away, and the answer is (0, 0).
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError>;
    /// The next piece.
    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError>;
    /// All pieces came: checks every file against the manifest, and makes it durable. After that it may be installed.
    fn finish(&mut self) -> Result<(), SnapshotError>;
}
