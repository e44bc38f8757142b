//! What the records say: against the transactions that made them, against the vault, against what they said before,
//! and against what others with the same heads say.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{AccountId, AccountView, Document, EmailId, Hlc, Ownership, Password, RecordKey, VaultId, View};
use gossip::{Dot, reconcile::Verdict};

use super::{Checker, Checks, Found, wrong};
use crate::{
    sim::{
        tally::Tally,
        world::{World, read_disk, read_records},
    },
    store::{
        DigestKey, Ledger, ReadError, Records, Snapshot, audit,
        disk::{Family, memory::MemoryDisk},
        unseal,
    },
};

/// What was seen in records anywhere.
#[derive(Default)]
pub(crate) struct Seen {
    /// What a record of these heads says: the same wherever it is.
    views: BTreeMap<(RecordKey, Vec<[u8; 32]>), [u8; 32]>,
    /// By the value that holds the address: all that follows from one proof is the same at every completion.
    claims: BTreeMap<VaultId, (EmailId, AccountId, Hlc)>,
    /// Every password that was in force where it was written, with the transaction that wrote it.
    passwords: BTreeMap<AccountId, Vec<(Dot, Password)>>,
}

impl World {
    pub(crate) fn merging(&self, at: usize) -> bool {
        let running = self.processes[at].running.as_ref();
        running
            .and_then(|running| running.ledger.as_ref())
            .is_some_and(Ledger::is_merging)
    }

    /// A conversation has come to a verdict: where nobody has changed anything behind a replica's back, all that
    /// differs is lag.
    pub(crate) fn looked(&mut self, at: usize, other: usize, verdict: &Verdict) {
        self.tally.look(Checker::Divergence);
        let keys = verdict.divergent.iter().map(|key| RecordKey::from_bytes(*key));
        if let Some(key) = keys.into_iter().find(|key| !self.may_differ([at, other], key)) {
            let [name, other] = [at, other].map(|process| &self.processes[process].name);
            let found = wrong(
                Checker::Divergence,
                format!(
                    "{name} and {other} take their lag for divergence, in {key} and {} others",
                    verdict.divergent.len() - 1
                ),
            );
            self.fail(found);
        }
    }

    /// Looks at all that one replica holds, and notes it if that is whole again.
    pub(crate) fn look(&mut self, at: usize) {
        self.look_only(at);
        if !self.merging(at) {
            self.check_healed(at);
        }
    }

    /// Looks at all that one replica holds, and notes nothing that those who make trouble go by.
    pub(super) fn look_only(&mut self, at: usize) {
        let name = self.processes[at].name.clone();
        let disk = self.processes[at].disk.clone();
        // While a catch-up is merged, records hold more than the vector covers.
        let merging = self.merging(at);
        let mut found = if merging {
            Ok(())
        } else {
            self.checks.whole(&mut self.tally, at, &name, &disk)
        };
        if let Some(running) = &self.processes[at].running {
            found = found.and_then(|()| Checks::buffers(&mut self.tally, &name, &running.gossip));
        }
        self.fail(found);
        self.search(at);
        if !merging {
            self.check_members(at);
        }
    }
}

impl Checks {
    /// Every account that was ever seen to claim an address, anywhere; none if the record is no address.
    pub(super) fn claimants(&self, key: &RecordKey) -> BTreeSet<AccountId> {
        let claims = self.seen.claims.values();
        claims
            .filter(|(email, ..)| key.email() == Some(*email))
            .map(|(_, account, _)| *account)
            .collect()
    }

    /// These transactions have just changed records on a disk.
    pub(super) fn records_changed(
        &mut self,
        tally: &mut Tally,
        at: usize,
        disk: &MemoryDisk,
        dots: &[Dot],
        own: Option<Dot>,
    ) -> Found {
        let changed: BTreeSet<RecordKey> = dots
            .iter()
            .flat_map(|dot| self.records_of(dot))
            .copied()
            .collect();
        let mut found = Ok(());
        let read = read_records(disk, |records| {
            for key in &changed {
                found = std::mem::replace(&mut found, Ok(()))
                    .and_then(|()| self.record_changed(tally, at, records, *key, own));
            }
            Ok(())
        });
        match read {
            Ok(()) => found,
            Err(error) => wrong(Checker::Views, format!("the records cannot be read: {error}")),
        }
    }

