//! What a local commit costs: time and processor time per transaction with 1 and 64 writers, beside a raw synced
//! RocksDB put and beside the Automerge work alone, in the same run. And what an account takes on the disk.
//!
//! `cargo bench --bench commit`; the goal at 64 writers is processor time within 1.5 times the Automerge work, and
//! under 2 KB on the disk for an account with a password and two addresses.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crdt::{AccountId, AccountWrite, Actor, Document, Epoch, Hlc, RecordKind, Write};
use persona::{
    identity::{Address, HashedPassword, Identity, IndexKey, PasswordPool, PasswordSettings, Word},
    store::{
        KeepLog, Store, StoreConfig, TransactError,
        disk::{Disk, rocks::RocksDisk},
    },
};
use rocksdb::{DB, WriteOptions};

const ACCOUNTS: u32 = 2_000;
const TRANSACTIONS: u32 = 20_000;
const TRANSACTIONS_ALONE: u32 = 3_000;
const PEOPLE: u32 = 5_000;

struct Cost {
    wall: Duration,
    processor: Duration,
    count: u32,
}

impl Cost {
    fn print(&self, what: &str) {
        let per = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(self.count);
        let rate = f64::from(self.count) / self.wall.as_secs_f64();
        println!(
            "{what:<44} {rate:>9.0} /s {:>9.1} us each {:>9.1} us processor",
            per(self.wall),
            per(self.processor)
        );
    }

    fn processor_us(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / f64::from(self.count)
    }
}

fn measure(count: u32, work: impl FnOnce()) -> Cost {
    let (wall, processor) = (Instant::now(), processor_time());
    work();
    Cost {
        wall: wall.elapsed(),
        processor: processor_time() - processor,
        count,
    }
}

/// User and system time of this process, all threads, in ticks of 10 ms.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("a process")
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

fn account(number: u32) -> AccountId {
    let mut bytes = [0; 15];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    AccountId::from_bytes(bytes)
}

fn open(directory: &Path, keep_log: KeepLog) -> Store {
    let config = StoreConfig {
        directory: directory.into(),
        keeping: keep_log.into(),
        reserve_bytes: 0,
        free_bytes_min: 0,
    };
    Store::open(&config).expect("a store")
}

/// One field of one account changes: "sign out everywhere".
async fn change(store: &Store, number: u32) {
    let id = account(number % ACCOUNTS);
    let write = store.transact(move |txn| {
        let at = txn.stamp();
        txn.write_account(id, AccountWrite::SessionEpoch(Epoch { resets: 0, at }));
        Ok::<(), TransactError>(())
    });
    write.await.expect("written");
}

fn commits(store: &Store, runtime: &tokio::runtime::Runtime, writers: u32, transactions: u32) -> Cost {
    measure(transactions, || {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|writer| {
                    let store = store.clone();
                    tokio::spawn(async move {
                        for number in (writer..transactions).step_by(writers as usize) {
                            change(&store, number).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("a writer");
            }
        });
    })
}

/// The same changes without a store: load, change, save.
fn automerge_alone(earlier_changes: u32) -> Cost {
    let mut documents: Vec<Vec<u8>> = Vec::new();
    let write = |number: u32| {
        let at = Hlc::new(1_700_000_000_000 + u64::from(number), 0);
        [Write::Account(AccountWrite::SessionEpoch(Epoch {
            resets: 0,
            at,
        }))]
    };
    for _ in 0..ACCOUNTS {
        let mut document = Document::new(RecordKind::Account);
        for number in 0..earlier_changes.max(1) {
            document.write(Actor([1; 8]), &write(number)).expect("a change");
        }
        documents.push(document.save());
    }
    measure(TRANSACTIONS, || {
        for number in 0..TRANSACTIONS {
            let bytes = &mut documents[(number % ACCOUNTS) as usize];
            let mut document = Document::load(RecordKind::Account, bytes).expect("a document");
            document
                .write(Actor([1; 8]), &write(number + 100))
                .expect("a change");
            *bytes = document.save();
        }
    })
}

/// What agreement adds to a commit of one change, beside the same RocksDB work: the digest, the elements before and
/// after it, the read of the digest that was, and the two values that are written.
fn digests_alone(directory: &Path) -> Cost {
    const GROUP: u32 = 64;
    let db = DB::open_default(directory).expect("a raw RocksDB");
    let key = |number: u32| *account(number % ACCOUNTS).as_bytes();
    for number in 0..ACCOUNTS {
        db.put(key(number), [7; 21]).expect("a put");
    }
    let element = |digest: &[u8]| {
        let mut hasher = blake3::Hasher::new_keyed(&[3; 32]);
        hasher.update(&[1; 16]).update(digest);
        u128::from_be_bytes(hasher.finalize().as_bytes()[..16].try_into().expect("16 bytes"))
    };
    let mut sum = 0_u128;
    measure(TRANSACTIONS, || {
        for first in (0..TRANSACTIONS).step_by(GROUP as usize) {
            let mut batch = rocksdb::WriteBatch::default();
            for number in first..first + GROUP {
                let head = blake3::hash(&number.to_be_bytes());
                let digest = crdt::state_digest(&[*head.as_bytes()], &[]);
                let old = db.get(key(number)).expect("a get").expect("a digest");
                sum = sum.wrapping_sub(element(&old)).wrapping_add(element(&digest));
                batch.put(key(number), [&[1][..], &digest, &[0; 4]].concat());
                batch.put(
                    (number as u16).to_be_bytes(),
                    [&[1][..], &sum.to_be_bytes(), &[0; 4]].concat(),
                );
            }
            db.write(batch).expect("a batch");
        }
    })
}

fn raw_puts(directory: &Path, threads: u32, puts: u32) -> Cost {
    let db = Arc::new(DB::open_default(directory).expect("a raw RocksDB"));
    measure(puts, || {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let db = db.clone();
                scope.spawn(move || {
                    let mut options = WriteOptions::default();
                    options.set_sync(true);
                    for number in (thread..puts).step_by(threads as usize) {
                        db.put_opt(number.to_be_bytes(), [7; 600], &options)
                            .expect("a put");
                    }
                });
            }
        });
    })
}

