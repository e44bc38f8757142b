//! A record, loaded: an Automerge document handled with care.
//!
//! Automerge's version is pinned and its types stay in here. What a peer or a disk gives is looked through
//! before it is decoded, and decoded inside `catch_unwind`; a document that saw an error is thrown away.
//! Promise: whatever bytes are applied, the result is an `Err`, or a document that has every change that it
//! was given, with none waiting for another, and that saves and loads again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{
    ActorId, Automerge, AutomergeError, Change, ChangeHash, ExpandedChange, ObjId, ROOT, ReadDoc,
    ScalarValue, Value,
};

use crate::account::{self, AccountView, AccountWrite};
pub use crate::chunk::DOCUMENT_BYTES_MAX;
use crate::chunk::{ChangeOutline, DOCUMENT_OPS_MAX, DocumentOutline, OpId};
use crate::cluster::{self, ClusterView, ClusterWrite};
use crate::email::{self, ClaimValue, EmailView, EmailWrite};
use crate::format::DecodeError;
use crate::hlc::Hlc;
use crate::id::{RecordKind, VaultId};
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
    /// What it will take to save it, at most: a change takes less in a document than it does alone.
    bytes: usize,
}

impl Document {
    /// A record that nobody has written to. Two that were born apart under one key merge like any others.
    pub fn new(kind: RecordKind) -> Document {
        Document {
            kind,
            automerge: Automerge::new().with_actor(reader()),
            changes: 0,
            bytes: 0,
        }
    }

    /// A record from what [`save`](Self::save) gave. Over [`DOCUMENT_BYTES_MAX`] it is refused.
    pub fn load(kind: RecordKind, bytes: &[u8]) -> Result<Document, DecodeError> {
        let outline = DocumentOutline::parse(bytes)?;
        let automerge = quietly(|| Automerge::load(bytes))
            .ok_or(DecodeError::Panicked)?
            .map_err(|error| DecodeError::malformed("document", &error))?;
        Ok(Document {
            kind,
            automerge: automerge.with_actor(reader()),
            changes: outline.changes,
            bytes: bytes.len(),
        })
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
        // What no peer would take must not be stored here.
        let outline = ChangeOutline::parse(change.raw_bytes())?;
        DecodeError::limit(
            "operations",
            outline.last_op().try_into().unwrap_or(usize::MAX),
            DOCUMENT_OPS_MAX,
        )?;
        self.bytes += change.raw_bytes().len();
        DecodeError::limit("document", self.bytes, DOCUMENT_BYTES_MAX)?;
        self.changes = self.changes.saturating_add(1);
        Ok(change.raw_bytes().to_vec())
    }

    fn commit(&mut self, actor: Actor, writes: &[Write]) -> Result<Change, WriteError> {
        let refused = |error: AutomergeError| WriteError::Automerge(error.to_string());
        self.automerge.set_actor(ActorId::from(actor.0));
        let mut transaction = self.automerge.transaction();
        for write in writes {
            let (field, value) = settled(self.kind, write, &transaction)?;
            transaction
                .put(ROOT, field, ScalarValue::Bytes(value))
                .map_err(refused)?;
        }
        let (hash, _) = transaction.commit_with(CommitOptions::default());
        let hash = hash.ok_or(WriteError::Nothing)?;
        let missing = || WriteError::Automerge("a change is not where it was put".to_owned());
        self.automerge.get_change_by_hash(&hash).ok_or_else(missing)
    }

    /// Applies changes, each after those that it follows; those that are here already are passed over. By
    /// value: after an error there is no document.
    pub fn apply(mut self, changes: &[impl AsRef<[u8]>]) -> Result<Document, ApplyError> {
        for (index, bytes) in changes.iter().enumerate() {
            let bytes = bytes.as_ref();
            let outline =
                ChangeOutline::parse(bytes).map_err(|source| ApplyError::Decode { index, source })?;
            quietly(|| self.apply_one(index, bytes, &outline)).ok_or(ApplyError::Panicked)??;
        }
        Ok(self)
    }