    fn record_changed(
        &mut self,
        tally: &mut Tally,
        at: usize,
        records: &Snapshot<'_>,
        key: RecordKey,
        dot: Option<Dot>,
    ) -> Found {
        self.tracks[at].records.insert(key);
        if self
            .damaged
            .get(&at)
            .is_some_and(|damage| damage.records.contains(&key))
        {
            return Ok(());
        }
        if let Some(id) = key.account() {
            let Ok(Some(view)) = records.account(id) else {
                return Ok(());
            };
            self.account_forward(tally, at, id, &view)?;
            self.erasing.tells_of(id, view.names());
            if let (Some(dot), Some(password)) = (dot, view.password) {
                let known = self.seen.passwords.entry(id).or_default();
                if !known.iter().any(|(_, other)| *other == password) {
                    known.push((dot, password));
                }
            }
            self.present(tally, at, records, key, view.names())
        } else if let Some(id) = key.email() {
            let Ok(Some(view)) = records.email(id) else {
                return Ok(());
            };
            tally.look(Checker::Clocks);
            for claim in &view.claims {
                self.erasing.tells_of(claim.account, &[claim.vault]);
                let what = (id, claim.account, claim.proof);
                let known = *self.seen.claims.entry(claim.vault).or_insert(what);
                if known != what {
                    return wrong(
                        Checker::Clocks,
                        format!(
                            "two completions of one proof differ: {} claims {id} as of {}, and {} claimed {} as of {}",
                            what.1, what.2, known.1, known.0, known.2
                        ),
                    );
                }
            }
            let cancelled = |account| Ok(records.standing(account)?.cancelled);
            match view.names::<ReadError>(cancelled) {
                Ok(names) => self.present(tally, at, records, key, &names),
                Err(_) => Ok(()),
            }
        } else {
            Ok(())
        }
    }

    fn present(
        &self,
        tally: &mut Tally,
        at: usize,
        records: &Snapshot<'_>,
        key: RecordKey,
        names: &[VaultId],
    ) -> Found {
        if self.damaged.contains_key(&at) {
            return Ok(());
        }
        tally.look(Checker::Vault);
        for id in names {
            if !matches!(records.vault(*id), Ok(Some(_))) {
                return wrong(Checker::Vault, format!("{key} names {id}, which is not there"));
            }
        }
        Ok(())
    }

    /// What only moves forward.
    fn account_forward(&mut self, tally: &mut Tally, at: usize, id: AccountId, view: &AccountView) -> Found {
        tally.look(Checker::Forward);
        let track = &mut self.tracks[at];
        if view.cancelled {
            track.cancelled.insert(id);
        } else if track.cancelled.contains(&id) {
            return wrong(
                Checker::Forward,
                format!("{id} was cancelled, and is not any more"),
            );
        }
        let epoch = track.epochs.entry(id).or_default();
        if view.epoch < *epoch {
            return wrong(
                Checker::Forward,
                format!(
                    "sessions of {id} that had ended are good again: {:?} after {epoch:?}",
                    view.epoch
                ),
            );
        }
        *epoch = view.epoch;
        Ok(())
    }

    /// Everything on a disk, against everything that it follows from.
    pub(super) fn whole(&mut self, tally: &mut Tally, at: usize, name: &str, disk: &MemoryDisk) -> Found {
        if self.damaged.contains_key(&at) {
            // Until it is whole again, only what may differ from others is looked at: see `looked`.
            return Ok(());
        }
        tally.look(Checker::Views);
        tally.look(Checker::Vault);
        match read_disk(disk, |disk| audit(disk, Some(DigestKey::default()))) {
            Ok(audit) => {
                if let Some(finding) = audit.findings.first() {
                    let checker = if finding.starts_with("vault") {
                        Checker::Vault
                    } else {
                        Checker::Views
                    };
                    return wrong(checker, format!("{name}: {finding}"));
                }
            }
            Err(error) => return wrong(Checker::Views, format!("{name} cannot be read: {error}")),
        }
        let mut found = Ok(());
        let read = read_disk(disk, |disk| {
            let mut present = BTreeSet::new();
            disk.scan(Family::Documents, &[], &mut |key, value| {
                let Ok(key) = <[u8; 16]>::try_from(key).map(RecordKey::from_bytes) else {
                    return std::ops::ControlFlow::Continue(());
                };
                present.insert(key);
                // What is missing from a record in quarantine lies there.
                let view = disk.get(Family::Views, key.as_bytes()).ok().flatten();
                if view.is_some_and(|view| unseal(&view).is_ok()) {
                    found = self.document(tally, at, name, key, value);
                }
                if found.is_ok() {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                }
            })?;
            if found.is_ok()
                && let Some(gone) = self.tracks[at].records.difference(&present).next()
            {
                found = wrong(Checker::Forward, format!("{name}: record {gone} is gone"));
            }
            Ok(())
        });
        if let Err(error) = read {
            return wrong(Checker::Views, format!("{name} cannot be read: {error}"));
        }
        found?;
        let accounts: Vec<AccountId> = self.tracks[at]
            .records
            .iter()
            .filter_map(RecordKey::account)
            .collect();
        match read_records(disk, |records| Ok(owners(tally, records, &accounts))) {
            Ok(found) => found,
            Err(error) => wrong(Checker::Owners, format!("{name} cannot be read: {error}")),
        }
    }

