//! A local write under way: what it may read, and what it asks to change.

use crdt::{
    AccountId, AccountView, AccountWrite, Cell, CellKind, Clock, ClusterView, ClusterWrite, EmailId,
    EmailView, EmailWrite, Hlc, RecordKey, VaultId, VaultValue, Write,
};
use gossip::Dot;
use rand::{RngExt, rngs::StdRng};

use super::{
    disk::DiskError,
    group::Group,
    records::{ReadError, Records},
};

/// Why a local write was refused. In every case nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum TransactError {
    /// Something that it had to read cannot be read here.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk is nearly full: no new people until there is space again.
    #[error("the disk is nearly full; sign-ups are refused here until space is freed")]
    NearlyFull,
    /// The disk is full: only what frees or protects is still written.
    #[error("the disk is full; writes are refused here until space is freed")]
    Full,
    /// The record has been changed so often that loading it would slow everyone down.
    #[error("record {key} was changed over {CHANGES_MAX} times; it takes no more ordinary changes")]
    TooManyChanges {
        /// Which record.
        key: RecordKey,
    },
    /// More than one transaction may carry.
    #[error("the write is too large for one transaction ({bytes} bytes, about)")]
    TooLarge {
        /// Bytes, estimated from above.
        bytes: usize,
    },
    /// The write breaks a rule of the record's format: a fault of whoever made it.
    #[error("record {key} does not take the write: {why}")]
    Invalid {
        /// Which record.
        key: RecordKey,
        /// Which rule.
        why: String,
    },
    /// Too many writes wait already.
    #[error("too many writes wait here")]
    Busy,
    /// The replica does not write now.
    #[error("this replica does not write now: {0}")]
    NotWritable(String),
}

impl From<DiskError> for TransactError {
    fn from(error: DiskError) -> TransactError {
        match error {
            DiskError::Full => TransactError::Full,
            other => TransactError::NotWritable(other.to_string()),
        }
    }
}

/// Changes in one record after which ordinary local writes to it are refused. (10,000 take 41 ms to load.)
pub const CHANGES_MAX: u32 = 1_000;

/// What a local write sees and stages. Reads see the state before this write, also where it has staged a change.
pub struct Txn<'g> {
    group: &'g Group<'g>,
    clock: &'g mut Clock,
    random: &'g mut StdRng,
    now_ms: u64,
    stamp: Hlc,
    slot: [u8; 8],
    dot: Dot,
    pub(super) staged: Staged,
}

/// What a local write asks for.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) writes: Vec<(RecordKey, Write)>,
    pub(super) vault: Vec<VaultValue>,
    pub(super) cells: Vec<Cell>,
    pub(super) urgent: bool,
    pub(super) sign_up: bool,
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.vault.is_empty() && self.cells.is_empty()
    }
}

impl<'g> Txn<'g> {
    pub(super) fn new(
        group: &'g Group<'g>,
        clock: &'g mut Clock,
        random: &'g mut StdRng,
        now_ms: u64,
        dot: Dot,
    ) -> Txn<'g> {
        let stamp = clock.tick(now_ms);
        Txn {
            group,
            clock,
            random,
            now_ms,
            stamp,
            slot: dot.writer.replica.0,
            dot,
            staged: Staged::default(),
        }
    }

    /// The wall clock, in milliseconds since 1970: for expiry only.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The HLC of this transaction.
    pub fn stamp(&self) -> Hlc {
        self.stamp
    }

    /// An HLC for a value that replaces one stamped `beat`: greater, however far in the future that lies.
    pub fn stamp_past(&mut self, beat: Hlc) -> Hlc {
        if beat < self.stamp {
            self.stamp
        } else {
            self.clock.stamp_past(self.now_ms, beat)
        }
    }

    /// The slot of this replica's cells.
    pub fn slot(&self) -> [u8; 8] {
        self.slot
    }

    /// The dot that this transaction gets if it is kept and changes anything.
    pub fn dot(&self) -> Dot {
        self.dot
    }

    /// Whether it changes nothing, so far.
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// Whether something of a cancelled account came in this same batch.
    pub(crate) fn is_recalled(&self, account: AccountId) -> bool {
        self.group.recalled.contains(&account)
    }

    /// 32 random bytes.
    pub fn random(&mut self) -> [u8; 32] {
        self.random.random()
    }

    /// Changes an account.
    pub fn write_account(&mut self, id: AccountId, write: AccountWrite) {
        self.staged.writes.push((id.into(), Write::Account(write)));
    }

    /// Changes an email.
    pub fn write_email(&mut self, id: EmailId, write: EmailWrite) {
        self.staged.writes.push((id.into(), Write::Email(write)));
    }

    /// Changes the cluster record.
    pub fn write_cluster(&mut self, write: ClusterWrite) {
        self.staged
            .writes
            .push((RecordKey::CLUSTER, Write::Cluster(write)));
    }

    /// Puts personal data into the vault under an id of its own. It stays only if a record, changed in this same
    /// write, names it.
    pub fn put_vault(&mut self, data: Vec<u8>) -> VaultId {
        let salt = self.random.random();
        self.put_vault_salted(salt, data)
    }

    /// As [`put_vault`](Self::put_vault), with a salt that follows from something else: a completion repeated at
    /// another site must name the same value.
    pub fn put_vault_salted(&mut self, salt: [u8; 16], data: Vec<u8>) -> VaultId {
        let value = VaultValue::new(salt, data);
        let id = value.id();
        self.staged.vault.push(value);
        id
    }

    /// Puts a value that is here once more, under an id that follows from it and from `beside`: whoever else does
    /// the same names the same value, and once both are erased nobody can tell one id from the other. `None` if it
    /// is not here.
    pub fn put_vault_again(&mut self, id: VaultId, beside: &[VaultId]) -> Result<Option<VaultId>, ReadError> {
        let Some(known) = self.group.vault_value(id)? else {
            return Ok(None);
        };
        let mut hasher = blake3::Hasher::new_derive_key("persona 2026-11-22 vault salt of a value put again");
        hasher.update(&known.salt);
        for id in beside {
            hasher.update(id.as_bytes());
        }
        let mut salt = [0; 16];
        hasher.finalize_xof().fill(&mut salt);
        Ok(Some(self.put_vault_salted(salt, known.data)))
    }

    /// Merges a cell into what is known of its kind, key and slot.
    pub fn put_cell(&mut self, cell: Cell) {
        self.staged.cells.push(cell);
    }

    /// This write frees or protects (a cancellation, a reset): it is allowed on a record changed too often, and
    /// while the disk is full.
    pub fn urgent(&mut self) {
        self.staged.urgent = true;
    }

    /// This write makes a new record for a person: it is refused while the disk is nearly full.
    pub fn new_record_of_person(&mut self) {
        self.staged.sign_up = true;
    }
}

impl Records for Txn<'_> {
    fn account(&self, id: AccountId) -> Result<Option<AccountView>, ReadError> {
        self.group.account(id)
    }

    fn email(&self, id: EmailId) -> Result<Option<EmailView>, ReadError> {
        self.group.email(id)
    }

    fn cluster(&self) -> Result<ClusterView, ReadError> {
        self.group.cluster()
    }

    fn vault(&self, id: VaultId) -> Result<Option<Vec<u8>>, ReadError> {
        self.group.vault(id)
    }

    fn emails_of(&self, id: AccountId) -> Result<Vec<EmailId>, ReadError> {
        self.group.emails_of(id)
    }

    fn cells(&self, kind: CellKind, key: &[u8]) -> Result<Vec<Cell>, ReadError> {
        self.group.cells(kind, key)
    }
}
