//! A replica for these tests: a store over a model disk, and the identity domain over it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gossip::{Dot, Envelope, Received, Vector, quic::LogChunk, transaction_hash};
use persona::{
    identity::{Address, Identity, IndexKey, Outcome, PasswordPool, PasswordSettings, TypedPassword, Word},
    store::{
        KeepLog, LedgerError, OpenError, Store, TransactError,
        disk::{Disk, memory::MemoryDisk},
    },
};

/// The time, in milliseconds: the same for all replicas of a story, moved by hand.
#[derive(Clone)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    pub(crate) fn new() -> Time {
        Time(Arc::new(AtomicU64::new(1_700_000_000_000)))
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

pub(crate) struct Replica {
    pub(crate) disk: MemoryDisk,
    pub(crate) store: Store,
    pub(crate) identity: Identity,
    time: Time,
    passwords: PasswordPool,
    keep_log: KeepLog,
    starts: u8,
    name: u8,
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).expect("a good address")
}

pub(crate) fn password(text: &str) -> TypedPassword {
    TypedPassword::parse(text.to_owned()).expect("a good password")
}

/// One pool for all replicas of a story; hashing as cheap as argon2 allows, because it is not what is tested.
pub(crate) fn passwords() -> PasswordPool {
    let settings = PasswordSettings {
        memory_kib: 8,
        iterations: 1,
        threads: 1,
        ..PasswordSettings::default()
    };
    PasswordPool::new(&settings).expect("a pool")
}

impl Replica {
    pub(crate) fn new(name: u8, time: &Time, passwords: &PasswordPool, keep_log: KeepLog) -> Replica {
        Replica::on(MemoryDisk::new(), name, time, passwords, keep_log)
    }

    pub(crate) fn on(
        disk: MemoryDisk,
        name: u8,
        time: &Time,
        passwords: &PasswordPool,
        keep_log: KeepLog,
    ) -> Replica {
        let store = open(&disk, time, keep_log, [name; 32]);
        let identity = identity(&store, passwords, time);
        let (time, passwords) = (time.clone(), passwords.clone());
        Replica {
            disk,
            store,
            identity,
            time,
            passwords,
            keep_log,
            starts: 0,
            name,
        }
    }

    /// The process ends and starts again; with `crash`, what was not synced is lost.
    pub(crate) fn restart(&mut self, crash: bool) {
        self.store.close();
        if crash {
            self.disk.crash();
        }
        self.starts += 1;
        let mut seed = [self.name; 32];
        seed[0] = self.starts;
        self.store = open(&self.disk, &self.time, self.keep_log, seed);
        self.identity = identity(&self.store, &self.passwords, &self.time);
    }

    /// Waits until all that was queued before has been committed or dropped.
    pub(crate) async fn settled(&self) {
        let _ = self.store.transact(|_| Ok::<(), TransactError>(())).await;
    }

    /// Waits until what was committed before has been followed by a whole sweep. One comes after a batch, when enough time
    /// has passed since the last: that of the first batch here may have begun before, and the third waits for the second's.
    pub(crate) async fn swept(&self, time: &Time) {
        for _ in 0..3 {
            time.pass(120_000);
            self.settled().await;
        }
    }

    /// Takes over all that another replica has and this one lacks, in that one's commit order.
    pub(crate) async fn pull(&self, from: &Replica) -> usize {
        let received = from.log_beyond(&self.store.state().vector);
        let count = received.len();
        self.store.apply(received);
        self.settled().await;
        count
    }

    pub(crate) fn log_beyond(&self, beyond: &Vector) -> Vec<Received> {
        let LogChunk::Transactions { transactions, next } = self
            .store
            .read_log(beyond, None, usize::MAX)
            .expect("a readable log")
        else {
            panic!("the log was trimmed");
        };
        assert_eq!(next, None);
        transactions
            .into_iter()
            .map(|bytes| Received::decode(bytes).expect("a good transaction"))
            .collect()
    }

    /// Everything derived is as it follows from the documents.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        let audit = self.store.audit().expect("a readable store");
        assert_eq!(audit.findings, Vec::<String>::new());
    }

    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Replica) {
        assert_eq!(
            self.store.digest().expect("a digest"),
            other.store.digest().expect("a digest")
        );
        assert_eq!(self.store.state().vector, other.store.state().vector);
    }

    /// Makes an account and gives it with the dot of its transaction; `None` if the disk failed.
    pub(crate) async fn sign_up(&self, text: &str) -> Option<(crdt::AccountId, Dot)> {
        let outcome = self
            .identity
            .create_account(address(text), password("correct horse"), Word::Operator)
            .await;
        match outcome {
            Ok(Outcome::Done {
                value,
                dot: Some(dot),
            }) => Some((value, dot)),
            Ok(other) => panic!("{text}: {other:?}"),
            Err(_) => None,
        }
    }

    pub(crate) async fn signs_in(&self, text: &str) -> bool {
        let outcome = self
            .identity
            .sign_in(&address(text), password("correct horse"), None)
            .await;
        matches!(outcome, Ok(Outcome::Done { .. }))
    }
}

fn open(disk: &MemoryDisk, time: &Time, keep_log: KeepLog, seed: [u8; 32]) -> Store {
    // A planned fault may meet the opening itself: the process ends, and is started again.
    loop {
        let time = time.clone();
        match Store::open_on(Arc::new(disk.clone()), keep_log, move || time.now(), seed) {
            Ok(store) => return store,
            Err(OpenError::Ledger(LedgerError::Disk(_))) => disk.reopen().expect("a model disk reopens"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn identity(store: &Store, passwords: &PasswordPool, time: &Time) -> Identity {
    let time = time.clone();
    Identity::with_clock(
        store.clone(),
        IndexKey::new([7; 32]),
        passwords.clone(),
        move || time.now(),
    )
}

/// The same transaction with another body: what a peer with a broken build might send.
pub(crate) fn with_body(received: &Received, body: Vec<u8>) -> Received {
    let envelope = Envelope {
        body,
        ..received.envelope.clone()
    };
    let bytes: Arc<[u8]> = envelope.encode().into();
    Received {
        hash: transaction_hash(&bytes),
        envelope,
        bytes,
    }
}
