//! Bytes that are not what was written, and transactions that cannot be merged.

use crdt::Transaction;
use gossip::reconcile::Purpose;
use persona::store::{KeepLog, ReadError, disk::Family};

use crate::{
    repair::{PEER, elements},
    replica::{Replica, Time, address, passwords, with_body},
};

#[tokio::test]
async fn a_part_that_cannot_be_merged_goes_to_quarantine_and_the_rest_applies() {
    let (time, passwords) = (Time::new(), passwords());
    let writer = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let reader = Replica::new(2, &time, &passwords, KeepLog::Everything);
    let (ada, dot) = writer.sign_up("ada@example.org").await.expect("a sign-up");
    let sound = writer.log_beyond(&reader.store.state().vector);
    let [sign_up] = &sound[..] else {
        panic!("one transaction")
    };

    let mut transaction = Transaction::decode(&sign_up.envelope.body).expect("a transaction");
    let spoiled = transaction
        .records
        .iter_mut()
        .find(|part| part.key == ada.into())
        .expect("the account's part");
    let change = &mut spoiled.changes[0];
    let last = change.len() - 1;
    change[last] ^= 0xff;
    reader.store.apply([with_body(sign_up, transaction.encode())]);
    reader.settled().await;

    assert!(
        reader.store.state().vector.covers(&dot),
        "the vector moves on: the bytes are durable"
    );
    assert_eq!(reader.store.counters().quarantined, 1);
    let email = reader.identity.email_id(&address("ada@example.org"));
    use persona::store::Records;
    let (account, email) = reader
        .store
        .read(|records| (records.account(ada), records.email(email)))
        .expect("a snapshot");
    assert_eq!(
        account,
        Err(ReadError::Quarantined { key: ada.into() }),
        "the record is not served"
    );
    assert!(matches!(email, Ok(Some(_))), "the rest of the transaction is");
    assert!(
        reader.sign_up("bob@example.org").await.is_some(),
        "and nothing else is blocked"
    );
    let audit = reader.store.audit().expect("an audit");
    assert_eq!((audit.quarantined, audit.findings), (1, Vec::new()));
}

#[tokio::test]
async fn a_body_that_is_no_transaction_is_kept_and_blocks_nothing() {
    let (time, passwords) = (Time::new(), passwords());
    let writer = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let mut reader = Replica::new(2, &time, &passwords, KeepLog::Everything);
    let (_, dot) = writer.sign_up("ada@example.org").await.expect("a sign-up");
    let sound = writer.log_beyond(&reader.store.state().vector);
    for (length, junk) in [(0, Vec::new()), (3, vec![0xff; 3]), (500, vec![0xa5; 500])] {
        let reader = Replica::new(2, &time, &passwords, KeepLog::Everything);
        reader.store.apply([with_body(&sound[0], junk)]);
        reader.settled().await;
        assert!(reader.store.state().vector.covers(&dot), "{length} bytes");
        assert!(
            reader.sign_up("bob@example.org").await.is_some(),
            "{length} bytes"
        );
        reader.assert_sound();
    }
    reader.pull(&writer).await;
    reader.restart(true);
    assert!(reader.signs_in("ada@example.org").await);
}

#[tokio::test]
async fn transactions_out_of_order_are_not_applied() {
    let (time, passwords) = (Time::new(), passwords());
    let writer = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let reader = Replica::new(2, &time, &passwords, KeepLog::Everything);
    for name in ["ada", "bob", "cy"] {
        writer
            .sign_up(&format!("{name}@example.org"))
            .await
            .expect("a sign-up");
    }
    let all = writer.log_beyond(&reader.store.state().vector);
    reader.store.apply([
        all[2].clone(),
        all[1].clone(),
        all[0].clone(),
        all[0].clone(),
        all[2].clone(),
    ]);
    reader.settled().await;
    assert_eq!(reader.store.state().vector.total(), 1, "only the first was next");
    assert_eq!(reader.store.counters().transactions_rejected, 3);
    reader.pull(&writer).await;
    reader.assert_same(&writer);
    reader.assert_sound();
}

/// Every bit of every stored value, one replica each: an error or a quarantined record, never a panic, and never
/// another's data in place of one's own.
#[tokio::test]
async fn a_flipped_bit_is_noticed_wherever_it_is() {
    let (time, passwords) = (Time::new(), passwords());
    let origin = Replica::new(1, &time, &passwords, KeepLog::Everything);
    origin.sign_up("ada@example.org").await.expect("a sign-up");
    let mut stored = Vec::new();
    origin
        .store
        .scan_everything(|family, key, value| stored.push((family, key.to_vec(), value.len())))
        .expect("a scan");
    assert!(stored.len() > 10, "there is something to damage");
    for (family, key, length) in stored {
        if family == Family::Meta {
            continue; // Damaged, the replica does not open: see below.
        }
        if family == Family::Sums {
            // Made again from the digests when the replica opens.
            let disk = origin.disk.copy();
            assert!(disk.flip_bit(family, &key, 9));
            Replica::on(disk, 3, &time, &passwords, KeepLog::Everything).assert_sound();
            continue;
        }
        for bit in (0..length * 8).step_by(13) {
            let disk = origin.disk.copy();
            assert!(disk.flip_bit(family, &key, bit));
            let replica = Replica::on(disk, 3, &time, &passwords, KeepLog::Everything);
            let audit = replica.store.audit().expect("an audit that ends");
            assert!(
                !audit.findings.is_empty(),
                "{} bit {bit} went unnoticed",
                family.name()
            );
            let _ = replica.signs_in("ada@example.org").await;
            let _ = replica.identity.email(&address("ada@example.org"));
            assert!(
                replica.sign_up("bob@example.org").await.is_some(),
                "{}: blocks nothing else",
                family.name()
            );
        }
    }
}

