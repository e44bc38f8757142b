//! Erasure reaches every byte: once a replica has given its receipt for a cancelled account, nobody who took its disk
//! away would find the account's addresses or hashes, in no family, table, copy or checkpoint.
//!
//! Nobody types an address as others do, so the bytes of one account are not those of another that has the
//! same address.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{AccountId, CellKind, VaultId, VaultValue};
use gossip::Dot;

use super::{Checker, Checks, wrong};
use crate::{
    sim::{
        tally::Tally,
        world::{World, read_records},
    },
    store::Records,
};

/// Shorter values are looked for nowhere: chance would find them.
const BYTES_MIN: usize = 8;

#[derive(Default)]
pub(super) struct Erasing {
    /// What was put into the vault.
    values: BTreeMap<VaultId, Vec<u8>>,
    /// Whom it tells of.
    accounts: BTreeMap<Vec<u8>, BTreeSet<AccountId>>,
    /// What tells of each account.
    tells: BTreeMap<AccountId, BTreeSet<Vec<u8>>>,
    /// By process: the accounts that its disk holds nothing of, as it said.
    receipts: BTreeMap<usize, BTreeSet<AccountId>>,
    /// Processes to which states come that may bring something of a cancelled account.
    comes: BTreeSet<usize>,
}

impl Erasing {
    pub(super) fn learn(&mut self, values: &[VaultValue]) {
        for value in values {
            self.values.insert(value.id(), value.data.clone());
        }
    }

    /// A record says that these values are an account's.
    pub(super) fn tells_of(&mut self, account: AccountId, ids: &[VaultId]) {
        for id in ids {
            let Some(data) = self.values.get(id).filter(|data| data.len() >= BYTES_MIN) else {
                continue;
            };
            if self.tells.entry(account).or_default().insert(data.clone()) {
                self.accounts.entry(data.clone()).or_default().insert(account);
            }
        }
    }

    /// A disk is another one: what the former said is nothing that this one says.
    pub(super) fn set_back(&mut self, at: usize) {
        self.receipts.remove(&at);
    }

    /// What must not be found, by its first bytes.
    fn needles(&self, at: usize) -> BTreeMap<[u8; BYTES_MIN], Vec<(&[u8], AccountId)>> {
        let mut needles: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let Some(receipts) = self.receipts.get(&at) else {
            return needles;
        };
        for account in receipts {
            for data in self.tells.get(account).into_iter().flatten() {
                // Two people may have had the same link.
                let others = self.accounts.get(data);
                if others.is_some_and(|others| others.is_subset(receipts))
                    && let Some(first) = data.first_chunk()
                {
                    needles.entry(*first).or_default().push((data, *account));
                }
            }
        }
        needles
    }
}

impl World {
    /// A process says that nothing is left of these accounts on its disk, unless it takes that back at once.
    pub(crate) fn receipts_given(&mut self, at: usize, accounts: &[AccountId]) {
        let Some(start) = self.processes[at].start() else {
            return;
        };
        let accounts = self.receipts_on_disk(at, start.replica.0, accounts);
        self.tally.count("erasure receipts", accounts.len() as u64);
        let receipts = self.checks.erasing.receipts.entry(at).or_default();
        receipts.extend(accounts);
        self.search(at);
    }

    /// A start begins: its disk may hold receipts of its own that nobody was told of, or that came with a backup.
    pub(super) fn find_receipts(&mut self, at: usize, slot: [u8; 8]) {
        let cancelled: Vec<AccountId> = self.checks.tracks[at].cancelled.iter().copied().collect();
        let found = self.receipts_on_disk(at, slot, &cancelled);
        self.checks.erasing.receipts.insert(at, found);
        self.checks.erasing.comes.remove(&at);
        self.search(at);
    }

    /// States of a catch-up come to a process from another. One that it could not know of when it was told what is settled may
    /// not have heard of a cancellation: a receipt that is taken back for what comes from there was true until then.
    pub(crate) fn states_come(&mut self, at: usize, from: usize) {
        if self.checks.settling.excuses_states(at, from) {
            self.checks.erasing.comes.insert(at);
        }
    }

