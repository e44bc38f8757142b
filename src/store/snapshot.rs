//! Copies of this store for members that have nothing, and a member's copy in the place of this one.
//!
//! A checkpoint is kept for the member that it was made for until that one has all of it, so that a transfer that breaks
//! off goes on where it was; but not for ever, because it keeps from being erased what has been deleted since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError, mpsc};

use crdt::{Clock, Hlc};
use gossip::{
    MemberId, Tip, Writer,
    snapshot::{Manifest, Sink, SnapshotError, Source},
};
use serde::{Deserialize, Serialize};

use super::{
    Store, catch_up,
    disk::{Batch, Covered, Disk, DiskError, DiskRead, Family},
    found::Found,
    layout::{self, meta},
    ledger::{Ledger, LedgerError},
    lock, sums,
};

/// Checkpoints kept at once: each keeps deleted files on the disk, and its reader takes a share of it.
const CHECKPOINTS_MAX: usize = 2;
/// A checkpoint is kept for at most so long. Erasure promises it.
const KEPT_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Why a copy was not installed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// No copy has come whole.
    #[error("no copy has come whole")]
    NotHere,
    /// What is here alone would be lost.
    #[error("the copy lacks {transactions} transactions that are here; it is not installed")]
    Lacks {
        /// How many.
        transactions: u64,
    },
    /// The disk, or what came.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store is shutting down.
    #[error("the store is shutting down")]
    Closed,
}

/// What the committer is asked for, and whom it tells.
pub(super) type Install = mpsc::Sender<Result<(), InstallError>>;

impl Store {
    /// A checkpoint for a member to copy: the one that is kept for it, or a new one. Blocks on the disk.
    pub fn snapshot_source(&self, member: MemberId) -> Result<Arc<dyn Source>, SnapshotError> {
        self.shared.must_be_open().map_err(SnapshotError)?;
        let now_ms = self.shared.now_ms();
        self.shared.checkpoints.of(member, &*self.disk, now_ms)
    }

    /// Where a member's copy is kept while it comes.
    pub fn snapshot_sink(&self) -> Result<Box<dyn Sink>, SnapshotError> {
        self.disk
            .incoming()
            .map_err(|error| SnapshotError(error.to_string()))
    }

    /// Puts the copy that has come in the place of everything here, and begins a new start under a new replica id. Only
    /// if nothing is here that the copy lacks. Blocks until the replica runs on it.
    pub fn install_snapshot(&self) -> Result<(), InstallError> {
        let (tell, told) = mpsc::channel();
        self.shared.queue.install(tell);
        told.recv().unwrap_or(Err(InstallError::Closed))
    }

    /// Rewrites the disk: what was deleted before is physically gone when this returns, from the checkpoints too.
    /// Blocks for as long as that takes, and until a backup that is under way is made; the store goes on meanwhile.
    pub fn compact(&self) -> Result<(), DiskError> {
        let _alone = lock(&self.shared.rewriting);
        self.disk.compact()
    }
}

/// What a copy's owner tells whoever installs it, beside what it covers.
#[derive(Serialize, Deserialize)]
struct Note {
    /// What of it no other of it follows: what the next transaction over it follows.
    heads: Vec<(Writer, Tip)>,
    /// The greatest HLC in it.
    clock: u64,
    /// The next free place in its log.
    place: u64,
    /// Bytes that its log takes.
    log_bytes: u64,
    /// What tells the key that its sums are made with, if they are made.
    #[serde(default, with = "serde_bytes")]
    sums: Option<Vec<u8>>,
}

/// Reads what a checkpoint covers from its own `meta`, before that is taken out of it.
pub(crate) fn covered(disk: &dyn DiskRead) -> Result<Covered, DiskError> {
    let refused = |error: LedgerError| match error {
        LedgerError::Disk(error) => error,
        other => DiskError::Damaged(other.to_string()),
    };
    if catch_up::under_way(disk).map_err(|error| refused(error.into()))? {
        // The records hold more than the vector says: whoever took them would write without following it.
        return Err(DiskError::Io("this replica is taking in what it missed".into()));
    }
    let mut found = Found::read(disk).map_err(refused)?;
    let last = found.last_own();
    found.follows.extend(last);
    let note = Note {
        heads: found.follows.into_iter().collect(),
        clock: found.clock.to_u64(),
        place: found.next_place,
        log_bytes: found.log_bytes,
        sums: sums::fingerprint(disk).map_err(|error| refused(error.into()))?,
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&note, &mut bytes).map_err(|error| DiskError::Io(error.to_string()))?;
    Ok(Covered {
        vector: found.vector,
        trimmed: found.trimmed,
        note: bytes,
    })
}

/// Puts the copy that has come in the place of everything that a ledger stands on, unless something is here that the
/// copy lacks. The ledger is of no more use then: whatever the disk answered (the inner result), what is found on
/// reopening is what happened.
pub(crate) fn install(
    ledger: &Ledger,
    disk: &dyn Disk,
    now_ms: u64,
) -> Result<Result<(), DiskError>, InstallError> {
    let copy = disk.arrived()?.ok_or(InstallError::NotHere)?;
    if !copy.vector.covers_vector(ledger.vector()) {
        let transactions = ledger.vector().missing_from(&copy.vector);
        return Err(InstallError::Lacks { transactions });
    }
    let own = own(&copy, ledger.own_starts(), ledger.clock().clone(), now_ms)?;
    Ok(disk.install(&copy, &own))
}

