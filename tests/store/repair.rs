//! Records that went wrong behind the store's back, and are made whole by another replica's states.

use std::collections::BTreeMap;

use crdt::{RecordKey, Transaction};
use gossip::{
    MemberId, Vector,
    quic::LogChunk,
    reconcile::{Cut, Key, PARTITIONS, Part, Purpose, StateDigest},
};
use persona::identity::{Outcome, Word};
use persona::store::{
    KeepLog, ReadError, Records, RepairOutcome,
    disk::{Batch, Disk, Family},
};

use crate::replica::{Replica, Time, address, password, passwords, with_body};

pub(crate) const OWN: MemberId = MemberId([1; 8]);
pub(crate) const PEER: MemberId = MemberId([9; 8]);

/// What a cut says that there is, by record.
pub(crate) fn elements(cut: &dyn Cut) -> BTreeMap<Key, StateDigest> {
    let mut elements = BTreeMap::new();
    for partition in 0..PARTITIONS {
        cut.elements(partition, &mut |key, digest| {
            elements.insert(key, digest);
        })
        .expect("readable digests");
    }
    elements
}

impl Replica {
    pub(crate) fn elements(&self) -> BTreeMap<Key, StateDigest> {
        let mut found = BTreeMap::new();
        self.store
            .with_cut(Purpose::Look, &mut |cut| found = elements(cut))
            .expect("a cut");
        found
    }

    /// The records that two replicas do not hold the same of.
    pub(crate) fn differing(&self, other: &Replica) -> Vec<Key> {
        let (ours, theirs) = (self.elements(), other.elements());
        let keys = ours
            .keys()
            .chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
        keys.filter(|key| ours.get(*key) != theirs.get(*key))
            .copied()
            .collect()
    }

    /// The states of records, as a cut of this moment has them.
    pub(crate) fn states(&self, keys: &[Key]) -> Part {
        let mut part = None;
        self.store
            .with_cut(Purpose::Look, &mut |cut| {
                let state = |key: &Key| Some((*key, cut.state(key).expect("a readable cut")?));
                part = Some(Part::States {
                    cut: cut.vector().clone(),
                    states: keys.iter().filter_map(state).collect(),
                });
            })
            .expect("a cut");
        part.expect("talked")
    }

    /// Takes the other's states of these records.
    pub(crate) fn repair_from(&self, other: &Replica, keys: &[Key]) {
        self.store
            .take_part(OWN, PEER, Purpose::Repair, other.states(keys))
            .expect("states that are taken");
    }

    /// Removes a value behind the store's back.
    pub(crate) fn remove(&self, family: Family, key: &[u8]) {
        let mut batch = Batch::new();
        batch.delete(family, key);
        self.disk.write(&batch).expect("a model disk");
    }

    /// The keys of a family.
    pub(crate) fn keys_of(&self, family: Family) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        self.store
            .scan_everything(|found, key, _| {
                if found == family {
                    keys.push(key.to_vec());
                }
            })
            .expect("a scan");
        keys
    }
}

/// Two replicas that hold the same, a sign-up and a change each.
async fn pair(time: &Time) -> (Replica, Replica) {
    let passwords = passwords();
    let one = Replica::new(1, time, &passwords, KeepLog::Everything);
    let two = Replica::new(2, time, &passwords, KeepLog::Everything);
    let (ada, _) = one.sign_up("ada@example.org").await.expect("a sign-up");
    time.pass(10);
    two.sign_up("bob@example.org").await.expect("a sign-up");
    two.pull(&one).await;
    let _ = two.identity.sign_out_everywhere(ada).await.expect("written");
    one.pull(&two).await;
    one.assert_same(&two);
    assert_eq!(one.differing(&two), Vec::<Key>::new());
    (one, two)
}