    /// Right after states of these records came, also in place of damaged ones: they hold nothing that is not known here. Who
    /// wrote to them now would else not say that it follows that.
    pub(super) fn nothing_beyond(
        &self,
        tally: &mut Tally,
        at: usize,
        name: &str,
        disk: &MemoryDisk,
        keys: impl Iterator<Item = RecordKey>,
    ) -> Found {
        if self.tracks[at].half_merged {
            return Ok(());
        }
        for key in keys {
            tally.look(Checker::Documents);
            let stored = read_disk(disk, |disk| Ok(disk.get(Family::Documents, key.as_bytes())?));
            let Some(document) = stored.ok().flatten().and_then(|bytes| load(key, &bytes)) else {
                continue;
            };
            let beyond = self.changes.get(&key).into_iter().flatten();
            let mut beyond = beyond.filter(|(dot, _)| !self.tracks[at].covers(dot));
            if let Some((dot, _)) = beyond.find(|(_, hash)| document.has_change(hash)) {
                let words =
                    format!("{name}: {key} was repaired with the change of {dot}, which is not known there");
                return wrong(Checker::Documents, words);
            }
        }
        Ok(())
    }

    /// A document holds what the disk's transactions changed, and nothing else.
    fn document(&mut self, tally: &mut Tally, at: usize, name: &str, key: RecordKey, value: &[u8]) -> Found {
        tally.look(Checker::Documents);
        let Some(document) = load(key, value) else {
            return wrong(Checker::Documents, format!("{name}: {key} cannot be loaded"));
        };
        let track = &self.tracks[at];
        let expected = self.changes.get(&key).map_or(&[][..], |changes| changes);
        let mut count = 0;
        for (dot, hash) in expected {
            if track.covers(dot) {
                count += 1;
                if !document.has_change(hash) {
                    return wrong(
                        Checker::Documents,
                        format!("{name}: {key} lacks the change of {dot}"),
                    );
                }
            }
        }
        if document.changes() != count {
            return wrong(
                Checker::Documents,
                format!(
                    "{name}: {key} has {} changes, its transactions made {count}",
                    document.changes()
                ),
            );
        }
        let view = document.view();
        let said = *blake3::hash(&view.encode()).as_bytes();
        let heads = document.heads();
        if *self.seen.views.entry((key, heads)).or_insert(said) != said {
            return wrong(
                Checker::Views,
                format!("{name}: {key} says something else than elsewhere with the same heads"),
            );
        }
        if let (View::Account(view), Some(id)) = (&view, key.account()) {
            self.policy(tally, at, id, view)?;
        }
        Ok(())
    }

    /// The password in force is the greatest by the policy of all that were ever written here: most resets, latest
    /// change, and of two completions of one reset the earlier. What replaces one knowingly is greater than it.
    fn policy(&self, tally: &mut Tally, at: usize, id: AccountId, view: &AccountView) -> Found {
        tally.look(Checker::Clocks);
        let Some(in_force) = view.password else {
            return Ok(());
        };
        let rank = |password: &Password| {
            (
                password.resets,
                password.changed,
                std::cmp::Reverse(password.done),
            )
        };
        let written = self.seen.passwords.get(&id).into_iter().flatten();
        let greater = written
            .filter(|(dot, _)| self.tracks[at].covers(dot))
            .find(|(_, password)| rank(password) > rank(&in_force));
        match greater {
            None => Ok(()),
            Some((dot, password)) => wrong(
                Checker::Clocks,
                format!("the password of {id} is {in_force:?}, and {dot} wrote the greater {password:?}"),
            ),
        }
    }
}

/// A document as it is stored.
fn load(key: RecordKey, stored: &[u8]) -> Option<Document> {
    Document::load(key.kind()?, unseal(stored).ok()?).ok()
}

/// Each address has at most one owner, asked from the side of the accounts.
fn owners(tally: &mut Tally, records: &Snapshot<'_>, accounts: &[AccountId]) -> Found {
    tally.look(Checker::Owners);
    let mut owners: BTreeMap<EmailId, AccountId> = BTreeMap::new();
    for account in accounts.iter().copied() {
        let Ok(emails) = records.emails_of(account) else {
            continue;
        };
        for email in emails {
            let Ok(Some(view)) = records.email(email) else {
                continue;
            };
            let Ok(Ownership::Held { claim, .. }) = records.owner_of(&view) else {
                continue;
            };
            if claim.account == account
                && let Some(other) = owners.insert(email, account)
            {
                return wrong(
                    Checker::Owners,
                    format!("{email} is owned by {account} and by {other}"),
                );
            }
        }
    }
    Ok(())
}