    /// Something was committed, perhaps of what comes by states.
    pub(super) fn receipts_taken_back(&mut self, at: usize) {
        let Some(start) = self.processes[at].start() else {
            return;
        };
        if !self.checks.erasing.comes.contains(&at) {
            return;
        }
        let receipts = self.checks.erasing.receipts.get(&at);
        let receipts: Vec<AccountId> = receipts.into_iter().flatten().copied().collect();
        let left = self.receipts_on_disk(at, start.replica.0, &receipts);
        let gone = (receipts.len() - left.len()) as u64;
        self.tally.count("receipts that were overtaken by states", gone);
        self.checks.erasing.receipts.insert(at, left);
    }

    /// All that came by states is merged, or was given up.
    pub(crate) fn states_are_here(&mut self, at: usize) {
        self.checks.erasing.comes.remove(&at);
    }

    /// Those of the accounts whose receipt, by the replica with this slot, is on a disk.
    fn receipts_on_disk(&self, at: usize, slot: [u8; 8], accounts: &[AccountId]) -> BTreeSet<AccountId> {
        let found = read_records(&self.processes[at].disk, |records| {
            let mut found = BTreeSet::new();
            for account in accounts {
                let cells = records.cells(CellKind::ERASED, account.as_bytes())?;
                if cells.iter().any(|cell| cell.slot == slot) {
                    found.insert(*account);
                }
            }
            Ok(found)
        });
        found.unwrap_or_default()
    }

    /// Searches a disk for what nobody should find.
    pub(crate) fn search(&mut self, at: usize) {
        let needles = self.checks.erasing.needles(at);
        if needles.is_empty() {
            return;
        }
        self.tally.look(Checker::Erased);
        let mut found = None;
        self.processes[at].disk.search(&mut |place, bytes| {
            for start in 0..bytes.len().saturating_sub(BYTES_MIN - 1) {
                let Some(candidates) = bytes[start..].first_chunk().and_then(|first| needles.get(first))
                else {
                    continue;
                };
                let hit = candidates
                    .iter()
                    .find(|(data, _)| bytes[start..].starts_with(data));
                if let Some((data, account)) = hit {
                    let words = String::from_utf8_lossy(data).into_owned();
                    found.get_or_insert((*account, words, place.to_owned()));
                }
            }
        });
        if let Some((account, words, place)) = found {
            let name = &self.processes[at].name;
            let found = wrong(
                Checker::Erased,
                format!("{name} gave its receipt for {account}, and its disk holds `{words}` ({place})"),
            );
            self.fail(found);
        }
    }

    /// What cancelled accounts wait for, for whoever looks for the reason.
    pub(crate) fn waits_for(&self) -> String {
        let mut lines = Vec::new();
        for (at, process) in self.processes.iter().enumerate() {
            let Some(running) = &process.running else { continue };
            let receipts = self.checks.erasing.receipts.get(&at);
            for account in &self.checks.tracks[at].cancelled {
                if receipts.is_none_or(|receipts| !receipts.contains(account)) {
                    let waits_for = running.settlement.waits_for(*account);
                    lines.push(format!("{}: {account} waits for {waits_for}", process.name));
                }
            }
        }
        lines.join("; ")
    }

    /// Cancelled accounts, as a process has them, of which its disk still holds something for all that it has said.
    pub(crate) fn unforgotten(&self, at: usize) -> usize {
        let receipts = self.checks.erasing.receipts.get(&at);
        let cancelled = &self.checks.tracks[at].cancelled;
        cancelled
            .iter()
            .filter(|account| receipts.is_none_or(|receipts| !receipts.contains(account)))
            .count()
    }
}

impl Checks {
    /// What nobody could have known of brings something of an account once more: its receipt was of before.
    pub(super) fn overtaken(&mut self, tally: &mut Tally, at: usize, dot: Dot) {
        let excused = self
            .maker(&dot.writer)
            .zip(self.known(&dot))
            .is_some_and(|(maker, known)| self.settling.excuses(at, maker, known));
        if !excused {
            return;
        }
        let values = self.known(&dot).map_or(&[][..], |known| &known.values);
        let data = values.iter().filter_map(|id| self.erasing.values.get(id));
        let accounts: BTreeSet<AccountId> = data
            .filter_map(|data| self.erasing.accounts.get(data))
            .flatten()
            .copied()
            .collect();
        if let Some(receipts) = self.erasing.receipts.get_mut(&at) {
            let before = receipts.len();
            receipts.retain(|account| !accounts.contains(account));
            let gone = (before - receipts.len()) as u64;
            tally.count("receipts that were overtaken", gone);
        }
    }
}
