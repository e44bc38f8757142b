//! The transactions that are committed together: one snapshot below, their changes above it, one batch at the end.
//!
//! A record is loaded once for the whole group, however many of its transactions touch it, and saved once; views,
//! index, vault and digests follow from how it stands at the end.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
};

use crdt::{
    AccountId, AccountView, Actor, Cell, CellKind, ClusterView, Document, EmailId, EmailView, Hlc,
    RecordChange, RecordKey, Transaction, VaultId, VaultValue, View, Write, WriteError,
};
use gossip::{ReplicaId, reconcile::StateDigest};

use super::{
    disk::{Batch, DiskRead, Family},
    layout,
    records::{self, ReadError, Records, standing_of},
    txn::{CHANGES_MAX, TransactError},
};
use crate::planted::{self, Bug};

/// A group of transactions under way.
pub(super) struct Group<'d> {
    pub(super) disk: &'d dyn DiskRead,
    /// Whose disk it is.
    pub(super) replica: ReplicaId,
    pub(super) records: RefCell<BTreeMap<RecordKey, Loaded>>,
    arrived: BTreeMap<VaultId, VaultValue>,
    pub(super) cells: BTreeMap<Vec<u8>, Cell>,
    /// Cells that were here before this group, and are not any more.
    pub(super) gone_cells: BTreeSet<Vec<u8>>,
    /// Cancelled accounts of which something came.
    pub(super) recalled: BTreeSet<AccountId>,
    /// Parts of this group that go to quarantine, by record and place.
    pub(super) quarantine: BTreeMap<(RecordKey, u64), Vec<u8>>,
    /// Parts that leave it.
    pub(super) freed: BTreeSet<(RecordKey, u64)>,
    /// Records of which something is missing that was not before, and that nobody here can name.
    pub(super) doubted: Vec<RecordKey>,
    /// Vault values that do not prove themselves: they go, and count as missing.
    pub(super) spoiled: BTreeSet<VaultId>,
    /// What the records that are written down name, and is there.
    named: Vec<VaultId>,
    pub(super) counts: Counts,
}

/// What a group's batch holds.
pub(super) struct Finished {
    pub(super) counts: Counts,
    /// The digests in it.
    pub(super) digests: BTreeMap<RecordKey, StateDigest>,
    /// What the records in it name.
    pub(super) named: Vec<VaultId>,
}

/// What happened in a group beside the ordinary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Parts of transactions put into quarantine.
    pub quarantined: u64,
    /// Vault values named by a record but not at hand.
    pub missing_values: u64,
}

pub(super) struct Loaded {
    /// What it said before this group; `None` if there was no such record, or nothing of it can be read.
    pub(super) before: Option<View>,
    /// `None` if its stored bytes are damaged, or gone where there was a record.
    pub(super) document: Option<(Document, View)>,
    /// The document that took the place of the stored one in this group.
    pub(super) replaced: Option<Vec<u8>>,
    /// Changes made to the document in this group, to build it again when one that follows spoils it.
    pub(super) changes: Vec<Vec<u8>>,
    /// A part of it is in quarantine: not served, and later changes follow the first.
    pub(super) quarantined: bool,
    /// Something of it is to be written down.
    pub(super) dirty: bool,
    /// Its entries in the index are written again, those that should be there already too.
    pub(super) reindexed: bool,
}

