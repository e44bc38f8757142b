//! Does in a site what the settlement comes to: collapses, rewrites the disk, gives receipts, and scans for what
//! earlier starts were told.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crdt::{AccountId, MemberId};
use gossip::Vector;
use tokio::sync::Notify;

use super::{
    Settlement, WaitsFor,
    collapse::{self, Collapse},
    copies::Directories,
    receipts::{self, ErasureReport},
};
use crate::{
    members::features,
    store::{CommittedGroup, Contested, ReadError, Records, Store, TransactError, Unsettled, contested},
};

/// Records collapsed, or looked at again, in one step.
const READY_MAX: usize = 64;
/// Records in one stretch of the scan: some milliseconds of reading.
const STRETCH_RECORDS: usize = 1_000;
/// Between two stretches, so that a scan is no load: two million records take ten minutes.
const STRETCH_REST: Duration = Duration::from_millis(250);
/// Between two scans. A commit tells of nearly all that there is to settle; what a damaged record or a full list hid
/// is found by these.
const SCAN_EVERY_MS: u64 = 6 * 60 * 60 * 1000;
/// How often what waits for a moment, and not for a commit, is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Rewriting the disk that takes longer than this is told, and again after as long.
const REWRITES_LONG: Duration = Duration::from_secs(30 * 60);
/// Receipts in one transaction: some 10 KB.
const RECEIPTS_MAX: usize = 100;

/// What the committer and the gossip have told, for the settler to act on. Telling never waits for the disk.
#[derive(Debug, Default)]
pub struct Told {
    settlement: Mutex<Settlement>,
    /// [`Settlement::raised`], for the committer's thread to compare.
    raised: AtomicU64,
    /// The scan is to begin again.
    scan_anew: Mutex<bool>,
    wake: Notify,
}

impl Told {
    /// A group was committed; the vector is this since. From the committer's thread, before the next group.
    pub fn committed(&self, group: &CommittedGroup, vector: &Vector) {
        let mut settlement = self.settlement();
        let more = settlement.committed(group, vector);
        self.raised.store(settlement.raised(), Ordering::Release);
        drop(settlement);
        if more {
            self.wake.notify_one();
        }
    }

    /// The replica began a new start at this vector.
    pub fn restarted(&self, vector: &Vector) {
        let mut settlement = self.settlement();
        settlement.restarted(vector);
        self.raised.store(settlement.raised(), Ordering::Release);
        drop(settlement);
        *lock(&self.scan_anew) = true;
        self.wake.notify_one();
    }

    /// Nothing concurrent with this is on its way any more.
    pub fn settled(&self, settled: Vector) {
        if self.settlement().settled(settled) {
            self.wake.notify_one();
        }
    }

    /// Records with losers, and cancelled accounts without a receipt, that are known of.
    pub fn counts(&self) -> (usize, usize) {
        self.settlement().counts()
    }

