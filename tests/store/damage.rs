//! Bytes that are not what was written, and transactions that cannot be merged.

use crdt::Transaction;
use gossip::reconcile::{PARTITIONS, Purpose, partition};
use persona::store::{KeepLog, ReadError, disk::Family};

use crate::{
    repair::{OWN, PEER, elements},
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
            let _ = replica.identity.email(&address("ada@example.org")).await;
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
        .await
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
        .take_part(OWN, PEER, Purpose::Repair, peer.states(&differing))
        .expect("states that are taken");
    let healed = store.read(|records| records.account(ada)).expect("a snapshot");
    assert!(matches!(healed, Ok(Some(_))), "{healed:?}");
    assert_eq!(
        store.digest().expect("a digest"),
        peer.store.digest().expect("a digest")
    );
}

/// What befalls a stored value.
type Damage = fn(&Replica, Family, &[u8]);

/// Something stored is altered, or lies in a block that cannot be read, or is gone.
fn damages() -> [(&'static str, Damage); 3] {
    [
        ("altered", |replica, family, key| {
            assert!(replica.disk.flip_bit(family, key, 77));
        }),
        ("unreadable", |replica, family, key| {
            replica.disk.make_unreadable(family, [key.to_vec()]);
        }),
        ("gone", |replica, family, key| {
            replica.disk.tamper(family, key, None);
        }),
    ]
}

/// One that wrote five transactions, and one that has them in its log.
async fn five(time: &Time) -> (Replica, Replica) {
    let passwords = passwords();
    let writer = Replica::new(1, time, &passwords, KeepLog::Unstable);
    let reader = Replica::new(2, time, &passwords, KeepLog::Unstable);
    for name in ["ada", "bob", "cy", "dee", "eve"] {
        writer
            .sign_up(&format!("{name}@example.org"))
            .await
            .expect("a sign-up");
    }
    reader.pull(&writer).await;
    (writer, reader)
}

#[tokio::test]
async fn a_lost_digest_is_noticed_by_its_partitions_sum_until_it_is_made_again() {
    let time = Time::new();
    for (how, damage) in damages() {
        let (_, reader) = five(&time).await;
        let key = reader.disk.keys(Family::Digests)[3].clone();
        let hit = partition(&key[..].try_into().expect("a record's key"));
        let lost = || {
            let mut lost: Vec<usize> = Vec::new();
            reader
                .store
                .with_cut(Purpose::CatchUp, &mut |cut| {
                    lost = (0..PARTITIONS)
                        .filter(|partition| !cut.is_whole(*partition).expect("an answer"))
                        .collect();
                })
                .expect("a cut");
            lost
        };
        assert!(lost().is_empty(), "{how}");
        damage(&reader, Family::Digests, &key);
        // What a block hides may be of any partition on the way to it.
        assert!(lost().contains(&hit), "{how}");
        let _ = reader.store.scrub_now().await.expect("a pass over everything");
        assert!(lost().is_empty(), "{how}");
    }
}

#[tokio::test]
async fn what_a_record_named_while_nobody_could_read_it_does_not_stay_behind() {
    let time = Time::new();
    let (writer, reader) = five(&time).await;
    for family in [Family::Documents, Family::Views] {
        reader.disk.make_unreadable(family, reader.disk.keys(family));
    }
    let ada = writer
        .identity
        .email(&address("ada@example.org"))
        .await
        .expect("readable")
        .holder
        .expect("held")
        .account;
    let _ = writer.identity.cancel_account(ada).await.expect("written");
    reader.pull(&writer).await;
    reader.settled().await;
    assert!(reader.disk.keys(Family::Vault).len() > writer.disk.keys(Family::Vault).len());
    let all: Vec<_> = writer.elements().into_keys().collect();
    reader.repair_from(&writer, &all);
    assert_eq!(reader.disk.keys(Family::Vault), writer.disk.keys(Family::Vault));
    reader.assert_same(&writer);
}

#[tokio::test]
async fn a_cancelled_account_keeps_no_address_alive_where_its_view_or_its_index_cannot_be_read() {
    use persona::identity::Word;
    let time = Time::new();
    for family in [Family::Views, Family::Index] {
        let (writer, reader) = five(&time).await;
        let late = Replica::new(3, &time, &passwords(), KeepLog::Unstable);
        late.pull(&writer).await;
        let ada = writer.identity.email(&address("ada@example.org")).await;
        let ada = ada.expect("readable").holder.expect("held").account;
        // Who adds an address has not heard of the cancellation.
        let zoe = late
            .identity
            .add_email(ada, address("zoe@example.org"), Word::Operator);
        let _ = zoe.await.expect("written");
        let _ = writer.identity.cancel_account(ada).await.expect("written");
        let from = if family == Family::Views {
            reader.pull(&writer).await;
            [&late, &late]
        } else {
            [&late, &writer]
        };
        let mut damaged = reader.disk.keys(family);
        damaged.retain(|key| key.starts_with(ada.as_bytes()) || key.ends_with(ada.as_bytes()));
        assert_eq!(damaged.len(), 1);
        for other in from {
            reader.disk.make_unreadable(family, damaged.clone());
            reader.pull(other).await;
        }
        writer.pull(&late).await;
        assert_eq!(
            reader.differing(&writer),
            Vec::<[u8; 16]>::new(),
            "{}",
            family.name()
        );
        assert_eq!(reader.disk.keys(Family::Vault), writer.disk.keys(Family::Vault));
    }
}

#[tokio::test]
async fn a_log_is_trimmed_around_what_cannot_be_read_and_lets_that_go() {
    let time = Time::new();
    for (how, damage) in damages() {
        for hit in [0, 2, 4] {
            let (_, reader) = five(&time).await;
            let keys = reader.disk.keys(Family::Log);
            damage(&reader, Family::Log, &keys[hit]);
            reader.store.trim(reader.store.state().vector.clone());
            for _ in 0..4 {
                reader.settled().await;
            }
            let context = format!("entry {hit} is {how}");
            let _ = reader.store.scrub_now().await.expect("a pass over everything");
            reader.assert_sound();
            let state = reader.store.state();
            assert_eq!(state.trimmed.total(), 5, "{context}");
            assert!(reader.disk.keys(Family::Log).is_empty(), "{context}");
            assert!(reader.disk.keys(Family::Dots).is_empty(), "{context}");
        }
    }
}

#[tokio::test]
async fn trimming_alone_lets_go_what_cannot_be_read() {
    let time = Time::new();
    for (how, damage) in damages() {
        let (_, reader) = five(&time).await;
        let keys = reader.disk.keys(Family::Log);
        damage(&reader, Family::Log, &keys[1]);
        reader.store.trim(reader.store.state().vector.clone());
        // It finds it, reads the log, and lets all of it go: a batch each.
        for _ in 0..4 {
            reader.settled().await;
        }
        assert!(reader.disk.keys(Family::Log).is_empty(), "{how}");
        assert_eq!(reader.store.counters().failed_batches, 0, "{how}");
    }
}

#[tokio::test]
async fn a_log_entry_that_cannot_be_read_is_let_go_before_it_is_stable() {
    use gossip::quic::LogChunk;
    let time = Time::new();
    for (how, damage) in damages() {
        let (writer, reader) = five(&time).await;
        let behind = Replica::new(3, &time, &passwords(), KeepLog::Unstable);
        behind.store.apply(
            writer
                .log_beyond(&behind.store.state().vector)
                .into_iter()
                .take(3),
        );
        behind.settled().await;
        let keys = reader.disk.keys(Family::Log);
        damage(&reader, Family::Log, &keys[1]);
        let report = reader.store.scrub_now().await.expect("a pass over everything");
        assert!(report.damaged > 0, "{how}: {report:?}");
        reader.assert_sound();
        assert_eq!(reader.store.state().trimmed.total(), 2, "{how}");

        assert_eq!(
            behind.pull(&reader).await,
            2,
            "{how}: whoever has it gets the rest"
        );
        behind.assert_same(&writer);
        let newcomer = Replica::new(4, &time, &passwords(), KeepLog::Unstable);
        let answer = reader
            .store
            .read_log(&newcomer.store.state().vector, None, usize::MAX)
            .expect("an answer");
        assert!(matches!(answer, LogChunk::Trimmed), "{how}");
        newcomer.pull(&writer).await;
        newcomer.assert_same(&reader);
        let again = reader.store.scrub_now().await.expect("a pass over everything");
        assert_eq!(again.damaged, 0, "{how}: {again:?}");
    }
}

#[tokio::test]
async fn a_look_tells_once_a_damaged_log_is_let_go() {
    let time = Time::new();
    for (how, damage) in damages() {
        let (writer, reader) = five(&time).await;
        let before = writer.store.state().vector.clone();
        writer.sign_up("flo@example.org").await.expect("a sign-up");
        writer.sign_up("gus@example.org").await.expect("a sign-up");
        reader.pull(&writer).await;
        let touched = || {
            let mut touched = None;
            reader
                .store
                .with_cut(Purpose::Look, &mut |cut| {
                    touched = cut.touched_beyond(&before).expect("an answer");
                })
                .expect("a cut");
            touched.map(|touched| touched.len())
        };
        assert_eq!(touched(), Some(4), "two accounts with an address each");
        let keys = reader.disk.keys(Family::Log);
        damage(&reader, Family::Log, &keys[2]);
        assert_eq!(touched(), Some(4), "{how}: it is before that");
        damage(&reader, Family::Log, &keys[5]);
        assert_eq!(touched(), None, "{how}: what it touched cannot be told");
        let _ = reader.store.scrub_now().await.expect("a pass over everything");
        assert_eq!(touched(), None, "{how}: nor ever will be");
        let stable = reader.store.state().vector.clone();
        for replica in [&reader, &writer] {
            replica.store.trim(stable.clone());
            replica.settled().await;
        }
        assert!(reader.disk.keys(Family::Log).is_empty(), "{how}");
        let last = writer.sign_up("hal@example.org").await.expect("a sign-up").1;
        reader.pull(&writer).await;
        assert!(reader.store.state().vector.covers(&last), "{how}");
    }
}

#[tokio::test]
async fn an_unreadable_block_of_views_hides_what_is_in_it_from_the_settler_and_nothing_else() {
    let (time, passwords) = (Time::new(), passwords());
    let one = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let two = Replica::new(2, &time, &passwords, KeepLog::Everything);
    one.sign_up("ada@example.org").await.expect("a sign-up");
    time.pass(10);
    two.sign_up("ada@example.org").await.expect("a sign-up");
    let (gone, _) = two.sign_up("gone@example.org").await.expect("a sign-up");
    let _ = two.identity.cancel_account(gone).await.expect("written");
    two.sign_up("eve@example.org").await.expect("a sign-up");
    one.pull(&two).await;
    let whole = one.store.unsettled(&[], 100).expect("a scan").unsettled;
    assert_eq!(
        (whole.contested.len(), whole.cancelled.as_slice()),
        (1, &[gone][..])
    );
    for key in one.disk.keys(Family::Views) {
        let damaged = one.disk.copy();
        damaged.make_unreadable(Family::Views, [key.clone()]);
        let replica = Replica::on(damaged, 3, &time, &passwords, KeepLog::Everything);
        let found = replica.store.unsettled(&[], 100).expect("a scan").unsettled;
        let contested = whole
            .contested
            .iter()
            .filter(|found| found.key.as_bytes()[..] != key[..]);
        let cancelled = whole
            .cancelled
            .iter()
            .filter(|id| crdt::RecordKey::from(**id).as_bytes()[..] != key[..]);
        assert!(
            contested.eq(&found.contested) || found.contested.is_empty(),
            "{found:?}"
        );
        assert!(cancelled.eq(&found.cancelled), "{found:?}");
        let _ = replica.store.scrub_now().await.expect("a pass over everything");
        let found = replica.store.unsettled(&[], 100).expect("a scan").unsettled;
        assert_eq!(found, whole, "healed, it is found");
    }
}

#[tokio::test]
async fn what_a_damaged_block_hides_is_an_obstacle_and_not_an_error() {
    use persona::store::Obstacle;
    let time = Time::new();
    let (_, reader) = five(&time).await;
    reader.store.trim(reader.store.state().vector.clone());
    reader.settled().await;
    let account = crdt::AccountId::from_bytes([5; 15]);
    let obstacle = || {
        let remains = reader.store.remains().expect("readable");
        remains.obstacle(account, remains.next_place, time.now())
    };
    assert_eq!(obstacle(), None);
    let number = 7_u64.to_be_bytes();
    for (family, key, expected) in [
        (Family::Log, number.to_vec(), Obstacle::Log),
        (
            Family::Quarantine,
            [&b"a"[..], &[1; 15], &number].concat(),
            Obstacle::Quarantine,
        ),
        (
            Family::Cells,
            [&[3, 1, 1][..], &number].concat(),
            Obstacle::Staging,
        ),
        (Family::Side, number.to_vec(), Obstacle::CatchUp),
    ] {
        reader.disk.tamper(family, &key, Some(vec![0; 9]));
        reader.disk.make_unreadable(family, [key.clone()]);
        assert_eq!(obstacle(), Some(expected), "{}", family.name());
        reader.disk.tamper(family, &key, None);
    }
    assert_eq!(obstacle(), None);
}

#[tokio::test]
async fn a_cell_that_cannot_be_read_is_worth_no_more_than_none() {
    let (time, passwords) = (Time::new(), passwords());
    for (how, damage) in damages() {
        let replica = Replica::new(1, &time, &passwords, KeepLog::Everything);
        replica.sign_up("ada@example.org").await.expect("a sign-up");
        let failed = replica
            .identity
            .sign_in(
                &address("ada@example.org"),
                crate::replica::password("wrong horse"),
                None,
            )
            .await;
        assert!(!matches!(failed, Ok(persona::identity::Outcome::Done { .. })));
        let cells = replica.disk.keys(Family::Cells);
        assert!(!cells.is_empty(), "the try was counted");
        cells.iter().for_each(|key| damage(&replica, Family::Cells, key));
        assert!(replica.signs_in("ada@example.org").await, "{how}");
        assert_eq!(replica.store.counters().failed_batches, 0, "{how}");
    }
}

/// What a member hands over late takes the receipts of a cancelled account back: also where they cannot be read.
#[tokio::test]
async fn a_receipt_that_cannot_be_read_fails_no_batch() {
    use crdt::{Cell, CellKind, ERASED_SCOPE, Erased, MemberId};
    use persona::store::{TransactError, Txn};
    let (time, passwords) = (Time::new(), passwords());
    for (how, damage) in damages() {
        let one = Replica::new(1, &time, &passwords, KeepLog::Everything);
        let two = Replica::new(2, &time, &passwords, KeepLog::Everything);
        let (ada, _) = one.sign_up("ada@example.org").await.expect("a sign-up");
        two.pull(&one).await;
        let _ = one.identity.cancel_account(ada).await.expect("written");
        let _ = two.identity.sign_out_everywhere(ada).await.expect("written");
        let receipt = move |txn: &mut Txn<'_>| -> Result<(), TransactError> {
            let erased = Erased {
                member: MemberId::from_bytes([1; 8]),
                at_ms: txn.now_ms(),
                scope: ERASED_SCOPE,
            };
            txn.put_cell(Cell {
                kind: CellKind::ERASED,
                key: ada.as_bytes().to_vec(),
                slot: txn.slot(),
                stamp: txn.stamp(),
                value: erased.encode(),
                expires_ms: u64::MAX,
            });
            Ok(())
        };
        let _ = one.store.transact(receipt).await.expect("written");
        let receipt = one.disk.keys(Family::Cells);
        let receipt = receipt
            .iter()
            .find(|key| key[0] == CellKind::ERASED.0)
            .expect("a receipt");
        damage(&one, Family::Cells, receipt);
        assert_eq!(one.pull(&two).await, 1, "{how}");
        assert_eq!(one.store.counters().failed_batches, 0, "{how}");
        assert!(
            one.store.state().vector.covers_vector(&two.store.state().vector),
            "{how}"
        );
    }
}