impl<'d> Group<'d> {
    pub(super) fn new(disk: &'d dyn DiskRead, replica: ReplicaId) -> Group<'d> {
        Group {
            disk,
            replica,
            records: RefCell::default(),
            arrived: BTreeMap::new(),
            cells: BTreeMap::new(),
            gone_cells: BTreeSet::new(),
            recalled: BTreeSet::new(),
            quarantine: BTreeMap::new(),
            freed: BTreeSet::new(),
            doubted: Vec::new(),
            spoiled: BTreeSet::new(),
            named: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Whether a local write's records take it.
    pub(super) fn admit(&mut self, writes: &[(RecordKey, Write)], urgent: bool) -> Result<(), TransactError> {
        for (key, _) in writes {
            let document = self
                .load(*key)?
                .whole()
                .ok_or(ReadError::Quarantined { key: *key })?;
            if document.changes() > CHANGES_MAX && !urgent {
                return Err(TransactError::TooManyChanges { key: *key });
            }
        }
        Ok(())
    }

    /// Makes one transaction's local writes and gives the changes, a record each. What a record says already makes
    /// no change. A write that no record takes undoes the whole transaction: the group goes on without it.
    ///
    /// The outer error ends the group: it may be half changed then.
    pub(super) fn write(
        &mut self,
        actor: Actor,
        writes: Vec<(RecordKey, Write)>,
    ) -> Result<Result<Vec<RecordChange>, TransactError>, ReadError> {
        let mut by_record: BTreeMap<RecordKey, Vec<Write>> = BTreeMap::new();
        for (key, write) in writes {
            by_record.entry(key).or_default().push(write);
        }
        let mut changed: Vec<RecordChange> = Vec::with_capacity(by_record.len());
        for (key, writes) in by_record {
            let loaded = self.load(key)?;
            let (document, view) = loaded.document.as_mut().ok_or(ReadError::Quarantined { key })?;
            match document.write(actor, &writes) {
                Ok(change) => {
                    *view = document.view();
                    loaded.changes.push(change.clone());
                    loaded.dirty = true;
                    changed.push(RecordChange {
                        key,
                        changes: vec![change],
                    });
                }
                Err(WriteError::Nothing) => {}
                Err(error) => {
                    self.undo(&changed)?;
                    self.rebuild(key)?;
                    return Ok(Err(TransactError::Invalid {
                        key,
                        why: error.to_string(),
                    }));
                }
            }
        }
        Ok(Ok(changed))
    }

    /// Takes the latest transaction's changes back.
    pub(super) fn undo(&mut self, changed: &[RecordChange]) -> Result<(), ReadError> {
        for part in changed {
            if let Some(loaded) = self.records.get_mut().get_mut(&part.key) {
                loaded.changes.pop();
            }
            self.rebuild(part.key)?;
        }
        Ok(())
    }

    /// Builds a record from the disk and this group's changes again, after one that spoiled it.
    pub(super) fn rebuild(&mut self, key: RecordKey) -> Result<(), ReadError> {
        let Some(spoiled) = self.records.get_mut().remove(&key) else {
            return Ok(());
        };
        let mut rebuilt = load(self.disk, key)?;
        if let (Some(bytes), Some(kind)) = (&spoiled.replaced, key.kind()) {
            rebuilt.document = Document::load(kind, bytes).ok().map(with_view);
        }
        rebuilt.document = rebuilt
            .document
            .and_then(|(document, _)| document.apply(&spoiled.changes).ok())
            .map(with_view);
        rebuilt.quarantined |= rebuilt.document.is_none();
        rebuilt.dirty = !spoiled.changes.is_empty() || spoiled.replaced.is_some();
        rebuilt.reindexed = spoiled.reindexed;
        rebuilt.changes = spoiled.changes;
        rebuilt.replaced = spoiled.replaced;
        self.records.get_mut().insert(key, rebuilt);
        Ok(())
    }

    /// Merges one record's part of a transaction from elsewhere. What cannot be merged goes to quarantine with the
    /// transaction's vault values, and the record with it.
    pub(super) fn merge(
        &mut self,
        place: u64,
        part: &RecordChange,
        vault: &[VaultValue],
    ) -> Result<(), ReadError> {
        let key = part.key;
        let loaded = self.load(key)?;
        let taken = if loaded.quarantined {
            None
        } else {
            loaded.document.take()
        };
        if let Some((document, _)) = taken
            && let Ok(document) = document.apply(&part.changes)
        {
            let (document, view) = with_view(document);
            // A value that this build cannot read may be a reset: not served, and nothing that it may name erased.
            let unreadable = view.unreadable() > 0;
            loaded.quarantined = unreadable;
            loaded.document = Some((document, view));
            loaded.changes.extend(part.changes.iter().cloned());
            loaded.dirty = true;
            if unreadable {
                self.counts.quarantined += 1;
                self.quarantine.insert((key, place), quarantined(part, vault));
            }
            return Ok(());
        }
        if !loaded.quarantined {
            // The document is spoiled. What of this group went well is put back together, so that the stored
            // document holds all that the vector covers but the quarantined part.
            self.rebuild(key)?;
        }
        let loaded = self.load(key)?;
        loaded.quarantined = true;
        loaded.dirty = true;
        self.counts.quarantined += 1;
        self.quarantine.insert((key, place), quarantined(part, vault));
        Ok(())
    }

    /// Vault values that came with a transaction. They are stored at the end if something names them then.
    pub(super) fn arrive(&mut self, values: impl IntoIterator<Item = VaultValue>) {
        self.arrived
            .extend(values.into_iter().map(|value| (value.id(), value)));
    }

    /// Merges a cell; one past its expiry changes nothing.
    pub(super) fn merge_cell(&mut self, cell: Cell, now_ms: u64) -> Result<(), ReadError> {
        if !cell.is_live(now_ms) {
            return Ok(());
        }
        let key = layout::cell_key(cell.kind, &cell.key, cell.slot);
        let known = match self.cells.get(&key) {
            Some(cell) => Some(cell.clone()),
            None if self.gone_cells.contains(&key) => None,
            // A damaged cell is worth no more than none.
            None => self
                .get(Family::Cells, &key)?
                .and_then(|value| records::decode_cell(&value).ok()),
        };
        // One past its expiry is gone, though no sweep has come by yet: it does not live on in what takes its place.
        let known = known.filter(|known| known.is_live(now_ms));
        let merged = match known {
            Some(known) => known.merge(cell),
            None => cell,
        };
        self.cells.insert(key, merged);
        Ok(())
    }

    /// A whole transaction whose body cannot be read.
    pub(super) fn hold_body(&mut self, place: u64, body: &[u8]) {
        self.counts.quarantined += 1;
        self.quarantine
            .insert((RecordKey::from_bytes([0; 16]), place), body.to_vec());
    }

    /// Whether the group changes a record.
    pub(super) fn changes(&self, key: RecordKey) -> bool {
        self.records.borrow().get(&key).is_some_and(|loaded| loaded.dirty)
    }

    /// The records that the group changes.
    pub(super) fn changed(&self) -> Vec<RecordKey> {
        let records = self.records.borrow();
        let dirty = records.iter().filter(|(_, loaded)| loaded.dirty);
        dirty.map(|(key, _)| *key).collect()
    }

    /// A vault value whole, salt and all.
    pub(super) fn vault_value(&self, id: VaultId) -> Result<Option<VaultValue>, ReadError> {
        match self.arrived.get(&id) {
            Some(value) => Ok(Some(value.clone())),
            None => records::read_vault(self.disk, id),
        }
    }

    /// Writes down how everything stands.
    pub(super) fn finish(mut self, batch: &mut Batch) -> Result<Finished, ReadError> {
        let dirty: BTreeSet<RecordKey> = self
            .records
            .get_mut()
            .iter()
            .filter(|(_, loaded)| loaded.dirty)
            .map(|(key, _)| *key)
            .collect();
        let mut touched = dirty.clone();
        for account in dirty.iter().filter_map(RecordKey::account) {
            // Cancelling takes the name off every address of the account, wherever the claims came from.
            let before = self.account_before(account)?.is_some_and(|view| view.cancelled);
            if self.cancelled(account)? && !before {
                self.forget_places(account)?;
                // What a damaged block hides is left to whoever heals it; what it does not hide goes.
                let (emails, gaps) = records::read_index_around(self.disk, account)?;
                self.counts.missing_values += gaps as u64;
                let emails = self.with_emails_of_group(account, emails);
                touched.extend(emails.into_iter().map(RecordKey::from));
            }
        }
        for id in &self.spoiled {
            batch.delete(Family::Vault, layout::vault_key(*id));
        }
        let mut digests = BTreeMap::new();
        for key in touched {
            let forgets = planted::is(Bug::ForgetsDigest)
                && self
                    .records
                    .borrow()
                    .get(&key)
                    .is_some_and(|loaded| loaded.changes.len() > 1);
            if let Some(digest) = self.finish_record(key, batch)?.filter(|_| !forgets) {
                batch.put(Family::Digests, key.as_bytes(), layout::seal(&digest));
                digests.insert(key, digest);
            }
        }
        for key in self
            .gone_cells
            .iter()
            .filter(|key| !self.cells.contains_key(*key))
        {
            batch.delete(Family::Cells, key.clone());
        }
        for (key, cell) in &self.cells {
            batch.put(Family::Cells, key.clone(), layout::seal(&cell.encode()));
        }
        for ((record, place), bytes) in &self.quarantine {
            batch.put(
                Family::Quarantine,
                layout::quarantine_key(*record, *place),
                layout::seal(bytes),
            );
        }
        for (record, place) in &self.freed {
            batch.delete(Family::Quarantine, layout::quarantine_key(*record, *place));
        }
        Ok(Finished {
            counts: self.counts,
            digests,
            named: self.named,
        })
    }

    /// Writes down one record, and gives its digest.
    ///
    /// One in quarantine has the digest of none other, though its document may be the same as another's: what it lacks
    /// may be lacking there unnoticed, so whoever looks has to be told that this one is not whole.
    fn finish_record(&mut self, key: RecordKey, batch: &mut Batch) -> Result<Option<StateDigest>, ReadError> {
        let bytes = key.as_bytes();
        self.load(key)?;
        let records = self.records.borrow();
        let Some(loaded) = records.get(&key) else {
            return Ok(None);
        };
        for gone in self.no_longer_named(loaded)? {
            batch.delete(Family::Vault, layout::vault_key(gone));
        }
        let Some((document, view)) = &loaded.document else {
            if !loaded.dirty {
                return Ok(None);
            }
            let last_known = loaded.before.as_ref().map(View::encode).unwrap_or_default();
            batch.put(Family::Views, bytes, layout::seal_quarantined(&last_known));
            return Ok(Some(self.digest_of_damaged(key)));
        };
        let names = self.names(view)?;
        let mut present = Vec::with_capacity(names.len());
        for id in names {
            if let Some(value) = self.arrived.get(&id) {
                batch.put(
                    Family::Vault,
                    layout::vault_key(id),
                    layout::seal(&value.encode()),
                );
            } else if self.spoiled.contains(&id) || self.get(Family::Vault, id.as_bytes())?.is_none() {
                self.counts.missing_values += 1;
                continue;
            }
            present.push(id);
        }
        self.named.extend_from_slice(&present);
        let digest = if loaded.quarantined {
            self.digest_of_damaged(key)
        } else {
            crdt::state_digest(&document.heads(), &present)
        };
        if !loaded.dirty {
            return Ok(Some(digest));
        }
        batch.put(Family::Documents, bytes, layout::seal(&document.save()));
        if loaded.quarantined {
            batch.put(Family::Views, bytes, layout::seal_quarantined(&view.encode()));
        } else {
            batch.put(Family::Views, bytes, layout::seal(&view.encode()));
        }
        if let (View::Email(email), Some(id)) = (view, key.email()) {
            let accounts_before: BTreeSet<AccountId> = match &loaded.before {
                Some(View::Email(before)) => before.accounts().collect(),
                _ => BTreeSet::new(),
            };
            let accounts_now: BTreeSet<AccountId> = email.accounts().collect();
            if view.unreadable() == 0 {
                for account in accounts_before.difference(&accounts_now) {
                    batch.delete(Family::Index, layout::index_key(*account, id));
                }
            }
            for account in &accounts_now {
                if loaded.reindexed || !accounts_before.contains(account) {
                    batch.put(Family::Index, layout::index_key(*account, id), layout::seal(&[]));
                }
            }
        }
        Ok(Some(digest))
    }

    /// The vault values that a record named before this group, whoever was cancelled since, and that nothing of it
    /// names any more. A part in quarantine that names one brings it. But a value that this build cannot read, or a
    /// document that nobody can read now, may name any of them: there only those of cancelled accounts go.
    fn no_longer_named(&self, loaded: &Loaded) -> Result<Vec<VaultId>, ReadError> {
        let Some(before) = &loaded.before else {
            return self.named_unseen(loaded);
        };
        let kept = match &loaded.document {
            Some((_, view)) if view.unreadable() == 0 => self.names(view)?,
            _ => self.names(before)?,
        };
        let mut gone = match before {
            View::Account(view) => view.names().to_vec(),
            View::Email(view) => view.names::<ReadError>(|_| Ok(false))?,
            View::Cluster(_) => Vec::new(),
        };
        gone.retain(|id| kept.binary_search(id).is_err());
        Ok(gone)
    }

    /// Where nobody knows what a record named, because nothing of it could be read before another replica's state took
    /// its place: all that it ever named, by its history, and names no more. It would lie here for good.
    fn named_unseen(&self, loaded: &Loaded) -> Result<Vec<VaultId>, ReadError> {
        let (Some((document, view)), Some(_)) = (&loaded.document, &loaded.replaced) else {
            return Ok(Vec::new());
        };
        if view.unreadable() > 0 {
            return Ok(Vec::new());
        }
        let kept = self.names(view)?;
        let mut gone = document.ever_named();
        gone.retain(|id| kept.binary_search(id).is_err());
        Ok(gone)
    }

    /// What no other replica has for this record, so that it is found to differ, and its state is brought.
    pub(super) fn digest_of_damaged(&self, key: RecordKey) -> StateDigest {
        let mut hasher = blake3::Hasher::new_derive_key("persona 2026 damaged record 1");
        hasher.update(key.as_bytes()).update(&self.replica.0);
        let mut digest = StateDigest::default();
        hasher.finalize_xof().fill(&mut digest);
        digest
    }

    /// What of the vault a record names.
    pub(super) fn names(&self, view: &View) -> Result<Vec<VaultId>, ReadError> {
        match view {
            View::Account(account) => Ok(account.names().to_vec()),
            View::Email(email) => email.names(|account| self.cancelled(account)),
            View::Cluster(_) => Ok(Vec::new()),
        }
    }

    /// What an account's record said before this group.
    pub(super) fn account_before(&self, id: AccountId) -> Result<Option<AccountView>, ReadError> {
        match self.records.borrow().get(&id.into()) {
            Some(Loaded {
                before: Some(View::Account(view)),
                ..
            }) => Ok(Some(view.clone())),
            Some(_) => Ok(None),
            None => stored_account(self.disk, id),
        }
    }

    pub(super) fn cancelled(&self, account: AccountId) -> Result<bool, ReadError> {
        let view = match self
            .records
            .borrow()
            .get(&account.into())
            .and_then(|loaded| loaded.document.as_ref())
        {
            Some((_, View::Account(view))) => Some(view.clone()),
            _ => stored_account(self.disk, account)?,
        };
        Ok(standing_of(view.as_ref()).cancelled)
    }

    /// A value; none where its block is damaged.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        get(self.disk, family, key)
    }

    fn all_emails_of(&self, id: AccountId, emails_max: usize) -> Result<Vec<EmailId>, ReadError> {
        let emails = records::read_index(self.disk, id, emails_max)?;
        let emails = self.with_emails_of_group(id, emails.into_iter().collect());
        Ok(emails.into_iter().collect())
    }

    /// An account's emails as this group leaves them, given those that the disk has.
    fn with_emails_of_group(&self, id: AccountId, mut emails: BTreeSet<EmailId>) -> BTreeSet<EmailId> {
        for (key, loaded) in self.records.borrow().iter().filter(|(_, loaded)| loaded.dirty) {
            if let (Some(email), Some((_, View::Email(view)))) = (key.email(), &loaded.document) {
                if view.accounts().any(|account| account == id) {
                    emails.insert(email);
                } else {
                    emails.remove(&email);
                }
            }
        }
        emails
    }

    /// The record, loaded; a new document if there is none yet.
    pub(super) fn load(&mut self, key: RecordKey) -> Result<&mut Loaded, ReadError> {
        match self.records.get_mut().entry(key) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(load(self.disk, key)?)),
        }
    }