#[tokio::test]
async fn a_directory_without_sums_gets_them() {
    let time = Time::new();
    let (mut one, two) = pair(&time).await;
    let sums = |replica: &Replica| {
        let mut sums = Vec::new();
        let read = replica
            .store
            .with_cut(Purpose::Look, &mut |cut| sums = cut.sums().expect("sums"));
        read.map(|()| sums).expect("a cut")
    };
    assert_eq!(sums(&one), sums(&two), "the same is summed up to the same");
    one.store.close();
    for key in one.keys_of(Family::Sums) {
        one.remove(Family::Sums, &key);
    }
    one.remove(Family::Meta, b"sums");
    one.restart(false);
    assert_eq!(sums(&one), sums(&two));
    one.assert_sound();
    one.sign_up("cy@example.org").await.expect("a sign-up");
    one.assert_sound();
    assert_ne!(sums(&one), sums(&two));
}

#[tokio::test]
async fn whatever_a_record_lost_a_state_brings_back() {
    let time = Time::new();
    let (one, two) = pair(&time).await;
    let all: Vec<Key> = two.elements().into_keys().collect();
    for family in [
        Family::Documents,
        Family::Views,
        Family::Digests,
        Family::Vault,
        Family::Index,
    ] {
        for key in one.keys_of(family) {
            one.remove(family, &key);
            one.repair_from(&two, &all);
            if let Family::Documents | Family::Vault | Family::Digests = family {
                one.assert_sound();
                one.assert_same(&two);
            }
        }
    }
    // Everything of a record at once.
    for key in &all {
        for family in [Family::Documents, Family::Views, Family::Digests] {
            one.remove(family, key);
        }
        assert_eq!(one.differing(&two), [*key]);
        one.repair_from(&two, &[*key]);
        one.assert_same(&two);
        one.assert_sound();
    }
    assert!(one.signs_in("ada@example.org").await && one.signs_in("bob@example.org").await);
    assert_eq!(one.store.counters().repairs_refused, 0);
    assert!(!one.store.repairs().is_empty());
}

#[tokio::test]
async fn a_record_added_behind_the_back_of_one_comes_to_the_other() {
    let time = Time::new();
    let (one, two) = pair(&time).await;
    let stranger = Replica::new(7, &time, &passwords(), KeepLog::Everything);
    let (id, _) = stranger.sign_up("eve@example.org").await.expect("a sign-up");
    let key = *RecordKey::from(id).as_bytes();
    let mut batch = Batch::new();
    stranger
        .store
        .scan_everything(|family, found, value| {
            let of_it = matches!(family, Family::Documents | Family::Views | Family::Digests) && found == key;
            if of_it || family == Family::Vault {
                batch.put(family, found, value.to_vec());
            }
        })
        .expect("a scan");
    one.disk.write(&batch).expect("a model disk");
    assert_eq!(two.differing(&one), [key]);
    two.repair_from(&one, &[key]);
    assert_eq!(
        two.store.repairs().last().map(|note| note.outcome),
        Some(RepairOutcome::Added)
    );
    assert_eq!(two.differing(&one), Vec::<Key>::new());
}

/// A claim that is older than what the document holds would take its place.
#[tokio::test]
async fn a_record_whose_view_is_gone_is_not_taken_for_a_new_one() {
    let time = Time::new();
    let (one, two) = pair(&time).await;
    let id = one.identity.email_id(&address("ada@example.org"));
    let key = *RecordKey::from(id).as_bytes();
    for family in [Family::Views, Family::Documents] {
        one.remove(family, &key);
        let anew = one
            .identity
            .create_account(
                address("ada@example.org"),
                password("correct horse"),
                Word::Operator,
            )
            .await;
        assert!(!matches!(anew, Ok(Outcome::Done { .. })), "{family:?}: {anew:?}");
        one.repair_from(&two, &[key]);
        assert!(one.store.scrub_now().await.is_some());
        one.assert_same(&two);
        one.assert_sound();
    }
}

