//! Whether two replicas hold the same, and where they do not.
//!
//! Each side pins a *cut*: one moment of its records, and the vector of that moment. Sums over partitions find where
//! the cuts differ, coded symbols of a rateless IBLT (Yang et al., SIGCOMM 2024) find which records, and what the
//! transactions between the two vectors explain is struck out: that is lag. What is left is divergence.
//!
//! ```text
//! Asker                                                              Answerer
//!   ask: purpose, hash of vector, sum of everything            ->
//!                          <-  equal; or differ: hashes of 64 groups of partitions
//!   groups: hashes of the partitions in those that differ      ->
//!                          <-  symbols of the elements in the partitions that differ
//!   candidates: keys that differ, less our lag                 ->
//!                          <-  divergent: those of them that are not its lag; states
//!   states (of a repair)                                       ->
//! ```
//! Three round trips, whatever the number of records and of differences; one more when the differences crowd into few
//! partitions, or when those that differ hold more than a million elements. Symbols, states and cells stream: the
//! carrier calls `more` whenever its stream takes more and no frame waits, so nothing is buffered here.
//!
//! Pure, as the core is: frames in, actions out; what a record says is opaque here. Promise: whatever the far end
//! sends, the worst is an `Err`, and memory stays within a small multiple of our own elements in question.

mod answerer;
mod asker;
mod frame;
pub mod iblt;
mod narrow;
mod salt;
mod states;

use std::collections::BTreeSet;

pub use self::answerer::Answerer;
pub use self::asker::Asker;
pub use self::salt::Salt;
pub use self::states::STATE_BYTES_MAX;
use crate::Vector;

/// A record's key.
pub type Key = [u8; 16];
/// What a record's state comes to: equal at two replicas if, and only if, they hold the same of it.
pub type StateDigest = [u8; 16];
/// A record is in one of so many partitions.
pub const PARTITIONS: usize = 4096;
/// Keyed sums of the elements of each partition, `PARTITIONS` of them.
pub type Sums = Vec<u128>;

/// The answerer codes about so many elements at a time, 44 bytes each: whatever differs, it needs no more memory. Each
/// further slice is a further round trip.
pub const SLICE_ELEMENTS_MAX: usize = 1 << 20;
/// The asker has at most so many elements in a slice.
pub const ELEMENTS_MAX: usize = 4 * SLICE_ELEMENTS_MAX;
/// At most so many records differ; beyond that a snapshot is cheaper.
pub const DIFFERENCES_MAX: usize = 4 << 20;

/// The partition of a key: the twelve bits after its first byte, which says only its kind. A partition is thus
/// one stretch of keys for each kind.
#[must_use]
pub fn partition(key: &Key) -> usize {
    usize::from(key[1]) << 4 | usize::from(key[2] >> 4)
}

/// The cut could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cut could not be read: {0}")]
pub struct CutError(pub String);

/// One pinned moment of a replica.
pub trait Cut {
    /// What it covers.
    fn vector(&self) -> &Vector;
    /// Whoever keeps the records wants them back: a conversation over this cut comes to nothing any more, and who waits for
    /// its far end waits in vain.
    fn is_over(&self) -> bool {
        false
    }
    /// The keyed sums of its partitions.
    fn sums(&self) -> Result<Sums, CutError>;
    /// Calls `visit` with each element of a partition, in any order.
    fn elements(&self, partition: usize, visit: &mut dyn FnMut(Key, StateDigest)) -> Result<(), CutError>;
    /// Whether the elements of a partition are all there, as its sum tells. Where one is lost a look finds divergence; but
    /// who catches up by the rest would take itself to have what it was never told of.
    fn is_whole(&self, _partition: usize) -> Result<bool, CutError> {
        Ok(true)
    }
    /// The keys whose digest may have moved by transactions that this cut covers and `other` does not. `None`: the
    /// log does not reach so far back, and nobody can tell.
    fn touched_beyond(&self, other: &Vector) -> Result<Option<BTreeSet<Key>>, CutError>;
    /// A record's whole state with the values it names, opaque; `None` if there is no such record.
    fn state(&self, key: &Key) -> Result<Option<Vec<u8>>, CutError>;
    /// Live cells from a position on (empty: the first), opaque, about `bytes_max` of them; and where to go on.
    fn cells(&self, from: &[u8], bytes_max: usize) -> Result<SomeCells, CutError>;
}

/// Cells, and where to go on; nowhere when these were the last.
pub type SomeCells = (Vec<Vec<u8>>, Option<Vec<u8>>);

/// The vector of the far end's cut; none if it is ours.
type Far = Option<Vector>;

/// What a conversation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Purpose {
    /// Find divergence and give each side the other's state of it.
    Repair,
    /// Find divergence, and touch nothing.
    Look,
    /// Bring the asker to all that the answerer's cut covers: its log does not reach back any more. Nothing is
    /// struck out; all live cells come too.
    CatchUp,
}

/// Something for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// States of records, as the far end's cut has them.
    States {
        cut: Vector,
        states: Vec<(Key, Vec<u8>)>,
    },
    /// Cells.
    Cells(Vec<Vec<u8>>),
    /// Of a catch-up: everything has come. Ours may now cover `cut`.
    Complete { cut: Vector },
}

/// What a conversation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Keys that differ and that no transaction under way explains.
    pub divergent: BTreeSet<Key>,
    /// Keys that differed and were explained by transactions that one cut covers and the other does not.
    pub lagging: u64,
    /// False if a log no longer told what lies between the two vectors, so nothing could be concluded.
    pub conclusive: bool,
    /// Bytes of frames, both directions.
    pub bytes: u64,
    /// How often the asker waited for the answerer.
    pub round_trips: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A frame for the far end.
    Send(Vec<u8>),
    /// Something for the store. The carrier may wait here until the store took it: back pressure.
    Deliver(Part),
    /// The conversation is over at this end.
    Done(Verdict),
}

/// Why a conversation failed. Nothing was concluded; what was delivered is still right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// Our own cut.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// The far end sent what no correct peer sends.
    #[error("not a frame of a reconciliation: {0}")]
    Malformed(String),
    /// The sums differ, and no element does: one end's sums are not those of its elements. They want recomputing.
    #[error("the sums differ, and no element does")]
    Sums,
}
