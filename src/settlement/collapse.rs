//! Losers go: what concurrent writes left beside the value that counts is superseded, and so erased.
//!
//! Two sign-ups of one address at two cut-off sites leave two claims. Both name the address in the vault, and both
//! survive until something supersedes them. That must not be done too early. While a release by the winner is on its
//! way, written by someone who had not seen the loser, the loser will have the address: superseding it now would undo
//! a write that was answered. So a record is *noted* with this replica's vector of that moment, and its turn comes
//! when all of that is settled: by then everything concurrent with what it says has come. What is still to come has
//! seen it all.
//!
//! The first active site by name writes it. Which one that is need not be agreed on: the write follows from the
//! record alone, down to the vault id, so two that do it at once write the same, and there is nothing left to do. So
//! whoever has waited long for it writes it too: the first one may not know of the losers. (A claim that comes after
//! what an account let go loses when that account is cancelled, and a cancelled account's records are found by the
//! claims that it has.)
//!
//! One window stays open. Whoever supersedes all claims by a later proof while the collapse of an earlier winner is
//! on its way beats it; but the winner's claim survives beside the later one until that record is settled in turn,
//! and counts again if the later account's claim becomes unverified by a reset in the meantime.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crdt::{AccountWrite, ClusterView, EmailWrite, Member, MemberId, MemberState, RecordKey};
use gossip::Vector;

use crate::store::{Contested, ReadError, Records, TransactError, Txn, contested};

/// Records noted at most; those beyond are found again by the next scan.
const NOTED_MAX: usize = 65_536;
/// So long the first active site is waited for, in milliseconds.
const OTHERS_AFTER_MS: u64 = 30_000;

/// The records with losers, and how far each is from being settled. Pure: told of commits and of what is settled.
#[derive(Debug, Default)]
pub struct Losers {
    noted: BTreeMap<RecordKey, Note>,
    /// Notes in the order in which they were first made: whoever waits for all that were there waits for these.
    in_order: BTreeSet<(u64, RecordKey)>,
    next_order: u64,
}

#[derive(Debug)]
struct Note {
    order: u64,
    changes: u32,
    /// What all that the record says is within; `None` once it is settled.
    within: Option<Arc<Vector>>,
    /// When its turn had come, by this replica's clock.
    ready_ms: Option<u64>,
}

/// A record whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// As it was noted.
    pub contested: Contested,
    /// It has been waiting since its turn came, in milliseconds.
    pub waited_ms: u64,
}

impl Ready {
    /// Whether this member is to collapse it: the first active one is, and after a while any other.
    pub fn is_for(&self, member: MemberId, cluster: &ClusterView) -> bool {
        let is_active = |found: &Member| found.state == MemberState::Active;
        first_active(cluster) == Some(member)
            || self.waited_ms >= OTHERS_AFTER_MS && cluster.members.get(&member).is_some_and(is_active)
    }
}

impl Note {
    fn wait_for(&mut self, within: &Arc<Vector>) {
        self.within = Some(within.clone());
        self.ready_ms = None;
    }
}

impl Losers {
    /// A record has losers, and all that it says is within this vector.
    pub fn note(&mut self, contested: Contested, within: &Arc<Vector>) {
        if self.noted.len() == NOTED_MAX && !self.noted.contains_key(&contested.key) {
            return;
        }
        let next_order = self.next_order;
        let note = self.noted.entry(contested.key).or_insert_with(|| {
            self.next_order += 1;
            self.in_order.insert((next_order, contested.key));
            Note {
                order: next_order,
                changes: contested.changes,
                within: Some(within.clone()),
                ready_ms: None,
            }
        });
        if note.changes != contested.changes {
            // It is another record now, whatever of it was settled.
            note.changes = contested.changes;
            note.wait_for(within);
        }
    }

    /// The vector was raised by something else than transactions: what was noted may say more than it was noted with.
    pub fn raised(&mut self, to: &Arc<Vector>) {
        for note in self.noted.values_mut() {
            note.wait_for(to);
        }
    }

    /// Nothing concurrent with this is on its way any more.
    pub fn settled(&mut self, settled: &Vector) {
        for note in self.noted.values_mut() {
            if note
                .within
                .as_ref()
                .is_some_and(|within| settled.covers_vector(within))
            {
                note.within = None;
            }
        }
    }

