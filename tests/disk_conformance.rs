//! One suite for both disks: what commit logic may rely on holds for RocksDB and for the model alike.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

use std::{ops::ControlFlow, sync::Arc};

use gossip::{
    ReplicaId, Tip, Vector, Writer,
    snapshot::{Action, Giver, Sink, Source, Taker},
};
use persona::store::disk::{
    Batch, Covered, Disk, DiskError, DiskRead, Family,
    memory::{Fault, MemoryDisk},
    rocks::RocksDisk,
};

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
        let prefixes: [(&[u8], &[&[u8]]); 6] = [
            (b"", &expected),
            (b"a", &[b"a", b"a\0"]),
            (b"b", &[b"b", b"b\xff"]),
            (b"b\xff", &[b"b\xff"]),
            (b"\xff", &[b"\xff"]),
            (b"d", &[]),
        ];
        for (prefix, expected) in prefixes {
            let mut seen = Vec::new();
            disk.read(&mut |snapshot| {
                snapshot
                    .scan_prefix(Family::Index, prefix, &mut |key, _| {
                        seen.push(key.to_vec());
                        ControlFlow::Continue(())
                    })
                    .expect("a scan");
            })
            .expect("a snapshot");
            assert_eq!(seen, expected, "{prefix:?}");
        }
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