#[tokio::test]
async fn a_state_of_a_cut_that_is_not_covered_waits_until_it_is() {
    let time = Time::new();
    let (one, two) = pair(&time).await;
    let ada = two.identity.email_id(&address("ada@example.org"));
    let key = *RecordKey::from(ada).as_bytes();
    for family in [Family::Documents, Family::Views, Family::Digests] {
        one.remove(family, &key);
    }
    two.sign_up("cy@example.org").await.expect("a sign-up");
    one.repair_from(&two, &[key]);
    assert_eq!(
        one.store.counters().repaired,
        0,
        "the vector does not cover the cut"
    );
    assert_eq!(
        one.store.read(|records| records.email(ada)).expect("a snapshot"),
        Ok(None)
    );
    one.pull(&two).await;
    one.settled().await;
    assert_eq!(one.store.counters().repaired, 1);
    one.assert_same(&two);
    one.assert_sound();
}

#[tokio::test]
async fn a_damaged_document_is_replaced_and_keeps_what_only_this_replica_has() {
    let time = Time::new();
    let (mut one, two) = pair(&time).await;
    let state = two.identity.email(&address("ada@example.org")).await;
    let ada = state.expect("readable").holder.expect("held").account;
    time.pass(10);
    let _ = one.identity.sign_out_everywhere(ada).await.expect("written");
    let before = one.store.digest().expect("a digest");
    let key = RecordKey::from(ada);
    assert!(one.disk.flip_bit(Family::Documents, key.as_bytes(), 77));
    one.restart(false);
    // Something comes for it, and goes to quarantine.
    let _ = two.identity.sign_out_everywhere(ada).await.expect("written");
    one.pull(&two).await;
    let read = one
        .store
        .read(|records| records.account(ada))
        .expect("a snapshot");
    assert_eq!(read, Err(ReadError::Quarantined { key }));
    assert!(
        one.differing(&two).contains(key.as_bytes()),
        "it is found to differ"
    );

    one.repair_from(&two, &[*key.as_bytes()]);
    one.assert_sound();
    assert_ne!(one.store.digest().expect("a digest"), before);
    two.pull(&one).await;
    one.assert_same(&two);
    two.assert_sound();
    let audit = one.store.audit().expect("an audit");
    assert_eq!(audit.quarantined, 0, "it is served again");
}

#[tokio::test]
async fn a_record_that_may_lack_something_differs_until_a_later_cut_vouches_for_it() {
    let (time, passwords) = (Time::new(), passwords());
    let one = Replica::new(1, &time, &passwords, KeepLog::Unstable);
    let two = Replica::new(2, &time, &passwords, KeepLog::Unstable);
    let (ada, _) = one.sign_up("ada@example.org").await.expect("a sign-up");
    two.pull(&one).await;
    let key = *RecordKey::from(ada).as_bytes();
    let early = two.states(&[key]);
    one.sign_up("bob@example.org").await.expect("a sign-up");
    two.pull(&one).await;
    one.store.trim(one.store.state().vector.clone());
    one.settled().await;

    // Whether the second transaction changed the record is not to be told any more.
    assert!(one.disk.flip_bit(Family::Documents, &key, 77));
    one.store
        .take_part(OWN, PEER, Purpose::Repair, early)
        .expect("states that are taken");
    one.assert_sound();
    assert_eq!(one.store.audit().expect("an audit").quarantined, 1);
    assert_eq!(one.differing(&two), [key], "though its heads are the same");
    let pass = one.store.scrub_now().await.expect("a pass");
    assert_eq!((pass.mended, pass.damaged), (0, 0), "{pass:?}");
    assert_eq!(one.differing(&two), [key]);

    // A state that is long on its way, while more is written and known to all: the log waits for it.
    let late = two.states(&[key]);
    let cut = two.store.state().vector.clone();
    one.sign_up("cy@example.org").await.expect("a sign-up");
    two.pull(&one).await;
    one.store.trim(one.store.state().vector.clone());
    one.settled().await;
    assert_eq!(one.log_beyond(&cut).len(), 1);
    one.store
        .take_part(OWN, PEER, Purpose::Repair, late)
        .expect("states that are taken");
    one.assert_sound();
    one.assert_same(&two);
    assert_eq!(one.store.audit().expect("an audit").quarantined, 0);
    one.settled().await;
    let read = one.store.read_log(&cut, None, usize::MAX);
    assert!(matches!(read, Ok(LogChunk::Trimmed)), "then it goes");
    assert!(one.signs_in("ada@example.org").await);
}