#[tokio::test]
async fn a_replica_whose_own_notes_are_damaged_does_not_open() {
    use persona::store::{LedgerError, OpenError, Store};
    let (time, passwords) = (Time::new(), passwords());
    let origin = Replica::new(1, &time, &passwords, KeepLog::Everything);
    origin.sign_up("ada@example.org").await.expect("a sign-up");
    let mut notes = Vec::new();
    origin
        .store
        .scan_everything(|family, key, _| {
            if family == Family::Meta {
                notes.push(key.to_vec());
            }
        })
        .expect("a scan");
    assert!(notes.len() >= 5, "{notes:?}");
    for key in notes {
        let disk = origin.disk.copy();
        assert!(disk.flip_bit(Family::Meta, &key, 9));
        let opened = Store::open_memory(disk, || 0, [0; 32]);
        assert!(
            matches!(
                opened.as_ref().err(),
                Some(OpenError::Ledger(LedgerError::Damaged(_)))
            ),
            "{}",
            String::from_utf8_lossy(&key)
        );
    }
}

/// First bytes of an Automerge document chunk, and where its kind stands.
const DOCUMENT_MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// A bit flipped in RocksDB's own file never reaches our checksum: the block is refused. Only its records suffer.
#[tokio::test]
async fn a_damaged_block_of_rocksdb_harms_its_own_records_only() {
    use persona::store::{
        Store, TransactError,
        disk::{Disk, rocks::RocksDisk},
    };
    use std::sync::Arc;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store");
    let (time, passwords) = (Time::new(), passwords());
    let peer = Replica::new(2, &time, &passwords, KeepLog::Everything);
    let (ada, _) = peer.sign_up("ada@example.org").await.expect("a sign-up");
    let open = |seed| {
        let disk = Arc::new(RocksDisk::open(&path).expect("a RocksDB"));
        let time = time.clone();
        Store::open_on(disk, KeepLog::Everything, move || time.now(), [seed; 32]).expect("a store")
    };
    let catch_up = async |store: &Store| {
        store.apply(peer.log_beyond(&store.state().vector));
        let _ = store.transact(|_| Ok::<(), TransactError>(())).await;
    };
    let store = open(3);
    catch_up(&store).await;
    store.close();
    drop(store);
    RocksDisk::open(&path)
        .expect("a RocksDB")
        .compact()
        .expect("everything in tables");
    let mut damaged = 0;
    for table in std::fs::read_dir(&path).expect("a directory").flatten() {
        if table
            .path()
            .extension()
            .is_some_and(|extension| extension == "sst")
        {
            let mut bytes = std::fs::read(table.path()).expect("a table");
            let document = bytes
                .windows(9)
                .position(|window| window[..4] == DOCUMENT_MAGIC && window[8] == 0);
            if let Some(at) = document {
                bytes[at + 9] ^= 1;
                std::fs::write(table.path(), bytes).expect("damaged");
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1, "the documents lie in one table");

    let store = open(4);
    let _ = peer.identity.sign_out_everywhere(ada).await;
    peer.sign_up("bob@example.org").await.expect("a sign-up");
    for _ in 0..4 {
        catch_up(&store).await;
    }
    assert!(
        peer.log_beyond(&store.state().vector).is_empty(),
        "it has everything: {:?} {:?}",
        store.counters(),
        store.refuses()
    );
    assert_eq!(store.counters().failed_batches, 0);
    assert!(
        store.counters().quarantined > 0,
        "what came for the damaged record lies in quarantine"
    );
    use persona::store::Records;
    let bob = peer
        .identity
        .email(&address("bob@example.org"))
        .expect("readable")
        .holder
        .expect("held")
        .account;
    let read = store
        .read(|records| (records.account(ada), records.account(bob)))
        .expect("a snapshot");
    assert!(
        matches!(read, (Err(ReadError::Quarantined { .. }), Ok(Some(_)))),
        "{read:?}"
    );

    // The records behind the block are read around it, and what is in it comes from the peer.
    let report = store.scrub_now().await.expect("a pass over everything");
    assert!(report.complete && report.damaged > 0, "{report:?}");
    let mut here = std::collections::BTreeMap::new();
    store
        .with_cut(Purpose::Look, &mut |cut| here = elements(cut))
        .expect("a cut of a damaged disk");
    let there = peer.elements();
    assert_eq!(
        here.keys().collect::<Vec<_>>(),
        there.keys().collect::<Vec<_>>(),
        "every record is known of"
    );
    let differing: Vec<_> = there
        .into_iter()
        .filter(|(key, digest)| here.get(key) != Some(digest))
        .map(|(key, _)| key)
        .collect();
    assert!(!differing.is_empty());
    store
        .take_part(PEER, Purpose::Repair, peer.states(&differing))
        .expect("states that are taken");
    let healed = store.read(|records| records.account(ada)).expect("a snapshot");
    assert!(matches!(healed, Ok(Some(_))), "{healed:?}");
    assert_eq!(
        store.digest().expect("a digest"),
        peer.store.digest().expect("a digest")
    );
}