/// Two disks of each kind: one to copy, one to copy to.
fn on_two_of_both(story: impl Fn(Arc<dyn Disk>, Arc<dyn Disk>)) {
    story(Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let rocks = |name: &str| RocksDisk::open(&directory.path().join(name)).expect("a new RocksDB");
    story(Arc::new(rocks("one")), Arc::new(rocks("two")));
}

fn vector(number: u64) -> Vector {
    let writer = Writer {
        replica: ReplicaId([1; 8]),
        epoch: 1,
        nonce: [2; 8],
    };
    let hash = [3; 8];
    [(writer, Tip { number, hash })].into_iter().collect()
}

/// A manifest that says how many keys of `meta` the checkpoint saw.
fn describe(disk: &dyn DiskRead) -> Result<Covered, DiskError> {
    let mut keys = 0;
    disk.scan(Family::Meta, b"", &mut |_, _| {
        keys += 1;
        ControlFlow::Continue(())
    })?;
    Ok(Covered {
        vector: vector(keys),
        trimmed: Vector::new(),
        note: b"noted".to_vec(),
    })
}

fn checkpoint(disk: &dyn Disk) -> Arc<dyn Source> {
    Arc::from(disk.checkpoint(&mut describe).expect("a checkpoint"))
}

/// Moves so many frames from one to the other; all of them if there are fewer.
fn transfer(source: &Arc<dyn Source>, sink: Box<dyn Sink>, frames_max: usize) -> bool {
    let (mut giver, mut taker) = (Giver::new(source.clone()), Taker::new(sink));
    let mut to_giver: Vec<Action> = taker.more().expect("a question").into_iter().collect();
    let mut frames = 0;
    loop {
        for action in std::mem::take(&mut to_giver) {
            if let Action::Send(frame) = action {
                giver.handle(&frame).expect("a frame for the giver");
            }
        }
        while let Some(Action::Send(frame)) = giver.more().expect("a readable checkpoint") {
            if frames == frames_max {
                return false;
            }
            frames += 1;
            to_giver.extend(taker.handle(&frame).expect("a frame for the taker"));
        }
        if to_giver.contains(&Action::Done) {
            return true;
        }
    }
}

type Everything = Vec<(Family, Vec<u8>, Vec<u8>)>;

fn everything(disk: &dyn Disk) -> Everything {
    let mut found = Vec::new();
    disk.read(&mut |snapshot| {
        for family in Family::ALL {
            snapshot
                .scan(family, b"", &mut |key, value| {
                    found.push((family, key.to_vec(), value.to_vec()));
                    ControlFlow::Continue(())
                })
                .expect("a scan");
        }
    })
    .expect("a snapshot");
    found
}

/// A few entries in each family, some overwritten and deleted, some flushed, some not.
fn fill(disk: &dyn Disk, rounds: u32) {
    for round in 0..rounds {
        let mut batch = Batch::new();
        for family in Family::ALL {
            for number in 0..40_u32 {
                let key = (number * (round + 1) % 97).to_be_bytes();
                let value = format!("{} of round {round} in {}", "v".repeat(500), family.name());
                batch.put(family, key, value.into_bytes());
            }
            batch.delete(family, (round % 7).to_be_bytes());
        }
        disk.write(&batch).expect("written");
    }
}

#[test]
fn a_copy_holds_what_was_there_at_its_moment_and_nothing_of_meta() {
    on_two_of_both(|from, to| {
        fill(&*from, 30);
        let expected: Everything = everything(&*from)
            .into_iter()
            .filter(|(family, ..)| family.travels())
            .collect();
        let keys_of_meta = keys(&*from, Family::Meta, b"").len() as u64;
        let copy = checkpoint(&*from);
        fill(&*from, 50);
        assert_eq!(copy.manifest().vector, vector(keys_of_meta));

        fill(&*to, 3);
        assert_eq!(to.arrived().expect("readable"), None);
        assert!(transfer(&copy, to.incoming().expect("a sink"), usize::MAX));
        let arrived = to.arrived().expect("readable").expect("a whole copy");
        assert_eq!(arrived, *copy.manifest());
        assert_eq!(arrived.note, b"noted");
        to.install(&arrived, &put(Family::Meta, b"mine", b"x"))
            .expect("installed");

        let mut expected = expected;
        expected.insert(0, (Family::Meta, b"mine".to_vec(), b"x".to_vec()));
        for _ in 0..2 {
            to.reopen().expect("reopened");
            assert_eq!(everything(&*to), expected);
        }
        assert_eq!(to.arrived().expect("readable"), None, "it is installed once");
        to.write(&put(Family::Views, b"more", b"x")).expect("it goes on");
    });
}

#[test]
fn no_byte_of_meta_is_in_any_file_that_travels() {
    on_both(|disk| {
        for round in 0..20 {
            fill(&*disk, 1);
            let secret = format!("the secret of round {round}").into_bytes();
            disk.write(&put(Family::Meta, &secret, &secret)).expect("written");
        }
        let copy = checkpoint(&*disk);
        for (place, file) in copy.manifest().files.iter().enumerate() {
            let mut bytes = vec![0; file.bytes as usize];
            copy.read(place, 0, &mut bytes).expect("readable");
            let beyond = copy.read(place, 1, &mut bytes);
            assert!(beyond.is_err(), "it has no more bytes than its manifest says");
            let found = bytes.windows(13).any(|window| window == b"the secret of");
            assert!(!found, "in {}", file.name);
            let found = bytes.windows(7).any(|window| window == b"in meta");
            assert!(!found, "in {}", file.name);
        }
    });
}

#[test]
fn a_copy_that_is_broken_off_goes_on_and_one_of_another_moment_starts_over() {
    on_two_of_both(|from, to| {
        fill(&*from, 100);
        let copy = checkpoint(&*from);
        let mut tries = 0;
        for frames_max in 1.. {
            tries += 1;
            if transfer(&copy, to.incoming().expect("a sink"), frames_max) {
                break;
            }
            assert_eq!(to.arrived().expect("readable"), None);
        }
        let frames = copy
            .manifest()
            .files
            .iter()
            .map(|file| 1 + file.bytes as usize / gossip::snapshot::PIECE_BYTES_MAX)
            .sum::<usize>();
        assert!(
            tries < frames,
            "{tries} tries for {frames} frames: nothing came twice"
        );

        let first = to.arrived().expect("readable").expect("a whole copy");
        fill(&*from, 1);
        from.write(&put(Family::Meta, b"one more", b"x"))
            .expect("written");
        let second = checkpoint(&*from);
        assert_ne!(second.manifest().id, first.id);
        assert!(!transfer(&second, to.incoming().expect("a sink"), 2));
        assert_eq!(to.arrived().expect("readable"), None);
        let none = Batch::new();
        assert!(to.install(&first, &none).is_err(), "the first is gone");
        assert!(transfer(&second, to.incoming().expect("a sink"), usize::MAX));
        assert!(to.install(&first, &none).is_err(), "it is not what has come");
        to.install(second.manifest(), &none).expect("installed");
    });
}

#[test]
fn one_copy_comes_at_a_time() {
    on_both(|disk| {
        let first = disk.incoming().expect("a sink");
        assert!(disk.incoming().is_err());
        drop(first);
        assert!(disk.incoming().is_ok());
    });
}

/// What it holds may be what is to be erased, and when it breaks off nobody may rewrite the disk once more.
#[test]
fn a_copy_that_comes_while_the_disk_is_rewritten_goes_on_and_is_not_kept() {
    on_two_of_both(|from, to| {
        fill(&*from, 5);
        let copy = checkpoint(&*from);
        let begin = || {
            let mut sink = to.incoming().expect("a sink");
            let place = sink.begin(copy.manifest()).expect("begun");
            (sink, place)
        };
        for rewritten in [false, true, false] {
            let (mut sink, place) = begin();
            assert_eq!(place, (0, 0));
            sink.write(0, 0, b"what was").expect("written");
            if rewritten {
                to.compact().expect("compacted");
            }
            sink.write(0, 8, b" forgotten").expect("it goes on");
            drop(sink);
            let (sink, place) = begin();
            assert_eq!(place, if rewritten { (0, 0) } else { (0, 18) });
            drop(sink);
            to.compact().expect("compacted");
        }

        // All of it came: whoever wants to install it has to ask again.
        let mut sink = to.incoming().expect("a sink");
        sink.begin(copy.manifest()).expect("begun");
        to.compact().expect("compacted");
        gossip::snapshot::copy(&*copy, &mut *sink).expect("all of it comes");
        drop(sink);
        assert_eq!(to.arrived().expect("readable"), None);
        assert!(transfer(&copy, to.incoming().expect("a sink"), usize::MAX));
        assert!(to.arrived().expect("readable").is_some());
    });
}

#[test]
fn an_install_that_fails_leaves_all_of_the_old_or_all_of_the_new() {
    for (fault, landed) in [
        (Fault::Full, false),
        (Fault::Lost, false),
        (Fault::Landed, true),
        (Fault::Unsynced, false),
    ] {
        let (from, to) = (MemoryDisk::new(), MemoryDisk::new());
        fill(&from, 5);
        to.write(&put(Family::Views, b"old", b"x")).expect("written");
        let old = everything(&to);
        let copy = checkpoint(&from);
        assert!(transfer(&copy, to.incoming().expect("a sink"), usize::MAX));
        to.plan(fault);
        assert!(to.install(copy.manifest(), &Batch::new()).is_err(), "{fault:?}");
        to.crash();
        to.reopen().expect("reopened");
        assert_eq!(everything(&to) != old, landed, "{fault:?}");
    }
}

#[test]
fn what_was_deleted_is_in_no_file_after_compaction() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = RocksDisk::open(&directory.path().join("store")).expect("a new RocksDB");
    fill(&disk, 10);
    let secret = b"a secret that is to be forgotten";
    for family in Family::ALL {
        disk.write(&put(family, b"s", secret)).expect("written");
    }
    fill(&disk, 60);
    let kept = checkpoint(&disk);
    for family in Family::ALL {
        let mut batch = Batch::new();
        batch.delete(family, b"s");
        disk.write(&batch).expect("written");
    }
    assert!(
        files_with(directory.path(), secret) > 0,
        "deleted is not yet gone"
    );
    disk.compact().expect("compacted");
    assert_eq!(files_with(directory.path(), secret), 0);
    assert!(
        kept.read(0, 0, &mut [0]).is_err(),
        "the checkpoint is gone as well"
    );
    assert!(disk.checkpoint(&mut describe).is_ok());
    disk.reopen().expect("reopened");
    assert_eq!(files_with(directory.path(), secret), 0);
}