    /// Takes in what another copy of this record has and this one lacks, each change under the checks of
    /// [`apply`](Self::apply).
    pub fn merge(self, other: &Document) -> Result<Document, ApplyError> {
        let missing = self.missing(other)?;
        self.apply(&missing)
    }

    /// The changes that another copy of this record has and this one lacks, each after those that it follows.
    pub fn missing(&self, other: &Document) -> Result<Vec<Vec<u8>>, ApplyError> {
        if self.automerge.get_heads() == other.automerge.get_heads() {
            return Ok(Vec::new());
        }
        // Automerge's own `get_changes_added` may give a change before one that it follows, where there are several
        // heads; all changes of a document come in an order that is causal.
        let missing = quietly(|| {
            let all = other.automerge.get_changes(&[]);
            let missing = all.iter().filter(|change| !self.has(change.hash()));
            missing.map(|change| change.raw_bytes().to_vec()).collect()
        });
        missing.ok_or(ApplyError::Panicked)
    }

    /// Whether these very changes are here. One that cannot be decoded is not.
    pub fn holds(&self, changes: &[impl AsRef<[u8]>]) -> bool {
        changes.iter().all(|bytes| {
            let bytes = bytes.as_ref();
            let hash = ChangeOutline::parse(bytes)
                .ok()
                .and_then(|_| quietly(|| Change::try_from(bytes).ok().map(|change| change.hash())))
                .flatten();
            hash.is_some_and(|hash| bytes.get(4..8) == hash.0.get(..4) && self.has(hash))
        })
    }

    /// The hashes of the changes that no other here follows, sorted: documents of equal heads hold the same.
    pub fn heads(&self) -> Vec<[u8; 32]> {
        self.automerge
            .get_heads()
            .into_iter()
            .map(|hash| hash.0)
            .collect()
    }

    /// How many changes it has had.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// Whether a change of this hash is here.
    pub fn has_change(&self, hash: &[u8; 32]) -> bool {
        self.has(ChangeHash(*hash))
    }

    /// What the record says. It never fails: what cannot be read is left out, and counted in
    /// [`View::unreadable`].
    pub fn view(&self) -> View {
        quietly(|| self.resolve()).unwrap_or_else(|| match self.kind {
            RecordKind::Account => View::Account(AccountView {
                unreadable: 1,
                ..Default::default()
            }),
            RecordKind::Email => View::Email(EmailView {
                unreadable: 1,
                ..Default::default()
            }),
            RecordKind::Cluster => View::Cluster(ClusterView {
                unreadable: 1,
                ..Default::default()
            }),
        })
    }

    /// When the account was cancelled, by the earliest word on it. Views do not hold it.
    pub fn cancelled_at(&self) -> Option<Hlc> {
        let values = quietly(|| surviving(&self.automerge, account::CANCELLED)).unwrap_or_default();
        values
            .iter()
            .filter_map(|value| account::cancelled_at(value))
            .min()
    }

    /// The ids of all vault values that any change here ever named, in no order; of what cannot be read, none.
    pub fn ever_named(&self) -> Vec<VaultId> {
        let read = || {
            let mut ids = Vec::new();
            for change in self.automerge.get_changes(&[]) {
                for op in ExpandedChange::from(&change).operations {
                    let Some(ScalarValue::Bytes(value)) = op.primitive_value() else {
                        continue;
                    };
                    // Automerge does not say which field: the values of others are of another shape.
                    ids.extend(match self.kind {
                        RecordKind::Account => account::password_named(&value),
                        RecordKind::Email => email::claim_named(&value),
                        RecordKind::Cluster => None,
                    });
                }
            }
            ids
        };
        quietly(read).unwrap_or_default()
    }

