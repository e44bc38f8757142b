//! Disks that fail, processes that die, backups that are put back.

use gossip::Dot;
use persona::store::{Beginning, KeepLog, TransactError, disk::memory::Fault};

use crate::replica::{Replica, Time, passwords};

#[tokio::test]
async fn a_failed_batch_ends_its_writer_and_loses_nothing_that_was_answered() {
    for fault in [Fault::Full, Fault::Lost, Fault::Landed, Fault::Unsynced] {
        let (time, passwords) = (Time::new(), passwords());
        let mut replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
        let (_, before) = replica.sign_up("ada@example.org").await.expect("a sign-up");
        let start = replica.store.state().start;

        replica.disk.plan(fault);
        assert_eq!(
            replica.sign_up("bob@example.org").await,
            None,
            "{fault:?}: nobody is told of success"
        );

        let (_, after) = replica
            .sign_up("cy@example.org")
            .await
            .expect("it goes on after reopening");
        assert_ne!(after.writer, start, "{fault:?}: the writer has ended");
        assert!(after.writer.epoch > start.epoch);
        replica.assert_sound();

        replica.restart(true);
        let vector = replica.store.state().vector.clone();
        assert!(vector.covers(&before) && vector.covers(&after), "{fault:?}");
        assert!(replica.signs_in("ada@example.org").await && replica.signs_in("cy@example.org").await);
        replica.assert_sound();
    }
}

#[tokio::test]
async fn what_a_failed_batch_has_left_is_known_once_the_disk_is_open_again() {
    // The batch, then what becomes of opening the disk again; how many of the two sign-ups are on it.
    let table: [(&[Fault], u64); 5] = [
        (&[], 2),
        (&[Fault::Lost], 1),
        (&[Fault::Landed], 2),
        (&[Fault::Landed, Fault::Lost], 2),
        (&[Fault::Lost, Fault::Lost, Fault::Landed], 1),
    ];
    for (faults, kept) in table {
        let (time, passwords) = (Time::new(), passwords());
        let mut replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
        let (_, first) = replica.sign_up("ada@example.org").await.expect("a sign-up");
        for fault in faults {
            replica.disk.plan(*fault);
        }
        let signed_up = replica.sign_up("bob@example.org").await.is_some();
        assert_eq!(signed_up, faults.is_empty(), "{faults:?}");

        let last = replica.store.outcome().await.vector.get(&first.writer);
        assert_eq!(last.map(|tip| tip.number), Some(kept), "{faults:?}");

        replica.restart(true);
        assert_eq!(
            replica.store.state().vector.get(&first.writer),
            last,
            "{faults:?}"
        );
        replica.assert_sound();
    }
}

#[tokio::test]
async fn a_closed_store_has_no_other_outcome() {
    let (time, passwords) = (Time::new(), passwords());
    let replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let (_, dot) = replica.sign_up("ada@example.org").await.expect("a sign-up");
    replica.store.close();
    assert!(replica.store.outcome().await.vector.covers(&dot));
}

#[tokio::test]
async fn a_refusal_leaves_no_trace() {
    let (time, passwords) = (Time::new(), passwords());
    let replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let batches = replica.disk.batches();
    let refused = replica
        .store
        .transact(|txn| -> Result<(), TransactError> {
            let vault = txn.put_vault(b"a secret".to_vec());
            let at = txn.stamp();
            txn.write_account(
                crdt::AccountId::from_bytes([1; 15]),
                crdt::AccountWrite::Password(crdt::Password {
                    resets: 0,
                    changed: at,
                    done: at,
                    rehashes: 0,
                    vault,
                }),
            );
            Err(TransactError::Busy)
        })
        .await;
    assert_eq!(refused.err(), Some(TransactError::Busy));
    assert_eq!(replica.disk.batches(), batches);
    assert_eq!(replica.store.digest().expect("a digest").0, 0);
}

#[tokio::test]
async fn a_panic_in_a_write_harms_only_that_write() {
    let (time, passwords) = (Time::new(), passwords());
    let replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = replica
        .store
        .transact(|_| -> Result<(), TransactError> { panic!("a bug") })
        .await;
    std::panic::set_hook(hook);
    assert!(matches!(panicked, Err(TransactError::NotWritable(_))));
    assert!(replica.sign_up("ada@example.org").await.is_some());
    replica.assert_sound();
}

#[tokio::test]
async fn a_restored_backup_never_gives_out_a_dot_again() {
    let (time, passwords) = (Time::new(), passwords());
    let mut replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let peer = Replica::new(2, &time, &passwords, KeepLog::Everything);
    replica.sign_up("ada@example.org").await.expect("a sign-up");
    let backup = replica.disk.copy();
    let (_, after_backup) = replica.sign_up("bob@example.org").await.expect("a sign-up");
    peer.pull(&replica).await;

    replica.store.close();
    replica.disk.restore(&backup);
    replica.restart(false);
    assert!(
        !replica.store.state().vector.covers(&after_backup),
        "the backup is older"
    );
    let (_, dot) = replica.sign_up("cy@example.org").await.expect("a sign-up");
    assert_ne!(dot.writer, after_backup.writer, "the old writer has ended");

    replica.pull(&peer).await;
    peer.pull(&replica).await;
    replica.assert_same(&peer);
    for name in ["ada@example.org", "bob@example.org", "cy@example.org"] {
        assert!(
            replica.signs_in(name).await && peer.signs_in(name).await,
            "{name}"
        );
    }
}