/// A new start begins, or the site drains, while the disk is rewritten: what breaks off is told apart from damage, and the next
/// one does it all.
#[test]
fn a_compaction_that_a_closing_breaks_off_is_no_damage() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = RocksDisk::open(&directory.path().join("store")).expect("a new RocksDB");
    for number in 0..=255 {
        disk.write(&put(Family::Vault, &[number], &noise(number)))
            .expect("written");
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| {
            // However the two meet: the last one, which nobody disturbs, succeeds.
            let mut broken_off = 0;
            loop {
                let is_last = done.load(std::sync::atomic::Ordering::SeqCst);
                match disk.compact() {
                    Ok(()) if is_last => return broken_off,
                    Ok(()) => {}
                    Err(DiskError::Io(words)) if words.contains("try again") && !is_last => broken_off += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for _ in 0..20 {
            disk.reopen().expect("reopened");
            assert_eq!(get(&disk, Family::Vault, &[7]), Some(noise(7)));
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        let broken_off = compacting.join().expect("compacted");
        println!("{broken_off} compactions were broken off by 20 reopenings");
    });
}

fn files_with(directory: &std::path::Path, bytes: &[u8]) -> usize {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| match path.is_dir() {
            true => files_with(&path, bytes),
            false => {
                let found = std::fs::read(&path).expect("a file");
                usize::from(found.windows(bytes.len()).any(|window| window == bytes))
            }
        })
        .sum()
}

/// The file below a directory whose name ends so and that holds these bytes, and where.
fn file_with(directory: &std::path::Path, ending: &str, bytes: &[u8]) -> Option<(std::path::PathBuf, usize)> {
    std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .find_map(|path| {
            let content = std::fs::read(&path).expect("a file");
            let at = content.windows(bytes.len()).position(|window| window == bytes)?;
            Some((path, at))
        })
}

/// A value that compression leaves as it is.
fn noise(seed: u8) -> Vec<u8> {
    let mut value = vec![0; 400];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut value);
    value
}

