//! Disks that forget in silence: a stored value is altered, or gone, or the block that it lies in cannot be read.
//!
//! Never all copies of one thing: only what somebody else holds as well, of one disk at a time, and until it is whole
//! again nobody else's disk is lost.

use std::collections::BTreeSet;

use crdt::{EmailView, RecordKey, VaultId};
use gossip::{PeerState, reconcile};

use super::{Kind, Remedy};
use crate::{
    sim::{
        check::{Damage, Track},
        world::{World, read_records},
    },
    store::{
        Records,
        disk::{Family, memory::MemoryDisk},
    },
};

/// Keys in one block that cannot be read, at most.
const BLOCK_KEYS_MAX: usize = 4;
/// A disk is read so many times again before another takes its place.
const SCRUBS_BEFORE: u64 = 3;

impl World {
    /// A disk is damaged, and not whole again.
    pub(super) fn is_damaged(&self) -> bool {
        !self.checks.damaged.is_empty()
    }

    /// Another disk than this one is, so that this one may hold what heals it.
    pub(super) fn is_another_damaged(&self, at: usize) -> bool {
        self.checks.damaged.keys().any(|damaged| *damaged != at)
    }

    pub(super) fn damage_one(&mut self) {
        let Some(at) = self.one_to_damage() else {
            self.tally.count("damage that would have been for good", 1);
            return;
        };
        let families: Vec<Family> = Family::ALL
            .into_iter()
            .filter(|family| *family == Family::Documents || !self.options.documents_only)
            .filter(|family| !self.processes[at].disk.keys(*family).is_empty())
            .collect();
        let Some(family) = self.troubles.rng.pick(&families) else {
            return;
        };
        let keys = self.processes[at].disk.keys(family);
        let rng = &mut self.troubles.rng;
        let first = rng.below(keys.len());
        // What a replica knows of itself cannot be told from what it never knew.
        let ways = if family == Family::Meta { 2 } else { 3 };
        let way = rng.below(ways);
        let count = if way == 1 {
            rng.between(1, BLOCK_KEYS_MAX)
        } else {
            1
        };
        let bit = rng.below(64);
        let hit: Vec<Vec<u8>> = keys[first..].iter().take(count).cloned().collect();
        let mut damage = Damage::default();
        for key in &hit {
            self.may_tell_otherwise(at, family, key, &mut damage);
        }
        let disk = &self.processes[at].disk;
        let what = match way {
            0 => {
                disk.flip_bit(family, &hit[0], bit);
                "is altered"
            }
            1 => {
                disk.make_unreadable(family, hit.clone());
                "cannot be read"
            }
            _ => {
                disk.tamper(family, &hit[0], None);
                "is gone"
            }
        };
        self.tally.fault(Kind::BitFlip);
        self.tally.count(family_counted(family), 1);
        self.tell(|| {
            let told: Vec<String> = damage.records.iter().map(ToString::to_string).collect();
            let keys = hit.len();
            format!(
                "{family:?} {:02x?} of process {at} {what} ({keys} keys; records {})",
                hit[0],
                told.join(" ")
            )
        });
        self.was_damaged(at, damage);
        if family == Family::Meta {
            // That is read at a start.
            self.kill(at);
            self.remedy_later(1000, 3000, Remedy::Replace(at));
        }
    }

    /// A bit of the first document on a disk flips.
    pub(crate) fn flip_bit_of_document(&mut self, at: usize) {
        let family = Family::Documents;
        let Some(key) = self.processes[at].disk.keys(family).into_iter().next() else {
            return;
        };
        let mut damage = Damage::default();
        self.may_tell_otherwise(at, family, &key, &mut damage);
        self.processes[at].disk.flip_bit(family, &key, 77);
        self.tell(|| format!("{family:?} {key:02x?} of process {at} is altered"));
        self.was_damaged(at, damage);
    }

    fn was_damaged(&mut self, at: usize, hit: Damage) {
        let scrubbed = self.processes[at].scrubbed;
        let damage = self.checks.damaged.entry(at).or_default();
        damage.add(&hit);
        damage.scrubbed = scrubbed;
    }

    /// A process whose disk holds nothing that no other has.
    fn one_to_damage(&mut self) -> Option<usize> {
        let whole = |at: &usize| {
            let process = &self.processes[*at];
            let copied = self.processes.iter().any(|other| other.copy_of == Some(*at));
            let comes = self.checks.tracks[*at].coming.is_some();
            !process.retired && process.copy_of.is_none() && !copied && !comes
        };
        let all: Vec<usize> = (0..self.processes.len()).filter(whole).collect();
        let held_elsewhere = |at: &usize| {
            let numbers = &self.checks.tracks[*at].numbers;
            !numbers.is_empty()
                && all.iter().any(|other| {
                    let theirs = &self.checks.tracks[*other].numbers;
                    other != at
                        && !self.checks.damaged.contains_key(other)
                        && self.heals(*other, *at)
                        && numbers
                            .iter()
                            .all(|(writer, number)| theirs.get(writer).is_some_and(|known| known >= number))
                })
        };
        let damaged = self.checks.damaged.keys().next().copied();
        let candidates: Vec<usize> = all
            .iter()
            .copied()
            .filter(|at| damaged.is_none_or(|damaged| damaged == *at))
            .filter(held_elsewhere)
            .collect();
        self.troubles.rng.pick(&candidates)
    }

