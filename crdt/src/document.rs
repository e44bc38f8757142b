//! A record, loaded: an Automerge document handled with care.
//!
//! Automerge's version is pinned and its types stay in here. What a peer or a disk gives is looked through
//! before it is decoded, and decoded inside `catch_unwind`; a document that saw an error is thrown away.
//! Promise: whatever bytes are applied, the result is an `Err`, or a document that saves, loads again, and
//! has every change that it was given, with none waiting for another.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ChangeHash, ExpandedChange, ReadDoc, ROOT, ScalarValue, Value};

use crate::account::{self, AccountWrite};
use crate::chunk::{ChangeOutline, DocumentOutline, OpId};
pub use crate::chunk::DOCUMENT_BYTES_MAX;
use crate::cluster::{self, ClusterWrite};
use crate::email::{self, ClaimValue, EmailWrite};
use crate::format::DecodeError;
use crate::id::RecordKind;
use crate::view::View;

/// Who writes: the random part of a writer. Automerge knows it as the actor; two documents made by one actor
/// and number never merge again, so it is never used twice, and always set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Actor(pub [u8; 8]);

/// One field of a record, written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Of an account.
    Account(AccountWrite),
    /// Of an email address.
    Email(EmailWrite),
    /// Of the cluster.
    Cluster(ClusterWrite),
}

/// Why a write was refused. The document may be half written: throw it away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A write for another kind of record.
    #[error("a write for another kind of record")]
    WrongKind,
    /// All that was to be written is there already.
    #[error("nothing to write: the record says so already")]
    Nothing,
    /// A state would go back, or an account be cancelled no more.
    #[error("{field} only moves forward")]
    Backward {
        /// The field's name in the document.
        field: String,
    },
    /// A value over its limit, or a name that cannot be one.
    #[error(transparent)]
    Invalid(#[from] DecodeError),
    /// Automerge refused.
    #[error("automerge: {0}")]
    Automerge(String),
    /// Automerge panicked. It was caught.
    #[error("automerge panicked while it wrote")]
    Panicked,
}

