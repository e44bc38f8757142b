//! Taking in whole states of records, as another replica's cut has them.
//!
//! A state is merged only where the vector covers its cut: it then holds nothing that is not known here, and what it
//! brings is what got lost. Merging never replaces what is readable; only a document that is not, is replaced, and
//! then gets the changes on top that the log here has beyond the cut. A part in quarantine goes once its changes are
//! in, or once a replica that covers it says that nothing is missing from its record. What nobody can name goes also once
//! [every member has said](super::doubts) what it has of the record.
//!
//! A catch-up is the exception: it is what raises the vector. So a state that is not whole where it comes from, or that
//! cannot be merged, puts its record into quarantine here too.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
};

use crdt::{Document, Hlc, RecordChange, RecordKey, Transaction, VaultId, VaultValue, View};
use gossip::{MemberId, Vector, reconcile::Key};

use super::{
    cut::{RecordState, Standing},
    damage,
    disk::{DiskRead, Family},
    group::{self, Group},
    layout,
    ledger::Ledger,
    log,
    records::{self, ReadError},
    work::Committed,
};
use crate::planted::{self, Bug};

/// States that wait until the vector covers their cut are kept up to this many bytes. More are dropped, the oldest
/// first: the next look finds them again.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// And for this long.
const WAITING_MAX_MS: u64 = 60_000;

/// States of records, and the vector of the moment that they were read in.
#[derive(Clone, Debug)]
pub struct Repair {
    /// The member that takes them in.
    pub own: MemberId,
    /// The member that has them.
    pub from: MemberId,
    /// What they may hold.
    pub cut: Arc<Vector>,
    /// By record.
    pub states: Vec<(Key, Vec<u8>)>,
}

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairOutcome {
    /// All of the state was here.
    Unchanged,
    /// Something of it was missing.
    Healed,
    /// There was no such record.
    Added,
    /// Something was missing, and every member has said by now what it has: what still may be missing nobody has.
    Concluded,
    /// What came was taken, and something is still missing.
    Quarantined,
    /// The state could not be read or merged.
    Refused,
}

/// One record that another replica's state of it was merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Which.
    pub key: RecordKey,
    /// What became of it.
    pub outcome: RepairOutcome,
}

/// What the log has of each record beyond a cut. Looked up when it is first asked for.
pub(super) struct Beyond {
    cut: Arc<Vector>,
    /// The vector will cover the cut only once its states are merged.
    raises: bool,
    places: Option<Places>,
}

/// Parts looked up in the log, which takes the committer's time and memory. A log with more beyond the cut does not tell.
const PLACES_MAX: usize = 1 << 20;

/// Places of parts in the log, by their records.
struct Places {
    known: BTreeMap<RecordKey, Vec<u64>>,
    /// They are all: the log reaches back to the cut.
    reached: bool,
}

impl Beyond {
    /// Beyond a cut that the vector covers.
    pub(super) fn covered(cut: Arc<Vector>) -> Beyond {
        Beyond {
            cut,
            raises: false,
            places: None,
        }
    }

    /// Beyond a cut that the vector is raised to.
    pub(super) fn raising(cut: Arc<Vector>) -> Beyond {
        Beyond {
            raises: true,
            ..Beyond::covered(cut)
        }
    }