    /// Up to `count_max` of those whose turn has come, after a key: a few at a time, round and round.
    pub fn ready(&mut self, after: Option<RecordKey>, count_max: usize, now_ms: u64) -> Vec<Ready> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let ready = self.noted.range_mut((from, Unbounded));
        ready
            .filter(|(_, note)| note.within.is_none())
            .take(count_max)
            .map(|(key, note)| Ready {
                contested: Contested {
                    key: *key,
                    changes: note.changes,
                },
                waited_ms: now_ms.saturating_sub(*note.ready_ms.get_or_insert(now_ms)),
            })
            .collect()
    }

    /// As it was then, it has no losers any more, or cannot be helped now: the next scan finds it again then. One
    /// that has changed since stays.
    pub fn forget(&mut self, then: Contested) {
        if let Some(note) = self.noted.get(&then.key)
            && note.changes == then.changes
        {
            self.in_order.remove(&(note.order, then.key));
            self.noted.remove(&then.key);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.noted.len()
    }

    /// A mark that is [passed](Self::passed) when all that are noted now have gone.
    pub fn mark(&self) -> u64 {
        self.next_order
    }

    /// Whether all that were noted at a mark have gone.
    pub fn passed(&self, mark: u64) -> bool {
        self.in_order.first().is_none_or(|(order, _)| *order >= mark)
    }
}

/// Who collapses: of the active members the one in the first site by name, and in it the one with the smallest id.
pub fn first_active(cluster: &ClusterView) -> Option<MemberId> {
    let active = cluster
        .members
        .values()
        .filter(|member| member.state == MemberState::Active);
    active
        .min_by_key(|member| (&member.site, member.id))
        .map(|member| member.id)
}

/// What became of a record whose turn had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collapse {
    /// The winner is written once more.
    Written,
    /// Nothing is to be done: no losers, or no longer the record that was settled.
    Passed,
    /// The winner's value is not here; once it is healed the losers can go.
    Missing,
}

/// Collapses a record, on the committer's thread, if it still is as it was when its turn came.
///
/// # Errors
/// When the record cannot be read.
pub fn write(txn: &mut Txn<'_>, settled: Contested) -> Result<Collapse, TransactError> {
    if contested(txn, settled.key)? != Some(settled) {
        return Ok(Collapse::Passed);
    }
    // Erasing is what the disk's reserve is for, and a record changed too often may need it most.
    txn.urgent();
    if let Some(id) = settled.key.account() {
        let Some(view) = txn.account(id)? else {
            return Ok(Collapse::Passed);
        };
        let Some(mut password) = view.collapse() else {
            return Ok(Collapse::Passed);
        };
        let Some(vault) = again(txn, password.vault, view.names())? else {
            return Ok(Collapse::Missing);
        };
        password.vault = vault;
        txn.write_account(id, AccountWrite::Password(password));
    } else if let Some(id) = settled.key.email() {
        let Some(view) = txn.email(id)? else {
            return Ok(Collapse::Passed);
        };
        let Some(mut write) = view.collapse(|account| txn.standing(account))? else {
            return Ok(Collapse::Passed);
        };
        if let EmailWrite::Claim(claim) = &mut write {
            let beside: Vec<_> = view.claims.iter().map(|claim| claim.vault).collect();
            let Some(vault) = again(txn, claim.vault, &beside)? else {
                return Ok(Collapse::Missing);
            };
            claim.vault = vault;
        }
        txn.write_email(id, write);
    }
    Ok(Collapse::Written)
}