#[tokio::test]
async fn healing_erases_what_was_replaced_meanwhile() {
    let time = Time::new();
    let (one, two) = pair(&time).await;
    let state = two
        .identity
        .email(&address("ada@example.org"))
        .await
        .expect("readable");
    let ada = state.holder.expect("held").account;
    let key = RecordKey::from(ada);
    assert!(one.disk.flip_bit(Family::Documents, key.as_bytes(), 77));
    let changed = two
        .identity
        .reset_password(
            address("ada@example.org"),
            crate::replica::password("another horse"),
            persona::identity::Word::Operator,
        )
        .await
        .expect("written");
    assert!(matches!(changed, persona::identity::Outcome::Done { .. }));
    one.pull(&two).await;
    one.repair_from(&two, &[*key.as_bytes()]);
    one.assert_sound(); // Named and present are the same: the old hash is gone.
    one.assert_same(&two);
}

/// A writer, and a reader with a part of the writer's first transaction in quarantine: the dot is the same, as it is
/// where only the reading of it went wrong.
async fn with_a_part_in_quarantine(time: &Time) -> (Replica, Replica, Key) {
    let passwords = passwords();
    let writer = Replica::new(1, time, &passwords, KeepLog::Unstable);
    let reader = Replica::new(2, time, &passwords, KeepLog::Unstable);
    let (ada, _) = writer.sign_up("ada@example.org").await.expect("a sign-up");
    let sound = writer.log_beyond(&reader.store.state().vector);
    let mut transaction = Transaction::decode(&sound[0].envelope.body).expect("a transaction");
    let part = transaction.records.iter_mut().find(|part| part.key == ada.into());
    let change = &mut part.expect("the account's part").changes[0];
    let last = change.len() - 1;
    change[last] ^= 0xff;
    reader.store.apply([with_body(&sound[0], transaction.encode())]);
    reader.settled().await;
    let key = *RecordKey::from(ada).as_bytes();
    assert_eq!(reader.differing(&writer), [key]);
    (writer, reader, key)
}

impl Replica {
    /// Takes the other's state of a record as that of a cut.
    fn take_as_of(&self, cut: &Vector, other: &Replica, key: Key) {
        let Part::States { states, .. } = other.states(&[key]) else {
            panic!("states")
        };
        let cut = cut.clone();
        self.store
            .take_part(OWN, PEER, Purpose::Repair, Part::States { cut, states })
            .expect("taken");
    }
}

#[tokio::test]
async fn a_quarantined_part_goes_when_a_replica_that_has_it_sends_its_state() {
    let time = Time::new();
    let (writer, reader, key) = with_a_part_in_quarantine(&time).await;
    reader.take_as_of(&reader.store.state().vector, &writer, key);
    assert_eq!(
        reader.store.repairs().last().map(|note| note.outcome),
        Some(RepairOutcome::Healed)
    );
    assert!(reader.signs_in("ada@example.org").await, "it is served again");
    assert_eq!(reader.keys_of(Family::Quarantine), Vec::<Vec<u8>>::new());
    reader.assert_sound();
}

#[tokio::test]
async fn a_quarantined_part_that_the_log_cannot_place_is_asked_for_again() {
    let time = Time::new();
    let (writer, reader, key) = with_a_part_in_quarantine(&time).await;
    let early = reader.store.state().vector.clone();
    reader.sign_up("bob@example.org").await.expect("a sign-up");
    reader.store.trim(reader.store.state().vector.clone());
    reader.settled().await;
    reader.take_as_of(&early, &writer, key);
    assert_eq!(reader.store.audit().expect("an audit").quarantined, 1);
    assert!(
        reader.differing(&writer).contains(&key),
        "though its heads are the same"
    );
    reader.take_as_of(&reader.store.state().vector, &writer, key);
    assert!(reader.signs_in("ada@example.org").await, "it is served again");
    assert_eq!(reader.keys_of(Family::Quarantine), Vec::<Vec<u8>>::new());
    assert!(!reader.differing(&writer).contains(&key));
    reader.assert_sound();
}