    /// The places of a record's parts that the log still has, in order, and whether they are all.
    fn places(&mut self, disk: &dyn DiskRead, key: RecordKey) -> Result<(Vec<u64>, bool), ReadError> {
        let places = match self.places.take() {
            Some(places) => places,
            None => {
                let mut known: BTreeMap<RecordKey, Vec<u64>> = BTreeMap::new();
                let mut parts = 0;
                let reached = log::parts_beyond(disk, &self.cut, |place, key| {
                    known.entry(key).or_default().push(place);
                    parts += 1;
                    if parts < PLACES_MAX {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })?;
                Places { known, reached }
            }
        };
        let places = self.places.insert(places);
        Ok((
            places.known.get(&key).cloned().unwrap_or_default(),
            places.reached,
        ))
    }
}

impl Ledger {
    /// Merges states whose cut is covered here; the others are given back.
    pub(super) fn repair(
        &mut self,
        group: &mut Group<'_>,
        repair: Repair,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        if !self.vector.covers_vector(&repair.cut) && !planted::is(Bug::RepairsUncovered) {
            committed.waiting.push(repair);
            return Ok(());
        }
        let mut beyond = Beyond::covered(Arc::clone(&repair.cut));
        let mut vector = None;
        for (key, state) in &repair.states {
            let key = RecordKey::from_bytes(*key);
            let state = RecordState::decode(state).ok();
            let says_all = state
                .as_ref()
                .is_some_and(|state| state.standing != Standing::Partial);
            let mut outcome = group.repair(key, state, &mut beyond)?;
            for doubted in group.doubted.drain(..) {
                self.doubts.forget(doubted);
            }
            if outcome == RepairOutcome::Quarantined && says_all {
                let vector = vector.get_or_insert_with(|| Arc::new(self.vector.clone()));
                let said = self.doubts.hear(key, repair.from, &repair.cut, vector);
                if let Some(said) = said
                    && group.all_others(repair.own, said)?
                {
                    outcome = group.end_doubt(key)?;
                }
            }
            if !matches!(outcome, RepairOutcome::Quarantined | RepairOutcome::Refused) {
                self.doubts.forget(key);
            }
            committed.repaired.push(Repaired { key, outcome });
        }
        Ok(())
    }
}

impl Group<'_> {
    /// Merges a record's state from elsewhere. The caller knows that all it may hold is covered here, or will be once all
    /// states of its cut are merged.
    pub(super) fn repair(
        &mut self,
        key: RecordKey,
        state: Option<RecordState>,
        beyond: &mut Beyond,
    ) -> Result<RepairOutcome, ReadError> {
        let whole = state
            .as_ref()
            .is_some_and(|state| state.standing == Standing::Whole);
        let outcome = match state {
            Some(state) => self.merge_state(key, state, beyond)?,
            None => RepairOutcome::Refused,
        };
        if beyond.raises && (!whole || outcome == RepairOutcome::Refused) {
            self.doubt_anew(key)?;
            return Ok(RepairOutcome::Quarantined);
        }
        Ok(outcome)
    }

    fn merge_state(
        &mut self,
        key: RecordKey,
        state: RecordState,
        beyond: &mut Beyond,
    ) -> Result<RepairOutcome, ReadError> {
        let theirs = key
            .kind()
            .and_then(|kind| Document::load(kind, state.document.as_ref()?).ok());
        let (Some(theirs), Some(bytes)) = (theirs, state.document) else {
            return Ok(RepairOutcome::Refused);
        };
        let loaded = self.load(key)?;
        let damaged = loaded.document.is_none();
        let added = !damaged && loaded.before.is_none() && loaded.changes.is_empty();
        let quarantined = loaded.quarantined;
        let mut news = damaged || added || quarantined;
        match &loaded.document {
            None => {
                loaded.replaced = Some(bytes);
                loaded.document = Some(group::with_view(theirs));
                loaded.quarantined = true;
                loaded.dirty = true;
            }
            Some((ours, _)) => {
                let Ok(missing) = ours.missing(&theirs) else {
                    return Ok(RepairOutcome::Refused);
                };
                news |= !missing.is_empty();
                if !missing.is_empty() && !self.extend(key, &missing)? {
                    return Ok(RepairOutcome::Refused);
                }
            }
        }
        let values: Vec<VaultId> = state.values.iter().map(VaultValue::id).collect();
        self.bring(key, state.values)?;
        if damaged || added || quarantined {
            let here = if damaged {
                Here::Damaged
            } else if added {
                Here::Nothing
            } else {
                Here::Parts
            };
            self.make_whole(key, here, state.standing == Standing::Whole, beyond)?;
        }
        // It may differ only by what was made from it.
        self.recheck(key)?;
        let loaded = self.load(key)?;
        let outcome = match (loaded.quarantined, added, loaded.dirty) {
            (true, ..) => RepairOutcome::Quarantined,
            (false, true, _) => RepairOutcome::Added,
            (false, false, true) => RepairOutcome::Healed,
            (false, false, false) => RepairOutcome::Unchanged,
        };
        match outcome {
            RepairOutcome::Unchanged => {}
            _ if news => self.recall([key], &values)?,
            _ => self.recall_own(key, &values)?,
        }
        Ok(outcome)
    }

    /// Something of a record is missing that was not before, and nobody here can name it.
    fn doubt_anew(&mut self, key: RecordKey) -> Result<(), ReadError> {
        self.doubted.push(key);
        self.doubt(key)
    }

    /// Every member has said what it has of a record: what nobody could name is missing no more, or nobody has it.
    pub(super) fn end_doubt(&mut self, key: RecordKey) -> Result<RepairOutcome, ReadError> {
        self.retry_quarantine(key, |place| *place == NAMELESS)?;
        self.recheck(key)?;
        Ok(if self.load(key)?.quarantined {
            RepairOutcome::Quarantined
        } else {
            RepairOutcome::Concluded
        })
    }

    /// Something of a record is missing, and nobody here can name it.
    fn doubt(&mut self, key: RecordKey) -> Result<(), ReadError> {
        self.quarantine.insert((key, NAMELESS), Vec::new());
        self.freed.remove(&(key, NAMELESS));
        let loaded = self.load(key)?;
        loaded.quarantined = true;
        loaded.dirty = true;
        Ok(())
    }