    /// Whether a process is compared with another one: both know it as active, and nobody knows otherwise. Who leaves, left
    /// or was put out keeps its disk for a while, and gives nobody a state.
    fn heals(&self, at: usize, other: usize) -> bool {
        let member = self.processes[at].member;
        let state = |by: usize| {
            let peers = self.peers_seen_by(by);
            peers.iter().find(|peer| peer.id == member).map(|peer| peer.state)
        };
        let goes = |state| !matches!(state, None | Some(PeerState::Joining | PeerState::Active));
        [at, other]
            .into_iter()
            .all(|by| state(by) == Some(PeerState::Active))
            && !(0..self.processes.len()).any(|by| goes(state(by)))
    }

    /// The records that say something else, or seem to, once this is damaged; and the accounts that it hits.
    fn may_tell_otherwise(&self, at: usize, family: Family, key: &[u8], damage: &mut Damage) {
        damage.families.insert(family);
        let id: Option<[u8; 16]> = match family {
            Family::Documents | Family::Views | Family::Digests => key.try_into().ok(),
            Family::Quarantine => key.first_chunk().copied(),
            Family::Side => key.get(9..25).and_then(|key| key.try_into().ok()),
            Family::Index => key
                .get(15..30)
                .and_then(|email| email.try_into().ok())
                .map(|email| *RecordKey::from(crdt::EmailId::from_bytes(email)).as_bytes()),
            _ => None,
        };
        let value: Option<[u8; 16]> = key.try_into().ok().filter(|_| family == Family::Vault);
        let sum: Option<[u8; 2]> = key.try_into().ok().filter(|_| family == Family::Sums);
        // What came by states is in no transaction that was seen here.
        let disk = &self.processes[at].disk;
        let stored = [Family::Documents, Family::Views].map(|family| disk.keys(family));
        let stored = stored.iter().flatten().filter_map(|key| key[..].try_into().ok());
        let seen = self.checks.records_of_disk(at).iter().copied();
        let known: BTreeSet<RecordKey> = stored.map(RecordKey::from_bytes).chain(seen).collect();
        let _ = read_records(disk, |disk| {
            for record in &known {
                let hit = id == Some(*record.as_bytes())
                    || sum.is_some_and(|sum| {
                        usize::from(u16::from_be_bytes(sum)) == reconcile::partition(record.as_bytes())
                    });
                let email = record.email().and_then(|email| disk.email(email).ok().flatten());
                let account = record
                    .account()
                    .and_then(|account| disk.account(account).ok().flatten());
                let names = value.map(VaultId::from_bytes).is_some_and(|value| {
                    email
                        .iter()
                        .any(|view| view.claims.iter().any(|claim| claim.vault == value))
                        || account.iter().any(|view| view.names().contains(&value))
                });
                // What an account has become decides what its addresses name, and the other way round.
                let related = email
                    .iter()
                    .flat_map(EmailView::accounts)
                    .any(|account| id == Some(*RecordKey::from(account).as_bytes()));
                if hit || names || related {
                    damage.records.insert(*record);
                    damage
                        .records
                        .extend(email.iter().flat_map(EmailView::accounts).map(RecordKey::from));
                }
            }
            Ok(())
        });
        let hit = id.map(RecordKey::from_bytes);
        damage.records.extend(hit);
        damage.accounts.extend(hit.as_ref().and_then(RecordKey::account));
    }

    /// A block that cannot be read stays so, where nobody writes what is in it again: its operator puts in another disk,
    /// once others have all that is on this one. What it hides may keep this replica from being as others are until then.
    pub(crate) fn replace_if_torn(&mut self, at: usize) {
        let torn = self.processes[at].disk.unreadable();
        let waited = self
            .checks
            .damaged
            .get(&at)
            .is_some_and(|damage| self.processes[at].scrubbed > damage.scrubbed + SCRUBS_BEFORE);
        if torn.is_empty() || !waited || !self.drained(at) {
            return;
        }
        for family in torn {
            self.tally.count(family_torn(family), 1);
        }
        self.check_drained(at);
        self.kill(at);
        self.tell(|| format!("process {at} gets another disk: a block stays unreadable"));
        self.processes[at].disk = MemoryDisk::new();
        self.checks.disk_replaced(at, Track::default());
        self.start(at);
    }

    /// What a replica knows of itself was damaged: where it does not start, its operator empties the directory.
    pub(super) fn replace_if_closed(&mut self, at: usize) {
        self.start(at);
        let process = &self.processes[at];
        if process.start().is_none() && !process.retired && !process.kept_down {
            self.kill(at);
            self.tally
                .count("directories emptied because nothing starts on them", 1);
            self.tell(|| format!("process {at} does not start; its directory is emptied"));
            self.processes[at].disk = MemoryDisk::new();
            self.checks.disk_replaced(at, Track::default());
            self.start(at);
        }
    }
}

fn family_torn(family: Family) -> &'static str {
    match family {
        Family::Documents => "unreadable for good: documents",
        Family::Views => "unreadable for good: views",
        Family::Index => "unreadable for good: index",
        Family::Vault => "unreadable for good: vault",
        Family::Cells => "unreadable for good: cells",
        Family::Digests => "unreadable for good: digests",
        Family::Log => "unreadable for good: log",
        Family::Dots => "unreadable for good: dots",
        Family::Quarantine => "unreadable for good: quarantine",
        Family::Sums => "unreadable for good: sums",
        Family::Meta | Family::Side => "unreadable for good: meta, side",
    }
}

fn family_counted(family: Family) -> &'static str {
    match family {
        Family::Meta => "damage: meta",
        Family::Documents => "damage: documents",
        Family::Views => "damage: views",
        Family::Index => "damage: index",
        Family::Vault => "damage: vault",
        Family::Cells => "damage: cells",
        Family::Digests => "damage: digests",
        Family::Log => "damage: log",
        Family::Dots => "damage: dots",
        Family::Quarantine => "damage: quarantine",
        Family::Sums => "damage: sums",
        Family::Side => "damage: side",
    }
}