#[test]
fn damage_in_the_write_ahead_log_ends_the_opening_and_a_torn_end_does_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = directory.path().join("store");
    let write_all = || {
        let disk = RocksDisk::open(&store).expect("a RocksDB");
        for number in 0..40 {
            disk.write(&put(Family::Views, &[number], &noise(number)))
                .expect("written");
        }
    };
    write_all();
    let (log, at) = file_with(&store, ".log", &noise(20)).expect("the write-ahead log");
    let sound = std::fs::read(&log).expect("the log");
    let mut flipped = sound.clone();
    flipped[at + 7] ^= 4;
    std::fs::write(&log, &flipped).expect("damaged");
    let opened = RocksDisk::open(&store).map(drop);
    assert!(matches!(opened, Err(DiskError::Damaged(_))), "{opened:?}");

    std::fs::write(&log, &sound[..sound.len() - 9]).expect("torn");
    let disk = RocksDisk::open(&store).expect("a torn last batch is what a crash leaves");
    assert_eq!(keys(&disk, Family::Views, &[]).len(), 39);
}

#[test]
fn a_compaction_that_meets_a_damaged_block_says_so_and_writes_go_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = directory.path().join("store");
    {
        let disk = RocksDisk::open(&store).expect("a new RocksDB");
        for number in 0..40 {
            disk.write(&put(Family::Vault, &[number], &noise(number)))
                .expect("written");
        }
        disk.compact().expect("compacted");
    }
    let (table, at) = file_with(&store, ".sst", &noise(20)).expect("a table");
    let mut bytes = std::fs::read(&table).expect("the table");
    bytes[at + 7] ^= 4;
    std::fs::write(&table, bytes).expect("damaged");

    let disk = RocksDisk::open(&store).expect("opened: no block was read");
    disk.write(&put(Family::Vault, &[20], b"healed"))
        .expect("written");
    let compacted = disk.compact();
    assert!(matches!(compacted, Err(DiskError::Damaged(_))), "{compacted:?}");
    for number in 40..=255 {
        disk.write(&put(Family::Vault, &[number], &noise(number)))
            .expect("written");
    }
    assert_eq!(get(&disk, Family::Vault, &[255]), Some(noise(255)));
}
