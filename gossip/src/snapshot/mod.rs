//! A whole copy of a replica's data for one that has nothing: files, in pieces, resumable, checksummed.
//!
//! Who keeps a checkpoint is its [`Source`], read by a [`Giver`]; who wants it has a [`Sink`], filled by a [`Taker`].
//! The id of a checkpoint is the hash of its whole manifest, a number drawn for it included, so files and the vector that
//! they cover cannot be of two checkpoints, however often a transfer was broken off. Each end reads a file once: its
//! hash is made while its bytes go by, and follows the last of them.
//!
//! Pure, as the core is: frames in, actions out; what a file holds is opaque here.

mod frame;
mod manifest;
mod reading;
mod transfer;

pub use self::{
    frame::PIECE_BYTES_MAX,
    manifest::{File, MANIFEST_BYTES_MAX, Manifest, ManifestError},
    reading::copy,
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
    /// Fills all of `bytes` with what a file holds from an offset on. An error if it does not hold so much.
    fn read(&self, file: usize, offset: u64, bytes: &mut [u8]) -> Result<(), SnapshotError>;
    /// BLAKE3 of a file as it was when it was made, where that was kept. Else it is made of what is read.
    fn hash(&self, _file: usize) -> Option<[u8; 32]> {
        None
    }
    /// The far end has all of it, checked: it need not be kept any longer.
    fn done(&self) {}
}

/// Where a snapshot is kept while it comes.
pub trait Sink: Send {
    /// What is kept already, whole files and the beginning of one (all of it, if its hash did not come): where to go on.
    /// If it is of another checkpoint it is thrown away, and the answer is (0, 0).
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError>;
    /// The next piece.
    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError>;
    /// All of a file came, and this is its BLAKE3. A file with another is thrown away, so that the next transfer brings
    /// it again; that, as any failure, may be said by a later call.
    fn complete(&mut self, file: usize, hash: &[u8; 32]) -> Result<(), SnapshotError>;
    /// All files came. When this returns, all of them are what they are to be, and durable: they may be installed.
    fn finish(&mut self) -> Result<(), SnapshotError>;
}