fn people(runtime: &tokio::runtime::Runtime, directory: &Path) {
    for keep_log in [KeepLog::Everything, KeepLog::Unstable] {
        let path = directory.join(format!("{keep_log:?}"));
        let store = open(&path, keep_log);
        let settings = PasswordSettings {
            memory_kib: 8,
            iterations: 1,
            ..PasswordSettings::default()
        };
        let pool = PasswordPool::new(&settings).expect("a pool");
        let identity = Identity::new(store.clone(), IndexKey::new([7; 32]), pool);
        runtime.block_on(async {
            let tasks: Vec<_> = (0..64)
                .map(|task| {
                    let identity = identity.clone();
                    tokio::spawn(async move {
                        for person in (task..PEOPLE).step_by(64) {
                            sign_up_with_two_addresses(&identity, person).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("a person");
            }
            // Everyone has everything: as it is a second after the last write.
            while store.state().trimmed.total() < store.state().vector.total()
                && keep_log == KeepLog::Unstable
            {
                store.trim(store.state().vector.clone());
                store
                    .transact(|_| Ok::<(), TransactError>(()))
                    .await
                    .expect("in order");
            }
        });
        store.close();
        drop((store, identity));
        let disk = RocksDisk::open(&path.join("store")).expect("the store's disk");
        disk.compact().expect("compacted");
        let tables: u64 = fs::read_dir(path.join("store"))
            .expect("a directory")
            .flatten()
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "sst")
            })
            .map(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
            .sum();
        drop(disk);
        println!(
            "an account with a password and two addresses, log keeps {keep_log:?}: {} bytes on the disk",
            tables / u64::from(PEOPLE)
        );
    }
}

async fn sign_up_with_two_addresses(identity: &Identity, person: u32) {
    let address =
        |number: u32| Address::parse(&format!("person{person}.{number}@example.org")).expect("an address");
    // A hash of the usual parameters' length, made once: hashing is not what is measured.
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$\
                GCGuhbEmGCGuhbEmGCGuhbEmGCGuhbEmGCGuhbEmGCI";
    let hash = HashedPassword::from_phc(hash.to_owned()).expect("a hash");
    let made = identity
        .create_account(address(1), hash, Word::Operator)
        .await
        .expect("a sign-up");
    let persona::identity::Outcome::Done { value: account, .. } = made else {
        panic!("{made:?}")
    };
    let added = identity
        .add_email(account, address(2), Word::Operator)
        .await
        .expect("an addition");
    assert!(
        matches!(added, persona::identity::Outcome::Done { .. }),
        "{added:?}"
    );
}

fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = open(&directory.path().join("replica"), KeepLog::Everything);
    commits(&store, &runtime, 64, ACCOUNTS); // Every account is there, with one change.

    let raw_1 = raw_puts(&directory.path().join("raw1"), 1, TRANSACTIONS_ALONE);
    let one = commits(&store, &runtime, 1, TRANSACTIONS_ALONE);
    let raw_64 = raw_puts(&directory.path().join("raw64"), 64, TRANSACTIONS);
    let automerge = automerge_alone(1 + TRANSACTIONS_ALONE / ACCOUNTS);
    let many = commits(&store, &runtime, 64, TRANSACTIONS);

    raw_1.print("raw synced put of 600 bytes, 1 thread");
    one.print("commit of one change, 1 writer");
    raw_64.print("raw synced put of 600 bytes, 64 threads");
    many.print("commit of one change, 64 writers");
    automerge.print("Automerge alone: load, change, save");
    let digests = digests_alone(&directory.path().join("digests"));
    digests.print("digests and sums of one change, alone");
    println!(
        "digests and sums are {:.1} % of a commit's processor time at 64 writers",
        100.0 * digests.processor_us() / many.processor_us()
    );
    let mut scrubbed = None;
    let scrub = measure(1, || scrubbed = runtime.block_on(store.scrub_now()));
    let scrubbed = scrubbed.expect("a pass");
    println!(
        "reading everything again: {} values, {} KiB in {:.0} ms ({:.1} us processor time each); {} wrong",
        scrubbed.values,
        scrubbed.bytes >> 10,
        scrub.wall.as_secs_f64() * 1e3,
        scrub.processor.as_secs_f64() * 1e6 / scrubbed.values as f64,
        scrubbed.mended + scrubbed.damaged
    );
    println!(
        "at 64 writers a commit takes {:.2} times the processor time of the Automerge work",
        many.processor_us() / automerge.processor_us()
    );
    drop(store);
    people(&runtime, directory.path());
}