    /// What the record says after the transactions before this one.
    fn view<T>(
        &self,
        key: RecordKey,
        pick: impl FnOnce(&View) -> Option<T>,
        decode: impl FnOnce(&[u8]) -> Result<T, crdt::DecodeError>,
    ) -> Result<Option<T>, ReadError> {
        match self.records.borrow().get(&key) {
            Some(loaded) if loaded.quarantined => Err(ReadError::Quarantined { key }),
            Some(Loaded {
                document: Some((document, view)),
                ..
            }) if document.changes() > 0 => Ok(pick(view)),
            _ => match records::read_view(self.disk, key, decode)? {
                Some(view) => Ok(Some(view)),
                None => self.view_of_document(key, pick),
            },
        }
    }

    /// What a record says that has no view. It is new, or its view is lost: what is written by this would take the place of
    /// what the document holds.
    fn view_of_document<T>(
        &self,
        key: RecordKey,
        pick: impl FnOnce(&View) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        match load(self.disk, key)? {
            Loaded {
                quarantined: true, ..
            } => Err(ReadError::Quarantined { key }),
            Loaded {
                document: Some((document, view)),
                ..
            } if document.changes() > 0 => Ok(pick(&view)),
            _ => Ok(None),
        }
    }
}

impl Loaded {
    fn whole(&self) -> Option<&Document> {
        self.document
            .as_ref()
            .filter(|_| !self.quarantined)
            .map(|(document, _)| document)
    }
}