/// Why changes were refused. The document is gone; what was stored is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The bytes are not a change that this program makes. Retrying will not help.
    #[error("change {index} cannot be decoded")]
    Decode {
        /// Which of those given.
        index: usize,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// It follows a change that is not here. Where causal order is kept, that is a divergence: fetch the
    /// record's state from another replica.
    #[error("change {index} follows one that is not here")]
    MissingDependency {
        /// Which of those given.
        index: usize,
        /// The hash of the change that it follows.
        hash: [u8; 32],
    },
    /// Another change has its actor and number: its writer forked. Neither replaces the other.
    #[error("change {index} is a second one with its actor and number")]
    Forked {
        /// Which of those given.
        index: usize,
    },
    /// A change that decodes and still cannot be part of a document that loads.
    #[error("change {index} does not fit: {reason}")]
    Unfit {
        /// Which of those given.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The document would be over its limits.
    #[error("the document would be over its limits")]
    TooLarge,
    /// Automerge panicked. It was caught.
    #[error("automerge panicked while it applied a change")]
    Panicked,
}

/// One record, loaded. It takes some 16 KB, so none are kept.
pub struct Document {
    kind: RecordKind,
    automerge: Automerge,
    changes: u32,
    /// The greatest number of an operation.
    op_max: u64,
}

impl Document {
    /// A record that nobody has written to. Two that were born apart under one key merge like any others.
    pub fn new(kind: RecordKind) -> Document {
        Document { kind, automerge: Automerge::new().with_actor(reader()), changes: 0, op_max: 0 }
    }

    /// A record from what [`save`](Self::save) gave. Over [`DOCUMENT_BYTES_MAX`] it is refused.
    pub fn load(kind: RecordKind, bytes: &[u8]) -> Result<Document, DecodeError> {
        let outline = DocumentOutline::parse(bytes)?;
        let automerge = quietly(|| Automerge::load(bytes))
            .ok_or(DecodeError::Panicked)?
            .map_err(|error| DecodeError::malformed("document", error))?;
        let DocumentOutline { changes, op_max } = outline;
        Ok(Document { kind, automerge: automerge.with_actor(reader()), changes, op_max })
    }

    /// The form that is stored. Not compressed, so that loading cannot inflate; documents with equal heads may
    /// save different bytes.
    pub fn save(&self) -> Vec<u8> {
        self.automerge.save_nocompress()
    }

    /// Writes fields, in order, as one change, and returns it. The change holds no time. A value supersedes all
    /// that are seen here.
    pub fn write(&mut self, actor: Actor, writes: &[Write]) -> Result<Vec<u8>, WriteError> {
        let change = quietly(|| self.commit(actor, writes)).ok_or(WriteError::Panicked)??;
        let outline = ChangeOutline::parse(change.raw_bytes())?;
        self.changes = self.changes.saturating_add(1);
        self.op_max = outline.last_op();
        Ok(change.raw_bytes().to_vec())
    }

    fn commit(&mut self, actor: Actor, writes: &[Write]) -> Result<Change, WriteError> {
        let refused = |error: automerge::AutomergeError| WriteError::Automerge(error.to_string());
        self.automerge.set_actor(ActorId::from(actor.0));
        let mut transaction = self.automerge.transaction();
        for write in writes {
            let (field, value) = settled(self.kind, write, &transaction)?;
            transaction.put(ROOT, field, ScalarValue::Bytes(value)).map_err(refused)?;
        }
        let (hash, _) = transaction.commit_with(CommitOptions::default());
        let hash = hash.ok_or(WriteError::Nothing)?;
        let missing = || WriteError::Automerge("a change is not where it was put".to_owned());
        self.automerge.get_change_by_hash(&hash).ok_or_else(missing)
    }

    /// Applies changes, each after those that it follows; those that are here already are passed over. By
    /// value: after an error there is no document.
    pub fn apply(mut self, changes: &[impl AsRef<[u8]>]) -> Result<Document, ApplyError> {
        let mut suspect = None;
        for (index, bytes) in changes.iter().enumerate() {
            let bytes = bytes.as_ref();
            let decode = |source| ApplyError::Decode { index, source };
            let outline = ChangeOutline::parse(bytes).map_err(decode)?;
            let plain = quietly(|| self.apply_one(index, bytes, &outline)).ok_or(ApplyError::Panicked)??;
            if !plain {
                suspect = Some(index);
            }
        }
        match suspect {
            Some(index) => self.proven(index),
            None => Ok(self),
        }
    }

    /// Applies one change. True if it is beyond doubt that the document will save and load: the change is what
    /// [`write`](Self::write) would have made here. Others need [`proven`](Self::proven).
    fn apply_one(&mut self, index: usize, bytes: &[u8], outline: &ChangeOutline) -> Result<bool, ApplyError> {
        let unfit = |reason: &str| ApplyError::Unfit { index, reason: reason.to_owned() };
        let change = Change::try_from(bytes).map_err(|error| ApplyError::Decode {
            index,
            source: DecodeError::malformed("change", error),
        })?;
        let hash = change.hash();
        // Automerge does not look at the checksum of a lone change. The hash must be that of the bytes, and
        // the bytes those that a document gives back, or it would not load again.
        if bytes.get(4..8) != hash.0.get(..4) {
            return Err(ApplyError::Decode { index, source: DecodeError::malformed("change", "bad checksum") });
        }
        if self.has(hash) {
            return Ok(true);
        }
        if Change::from(ExpandedChange::from(&change)).raw_bytes() != bytes {
            return Err(unfit("its encoding is not the usual one"));
        }
        if let Some(missing) = outline.deps.iter().find(|dep| !self.has(ChangeHash(**dep))) {
            return Err(ApplyError::MissingDependency { index, hash: *missing });
        }
        let plain = self.is_plain(outline);
        if !plain && !self.continues_its_actor(outline) {
            return Err(unfit("it does not follow its own writer's last change"));
        }
        if self.changes == u32::MAX || outline.last_op() > crate::chunk::DOCUMENT_OPS_MAX as u64 {
            return Err(ApplyError::TooLarge);
        }
        match self.automerge.apply_changes([change]) {
            Ok(()) => {}
            Err(automerge::AutomergeError::DuplicateSeqNumber(..)) => return Err(ApplyError::Forked { index }),
            Err(error) => return Err(unfit(&error.to_string())),
        }
        if !self.has(hash) {
            return Err(unfit("automerge did not take it"));
        }
        self.changes += 1;
        self.op_max = self.op_max.max(outline.last_op());
        Ok(plain)
    }
}