#[tokio::test]
async fn a_quarantine_that_cannot_be_read_fails_no_batch_and_a_state_ends_it() {
    let (time, passwords) = (Time::new(), passwords());
    let writer = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let (ada, _) = writer.sign_up("ada@example.org").await.expect("a sign-up");
    for (how, damage) in damages() {
        let reader = Replica::new(2, &time, &passwords, KeepLog::Everything);
        let sound = writer.log_beyond(&reader.store.state().vector);
        let mut body = Transaction::decode(&sound[0].envelope.body).expect("a transaction");
        let part = body.records.iter_mut().find(|part| part.key == ada.into());
        let change = &mut part.expect("the account's part").changes[0];
        *change.last_mut().expect("bytes") ^= 0xff;
        reader.store.apply([with_body(&sound[0], body.encode())]);
        reader.settled().await;
        assert_eq!(reader.store.counters().quarantined, 1, "{how}");
        let parts = reader.disk.keys(Family::Quarantine);
        damage(&reader, Family::Quarantine, &parts[0]);
        let report = reader.store.scrub_now().await.expect("a pass over everything");
        assert_eq!(reader.store.counters().failed_batches, 0, "{how}");
        // What hides there holds back erasures for good: nobody takes that for whole.
        let told = "1 blocks of quarantine cannot be read".to_owned();
        let torn = how == "unreadable";
        assert_eq!(report.findings.contains(&told), torn, "{how}: {report:?}");
        assert_eq!(reader.store.audit().is_err(), torn, "{how}");
    }
}