impl Records for Group<'_> {
    fn account(&self, id: AccountId) -> Result<Option<AccountView>, ReadError> {
        let pick = |view: &View| {
            if let View::Account(view) = view {
                Some(view.clone())
            } else {
                None
            }
        };
        self.view(id.into(), pick, AccountView::decode)
    }

    fn email(&self, id: EmailId) -> Result<Option<EmailView>, ReadError> {
        let pick = |view: &View| {
            if let View::Email(view) = view {
                Some(view.clone())
            } else {
                None
            }
        };
        self.view(id.into(), pick, EmailView::decode)
    }

    fn cluster(&self) -> Result<ClusterView, ReadError> {
        let pick = |view: &View| {
            if let View::Cluster(view) = view {
                Some(view.clone())
            } else {
                None
            }
        };
        Ok(self
            .view(RecordKey::CLUSTER, pick, ClusterView::decode)?
            .unwrap_or_default())
    }

    fn vault(&self, id: VaultId) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.vault_value(id)?.map(|value| value.data))
    }

    fn emails_of(&self, id: AccountId) -> Result<Vec<EmailId>, ReadError> {
        self.all_emails_of(id, records::EMAILS_READ_MAX)
    }

    fn cells(&self, kind: CellKind, key: &[u8]) -> Result<Vec<Cell>, ReadError> {
        let mut cells = records::read_cells(self.disk, kind, key)?;
        cells.retain(|cell| {
            let key = layout::cell_key(cell.kind, &cell.key, cell.slot);
            !self.gone_cells.contains(&key)
        });
        let prefix = layout::cell_prefix(kind, key);
        for (_, cell) in self
            .cells
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
        {
            cells.retain(|known| known.slot != cell.slot);
            cells.push(cell.clone());
        }
        Ok(cells)
    }
}