/// The winner's value under its new id. It must be a new one: the id that a record names was never erased before.
fn again(
    txn: &mut Txn<'_>,
    id: crdt::VaultId,
    beside: &[crdt::VaultId],
) -> Result<Option<crdt::VaultId>, TransactError> {
    match txn.put_vault_again(id, beside) {
        // A damaged value is healed from a peer.
        Err(ReadError::Corrupt(_)) => Ok(None),
        Err(ReadError::Disk(error)) if error.is_local() => Ok(None),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use gossip::{ReplicaId, Tip, Writer};

    use super::*;

    fn key(byte: u8) -> RecordKey {
        crdt::EmailId::from_bytes([byte; 15]).into()
    }

    fn record(byte: u8, changes: u32) -> Contested {
        Contested {
            key: key(byte),
            changes,
        }
    }

    /// What two writers had written.
    fn vector(one: u64, other: u64) -> Arc<Vector> {
        let mut vector = Vector::new();
        for (byte, number) in [(1, one), (2, other)] {
            let writer = Writer {
                replica: ReplicaId([byte; 8]),
                epoch: 1,
                nonce: [byte; 8],
            };
            vector.advance(writer, Tip { number, hash: [0; 8] });
        }
        Arc::new(vector)
    }

    fn ready(losers: &mut Losers, after: Option<RecordKey>, count_max: usize) -> Vec<Contested> {
        let ready = losers.ready(after, count_max, 0);
        ready.into_iter().map(|ready| ready.contested).collect()
    }

    #[test]
    fn a_records_turn_comes_when_all_that_it_says_is_settled() {
        let mut losers = Losers::default();
        losers.note(record(1, 2), &vector(5, 5));
        losers.note(record(2, 2), &vector(6, 5));
        losers.settled(&vector(4, 9));
        assert_eq!(ready(&mut losers, None, 9), []);
        losers.settled(&vector(5, 5));
        assert_eq!(ready(&mut losers, None, 9), [record(1, 2)]);
        losers.settled(&vector(6, 6));
        assert_eq!(ready(&mut losers, None, 9), [record(1, 2), record(2, 2)]);
        assert_eq!(ready(&mut losers, None, 1), [record(1, 2)]);
        assert_eq!(ready(&mut losers, Some(key(1)), 9), [record(2, 2)]);
    }

    #[test]
    fn one_that_changes_waits_anew_and_one_that_is_told_twice_does_not() {
        let mut losers = Losers::default();
        losers.note(record(1, 2), &vector(5, 5));
        losers.note(record(1, 2), &vector(7, 7));
        losers.settled(&vector(5, 5));
        assert_eq!(ready(&mut losers, None, 9), [record(1, 2)]);
        losers.note(record(1, 3), &vector(8, 8));
        assert_eq!(ready(&mut losers, None, 9), []);
        losers.settled(&vector(8, 8));
        assert_eq!(ready(&mut losers, None, 9), [record(1, 3)]);
    }

    #[test]
    fn a_vector_raised_without_transactions_makes_all_wait_for_it() {
        let mut losers = Losers::default();
        losers.note(record(1, 2), &vector(5, 5));
        losers.raised(&vector(9, 9));
        losers.settled(&vector(8, 9));
        assert_eq!(ready(&mut losers, None, 9), []);
        losers.settled(&vector(9, 9));
        assert_eq!(ready(&mut losers, None, 9), [record(1, 2)]);
    }

    #[test]
    fn a_mark_is_passed_when_those_before_it_have_gone() {
        let mut losers = Losers::default();
        assert!(losers.passed(losers.mark()));
        losers.note(record(2, 2), &vector(5, 5));
        let mark = losers.mark();
        losers.note(record(1, 2), &vector(6, 6));
        losers.note(record(2, 3), &vector(7, 7));
        assert!(!losers.passed(mark), "changed, and still there");
        losers.forget(record(2, 2));
        assert!(!losers.passed(mark), "it is another record by now");
        losers.forget(record(2, 3));
        assert!(losers.passed(mark));
        assert_eq!(losers.count(), 1);
    }

    #[test]
    fn the_first_site_by_name_collapses() {
        let member = |id: u8, site: &str, state| crdt::Member {
            id: MemberId::from_bytes([id; 8]),
            name: format!("{site}-{id}"),
            site: site.to_owned(),
            addresses: Vec::new(),
            keys: Vec::new(),
            state,
            version: String::new(),
            features: BTreeSet::new(),
            admission: None,
            evicted: None,
        };
        let mut cluster = ClusterView::default();
        assert_eq!(first_active(&cluster), None);
        for member in [
            member(1, "oslo", MemberState::Active),
            member(2, "lima", MemberState::Joining),
            member(3, "accra", MemberState::Evicted),
            member(5, "delhi", MemberState::Active),
            member(4, "delhi", MemberState::Active),
        ] {
            cluster.members.insert(member.id, member);
        }
        assert_eq!(first_active(&cluster), Some(MemberId::from_bytes([4; 8])));

        // The others wait for it, each since the record's turn came there; and who is not active leaves it to them.
        let mut losers = Losers::default();
        losers.note(record(1, 2), &vector(5, 5));
        losers.settled(&vector(5, 5));
        let mut are_for = |now_ms| -> Vec<u8> {
            let ready = losers.ready(None, 9, now_ms);
            let is_for = |id: &u8| ready[0].is_for(MemberId::from_bytes([*id; 8]), &cluster);
            (1..=5).filter(is_for).collect()
        };
        assert_eq!(are_for(1_000_000), [4]);
        assert_eq!(are_for(1_000_000 + OTHERS_AFTER_MS - 1), [4]);
        assert_eq!(are_for(1_000_000 + OTHERS_AFTER_MS), [1, 4, 5]);
        losers.raised(&vector(6, 6));
        losers.settled(&vector(6, 6));
        let again = losers.ready(None, 9, 2_000_000);
        assert_eq!(again[0].waited_ms, 0, "its turn has come anew");
    }
}
