//! The store: every account and email of the world, on this replica's disk.
//!
//! Reads go through one snapshot and never wait for writes. Writes, local ones and those that arrive from other
//! replicas, go to one committer, which makes a group of them durable as one batch before anyone is told.
//! `STORAGE.md` beside this file says how it lies on the disk.
//!
//! - [`disk`]: the narrow waist; RocksDB below it, or a model of a disk.
//! - [`Ledger`](ledger): the commit logic. [`work`]: what it is given. [`committer`]: its thread. [`group`]: one group of transactions.
//! - [`Records`]: reading. [`Txn`]: a local write under way.
//! - [`unsettled`]: losers and cancelled accounts, for [`settlement`](crate::settlement).
//! - [`conversations`]: reconciling with peers, over a [`cut`]. [`log`]: transactions for peers who lack them. [`snapshot`]: copies of all of it. [`backup`]: those for operators. [`space`]: what happens when the disk fills up.

mod audit;
mod backup;
mod catch_up;
mod committer;
mod conversations;
mod cut;
mod damage;
mod directory;
pub mod disk;
mod doubts;
mod found;
mod group;
mod history;
mod holes;
mod layout;
mod ledger;
mod log;
mod recall;
mod records;
mod repair;
mod scrub;
mod snapshot;
mod space;
mod sums;
mod trim;
mod txn;
mod unsettled;
mod work;

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use gossip::{Dot, MemberId, Received, Vector, Writer, quic::LogChunk};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::{oneshot, watch};

pub use self::{
    audit::Audit,
    backup::{Backup, BackupError, BackupOwner, Restore, RestoreError, Restored, prune as prune_backups},
    catch_up::NotKept,
    cut::StoreCut,
    directory::DirectoryError,
    history::{RepairNote, StoreCounters},
    ledger::{Beginning, Keeping, Ledger, LedgerError},
    records::{ReadError, Records, Snapshot, standing_of},
    repair::{Repair, RepairOutcome, Repaired, WaitingRepairs},
    scrub::ScrubReport,
    snapshot::InstallError,
    space::{Space, free_bytes},
    sums::DigestKey,
    txn::{CHANGES_MAX, TransactError, Txn},
    unsettled::{
        Contested, Obstacle, RECEIPT_MS, Remains, Stretch, Trace, Unsettled, contested, stretch, traces,
    },
    work::Committed as CommittedGroup,
};
#[cfg(feature = "lab")]
pub(crate) use self::{
    audit::audit,
    layout::unseal,
    log::read as read_log,
    snapshot::{covered, has_replica, install},
    work::{Verdict as Ruling, Work as Task},
};
use self::{
    committer::{Committer, Queue},
    disk::{Disk, DiskError, DiskRead, Family, memory::MemoryDisk, rocks::RocksDisk},
    history::History,
    layout::STORE_FORMAT,
    space::Reserve,
    work::{Done, Verdict, Work},
};

/// Where a store lies and how it keeps its log.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The replica's data directory.
    pub directory: PathBuf,
    /// How what is in it is kept.
    pub keeping: Keeping,
    /// Set aside on the disk, so that it can still erase and compact when it is full.
    pub reserve_bytes: u64,
    /// With less room than this no new people are taken.
    pub free_bytes_min: u64,
}

/// What the log keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepLog {
    /// Every transaction: a wiped site comes back from the log's beginning.
    Everything,
    /// Only what some member still lacks.
    #[default]
    Unstable,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not ours to open.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The disk or what is on it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The committer's thread could not be started.
    #[error("could not start the committer's thread: {0}")]
    Thread(std::io::Error),
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> OpenError {
        OpenError::Ledger(error.into())
    }
}

/// Told of every commit, from the committer's thread: must be quick, and must not call back into the store.
pub trait Listener: Send + Sync + 'static {
    /// A group is synced and visible.
    fn committed(&self, group: &CommittedGroup);
    /// The writer has ended and a new start began: what was delivered and not committed is forgotten.
    fn restarted(&self, start: Writer, own_starts: &[Writer], vector: &Vector);
    /// A peer has this transaction of ours, and this disk does not have it any more.
    fn lost(&self, dot: Dot);
}

/// A local write that is durable on this replica's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the closure gave.
    pub value: T,
    /// The transaction's dot; `None` if nothing was written.
    pub dot: Option<Dot>,
    /// The transaction's HLC.
    pub hlc: crdt::Hlc,
}

/// A replica's store. Cloning gives another handle.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    keeping: Keeping,
    thread: Arc<CommitterThread>,
}

/// Ends the committer when the last handle goes.
struct CommitterThread {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
    _directory: Option<directory::Directory>,
}

