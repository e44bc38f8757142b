//! What a copy of a whole store costs: a plain recursive copy of the same RocksDB directory, synced, against checkpoint,
//! transfer in memory between the two ends of the protocol (which hash, write and sync it), and installation, in the same
//! run.
//!
//! `cargo bench --bench snapshot [-- RECORDS]`, 200,000 records unless said otherwise; the goal is within twice the time of
//! the plain copy.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

use std::{
    fs::{self, File},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use crdt::{AccountId, AccountWrite, Epoch};
use gossip::{
    MemberId,
    snapshot::{Action, Giver, Source, Taker},
};
use persona::store::{
    KeepLog, Store, StoreConfig, TransactError,
    disk::{Disk, rocks::RocksDisk},
};

const RECORDS: u32 = 200_000;
/// Records made by one transaction, and transactions under way at once: only filling is made faster by it.
const TOGETHER: u32 = 32;
const WRITERS: u32 = 64;
/// Frames between the two ends.
const FRAMES_UNDER_WAY: usize = 8;

fn open(directory: &Path) -> Store {
    let config = StoreConfig {
        directory: directory.into(),
        keeping: KeepLog::Everything.into(),
        reserve_bytes: 0,
        free_bytes_min: 0,
    };
    Store::open(&config).expect("a store")
}

fn account(number: u32) -> AccountId {
    let mut bytes = [0; 15];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    AccountId::from_bytes(bytes)
}

/// Accounts with a change and 200 bytes of personal data each.
async fn fill(store: &Store, records: u32) {
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let step = (WRITERS * TOGETHER) as usize;
                for first in (writer * TOGETHER..records).step_by(step) {
                    let written = store.transact(move |txn| {
                        for number in first..(first + TOGETHER).min(records) {
                            let at = txn.stamp();
                            let vault = txn.put_vault(format!("{number:0>200}").into_bytes());
                            let password = crdt::Password {
                                resets: 0,
                                changed: at,
                                done: at,
                                rehashes: 0,
                                vault,
                            };
                            txn.write_account(account(number), AccountWrite::Created(at));
                            txn.write_account(account(number), AccountWrite::Password(password));
                            txn.write_account(
                                account(number),
                                AccountWrite::SessionEpoch(Epoch { resets: 0, at }),
                            );
                        }
                        Ok::<(), TransactError>(())
                    });
                    written.await.expect("written");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer");
    }
}

fn copy_plainly(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let target = to.join(entry.file_name());
        fs::copy(entry.path(), &target).expect("copied");
        File::open(target)
            .and_then(|file| file.sync_all())
            .expect("synced");
    }
    File::open(to).and_then(|dir| dir.sync_all()).expect("synced");
}

/// Each end on a thread of its own, as if on a machine of its own.
fn transfer(source: &Arc<dyn Source>, to: &Store) {
    let (to_giver, asked) = mpsc::sync_channel(FRAMES_UNDER_WAY);
    let (to_taker, given) = mpsc::sync_channel(FRAMES_UNDER_WAY);
    let mut giver = Giver::new(source.clone());
    let mut taker = Taker::new(to.snapshot_sink().expect("a sink"));
    let give = move || {
        for frame in asked {
            let frame: Vec<u8> = frame;
            let answered = giver.handle(&frame).expect("a frame for the giver");
            if answered.contains(&Action::Done) {
                return;
            }
            while let Some(Action::Send(frame)) = giver.more().expect("a readable checkpoint") {
                to_taker.send(frame).expect("a taker");
            }
        }
    };
    let send = |actions: Vec<Action>| {
        for action in actions {
            if let Action::Send(frame) = action {
                to_giver.send(frame).expect("a giver");
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(give);
        send(taker.more().expect("a question").into_iter().collect());
        for frame in given {
            send(taker.handle(&frame).expect("a frame for the taker"));
        }
    });
}

/// The most memory that this process ever had, in MB.
fn memory_peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        / 1024
}

/// Starts the peak anew (`proc(5)`, `clear_refs`).
fn forget_memory_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("Linux");
}

fn main() {
    let records = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(RECORDS);
    // Beside the build, so on a real disk: a temporary directory may be memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let began = Instant::now();
    let store = open(&at("from"));
    runtime.block_on(fill(&store, records));
    println!(
        "{records} records filled in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    store.close();
    drop(store);
    // Both copy the same quiet tables.
    let disk = RocksDisk::open(&at("from").join("store")).expect("the store's disk");
    disk.compact().expect("compacted");
    disk.close();
    drop(disk);
    let store = open(&at("from"));
    let megabytes = store.bytes_used() as f64 / 1e6;
    println!("{megabytes:.0} MB on the disk");
    let report = |what: &str, took: Duration| {
        let seconds = took.as_secs_f64();
        println!(
            "{what:<44} {seconds:>7.2} s {:>9.0} records/s {:>7.0} MB/s",
            f64::from(records) / seconds,
            megabytes / seconds
        );
    };

    let mut plain = Duration::MAX;
    for round in 0..3 {
        let began = Instant::now();
        copy_plainly(&at("from").join("store"), &at(&format!("plain-{round}")));
        plain = plain.min(began.elapsed());
    }
    report("plain copy, synced (best of 3)", plain);

    let taker = open(&at("to"));
    forget_memory_peak();
    let before = memory_peak_mb();
    let began = Instant::now();
    let source = store.snapshot_source(MemberId([1; 8])).expect("a checkpoint");
    let checkpoint = began.elapsed();
    transfer(&source, &taker);
    let transferred = began.elapsed();
    taker.install_snapshot().expect("installed");
    let snapshot = began.elapsed();
    report("  checkpoint", checkpoint);
    report("  transfer, check, sync", transferred - checkpoint);
    report("  installation", snapshot - transferred);
    report("snapshot", snapshot);
    println!(
        "ratio {:.2} (goal: at most 2); peak memory {} MB more than before",
        snapshot.as_secs_f64() / plain.as_secs_f64(),
        memory_peak_mb().saturating_sub(before)
    );
    assert_eq!(
        taker.digest().expect("a digest"),
        store.digest().expect("a digest"),
        "the copy holds the same"
    );
    taker.close();
    store.close();
}