    fn resolve(&self) -> View {
        let values = |field: &str| surviving(&self.automerge, field);
        match self.kind {
            RecordKind::Account => {
                let surviving = account::Surviving {
                    created: values(account::CREATED),
                    password: values(account::PASSWORD),
                    session_epoch: values(account::SESSION_EPOCH),
                    seen_epoch: values(account::SEEN_EPOCH),
                    cancelled: values(account::CANCELLED),
                };
                View::Account(account::resolve(&surviving, self.changes))
            }
            RecordKind::Email => View::Email(email::resolve(
                &values(email::CLAIM),
                &values(email::USED_AS),
                self.changes,
            )),
            RecordKind::Cluster => {
                let fields: Vec<(String, Vec<Vec<u8>>)> = self
                    .automerge
                    .keys(ROOT)
                    .map(|field| {
                        let values = values(&field);
                        (field, values)
                    })
                    .collect();
                View::Cluster(cluster::resolve(&fields, self.changes))
            }
        }
    }

    /// Applies one change, if it is exactly what [`write`](Self::write) would have made where it was made.
    /// Anything else could leave a document that does not load again, or that differs from replica to replica.
    fn apply_one(&mut self, index: usize, bytes: &[u8], outline: &ChangeOutline) -> Result<(), ApplyError> {
        let decode = |error: &dyn std::fmt::Display| ApplyError::Decode {
            index,
            source: DecodeError::malformed("change", &error),
        };
        let unfit = |reason: &str| ApplyError::Unfit {
            index,
            reason: reason.to_owned(),
        };
        let change = Change::try_from(bytes).map_err(|error| decode(&error))?;
        let hash = change.hash();
        // Automerge does not compare the checksum of a change that comes alone.
        if bytes.get(4..8) != hash.0.get(..4) {
            return Err(decode(&"its checksum is wrong"));
        }
        if self.has(hash) {
            return Ok(());
        }
        // A saved document gives changes back in the usual encoding only; any other would change its hash.
        if Change::from(ExpandedChange::from(&change)).raw_bytes() != bytes {
            return Err(unfit("its encoding is not the usual one"));
        }
        self.check_place(index, outline)?;
        self.bytes += bytes.len();
        if self.bytes > DOCUMENT_BYTES_MAX || outline.last_op() > DOCUMENT_OPS_MAX as u64 {
            return Err(ApplyError::TooLarge);
        }
        match self.automerge.apply_changes([change]) {
            Ok(()) => {}
            Err(AutomergeError::DuplicateSeqNumber(..)) => return Err(ApplyError::Forked { index }),
            Err(error) => return Err(unfit(&error.to_string())),
        }
        if !self.has(hash) {
            return Err(unfit("automerge did not take it"));
        }
        self.changes += 1;
        Ok(())
    }

    /// Checks a change's numbers, and what it replaces, against the changes that it follows.
    fn check_place(&self, index: usize, outline: &ChangeOutline) -> Result<(), ApplyError> {
        let unfit = |reason: &str| ApplyError::Unfit {
            index,
            reason: reason.to_owned(),
        };
        let mut op_max = 0;
        let mut own_seq = 0;
        let mut deps = Vec::with_capacity(outline.deps.len());
        for hash in &outline.deps {
            let dep = ChangeHash(*hash);
            let missing = ApplyError::MissingDependency { index, hash: *hash };
            let meta = self.automerge.get_change_meta_by_hash(&dep).ok_or(missing)?;
            op_max = op_max.max(meta.max_op);
            if meta.actor.to_bytes() == outline.actor {
                own_seq = own_seq.max(meta.seq);
            }
            deps.push(dep);
        }
        if deps
            .iter()
            .zip(deps.iter().skip(1))
            .any(|(left, right)| left >= right)
        {
            return Err(unfit("what it follows is out of order"));
        }
        if outline.seq != own_seq + 1 {
            return Err(unfit("it does not follow its own writer's last change"));
        }
        if outline.start_op != op_max + 1 {
            return Err(unfit("its operations are misnumbered"));
        }
        // Where it follows all that is here, what it saw is what survives; else history must be asked.
        let is_latest = self.automerge.get_heads().iter().all(|head| deps.contains(head));
        let mut own: BTreeMap<&str, OpId> = BTreeMap::new();
        for (number, put) in (outline.start_op..).zip(&outline.puts) {
            let mut seen = match own.get(put.field.as_str()) {
                Some(op) => vec![*op],
                None if is_latest => op_ids(self.automerge.get_all(ROOT, put.field.as_str())),
                None => op_ids(self.automerge.get_all_at(ROOT, put.field.as_str(), &deps)),
            };
            let mut replaces = put.replaces.clone();
            seen.sort_unstable();
            replaces.sort_unstable();
            if seen != replaces {
                return Err(unfit("it does not replace what its writer saw"));
            }
            own.insert(&put.field, (number, outline.actor));
        }
        Ok(())
    }