    /// The greatest HLC in a record.
    pub(super) fn latest(&mut self, key: RecordKey) -> Result<Hlc, ReadError> {
        Ok(match &self.load(key)?.document {
            Some((_, View::Account(view))) => view.latest(),
            Some((_, View::Email(view))) => view.latest(),
            Some((_, View::Cluster(view))) => view.latest,
            None => Hlc::ZERO,
        })
    }

    /// Adds changes to a record; false if they cannot be, and the record is as it was.
    fn extend(&mut self, key: RecordKey, changes: &[Vec<u8>]) -> Result<bool, ReadError> {
        let loaded = self.load(key)?;
        let Some((document, _)) = loaded.document.take() else {
            return Ok(false);
        };
        match document.apply(changes) {
            Ok(document) => {
                let (document, view) = group::with_view(document);
                loaded.quarantined |= view.unreadable() > 0;
                loaded.document = Some((document, view));
                loaded.changes.extend_from_slice(changes);
                loaded.dirty = true;
                Ok(true)
            }
            Err(_) => {
                self.rebuild(key)?;
                Ok(false)
            }
        }
    }

    /// Vault values that came with a state. The record is written down if one of them is not here.
    fn bring(&mut self, key: RecordKey, values: Vec<VaultValue>) -> Result<(), ReadError> {
        for value in &values {
            let here = match records::read_vault(self.disk, value.id()) {
                Ok(here) => here.is_some(),
                Err(ReadError::Disk(error)) if !error.is_local() => return Err(error.into()),
                Err(_) => false,
            };
            if !here {
                self.load(key)?.dirty = true;
            }
        }
        self.arrive(values);
        Ok(())
    }

    /// Sees that a record holds all that the vector covers. `vouched`: nothing that the cut covers is missing from the
    /// state.
    fn make_whole(
        &mut self,
        key: RecordKey,
        here: Here,
        vouched: bool,
        beyond: &mut Beyond,
    ) -> Result<(), ReadError> {
        let (places, reached) = beyond.places(self.disk, key)?;
        // What was never here has nothing beyond the cut. Outside a catch-up a record that others have at a cut that is
        // covered here is one that was lost, so there the log has to tell.
        let told = reached || (here == Here::Nothing && beyond.raises);
        if here != Here::Parts {
            let mut whole = vouched && told;
            for place in &places {
                whole &= match log::body_at(self.disk, *place)? {
                    Some(body) => self.take_part(key, body)?,
                    None => false,
                };
            }
            if !whole {
                self.doubt_anew(key)?;
            }
        }
        let covered = |place: &u64| {
            vouched
                && reached
                && match *place {
                    HIDDEN => places.is_empty(),
                    place => !places.contains(&place),
                }
        };
        self.retry_quarantine(key, covered)?;
        if vouched && !reached && self.load(key)?.quarantined {
            // Perhaps the state brought all of it. A later cut tells, if the log still reaches back to that.
            self.doubt(key)?;
        }
        Ok(())
    }

    /// Whether this group ends the wait for what nobody here can name, of some record.
    pub(super) fn frees_unnamed(&self) -> bool {
        self.freed.iter().any(|(_, place)| *place == NAMELESS)
    }

    /// Tries the quarantined parts of a record again. Those that are in, or that `settled` says are, leave it; when
    /// none is left the record is served, or served again.
    pub(super) fn retry_quarantine(
        &mut self,
        key: RecordKey,
        settled: impl Fn(&u64) -> bool,
    ) -> Result<(), ReadError> {
        let mut parts: BTreeMap<u64, (Vec<u8>, bool)> = BTreeMap::new();
        let gaps = damage::scan_around(
            self.disk,
            Family::Quarantine,
            key.as_bytes(),
            &mut |stored, bytes| {
                let place = stored.strip_prefix(key.as_bytes()).map(layout::number);
                let Some(Ok(place)) = place else {
                    return ControlFlow::Break(());
                };
                // A damaged one can only be settled.
                let part = layout::unseal(bytes).unwrap_or_default().to_vec();
                parts.insert(place, (part, true));
                ControlFlow::Continue(())
            },
        )?;
        if gaps > 0 && self.load(key)?.quarantined {
            parts.insert(HIDDEN, (Vec::new(), true));
        }
        let arrived = self.quarantine.range((key, 0)..=(key, u64::MAX));
        parts.extend(arrived.map(|((_, place), part)| (*place, (part.clone(), false))));
        let mut left = false;
        let mut freed = Vec::new();
        for (place, (part, stored)) in parts {
            let taken = match Transaction::decode(&part) {
                Ok(part) => self.take_part(key, part)?,
                Err(_) => false,
            };
            if taken || (stored && settled(&place)) {
                freed.push((key, place));
            } else {
                left = true;
            }
        }
        let loaded = self.load(key)?;
        let unreadable = loaded
            .document
            .as_ref()
            .is_none_or(|(_, view)| view.unreadable() > 0);
        let quarantined = left || unreadable;
        loaded.dirty |= loaded.quarantined != quarantined || !freed.is_empty();
        loaded.quarantined = quarantined;
        for part in freed {
            // What a later build may be able to read stays.
            if !unreadable || part.1 == NAMELESS {
                self.quarantine.remove(&part);
                self.freed.insert(part);
            }
        }
        Ok(())
    }