/// Loads a record from the disk. Damaged bytes are no reason to fail the group: the record is as in quarantine, and
/// so is one whose document is gone while something derived from it is there.
fn load(disk: &dyn DiskRead, key: RecordKey) -> Result<Loaded, ReadError> {
    let view = get(disk, Family::Views, key.as_bytes())?;
    let spoiled = Loaded {
        before: view
            .as_deref()
            .and_then(|bytes| layout::last_view(bytes).ok().flatten())
            .and_then(|bytes| records::decode_view(key, bytes).ok()),
        document: None,
        replaced: None,
        changes: Vec::new(),
        quarantined: true,
        dirty: false,
        reindexed: false,
    };
    let Some(kind) = key.kind() else {
        return Ok(spoiled);
    };
    let (document, before) = match disk.get(Family::Documents, key.as_bytes()) {
        Ok(None) if view.is_some() || get(disk, Family::Digests, key.as_bytes())?.is_some() => {
            return Ok(spoiled);
        }
        Ok(None) => (with_view(Document::new(kind)), None),
        Ok(Some(bytes)) => {
            let stored = layout::unseal(&bytes)
                .ok()
                .and_then(|bytes| Document::load(kind, bytes).ok());
            let Some(document) = stored.map(with_view) else {
                return Ok(spoiled);
            };
            let before = document.1.clone();
            (document, Some(before))
        }
        Err(error) if error.is_local() => return Ok(spoiled),
        Err(error) => return Err(error.into()),
    };
    let marked = view.is_some_and(|bytes| matches!(layout::unseal_view(&bytes), Ok(None)));
    Ok(Loaded {
        before,
        document: Some(document),
        replaced: None,
        changes: Vec::new(),
        quarantined: marked,
        dirty: false,
        reindexed: false,
    })
}

