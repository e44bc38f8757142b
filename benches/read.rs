//! What reading a view costs beside a raw RocksDB get of the same bytes, in the same run.
//!
//! `cargo bench --bench read`; the goal is a ratio below 2.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

use std::hint::black_box;

use crdt::{AccountId, AccountWrite, EmailId, EmailWrite, Epoch};
use criterion::{Criterion, criterion_group, criterion_main};
use persona::store::{KeepLog, Records, Store, StoreConfig, TransactError, disk::Family};
use rocksdb::DB;

const ACCOUNTS: u32 = 20_000;

fn account(number: u32) -> AccountId {
    let mut bytes = [0; 15];
    bytes[..8].copy_from_slice(
        &u64::from(number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_be_bytes(),
    );
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    AccountId::from_bytes(bytes)
}

fn email(number: u32) -> EmailId {
    EmailId::from_bytes(*account(number).as_bytes())
}

fn reads(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = StoreConfig {
        directory: directory.path().join("replica"),
        keeping: KeepLog::Everything.into(),
        reserve_bytes: 0,
        free_bytes_min: 0,
    };
    let store = Store::open(&config).expect("a store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for first in (0..ACCOUNTS).step_by(20) {
            let write = store.transact(move |txn| {
                for number in first..first + 20 {
                    let at = txn.stamp();
                    let vault = txn.put_vault(b"ada@example.org".to_vec());
                    txn.write_account(account(number), AccountWrite::Created(at));
                    txn.write_account(
                        account(number),
                        AccountWrite::SessionEpoch(Epoch { resets: 0, at }),
                    );
                    let claim = crdt::Claim {
                        account: account(number),
                        vault,
                        proof: at,
                        done: at,
                        resets: 0,
                        by: crdt::ClaimedBy::Mail,
                        released: Vec::new(),
                    };
                    txn.write_email(email(number), EmailWrite::Claim(claim));
                }
                Ok::<(), TransactError>(())
            });
            write.await.expect("written");
        }
    });
    let raw = DB::open_default(directory.path().join("raw")).expect("a raw RocksDB");
    store
        .scan_everything(|family, key, value| {
            if family == Family::Views {
                raw.put(key, value).expect("copied");
            }
        })
        .expect("a scan");
    raw.flush().expect("flushed");

    let mut number = 0;
    let mut next = move || {
        number = (number + 7919) % ACCOUNTS;
        number
    };
    let mut group = criterion.benchmark_group("read");
    group.bench_function("raw get", |bencher| {
        bencher.iter(|| black_box(raw.get(crdt::RecordKey::from(account(next())).as_bytes())));
    });
    group.bench_function("account view", |bencher| {
        bencher.iter(|| store.read(|records| black_box(records.account(account(next())))));
    });
    group.bench_function("email view", |bencher| {
        bencher.iter(|| store.read(|records| black_box(records.email(email(next())))));
    });
    group.bench_function(
        "owner of an address (email and account, one snapshot)",
        |bencher| {
            bencher.iter(|| {
                store.read(|records| {
                    let view = records.email(email(next())).expect("readable").expect("there");
                    black_box(records.owner_of(&view).expect("readable"));
                })
            });
        },
    );
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
