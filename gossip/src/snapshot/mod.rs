//! A whole copy of a replica's data for one that has nothing: files, in pieces, resumable, checksummed.
//!
//! Who keeps a checkpoint is its [`Source`], read by a [`Giver`]; who wants it has a [`Sink`], filled by a [`Taker`].
//! The id of a checkpoint is the hash of its whole manifest, so files and the vector that they cover cannot be of two
//! checkpoints, however often a transfer was broken off and by whom it is gone on with.
//!
//! Pure, as the core is: frames in, actions out; what a file holds is opaque here.

mod frame;
mod manifest;
mod transfer;

pub use self::{
    frame::PIECE_BYTES_MAX,
    manifest::{File, MANIFEST_BYTES_MAX, Manifest, ManifestError},
    transfer::{Action, Giver, Taker, TransferError},
};

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
    /// The far end has all of it, checked: it need not be kept any longer.
    fn done(&self) {}
}

/// Where a snapshot is kept while it comes.
pub trait Sink: Send {
    /// What is kept already, whole files and the beginning of one: where to go on. If it is of another checkpoint
    /// it is thrown away, and the answer is (0, 0).
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError>;
    /// The next piece.
    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError>;
    /// All pieces came: checks every file against the manifest, and makes it durable. After that it may be installed.
    /// A file that is not what the manifest says is thrown away, so that the next transfer brings it again.
    fn finish(&mut self) -> Result<(), SnapshotError>;
}