    fn settlement(&self) -> MutexGuard<'_, Settlement> {
        lock(&self.settlement)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a step was not finished. Nothing is lost: the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum SettlerError {
    /// The store could not be read, or not be rewritten.
    #[error("reading: {0}")]
    Read(#[from] ReadError),
    /// It does not write now.
    #[error("writing: {0}")]
    Write(#[from] TransactError),
    /// The data directory could not be read.
    #[error("looking for copies in the data directory: {0}")]
    Copies(#[from] io::Error),
    /// A thread ended.
    #[error("a thread that read or rewrote the disk ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Settles, in one site.
pub struct Settler {
    store: Store,
    told: Arc<Told>,
    member: MemberId,
    /// Where the store lies, if it lies in a directory.
    directories: Option<Directories>,
    /// Between two rewritings of the disk.
    interval: Duration,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Where the scan goes on; `None` between two scans.
    scan_from: Option<Vec<u8>>,
    scanned_ms: u64,
    rewritten_ms: Option<u64>,
}

impl Settler {
    /// For this member's store, which lies in these directories if it lies in any.
    pub fn new(
        store: Store,
        told: Arc<Told>,
        member: MemberId,
        directories: Option<Directories>,
        interval: Duration,
    ) -> Settler {
        Settler {
            store,
            told,
            member,
            directories,
            interval,
            progress: Mutex::new(Progress {
                scan_from: Some(Vec::new()),
                scanned_ms: 0,
                rewritten_ms: None,
            }),
        }
    }

    /// Returns when there may be something to do.
    pub async fn wait(&self) {
        let scanning = lock(&self.progress).scan_from.is_some();
        let rest = if scanning { STRETCH_REST } else { LOOK_EVERY };
        let _ = tokio::time::timeout(rest, self.told.wake.notified()).await;
    }

    /// Does what can be done now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn step(&self) -> Result<(), SettlerError> {
        self.scan().await?;
        if !self.told.settlement().is_waiting() {
            return Ok(());
        }
        self.retract().await?;
        self.collapse().await?;
        self.erase().await
    }

    /// How far the erasure of an account is; `None` if it is not known here.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn report(&self, account: AccountId) -> Result<Option<ErasureReport>, ReadError> {
        let mut waits_for: WaitsFor = self.told.settlement().waits_for(account);
        if waits_for == WaitsFor::Copies && !self.may_give_receipts()? {
            waits_for = WaitsFor::Finalised;
        }
        self.store
            .read(|records| receipts::report(records, self.member, account, waits_for))?
    }

    /// Takes back what this member said of a disk that it has no more, of accounts that are to be forgotten on this one.
    async fn retract(&self) -> Result<(), SettlerError> {
        let begun = self.told.settlement().erasures().begun();
        if begun.is_empty() {
            return Ok(());
        }
        let (member, slot) = (self.member, self.store.state().start.replica.0);
        let former = self
            .store
            .read(|records| receipts::of_former_disks(records, member, slot, &begun))??;
        for accounts in former.chunks(RECEIPTS_MAX) {
            let accounts = accounts.to_vec();
            self.store
                .transact(move |txn| -> Result<(), TransactError> {
                    Ok(receipts::retract(txn, member, &accounts)?)
                })
                .await?;
        }
        self.told.settlement().erasures().looked_at(&begun);
        Ok(())
    }

    /// Looks at the next stretch, if a scan is under way or due.
    async fn scan(&self) -> Result<(), SettlerError> {
        let now_ms = self.store.now_ms();
        let from = {
            let mut progress = lock(&self.progress);
            let anew = std::mem::take(&mut *lock(&self.told.scan_anew));
            if anew
                || (progress.scan_from.is_none() && has_passed(progress.scanned_ms, SCAN_EVERY_MS, now_ms))
            {
                progress.scan_from = Some(Vec::new());
            }
            progress.scan_from.clone()
        };
        let Some(from) = from else { return Ok(()) };
        let store = self.store.clone();
        let stretch = tokio::task::spawn_blocking(move || store.unsettled(&from, STRETCH_RECORDS)).await??;
        // The vector of after the reading: all that was read is within it.
        let vector = self.store.state();
        self.told.settlement().found(&stretch.unsettled, &vector.vector);
        let mut progress = lock(&self.progress);
        progress.scan_from = stretch.next;
        progress.scanned_ms = now_ms;
        Ok(())
    }

    /// Collapses what is ready, if that is this site's; forgets what has no losers any more.
    async fn collapse(&self) -> Result<(), SettlerError> {
        let now_ms = self.store.now_ms();
        let (ready, raised) = {
            let mut settlement = self.told.settlement();
            (settlement.ready(READY_MAX, now_ms), settlement.raised())
        };
        if ready.is_empty() {
            return Ok(());
        }
        let (cluster, now) = self.store.read(|records| -> Result<_, ReadError> {
            let now: Vec<Option<Contested>> = ready
                .iter()
                .map(|ready| contested(records, ready.contested.key))
                .collect::<Result<_, _>>()?;
            Ok((records.cluster()?, now))
        })??;
        let state = self.store.state();
        for (ready, now) in ready.into_iter().zip(now) {
            match now {
                None => self.told.settlement().forget(ready.contested),
                Some(now) if now != ready.contested => {
                    let unsettled = Unsettled {
                        contested: vec![now],
                        cancelled: Vec::new(),
                    };
                    self.told.settlement().found(&unsettled, &state.vector);
                }
                Some(now) if ready.is_for(self.member, &cluster) => self.collapse_one(now, raised).await?,
                // Its collapse should be on its way from the first site.
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn collapse_one(&self, ready: Contested, raised: u64) -> Result<(), SettlerError> {
        let told = self.told.clone();
        let outcome = self
            .store
            .transact(move |txn| {
                if told.raised.load(Ordering::Acquire) != raised {
                    return Ok(Collapse::Passed);
                }
                collapse::write(txn, ready)
            })
            .await;
        match outcome {
            Ok(written) => match written.value {
                Collapse::Written => {
                    tracing::info!(record = %ready.key, "a record's losers were collapsed");
                    metrics::counter!("persona_collapses_total").increment(1);
                    self.told.settlement().forget(ready);
                }
                // It is looked at again.
                Collapse::Passed => {}
                Collapse::Missing => {
                    tracing::warn!(record = %ready.key, "the value in force is not here; its losers stay");
                    self.told.settlement().forget(ready);
                }
            },
            // This record alone; the others need not wait.
            Err(error @ (TransactError::Invalid { .. } | TransactError::Read(_))) => {
                tracing::warn!(record = %ready.key, %error, "a record's losers could not be collapsed");
                self.told.settlement().forget(ready);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Moves the erasures on, rewrites the disk if any wait for that, and gives receipts.
    async fn erase(&self) -> Result<(), SettlerError> {
        let now_ms = self.store.now_ms();
        let remains = if self.told.settlement().asks_for_remains() {
            let store = self.store.clone();
            Some(tokio::task::spawn_blocking(move || store.remains()).await??)
        } else {
            None
        };
        let due = {
            let mut settlement = self.told.settlement();
            settlement.advance(remains.as_ref(), now_ms);
            // What has just been settled asks for them from now on.
            if remains.is_none() && settlement.asks_for_remains() {
                self.told.wake.notify_one();
            }
            settlement.erasures().due()
        };
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let rewritten_ms = lock(&self.progress).rewritten_ms;
        let is_time = rewritten_ms.is_none_or(|then| has_passed(then, interval_ms, now_ms));
        if !due.is_empty() && is_time {
            // Also when it fails: a disk that cannot be rewritten is not to be busy with nothing else.
            lock(&self.progress).rewritten_ms = Some(now_ms);
            self.rewrite().await?;
        }
        self.give_receipts().await
    }

    async fn rewrite(&self) -> Result<(), SettlerError> {
        let due = self.still_due().await?;
        if due.is_empty() {
            return Ok(());
        }
        let store = self.store.clone();
        let mut rewriting = tokio::task::spawn_blocking(move || store.compact());
        let rewritten = loop {
            match tokio::time::timeout(REWRITES_LONG, &mut rewriting).await {
                Ok(rewritten) => break rewritten?,
                Err(_) => tracing::warn!(
                    minutes = REWRITES_LONG.as_secs() / 60,
                    "the disk is still not rewritten for cancelled accounts: is a backup stuck, that has to be made before?"
                ),
            }
        };
        rewritten.map_err(ReadError::from)?;
        tracing::info!(
            accounts = due.len(),
            "the disk was rewritten for cancelled accounts"
        );
        let copies = self.copies().await?;
        self.still_due().await?;
        self.told.settlement().erasures().rewritten(&due, copies);
        Ok(())
    }

    /// Those that wait for the disk to be rewritten, and nothing has come in their way meanwhile.
    async fn still_due(&self) -> Result<Vec<AccountId>, SettlerError> {
        let store = self.store.clone();
        let remains = tokio::task::spawn_blocking(move || store.remains()).await??;
        let mut settlement = self.told.settlement();
        settlement.erasures().recheck(&remains);
        Ok(settlement.erasures().due())
    }

    async fn give_receipts(&self) -> Result<(), SettlerError> {
        let copies = self.copies().await?;
        let forgotten = self.told.settlement().erasures().forgotten(&copies);
        // Who cannot read a receipt could not go back to where there were none.
        if forgotten.is_empty() || !self.may_give_receipts()? {
            return Ok(());
        }
        for accounts in forgotten.chunks(RECEIPTS_MAX) {
            let (member, told, mut given) = (self.member, self.told.clone(), accounts.to_vec());
            self.store
                .transact(move |txn| -> Result<(), TransactError> {
                    // What was committed while this write waited for its turn may have brought something of one.
                    given.retain(|account| told.settlement().erasures().is_gone(*account));
                    receipts::give(txn, member, &given);
                    Ok(())
                })
                .await?;
            let mut settlement = self.told.settlement();
            for account in accounts {
                settlement.erasures().end(*account);
            }
            drop(settlement);
            tracing::info!(
                accounts = accounts.len(),
                "nothing is left here of cancelled accounts"
            );
            metrics::counter!("persona_erasure_receipts_total").increment(accounts.len() as u64);
        }
        Ok(())
    }

    fn may_give_receipts(&self) -> Result<bool, ReadError> {
        let cluster = self.store.read(|records| records.cluster())??;
        Ok(cluster.finalised(features::ERASURE_RECEIPTS))
    }

    async fn copies(&self) -> Result<BTreeSet<String>, SettlerError> {
        let Some(directories) = self.directories.clone() else {
            return Ok(BTreeSet::new());
        };
        Ok(tokio::task::spawn_blocking(move || directories.copies()).await??)
    }
}

/// Whether so much time has passed, by a wall clock that may have been set back since.
fn has_passed(since_ms: u64, length_ms: u64, now_ms: u64) -> bool {
    now_ms < since_ms || now_ms - since_ms >= length_ms
}