    /// Takes in what a transaction has of one record; false if it cannot be.
    fn take_part(&mut self, key: RecordKey, body: Transaction) -> Result<bool, ReadError> {
        let changes: Vec<Vec<u8>> = body
            .records
            .into_iter()
            .filter(|part| part.key == key)
            .flat_map(|RecordChange { changes, .. }| changes)
            .collect();
        let loaded = self.load(key)?;
        let holds = loaded
            .document
            .as_ref()
            .is_some_and(|(document, _)| document.holds(&changes));
        if !holds && !self.extend(key, &changes)? {
            return Ok(false);
        }
        self.bring(key, body.vault)?;
        Ok(true)
    }
}

/// What there was of a record before a state came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Here {
    /// Nothing at all.
    Nothing,
    /// A document that cannot be read: the state takes its place.
    Damaged,
    /// A document, and each part that it lacks in quarantine.
    Parts,
}

/// The place of no transaction. In quarantine it stands for parts that nobody here can name: a state of a later cut
/// brings them.
const NAMELESS: u64 = 0;

/// The place of no transaction: what a block of the quarantine that cannot be read may hide of a record that is in it.
const HIDDEN: u64 = u64::MAX;

/// Whether of a record only what nobody here can name is in quarantine.
pub(super) fn lacks_only_unnamed(disk: &dyn DiskRead, key: RecordKey) -> Result<bool, ReadError> {
    let mut unnamed = false;
    let mut others = false;
    let gaps = damage::scan_around(disk, Family::Quarantine, key.as_bytes(), &mut |stored, _| {
        let Some(place) = stored.strip_prefix(key.as_bytes()) else {
            return ControlFlow::Break(());
        };
        if layout::number(place) == Ok(NAMELESS) {
            unnamed = true;
        } else {
            others = true;
        }
        ControlFlow::Continue(())
    })?;
    Ok(unnamed && !others && gaps == 0)
}

/// Whether something that nobody here can name is missing from any record.
pub(super) fn some_lack_unnamed(disk: &dyn DiskRead) -> Result<bool, ReadError> {
    let mut some = false;
    let scanned = damage::scan_around(disk, Family::Quarantine, &[], &mut |key, _| {
        let place = key.get(16..).and_then(|place| layout::number(place).ok());
        some = place == Some(NAMELESS);
        if some {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    match scanned {
        Err(error) if !error.is_local() => Err(error.into()),
        _ => Ok(some),
    }
}

/// States whose cut the vector does not cover yet.
#[derive(Default)]
pub struct WaitingRepairs {
    waiting: VecDeque<(u64, Repair)>,
    bytes: usize,
}

impl WaitingRepairs {
    /// Keeps states until the vector covers their cut.
    pub fn keep(&mut self, now_ms: u64, repair: Repair) {
        self.bytes += bytes_of(&repair);
        self.waiting.push_back((now_ms, repair));
        while self.bytes > WAITING_BYTES_MAX {
            self.drop_first();
        }
    }

    /// Those that the vector covers now. What has waited for too long is dropped.
    pub fn covered(&mut self, now_ms: u64, vector: &Vector) -> Vec<Repair> {
        while self
            .waiting
            .front()
            .is_some_and(|(since_ms, _)| now_ms.saturating_sub(*since_ms) > WAITING_MAX_MS)
        {
            self.drop_first();
        }
        let (covered, waiting): (VecDeque<_>, _) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, repair)| vector.covers_vector(&repair.cut));
        self.waiting = waiting;
        let covered: Vec<Repair> = covered.into_iter().map(|(_, repair)| repair).collect();
        self.bytes -= covered.iter().map(bytes_of).sum::<usize>();
        covered
    }

    fn drop_first(&mut self) {
        if let Some((_, repair)) = self.waiting.pop_front() {
            self.bytes -= bytes_of(&repair);
        }
    }
}

fn bytes_of(repair: &Repair) -> usize {
    repair.states.iter().map(|(_, state)| state.len() + 16).sum()
}
