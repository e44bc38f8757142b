//! What comes of accounts that were cancelled, and perhaps forgotten everywhere: their receipts do not hold any more.
//!
//! A member that was put out, and hands over what only it has, brings such things long after everybody has given a
//! receipt. They are not stored, for nothing names them, but lie in log and tables like all that came. So in the batch that
//! they come with, all receipts of the account go from here, and the account is told as one to be forgotten (also the scan
//! after a crash finds it again). The receipts that are given for it from then on come later: each waits until everyone,
//! this replica too, has had what came.
//!
//! A catch-up from one that had not heard of the cancellation brings what that one still holds, and lays it aside before it is
//! merged: from then on it lies on this disk, so this replica's own receipt goes. Those of others go once it is merged, if
//! it is news at all.
//!
//! Nor does a receipt of this replica's own hold that comes from elsewhere and is not here: a disk gave it that was put back to
//! an earlier time since, or a copy of this one. Kept, it would end the erasure of what lies on this one.

use std::collections::BTreeSet;

use crdt::{
    AccountId, Cell, CellKind, Document, EmailView, RecordKey, RecordKind, VaultId, VaultValue, View,
};

use super::{
    cut::RecordState,
    group::Group,
    layout,
    records::{ReadError, Records},
};

impl Group<'_> {
    /// A transaction or a state from elsewhere changed these records, and brought these values.
    pub(super) fn recall(
        &mut self,
        keys: impl IntoIterator<Item = RecordKey>,
        values: &[VaultId],
    ) -> Result<(), ReadError> {
        for account in self.of_cancelled(keys, values)? {
            self.take_back(account, |_| true)?;
        }
        Ok(())
    }

    /// A state from elsewhere brought these values, and nothing that this record lacked: others have had all of it, and what
    /// they say of themselves still holds.
    pub(super) fn recall_own(&mut self, key: RecordKey, values: &[VaultId]) -> Result<(), ReadError> {
        let own = self.replica.0;
        for account in self.of_cancelled([key], values)? {
            self.take_back(account, |slot| slot == own)?;
        }
        Ok(())
    }

    /// What is stored of an email record is made again where it was wrong, and what it names of cancelled accounts goes only
    /// now: it hid from the batch that cancelled them, and what this replica says of itself does not hold.
    pub(super) fn recall_hidden(&mut self, email: &EmailView) -> Result<(), ReadError> {
        let own = self.replica.0;
        for account in email.accounts() {
            if self.cancelled(account)? {
                self.take_back(account, |slot| slot == own)?;
            }
        }
        Ok(())
    }

    /// A state is laid aside. What it brings of a cancelled account lies on this disk from now on, whether it is ever merged
    /// or not. What others say of themselves holds until it is known what came.
    pub(super) fn recall_aside(&mut self, key: RecordKey, state: &[u8]) -> Result<(), ReadError> {
        let Ok(RecordState { document, values, .. }) = RecordState::decode(state) else {
            return Ok(());
        };
        if values.is_empty() {
            return Ok(());
        }
        let mut owners: BTreeSet<AccountId> = key.account().into_iter().collect();
        let email = key.email().and(document);
        let email = email.and_then(|document| Document::load(RecordKind::Email, &document).ok());
        if let Some(View::Email(view)) = email.map(|document| document.view()) {
            let values: BTreeSet<VaultId> = values.iter().map(VaultValue::id).collect();
            let named = view.claims.iter().filter(|claim| values.contains(&claim.vault));
            owners.extend(named.map(|claim| claim.account));
        }
        let own = self.replica.0;
        for owner in owners {
            if self.cancelled(owner)? {
                self.take_back(owner, |slot| slot == own)?;
            }
        }
        Ok(())
    }

    /// The cancelled accounts of which these records and values bring something. Of an account any change does. An email
    /// record goes on with other owners: there it is a value that nothing names.
    fn of_cancelled(
        &mut self,
        keys: impl IntoIterator<Item = RecordKey>,
        values: &[VaultId],
    ) -> Result<BTreeSet<AccountId>, ReadError> {
        let mut cancelled: BTreeSet<AccountId> = BTreeSet::new();
        let mut owners: BTreeSet<AccountId> = BTreeSet::new();
        let mut views: Vec<View> = Vec::new();
        for key in keys {
            // What lies in quarantine is told once it is healed.
            let Some((_, view)) = &self.load(key)?.document else {
                continue;
            };
            match view {
                View::Account(account) if account.cancelled => cancelled.extend(key.account()),
                View::Email(email) if !values.is_empty() => {
                    owners.extend(email.accounts());
                    owners.extend(email.released.iter().map(|released| released.account));
                }
                View::Account(_) | View::Email(_) | View::Cluster(_) => {}
            }
            views.push(view.clone());
        }
        let mut former: Vec<AccountId> = Vec::new();
        for owner in owners {
            if self.cancelled(owner)? {
                former.push(owner);
            }
        }
        if !former.is_empty() {
            let mut named: BTreeSet<VaultId> = BTreeSet::new();
            for view in &views {
                named.extend(self.names(view)?);
            }
            if values.iter().any(|value| !named.contains(value)) {
                cancelled.extend(former);
            }
        }
        Ok(cancelled)
    }

    /// The receipts of an account in some slots do not hold any more, and it is to be forgotten once more.
    fn take_back(&mut self, account: AccountId, which: impl Fn([u8; 8]) -> bool) -> Result<(), ReadError> {
        for receipt in self.cells(CellKind::ERASED, account.as_bytes())? {
            if which(receipt.slot) {
                let key = layout::cell_key(receipt.kind, &receipt.key, receipt.slot);
                self.cells.remove(&key);
                self.gone_cells.insert(key);
            }
        }
        self.recalled.insert(account);
        Ok(())
    }

    /// Where an account was signed in goes with it, in the batch that cancels it.
    pub(super) fn forget_places(&mut self, account: AccountId) -> Result<(), ReadError> {
        for places in self.cells(CellKind::SIGNED_IN, account.as_bytes())? {
            let key = layout::cell_key(places.kind, &places.key, places.slot);
            self.cells.remove(&key);
            self.gone_cells.insert(key);
        }
        Ok(())
    }

    /// Merges a cell from elsewhere.
    pub(super) fn hear_cell(&mut self, cell: Cell, now_ms: u64) -> Result<(), ReadError> {
        let of_account = match cell.kind {
            CellKind::SIGNED_IN => true,
            CellKind::ERASED => cell.slot == self.replica.0,
            _ => false,
        };
        if !of_account {
            return self.merge_cell(cell, now_ms);
        }
        let Ok(account) = <[u8; 15]>::try_from(&cell.key[..]).map(AccountId::from_bytes) else {
            return Ok(());
        };
        if cell.kind == CellKind::SIGNED_IN {
            return if self.cancelled(account)? {
                Ok(())
            } else {
                self.merge_cell(cell, now_ms)
            };
        }
        let receipts = self.cells(CellKind::ERASED, &cell.key)?;
        let is_here = receipts.iter().any(|receipt| receipt.slot == cell.slot);
        // Where it is not cancelled yet, the erasure begins once it is.
        if !is_here && cell.is_live(now_ms) && self.cancelled(account)? {
            self.recalled.insert(account);
        }
        Ok(())
    }
}