/// Whether a disk has been a replica's before: a copy, just installed, has not.
#[cfg(feature = "lab")]
pub(crate) fn has_replica(disk: &dyn DiskRead) -> bool {
    matches!(disk.get(Family::Meta, meta::REPLICA), Ok(Some(_)))
}

/// The `meta` of a replica that begins with a copy: it covers what the copy does, and has no replica id, so that the
/// next start draws one. Its own starts stay known, because epochs go on from them.
pub(super) fn own(
    copy: &Manifest,
    own_starts: &[Writer],
    mut clock: Clock,
    now_ms: u64,
) -> Result<Batch, DiskError> {
    let note: Note = ciborium::from_reader(&copy.note[..])
        .map_err(|error| DiskError::Damaged(format!("a copy's note is unreadable: {error}")))?;
    clock.observe(Hlc::from_u64(note.clock), now_ms);
    let mut batch = Batch::new();
    let mut put = |key: Vec<u8>, payload: &[u8]| batch.put(Family::Meta, key, layout::seal(payload));
    put(meta::CLOCK.to_vec(), &layout::number_key(clock.last().to_u64()));
    put(meta::PLACE.to_vec(), &layout::number_key(note.place));
    put(meta::LOG_BYTES.to_vec(), &layout::number_key(note.log_bytes));
    if let Some(fingerprint) = &note.sums {
        put(meta::SUMS.to_vec(), fingerprint);
    }
    let heads = note.heads.into_iter().collect();
    put(meta::FOLLOWS.to_vec(), &layout::entries_payload(&heads));
    for (place, start) in (1_u32..).zip(own_starts) {
        put(layout::join(meta::START, &place.to_be_bytes()), &start.to_bytes());
    }
    for (prefix, vector) in [(meta::VECTOR, &copy.vector), (meta::TRIMMED, &copy.trimmed)] {
        for (writer, tip) in vector.iter() {
            put(
                layout::join(prefix, &writer.to_bytes()),
                &layout::tip_payload(tip),
            );
        }
    }
    for (replica, floor) in copy.vector.floors() {
        put(
            layout::join(meta::FLOOR, &replica.0),
            &layout::floor_payload(floor),
        );
    }
    Ok(batch)
}

/// The checkpoints that are kept for members.
#[derive(Default)]
pub(super) struct Checkpoints {
    kept: Mutex<Vec<Arc<Kept>>>,
}

impl Checkpoints {
    /// Whoever asks while one is being made waits for it.
    fn of(&self, member: MemberId, disk: &dyn Disk, now_ms: u64) -> Result<Arc<dyn Source>, SnapshotError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        expire(&mut kept, now_ms);
        if let Some(known) = kept.iter().find(|known| known.member == member) {
            return Ok(known.clone());
        }
        if kept.len() >= CHECKPOINTS_MAX {
            return Err(SnapshotError(format!(
                "{CHECKPOINTS_MAX} others are taking copies here; ask another member, or again later"
            )));
        }
        let copy = disk
            .checkpoint(&mut covered)
            .map_err(|error| SnapshotError(error.to_string()))?;
        let new = Arc::new(Kept {
            member,
            made_ms: now_ms,
            manifest: copy.manifest().clone(),
            copy: RwLock::new(Some(copy)),
        });
        kept.push(new.clone());
        Ok(new)
    }

    /// Lets go of what was kept for too long. Called by the committer, which does not wait for a checkpoint that is being
    /// made.
    pub(super) fn expire(&self, now_ms: u64) {
        if let Some(mut kept) = self.unless_making() {
            expire(&mut kept, now_ms);
        }
    }

    /// Lets go of all: the disk is full.
    pub(super) fn give_up(&self) {
        if let Some(mut kept) = self.unless_making() {
            kept.drain(..).for_each(|kept| kept.let_go());
        }
    }

    fn unless_making(&self) -> Option<MutexGuard<'_, Vec<Arc<Kept>>>> {
        match self.kept.try_lock() {
            Ok(kept) => Some(kept),
            Err(TryLockError::Poisoned(kept)) => Some(kept.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

fn expire(kept: &mut Vec<Arc<Kept>>, now_ms: u64) {
    kept.retain(|kept| {
        let old = now_ms.saturating_sub(kept.made_ms) > KEPT_MS_MAX;
        if old {
            kept.let_go();
        }
        !old && kept.is_here()
    });
}

/// A checkpoint kept for a member.
struct Kept {
    member: MemberId,
    made_ms: u64,
    manifest: Manifest,
    /// `None` once it was let go, whoever still reads it.
    copy: RwLock<Option<Box<dyn Source>>>,
}

impl Kept {
    fn is_here(&self) -> bool {
        self.copy.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn let_go(&self) {
        drop(self.copy.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Source for Kept {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, file: usize, offset: u64, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let copy = self.copy.read().unwrap_or_else(PoisonError::into_inner);
        let read = copy
            .as_ref()
            .ok_or_else(|| SnapshotError("this checkpoint is no longer kept; ask again".to_owned()))?
            .read(file, offset, bytes);
        drop(copy);
        if read.is_err() {
            // Whoever asks next gets a new one.
            self.let_go();
        }
        read
    }

    fn done(&self) {
        self.let_go();
    }
}