/// What the committer's thread and the handles share.
struct Shared {
    queue: Queue,
    state: ArcSwap<State>,
    /// Moves with `state`.
    moved: watch::Sender<()>,
    listener: OnceLock<Arc<dyn Listener>>,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    random: Mutex<StdRng>,
    space: ArcSwap<Space>,
    /// Why the last batches failed, if several did in a row.
    failing: Mutex<Option<String>>,
    /// Whoever reads through a [`StoreCut`] is to end.
    cuts_ended: AtomicBool,
    /// With whom a catch-up is under way, and the writer under which it began.
    catching_up: Mutex<Option<(MemberId, Writer)>>,
    /// Why the site lets nobody write, if it does not.
    withheld: Mutex<Option<String>>,
    checkpoints: snapshot::Checkpoints,
    /// Held while a backup is made.
    backing_up: Mutex<()>,
    /// Held while the disk is rewritten, which removes every checkpoint, and while a backup reads one.
    rewriting: Mutex<()>,
    history: History,
}

/// Where the replica stands, after the latest commit.
#[derive(Clone, Debug)]
pub struct State {
    /// The writer of the present start.
    pub start: Writer,
    /// Every start that this disk has seen, newest last.
    pub own_starts: Vec<Writer>,
    /// What has been applied.
    pub vector: Vector,
    /// What the log no longer holds.
    pub trimmed: Vector,
}

