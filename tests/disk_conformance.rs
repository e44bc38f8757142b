//! One suite for both disks: what commit logic may rely on holds for RocksDB and for the model alike.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

use std::{ops::ControlFlow, sync::Arc};

use persona::store::disk::{Batch, Disk, DiskError, Family, memory::MemoryDisk, rocks::RocksDisk};

fn on_both(story: impl Fn(Arc<dyn Disk>)) {
    story(Arc::new(MemoryDisk::new()));
    let directory = tempfile::tempdir().expect("a temporary directory");
    story(Arc::new(
        RocksDisk::open(&directory.path().join("store")).expect("a new RocksDB"),
    ));
}

fn get(disk: &dyn Disk, family: Family, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Err(DiskError::Closed);
    disk.read(&mut |snapshot| value = snapshot.get(family, key))
        .expect("a snapshot");
    value.expect("a readable key")
}

fn keys(disk: &dyn Disk, family: Family, from: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    disk.read(&mut |snapshot| {
        snapshot
            .scan(family, from, &mut |key, _| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            })
            .expect("a scan");
    })
    .expect("a snapshot");
    keys
}

fn put(family: Family, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(family, key, value.to_vec());
    batch
}

#[test]
fn what_was_written_is_read_and_families_are_apart() {
    on_both(|disk| {
        assert_eq!(get(&*disk, Family::Vault, b"k"), None);
        disk.write(&put(Family::Vault, b"k", b"vault")).expect("written");
        disk.write(&put(Family::Views, b"k", b"view")).expect("written");
        assert_eq!(get(&*disk, Family::Vault, b"k"), Some(b"vault".to_vec()));
        assert_eq!(get(&*disk, Family::Views, b"k"), Some(b"view".to_vec()));
        assert_eq!(get(&*disk, Family::Cells, b"k"), None);
    });
}

#[test]
fn later_entries_of_a_batch_win() {
    on_both(|disk| {
        let mut batch = put(Family::Cells, b"kept", b"1");
        batch.put(Family::Cells, b"kept", b"2".to_vec());
        batch.put(Family::Cells, b"gone", b"1".to_vec());
        batch.delete(Family::Cells, b"gone");
        batch.delete(Family::Cells, b"never there");
        disk.write(&batch).expect("written");
        assert_eq!(get(&*disk, Family::Cells, b"kept"), Some(b"2".to_vec()));
        assert_eq!(get(&*disk, Family::Cells, b"gone"), None);
    });
}

#[test]
fn scans_are_in_byte_order_from_a_key_and_end_with_the_family() {
    on_both(|disk| {
        let mut batch = Batch::new();
        for key in [&b"b"[..], b"a", b"a\0", b"\xff", b"b\xff", b"", b"c"] {
            batch.put(Family::Index, key, b"v".to_vec());
        }
        batch.put(Family::Vault, b"a", b"other family".to_vec());
        disk.write(&batch).expect("written");
        let expected: [&[u8]; 7] = [b"", b"a", b"a\0", b"b", b"b\xff", b"c", b"\xff"];
        assert_eq!(keys(&*disk, Family::Index, b""), expected);
        assert_eq!(keys(&*disk, Family::Index, b"b"), expected[3..]);
        let mut seen = Vec::new();
        disk.read(&mut |snapshot| {
            snapshot
                .scan_prefix(Family::Index, b"a", &mut |key, _| {
                    seen.push(key.to_vec());
                    ControlFlow::Continue(())
                })
                .expect("a scan");
        })
        .expect("a snapshot");
        assert_eq!(seen, [b"a".to_vec(), b"a\0".to_vec()]);
    });
}

#[test]
fn a_snapshot_does_not_see_what_is_written_beside_it() {
    on_both(|disk| {
        disk.write(&put(Family::Views, b"k", b"before")).expect("written");
        let writer = disk.clone();
        disk.read(&mut |snapshot| {
            writer
                .write(&put(Family::Views, b"k", b"after"))
                .expect("written beside a reader");
            writer
                .write(&put(Family::Views, b"new", b"x"))
                .expect("written beside a reader");
            assert_eq!(
                snapshot.get(Family::Views, b"k").expect("read"),
                Some(b"before".to_vec())
            );
            assert_eq!(snapshot.get(Family::Views, b"new").expect("read"), None);
        })
        .expect("a snapshot");
        assert_eq!(get(&*disk, Family::Views, b"k"), Some(b"after".to_vec()));
    });
}

#[test]
fn what_was_written_is_there_after_reopening() {
    on_both(|disk| {
        for number in 0..100_u32 {
            disk.write(&put(Family::Log, &number.to_be_bytes(), b"entry"))
                .expect("written");
        }
        disk.reopen().expect("reopened");
        assert_eq!(keys(&*disk, Family::Log, b"").len(), 100);
        disk.write(&put(Family::Log, b"more", b"entry"))
            .expect("written after reopening");
        assert!(disk.bytes_used() > 0);
    });
}

#[test]
fn a_crash_of_the_model_keeps_exactly_what_was_synced() {
    use persona::store::disk::memory::Fault;
    let disk = MemoryDisk::new();
    disk.write(&put(Family::Log, b"1", b"x")).expect("written");
    for (fault, found) in [
        (Fault::Full, false),
        (Fault::Lost, false),
        (Fault::Landed, true),
        (Fault::Unsynced, false),
    ] {
        disk.plan(fault);
        let key = format!("{fault:?}");
        assert!(
            disk.write(&put(Family::Log, key.as_bytes(), b"x")).is_err(),
            "{key}"
        );
        assert_eq!(
            disk.write(&put(Family::Log, b"next", b"x")),
            Err(DiskError::Closed),
            "until it is reopened"
        );
        disk.crash();
        assert_eq!(get(&disk, Family::Log, key.as_bytes()).is_some(), found, "{key}");
        disk.reopen().expect("reopened");
    }
    assert_eq!(get(&disk, Family::Log, b"1"), Some(b"x".to_vec()));
}
