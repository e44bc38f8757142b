//! What was damaged by hand. Until it is healed, these records may differ from others' and from what they follow from,
//! and nothing else may. Then everything is whole.

use std::{collections::BTreeSet, time::Duration};

use crdt::{AccountId, RecordKey};

use super::{Checker, Found, wrong};
use crate::{
    sim::world::{World, read_disk},
    store::{DigestKey, audit, disk::Family},
};

/// What was damaged on one disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage {
    /// What may differ.
    pub(crate) records: BTreeSet<RecordKey>,
    /// Accounts that were hit themselves. What an account has become decides what its addresses name: so these may
    /// differ too, also those that come to the disk only later.
    pub(crate) accounts: BTreeSet<AccountId>,
    pub(crate) families: BTreeSet<Family>,
    /// How many passes of the scrubber there had been when the last of it was done.
    pub(crate) scrubbed: u64,
}

impl Damage {
    /// What was hit somewhere else too.
    pub(crate) fn add(&mut self, other: &Damage) {
        self.records.extend(other.records.iter().copied());
        self.accounts.extend(other.accounts.iter().copied());
        self.families.extend(other.families.iter().copied());
    }

    /// Whether a record may differ. `claimants`: whose address it is, if it is one.
    fn reaches(&self, key: &RecordKey, claimants: &BTreeSet<AccountId>) -> bool {
        self.records.contains(key) || !self.accounts.is_disjoint(claimants)
    }
}

/// A look that began before something was healed is over within this.
const HEALED_FOR: Duration = Duration::from_secs(30);

impl World {
    /// Looks whether a damaged disk is whole again.
    pub(crate) fn check_healed(&mut self, at: usize) -> bool {
        let Some(damage) = self.checks.damaged.get(&at) else {
            return true;
        };
        self.tally.look(Checker::Damage);
        let scrubbed = self.processes[at].scrubbed > damage.scrubbed + 1;
        let audited = read_disk(&self.processes[at].disk, |disk| {
            audit(disk, Some(DigestKey::default()))
        });
        let whole = audited.is_ok_and(|audit| audit.quarantined == 0 && audit.findings.is_empty());
        if !scrubbed || !whole {
            return false;
        }
        self.tally.count("damaged disks that were whole again", 1);
        let name = &self.processes[at].name;
        self.story
            .tell(self.now, || format!("{name}: what was damaged is whole again"));
        if let Some(damage) = self.checks.damaged.remove(&at) {
            self.checks.healed.push((self.now, damage));
        }
        true
    }

    /// What is damaged at the source of a catch-up is missing at who catches up too, until a look brings it.
    pub(crate) fn takes_damage(&mut self, at: usize, from: &Damage) {
        let scrubbed = self.processes[at].scrubbed;
        let damage = self.checks.damaged.entry(at).or_default();
        damage.add(from);
        damage.scrubbed = scrubbed;
        self.tally.count("catch-ups from a damaged disk", 1);
    }

    /// Whether a record may differ between two replicas.
    pub(crate) fn may_differ(&self, between: [usize; 2], key: &RecordKey) -> bool {
        let damaged = between.iter().filter_map(|at| self.checks.damaged.get(at));
        let lately = self.checks.healed.iter();
        let lately = lately.filter(|(at, _)| self.now < *at + HEALED_FOR);
        let claimants = self.checks.claimants(key);
        damaged
            .chain(lately.map(|(_, damage)| damage))
            .any(|damage| damage.reaches(key, &claimants))
    }

    /// What is still damaged when everything should be whole.
    pub(crate) fn unhealed(&self) -> Found {
        let Some((at, damage)) = self.checks.damaged.iter().next() else {
            return Ok(());
        };
        let name = &self.processes[*at].name;
        let audited = read_disk(&self.processes[*at].disk, |disk| {
            audit(disk, Some(DigestKey::default()))
        });
        let why = match audited {
            Ok(audit) => format!(
                "{} in quarantine, {:?}",
                audit.quarantined,
                audit.findings.first()
            ),
            Err(error) => error.to_string(),
        };
        wrong(
            Checker::Damage,
            format!(
                "{name} was damaged in {:?}, and is not whole in time: {why}",
                damage.families
            ),
        )
    }
}