#[tokio::test]
async fn junk_in_place_of_a_state_harms_nothing() {
    let time = Time::new();
    let (one, two) = pair(&time).await;
    let keys: Vec<Key> = two.elements().into_keys().collect();
    let Part::States { cut, states } = two.states(&keys) else {
        panic!("states")
    };
    for (key, state) in &states {
        for bit in (0..state.len() * 8).step_by(29) {
            let mut state = state.clone();
            state[bit / 8] ^= 1 << (bit % 8);
            let part = Part::States {
                cut: cut.clone(),
                states: vec![(*key, state)],
            };
            one.store
                .take_part(OWN, PEER, Purpose::Repair, part)
                .expect("taken");
        }
        // Another record's state under this key.
        for (_, state) in &states {
            let part = Part::States {
                cut: cut.clone(),
                states: vec![(*key, state.clone())],
            };
            one.store
                .take_part(OWN, PEER, Purpose::Repair, part)
                .expect("taken");
        }
    }
    assert!(one.store.counters().repairs_refused > 0);
    assert!(one.signs_in("ada@example.org").await);
}

#[tokio::test]
async fn reading_everything_again_mends_what_follows_and_marks_what_does_not() {
    let time = Time::new();
    let (one, two) = pair(&time).await;
    let clean = one.store.scrub_now().await.expect("a pass");
    assert!(clean.complete && clean.values > 20, "{clean:?}");
    assert_eq!((clean.mended, clean.damaged, clean.findings), (0, 0, Vec::new()));

    // What follows from documents is made again here, whatever was done to it.
    for family in [
        Family::Views,
        Family::Digests,
        Family::Index,
        Family::Sums,
        Family::Dots,
    ] {
        for key in one.keys_of(family) {
            assert!(one.disk.flip_bit(family, &key, 19));
            let report = one.store.scrub_now().await.expect("a pass");
            assert!(report.mended > 0 && report.damaged == 0, "{family:?}: {report:?}");
            one.assert_sound();
            if family != Family::Sums {
                one.remove(family, &key);
                let report = one.store.scrub_now().await.expect("a pass");
                let lost_view = family == Family::Views;
                assert!(report.mended > 0 || lost_view, "{family:?}: {report:?}");
                one.assert_sound();
            }
        }
    }
    one.assert_same(&two);

    // What does not comes from a peer.
    for family in [Family::Documents, Family::Vault] {
        for key in one.keys_of(family) {
            for removed in [false, true] {
                if removed {
                    one.remove(family, &key);
                } else {
                    assert!(one.disk.flip_bit(family, &key, 83));
                }
                let report = one.store.scrub_now().await.expect("a pass");
                assert!(report.mended + report.damaged > 0, "{family:?}: {report:?}");
                let differing = one.differing(&two);
                assert!(!differing.is_empty(), "{family:?}: a look finds it");
                one.repair_from(&two, &differing);
                one.assert_same(&two);
                one.assert_sound();
            }
        }
    }
    let clean = one.store.scrub_now().await.expect("a pass");
    assert_eq!((clean.mended, clean.damaged), (0, 0), "{clean:?}");
}

#[tokio::test]
async fn a_vault_value_that_nothing_names_is_erased() {
    let time = Time::new();
    let (one, _) = pair(&time).await;
    let stranger = Replica::new(7, &time, &passwords(), KeepLog::Everything);
    stranger.sign_up("eve@example.org").await.expect("a sign-up");
    let mut batch = Batch::new();
    stranger
        .store
        .scan_everything(|family, key, bytes| {
            if family == Family::Vault {
                batch.put(family, key, bytes.to_vec());
            }
        })
        .expect("a scan");
    one.disk.write(&batch).expect("a model disk");
    let report = one.store.scrub_now().await.expect("a pass");
    assert_eq!(report.mended, 2, "an address and a hash: {report:?}");
    one.assert_sound();
}