#[tokio::test]
async fn two_copies_of_one_disk_write_under_different_writers() {
    let (time, passwords) = (Time::new(), passwords());
    let mut original = Replica::new(1, &time, &passwords, KeepLog::Everything);
    original.sign_up("ada@example.org").await.expect("a sign-up");
    original.store.close();
    let copy = Replica::on(original.disk.copy(), 9, &time, &passwords, KeepLog::Everything);
    original.restart(false);
    let (ours, theirs) = (original.store.state().start, copy.store.state().start);
    assert_eq!(
        (ours.replica, ours.epoch),
        (theirs.replica, theirs.epoch),
        "copies know no better"
    );
    assert_ne!(
        ours.nonce, theirs.nonce,
        "yet no dot of the one is ever a dot of the other"
    );

    original.sign_up("bob@example.org").await.expect("a sign-up");
    copy.sign_up("cy@example.org").await.expect("a sign-up");
    original.pull(&copy).await;
    copy.pull(&original).await;
    original.assert_same(&copy);

    copy.store.begin_again(Beginning {
        past_epoch: ours.epoch,
        new_replica: true,
        unless_here: None,
    });
    let (_, dot) = copy.sign_up("di@example.org").await.expect("a sign-up");
    assert_ne!(
        dot.writer.replica, ours.replica,
        "told of the other, a copy takes a replica id of its own"
    );
    assert!(dot.writer.epoch > ours.epoch);
    // A peer that has not heard of that yet tells of the other once more.
    copy.store.begin_again(Beginning {
        past_epoch: ours.epoch,
        ..Beginning::default()
    });
    copy.settled().await;
    assert_eq!(copy.store.state().start, dot.writer, "it is past it already");
}

#[tokio::test]
async fn a_trimmed_log_says_so_and_old_writers_fold() {
    let (time, passwords) = (Time::new(), passwords());
    let mut replica = Replica::new(1, &time, &passwords, KeepLog::Unstable);
    let peer = Replica::new(2, &time, &passwords, KeepLog::Unstable);
    let (_, first) = replica.sign_up("ada@example.org").await.expect("a sign-up");
    replica.restart(false);
    let (_, second) = replica.sign_up("bob@example.org").await.expect("a sign-up");
    peer.pull(&replica).await;

    let mut stable = replica.store.state().vector.clone();
    stable.fold(first.writer.replica, first.writer.epoch);
    for replica in [&replica, &peer] {
        replica.store.trim(stable.clone());
        replica.settled().await;
        let state = replica.store.state();
        assert!(
            state.vector.folded(&first.writer),
            "one floor remains of the older writer"
        );
        assert!(state.vector.covers(&first) && state.vector.covers(&second));
        assert!(state.trimmed.covers(&Dot {
            writer: second.writer,
            number: second.number
        }));
        replica.assert_sound();
        assert_eq!(replica.store.audit().expect("an audit").log_entries, 0);
    }
    replica.assert_same(&peer);

    let newcomer = Replica::new(3, &time, &passwords, KeepLog::Unstable);
    let answer = peer
        .store
        .read_log(&newcomer.store.state().vector, None, usize::MAX)
        .expect("an answer");
    assert!(
        matches!(answer, gossip::quic::LogChunk::Trimmed),
        "a newcomer learns that the log does not reach back"
    );
    let (_, third) = replica.sign_up("cy@example.org").await.expect("a sign-up");
    peer.pull(&replica).await;
    assert!(
        peer.store.state().vector.covers(&third),
        "whoever has the rest still gets what is new"
    );

    replica.restart(true);
    assert!(
        replica.store.state().vector.folded(&first.writer),
        "floors survive a restart"
    );
    replica.assert_sound();
}

#[tokio::test]
async fn a_write_that_a_record_does_not_take_is_undone_whole() {
    use crdt::{AccountId, AccountWrite, CellKind, ClusterWrite, Epoch, MemberField, MemberId, MemberState};
    use persona::store::Records;
    let (time, passwords) = (Time::new(), passwords());
    let replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let account = AccountId::from_bytes([1; 15]);
    let member = |state| ClusterWrite::Member {
        id: MemberId::from_bytes([1; 8]),
        at: crdt::Hlc::new(1, 0),
        field: MemberField::State(state),
    };
    replica
        .store
        .transact(move |txn| {
            txn.write_cluster(member(MemberState::Left));
            Ok::<(), TransactError>(())
        })
        .await
        .expect("a member that left");
    let before = replica.store.digest().expect("a digest");
    let refused = replica
        .store
        .transact(move |txn| {
            let at = txn.stamp();
            txn.write_account(account, AccountWrite::SessionEpoch(Epoch { resets: 0, at }));
            txn.write_cluster(member(MemberState::Active));
            Ok::<(), TransactError>(())
        })
        .await;
    assert!(
        matches!(refused, Err(TransactError::Invalid { .. })),
        "{refused:?}"
    );
    assert_eq!(replica.store.digest().expect("a digest"), before);
    let read = replica
        .store
        .read(|records| (records.account(account), records.cells(CellKind::TRIES, b"x")));
    assert_eq!(read.expect("a snapshot").0, Ok(None));

    let repeated = replica
        .store
        .transact(move |txn| {
            txn.write_cluster(member(MemberState::Left));
            Ok::<(), TransactError>(())
        })
        .await;
    assert!(
        repeated.is_ok(),
        "what a record says already is no error: {repeated:?}"
    );
    replica.assert_sound();
    assert_eq!(replica.store.counters().failed_batches, 0);
}