    fn has(&self, hash: ChangeHash) -> bool {
        self.automerge.get_missing_deps(&[hash]).is_empty()
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({:?}, {} changes)", self.kind, self.changes)
    }
}

/// The field's name, and the bytes to put there: for a claim or a release, with what it carries on.
fn settled(
    kind: RecordKind,
    write: &Write,
    document: &impl ReadDoc,
) -> Result<(String, Vec<u8>), WriteError> {
    let seen = || {
        let values = surviving(document, email::CLAIM);
        values
            .iter()
            .map(|bytes| ClaimValue::decode(bytes))
            .collect::<Result<Vec<_>, _>>()
    };
    match (kind, write) {
        (RecordKind::Account, Write::Account(write)) => Ok((write.field().to_owned(), write.encode())),
        (RecordKind::Email, Write::Email(write)) => match write {
            EmailWrite::Claim(claim) => Ok((
                email::CLAIM.to_owned(),
                email::claim_over(claim, &seen()?).encode(),
            )),
            EmailWrite::Release { account, at } => Ok((
                email::CLAIM.to_owned(),
                email::release_over(*account, *at, &seen()?).encode(),
            )),
            EmailWrite::UsedAs(used_as, at) => {
                Ok((email::USED_AS.to_owned(), email::encode_used_as(*used_as, *at)))
            }
        },
        (RecordKind::Cluster, Write::Cluster(write)) => {
            let (field, value) = (write.field()?, write.encode()?);
            if cluster::only_forward(&field) {
                let seen = surviving(document, &field);
                let furthest = seen.iter().filter_map(|bytes| cluster::stored_rank(bytes)).max();
                if furthest > cluster::stored_rank(&value) {
                    return Err(WriteError::Backward { field });
                }
            }
            Ok((field, value))
        }
        _ => Err(WriteError::WrongKind),
    }
}

/// The values of a field that no later one replaced. What is not bytes comes out as none, and is unreadable.
fn surviving(document: &impl ReadDoc, field: &str) -> Vec<Vec<u8>> {
    let values = document.get_all(ROOT, field).unwrap_or_default();
    let bytes = values.into_iter().map(|(value, _)| match value {
        Value::Scalar(scalar) => scalar.as_bytes().map(<[u8]>::to_vec).unwrap_or_default(),
        Value::Object(_) => Vec::new(),
    });
    bytes.collect()
}

/// The operations that made these values.
fn op_ids(values: Result<Vec<(Value<'_>, ObjId)>, AutomergeError>) -> Vec<OpId> {
    let ids = values
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(_, id)| match id {
            ObjId::Id(number, actor, _) => Some((number, actor.to_bytes().try_into().ok()?)),
            ObjId::Root => None,
        });
    ids.collect()
}

/// The actor of a document that nobody writes to. Automerge's own default is random.
fn reader() -> ActorId {
    ActorId::from([0; 8])
}

/// Runs what handles foreign bytes. `None` if it panicked; whatever it worked on must then be thrown away.
fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    let before = DECODING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    DECODING.set(before);
    outcome.ok()
}

/// True while this thread runs code whose panics are caught and turned into errors, so that the program's
/// panic hook can stay quiet.
pub fn decoding() -> bool {
    DECODING.get()
}

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}
