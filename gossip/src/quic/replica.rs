//! What the driver needs from the store.

use std::sync::Arc;

use crate::reconcile::{Cut, CutError, Part, Purpose, Verdict};
use crate::snapshot::{self, SnapshotError};
use crate::{Event, MemberId, Received, Vector};

/// What the driver needs from the store. Called from the driver's own task: nothing here may block but what says so,
/// which is called where it may.
pub trait Replica: Send + Sync + 'static {
    /// Queues transactions for the committer, in this order. They are causal, whole, and each follows what was
    /// delivered before. The driver bounds what is under way by what the core holds.
    fn deliver(&self, transactions: Vec<Received>);

    /// Blocks. Reads the log in this replica's own commit order: what `beyond` does not cover, from `position` on
    /// (none: the beginning), about `bytes_max` bytes of it and at least one transaction if there is one.
    ///
    /// # Errors
    /// When the log could not be read; the peer asks again, or asks another.
    fn read_log(
        &self,
        beyond: &Vector,
        position: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, ReadLogError>;

    /// Everything up to this vector is at all members: its log entries may go.
    fn trim(&self, stable: Vector);

    /// What is committed now, at least all that was reported by [`Node::committed`]. Asked for only after the
    /// queue of reports overflowed.
    fn vector(&self) -> Vector;

    /// Something that an operator or the site should know.
    fn event(&self, event: Event);

    /// Everything up to this vector is at all members, and nothing concurrent with it is on its way.
    fn settled(&self, _settled: Vector) {}

    /// Pins a cut for as long as `talk` runs, on a thread that may block. `purpose`: what the parts that come are for.
    ///
    /// # Errors
    /// When nothing can be pinned now.
    fn with_cut(&self, _purpose: Purpose, _talk: &mut dyn FnMut(&dyn Cut)) -> Result<(), CutError> {
        Err(CutError("not offered".to_owned()))
    }

    /// Takes a part of a conversation with `from`; blocks until there is room for more.
    ///
    /// # Errors
    /// When it cannot be kept; the conversation ends, and no later part of it may be delivered.
    fn take_part(&self, _from: MemberId, _purpose: Purpose, _part: Part) -> Result<(), CutError> {
        Err(CutError("not offered".to_owned()))
    }

    /// What a conversation with `member` came to; `None`: it failed.
    fn looked(&self, _member: MemberId, _purpose: Purpose, _verdict: Option<&Verdict>) {}

    /// Answers somebody who is no member and asks to become one. `binding` is of this connection alone, and
    /// `peer_key` (SPKI DER) was proved on it. Called where it may block; an empty answer closes the connection.
    fn enrol(&self, _request: Vec<u8>, _binding: [u8; 32], _peer_key: Vec<u8>) -> Vec<u8> {
        Vec::new()
    }

    /// A checkpoint to be copied by a peer: the one that is kept for it, or a new one. Blocks.
    ///
    /// # Errors
    /// When none can be made.
    fn snapshot_source(&self, _for_member: MemberId) -> Result<Arc<dyn snapshot::Source>, SnapshotError> {
        Err(SnapshotError("not offered".to_owned()))
    }

    /// Where a copy of a peer's data is kept while it comes.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn snapshot_sink(&self) -> Result<Box<dyn snapshot::Sink>, SnapshotError> {
        Err(SnapshotError("not offered".to_owned()))
    }

    /// The finished copy replaces all that is here. Blocks until the replica runs on it.
    ///
    /// # Errors
    /// When this replica has written something since, or the copy does not open.
    fn install_snapshot(&self) -> Result<(), SnapshotError> {
        Err(SnapshotError("not offered".to_owned()))
    }
}

/// A piece of the log.
#[derive(Debug, Clone)]
pub enum LogChunk {
    /// Transactions as their writers made them.
    Transactions {
        /// In commit order.
        transactions: Vec<Arc<[u8]>>,
        /// Where to go on reading; none at the end.
        next: Option<u64>,
    },
    /// Some of what is asked for is not in the log any more.
    Trimmed,
}

/// The log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the log could not be read: {0}")]
pub struct ReadLogError(pub String);