/// An account as it is stored. If its view is not to be served, or cannot be read, its document still tells.
pub(super) fn stored_account(disk: &dyn DiskRead, id: AccountId) -> Result<Option<AccountView>, ReadError> {
    match records::read_view(disk, id.into(), AccountView::decode) {
        Err(ReadError::Disk(error)) if !error.is_local() => Err(error.into()),
        Err(_) => match load(disk, id.into())?.before {
            Some(View::Account(view)) => Ok(Some(view)),
            _ => Ok(None),
        },
        view => view,
    }
}

/// A value; none where its block is damaged.
pub(super) fn get(disk: &dyn DiskRead, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
    match disk.get(family, key) {
        Err(error) if error.is_local() => Ok(None),
        other => Ok(other?),
    }
}

/// A part of a transaction as it lies in quarantine: a transaction of that part alone, with all the vault values
/// that came, since which of them it names cannot be told.
fn quarantined(part: &RecordChange, vault: &[VaultValue]) -> Vec<u8> {
    let vault = vault.to_vec();
    Transaction {
        hlc: Hlc::ZERO,
        records: vec![part.clone()],
        vault,
        cells: Vec::new(),
    }
    .encode()
}

pub(super) fn with_view(document: Document) -> (Document, View) {
    let view = document.view();
    (document, view)
}
