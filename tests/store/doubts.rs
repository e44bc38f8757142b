//! A record that every replica doubts: nobody can vouch for it, and still somebody has to be able to end that.

use crdt::{ClusterWrite, MemberField, MemberState, RecordKey};
use gossip::{
    MemberId,
    reconcile::{Key, Part, Purpose},
};
use persona::store::{KeepLog, RepairOutcome, TransactError, disk::Family};

use crate::replica::{Replica, Time, passwords};

const ONE: MemberId = MemberId([1; 8]);
const TWO: MemberId = MemberId([2; 8]);
const THREE: MemberId = MemberId([3; 8]);

/// What the first replica makes of a state of another one's.
fn hears(one: &Replica, from: MemberId, state: Part, key: Key) -> RepairOutcome {
    one.store
        .take_part(ONE, from, Purpose::Repair, state)
        .expect("states that are taken");
    let repairs = one.store.repairs();
    let note = repairs
        .iter()
        .rev()
        .find(|note| note.record == RecordKey::from_bytes(key).to_string());
    note.expect("a note of it").outcome
}

#[tokio::test]
async fn a_record_that_all_doubt_is_served_once_each_has_said_what_it_has() {
    let (time, passwords) = (Time::new(), passwords());
    let new = |name| Replica::new(name, &time, &passwords, KeepLog::Unstable);
    let (one, two, three) = (new(1), new(2), new(3));
    one.store
        .transact(|txn| {
            for member in [ONE, TWO, THREE] {
                txn.write_cluster(ClusterWrite::Member {
                    id: crdt::MemberId::from_bytes(member.0),
                    at: txn.stamp(),
                    field: MemberField::State(MemberState::Active),
                });
            }
            Ok::<(), TransactError>(())
        })
        .await
        .expect("members");
    let (ada, _) = one.sign_up("ada@example.org").await.expect("a sign-up");
    let key = *RecordKey::from(ada).as_bytes();
    three.pull(&one).await;
    time.pass(1000);
    let _ = one.identity.sign_out_everywhere(ada).await.expect("written");
    two.pull(&one).await;
    time.pass(1000);
    let _ = one.identity.sign_out_everywhere(ada).await.expect("written");

    // The second one's document is lost, and both others catch up from that one: the first has all there is, and doubts it.
    assert!(two.disk.flip_bit(Family::Documents, &key, 77));
    two.store.trim(two.store.state().vector.clone());
    two.settled().await;
    for away in [&one, &three] {
        away.catch_up_from(&two).await;
        assert_eq!(away.store.audit().expect("an audit").quarantined, 1);
    }
    let early = three.states(&[key]);
    for other in [&two, &three] {
        other.pull(&one).await;
        other.repair_from(&one, &[key]);
        assert_eq!(
            other.store.audit().expect("an audit").quarantined,
            1,
            "nobody vouches"
        );
    }

    // What the third one said as of a time before the last change was known there is not all.
    for (from, state) in [(TWO, two.states(&[key])), (THREE, early)] {
        assert_eq!(hears(&one, from, state, key), RepairOutcome::Quarantined);
    }
    assert!(!one.signs_in("ada@example.org").await);
    let late = three.states(&[key]);
    assert_eq!(hears(&one, THREE, late, key), RepairOutcome::Concluded);
    assert!(one.signs_in("ada@example.org").await);
    one.assert_sound();

    // Now there is one that vouches for it.
    for other in [&two, &three] {
        other.repair_from(&one, &[key]);
        other.assert_sound();
        other.assert_same(&one);
        assert_eq!(other.store.audit().expect("an audit").quarantined, 0);
    }
}