impl Store {
    /// Opens the replica in a directory, making it if there is none, and begins a new start.
    pub fn open(config: &StoreConfig) -> Result<Store, OpenError> {
        let directory = directory::Directory::open(&config.directory, STORE_FORMAT)?;
        let reserve = Reserve::set_aside(&config.directory, config.reserve_bytes, config.free_bytes_min);
        let disk = Arc::new(RocksDisk::open(&config.directory.join("store"))?);
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        };
        Store::begin(
            disk,
            config.keeping,
            Some(directory),
            Some(reserve),
            Box::new(clock),
            rand::rng().random(),
        )
    }

    /// Opens a replica over any disk, with a clock and a seed of the caller's: for tests and simulations.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        keeping: impl Into<Keeping>,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
        seed: [u8; 32],
    ) -> Result<Store, OpenError> {
        Store::begin(disk, keeping.into(), None, None, Box::new(clock), seed)
    }

    /// Opens a replica in memory.
    pub fn open_memory(
        disk: MemoryDisk,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
        seed: [u8; 32],
    ) -> Result<Store, OpenError> {
        Store::open_on(Arc::new(disk), KeepLog::Everything, clock, seed)
    }

    fn begin(
        disk: Arc<dyn Disk>,
        keeping: Keeping,
        directory: Option<directory::Directory>,
        reserve: Option<Reserve>,
        clock: Box<dyn Fn() -> u64 + Send + Sync>,
        seed: [u8; 32],
    ) -> Result<Store, OpenError> {
        let mut random = StdRng::from_seed(seed);
        let ledger = Ledger::open(disk.clone(), Beginning::default(), keeping, random.random())?;
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            state: ArcSwap::from_pointee(State::of(&ledger)),
            moved: watch::channel(()).0,
            listener: OnceLock::new(),
            clock,
            random: Mutex::new(random),
            space: ArcSwap::from_pointee(Space::Enough),
            failing: Mutex::default(),
            cuts_ended: AtomicBool::new(false),
            catching_up: Mutex::default(),
            withheld: Mutex::default(),
            checkpoints: snapshot::Checkpoints::default(),
            backing_up: Mutex::default(),
            rewriting: Mutex::default(),
            history: History::default(),
        });
        let committer = Committer {
            disk: disk.clone(),
            shared: shared.clone(),
            keeping,
            reserve,
            ledger,
            waiting: WaitingRepairs::default(),
            scrubbed_ms: shared.now_ms(),
            disk_bytes: disk.bytes_used(),
            failures: 0,
        };
        let handle = thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run())
            .map_err(OpenError::Thread)?;
        let thread = CommitterThread {
            shared: shared.clone(),
            handle: Mutex::new(Some(handle)),
            _directory: directory,
        };
        Ok(Store {
            shared,
            disk,
            keeping,
            thread: Arc::new(thread),
        })
    }

    /// Names who is told of commits. Only the first call counts.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        let _ = self.shared.listener.set(listener);
    }

    /// Reads through one snapshot.
    pub fn read<T>(&self, read: impl FnOnce(&Snapshot<'_>) -> T) -> Result<T, ReadError> {
        let mut read = Some(read);
        let mut value = None;
        self.disk.read(&mut |disk| {
            value = read.take().map(|read| read(&Snapshot::new(disk)));
        })?;
        value.ok_or(ReadError::Disk(DiskError::Closed))
    }

    /// Writes: runs `write` on the committer's thread over the state of the moment; it refuses with an error of its
    /// own and no effect, or stages changes that are durable here when this returns.
    pub async fn transact<T, E>(
        &self,
        write: impl FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<Committed<T>, E>
    where
        T: Send + 'static,
        E: From<TransactError> + Send + 'static,
    {
        if let Some(why) = &*lock(&self.shared.withheld) {
            return Err(TransactError::NotWritable(why.clone()).into());
        }
        let (tell, told) = oneshot::channel::<Result<Committed<T>, E>>();
        let work = Work::Local(Box::new(move |txn| {
            match catch_unwind(AssertUnwindSafe(|| write(txn))) {
                Ok(Ok(value)) => {
                    let finish = move |done: Result<Done, TransactError>| {
                        let _ = tell.send(
                            done.map(|Done { dot, hlc }| Committed { value, dot, hlc })
                                .map_err(E::from),
                        );
                    };
                    Verdict {
                        keep: true,
                        finish: Box::new(finish),
                    }
                }
                Ok(Err(refusal)) => Verdict {
                    keep: false,
                    finish: Box::new(move |_| {
                        let _ = tell.send(Err(refusal));
                    }),
                },
                Err(_) => Verdict {
                    keep: false,
                    finish: Box::new(move |_| {
                        let _ =
                            tell.send(Err(TransactError::NotWritable("the write panicked".into()).into()));
                    }),
                },
            }
        }));
        self.shared.queue.push(work)?;
        told.await
            .unwrap_or_else(|_| Err(TransactError::NotWritable("the disk failed".into()).into()))
    }

    /// Queues transactions from elsewhere, in causal order. What becomes of them the [`Listener`] learns.
    pub fn apply(&self, transactions: impl IntoIterator<Item = Received>) {
        for received in transactions {
            // A closed store needs none: what was not committed is asked for again after the next start.
            let _ = self.shared.queue.push(Work::Remote(received));
        }
    }

    /// Every member has what `stable` covers: the log may forget it, if it is to forget at all, and writers under
    /// its floors are folded.
    pub fn trim(&self, stable: Vector) {
        if self.keeping.log == KeepLog::Unstable {
            let _ = self.shared.queue.push(Work::Trim(stable));
        }
    }

    /// Reads everything again now, as fast as it goes beside the rest, and says what was found. A pass that is under
    /// way begins anew. `None`: the store was closed before.
    pub async fn scrub_now(&self) -> Option<ScrubReport> {
        let (tell, told) = oneshot::channel();
        self.shared.queue.scrub(tell);
        told.await.ok()
    }

    /// What the latest pass over everything found.
    pub fn scrubbed(&self) -> ScrubReport {
        self.shared.history.scrubbed()
    }

    /// The latest records that another replica's state changed here, the latest last.
    pub fn repairs(&self) -> Vec<RepairNote> {
        self.shared.history.repairs()
    }

    /// Ends the present writer and begins a new start, because peers know one that this disk does not.
    pub fn begin_again(&self, beginning: Beginning) {
        self.shared.queue.begin_again(beginning);
    }

    /// What lies beyond a peer's vector, in local commit order. Blocks on the disk.
    pub fn read_log(
        &self,
        beyond: &Vector,
        position: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, ReadError> {
        let synced = &self.state().vector;
        self.read(|snapshot| log::read(snapshot.disk(), beyond, synced, position, bytes_max))?
    }

    /// A hash over all records' digests, and their number: equal on two replicas that hold the same. Reads every
    /// digest; for tests and people.
    pub fn digest(&self) -> Result<(u64, [u8; 16]), ReadError> {
        self.read(|snapshot| {
            let mut hasher = blake3::Hasher::new();
            let mut records = 0;
            records::try_scan(snapshot.disk(), Family::Digests, &[], |key, value| {
                hasher.update(key);
                hasher.update(layout::unseal(value)?);
                records += 1;
                Ok(ControlFlow::Continue(()))
            })?;
            let mut digest = [0; 16];
            digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
            Ok((records, digest))
        })?
    }

    /// Reads everything and holds what is derived against what it derives from.
    pub fn audit(&self) -> Result<Audit, ReadError> {
        self.read(|snapshot| audit::audit(snapshot.disk(), Some(self.keeping.digest_key)))?
    }

    /// Looks at up to `records_max` records from a key on for what is to be settled.
    pub fn unsettled(&self, from: &[u8], records_max: usize) -> Result<Stretch, ReadError> {
        let slot = self.state().start.replica.0;
        let now_ms = self.shared.now_ms();
        self.read(|snapshot| unsettled::stretch(snapshot.disk(), slot, now_ms, from, records_max))?
    }

    /// Where bytes of transactions still lie, beside what the records name.
    pub fn remains(&self) -> Result<Remains, ReadError> {
        self.read(|snapshot| Remains::of(snapshot.disk()))?
    }

    /// Searches everything that is stored for byte strings.
    pub fn traces(&self, needles: &[&[u8]]) -> Result<Vec<Trace>, ReadError> {
        Ok(self.read(|snapshot| unsettled::traces(snapshot.disk(), needles))??)
    }

    /// Calls `visit` with every stored key and value, family by family: what a replica really holds, for tests that
    /// check it and scans that search it.
    pub fn scan_everything(&self, mut visit: impl FnMut(Family, &[u8], &[u8])) -> Result<(), ReadError> {
        self.disk.read(&mut |disk: &dyn DiskRead| {
            for family in Family::ALL {
                let scanned = disk.scan(family, &[], &mut |key, value| {
                    visit(family, key, value);
                    ControlFlow::Continue(())
                });
                if let Err(error) = scanned {
                    tracing::warn!(%error, family = family.name(), "a family could not be scanned");
                }
            }
        })?;
        Ok(())
    }

    /// Where the replica stands.
    pub fn state(&self) -> Arc<State> {
        self.shared.state.load_full()
    }

    /// Where the replica stands once everything that was queued before has its outcome. A batch that failed may be on
    /// the disk all the same, which only opening it again tells: this waits for that, however often it fails, unless
    /// the store is closed.
    pub async fn outcome(&self) -> Arc<State> {
        loop {
            let (tell, told) = oneshot::channel();
            let mark = Work::Mark(Box::new(move |outcome| {
                let _ = tell.send(outcome.is_ok());
            }));
            // Not told, or of a failure: the disk is opened again.
            if self.shared.queue.push(mark).is_err() || told.await == Ok(true) {
                return self.state();
            }
        }
    }

    /// Returns when `seen` says so, which is asked now and after each commit.
    pub async fn wait_until(&self, seen: impl Fn(&Store) -> bool) {
        let mut moved = self.shared.moved.subscribe();
        // The sender is in what this handle holds, so it does not end before.
        while !seen(self) && moved.changed().await.is_ok() {}
    }

    /// Why local writes are refused now, if they are.
    pub fn refuses(&self) -> Option<String> {
        match self.space() {
            Space::Full => Some("it is full".to_owned()),
            Space::Enough | Space::NearlyFull => self
                .shared
                .queue
                .refuses()
                .or_else(|| lock(&self.shared.failing).clone()),
        }
    }

    /// Refuses local writes from now on with this reason, or takes them again: the site's clock cannot be trusted.
    pub fn withhold_writes(&self, why: Option<String>) {
        *lock(&self.shared.withheld) = why;
    }

    /// The wall clock, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    /// What the disk has room for.
    pub fn space(&self) -> Space {
        self.shared.space()
    }

    /// Bytes on the disk, roughly.
    pub fn bytes_used(&self) -> u64 {
        self.disk.bytes_used()
    }

    /// What it has done since it was opened.
    pub fn counters(&self) -> StoreCounters {
        self.shared.history.counters()
    }

    /// Commits what waits, then closes. Other handles neither write nor read from then on.
    pub fn close(&self) {
        self.thread.end();
        self.shared.cuts_ended.store(true, Ordering::Relaxed);
        self.disk.close();
    }
}

impl CommitterThread {
    fn end(&self) {
        self.shared.queue.close();
        let handle = lock(&self.handle).take();
        if let Some(handle) = handle
            && handle.join().is_err()
        {
            tracing::error!("the committer's thread panicked");
        }
    }
}

impl Drop for CommitterThread {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn of(ledger: &Ledger) -> State {
        State {
            start: ledger.start(),
            own_starts: ledger.own_starts().to_vec(),
            vector: ledger.vector().clone(),
            trimmed: ledger.trimmed().clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to nothing: a store that is alone.
struct Nobody;

impl Listener for Nobody {
    fn committed(&self, _: &CommittedGroup) {}
    fn restarted(&self, _: Writer, _: &[Writer], _: &Vector) {}
    fn lost(&self, _: Dot) {}
}

impl Shared {
    fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    fn seed(&self) -> [u8; 32] {
        lock(&self.random).random()
    }

    fn listener(&self) -> &dyn Listener {
        self.listener.get().map_or(&Nobody, |listener| &**listener)
    }

    fn space(&self) -> Space {
        **self.space.load()
    }

    fn set_space(&self, space: Space) {
        if self.space() != space {
            tracing::warn!(?space, "the room on the disk has changed");
            self.space.store(Arc::new(space));
        }
    }

    fn publish(&self, ledger: &Ledger) {
        self.state.store(Arc::new(State::of(ledger)));
        self.moved.send_replace(());
    }

    /// Whether what is on the disk is known: not between a batch that failed and the next start.
    fn must_be_open(&self) -> Result<(), String> {
        match &*lock(&self.failing) {
            Some(why) => Err(format!("the disk fails: {why}")),
            None => Ok(()),
        }
    }

    fn set_failing(&self, why: Option<String>) {
        *lock(&self.failing) = why;
    }
}
