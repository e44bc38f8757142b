//! The one thread that writes: takes what waits, commits it as one group, tells those who wait.
//!
//! While one group is being synced the next one gathers, so the disk's latency, not the number of writers, sets the
//! size of a group (group commit). After a failed batch the writer has ended: the disk is reopened and a new start
//! begins, with nothing carried over in memory.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Shared,
    disk::{Disk, DiskError},
    ledger::{Answers, Beginning, Committed, Ledger, LedgerError, Work},
    snapshot::{self, Install, InstallError},
    space::{Reserve, Space},
    txn::TransactError,
};

/// Local writes that may wait. More are refused at once: their callers time out anyway.
const LOCAL_WAITING_MAX: usize = 4096;
/// Works in one group: bounds the time that a batch takes, and with it the latency of whoever is in it.
const GROUP_MAX: usize = 256;
/// Between two tries to reopen a disk that failed.
const REOPEN_AFTER: Duration = Duration::from_millis(500);
/// How often expired cells are swept and the room on the disk is looked at, when nothing is written.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// Groups between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What waits for the committer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    works: VecDeque<Work>,
    local: usize,
    begin_again: Option<Beginning>,
    install: VecDeque<Install>,
    closed: bool,
    /// Why local writes are refused now, if they are.
    refused: Option<String>,
}

enum Next {
    Group(Vec<Work>),
    BeginAgain(Beginning),
    Install(Install),
    Idle,
    Closed,
}

impl Queue {
    /// Adds something to commit. Local writes are refused when too many wait, or while the disk is closed.
    pub(super) fn push(&self, work: Work) -> Result<(), TransactError> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(TransactError::NotWritable("it is shutting down".into()));
        }
        if matches!(work, Work::Local(_)) {
            if let Some(why) = &waiting.refused {
                return Err(TransactError::NotWritable(why.clone()));
            }
            if waiting.local == LOCAL_WAITING_MAX {
                return Err(TransactError::Busy);
            }
            waiting.local += 1;
        }
        waiting.works.push_back(work);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Asks for a new start of the replica.
    pub(super) fn begin_again(&self, beginning: Beginning) {
        let mut waiting = self.waiting();
        // One that waits already must not be lost: what either asks for is done.
        waiting.begin_again = Some(match waiting.begin_again {
            None => beginning,
            Some(earlier) => Beginning {
                past_epoch: earlier.past_epoch.max(beginning.past_epoch),
                new_replica: earlier.new_replica || beginning.new_replica,
                unless_here: earlier.unless_here.and(beginning.unless_here),
            },
        });
        drop(waiting);
        self.wake.notify_one();
    }

    /// Asks for the copy that has come to be installed. Nobody is told if nothing is installed any more.
    pub(super) fn install(&self, install: Install) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            waiting.install.push_back(install);
            self.wake.notify_one();
        }
    }

    /// Why local writes are refused now, if they are.
    pub(super) fn refuses(&self) -> Option<String> {
        self.waiting().refused.clone()
    }

    /// What waits is still committed; nothing more is taken.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.wake.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Next {
        let mut waiting = self.waiting();
        loop {
            if let Some(beginning) = waiting.begin_again.take() {
                return Next::BeginAgain(beginning);
            }
            if let Some(install) = waiting.install.pop_front() {
                return Next::Install(install);
            }
            if !waiting.works.is_empty() {
                let count = waiting.works.len().min(GROUP_MAX);
                let group: Vec<Work> = waiting.works.drain(..count).collect();
                waiting.local -= group.iter().filter(|work| matches!(work, Work::Local(_))).count();
                return Next::Group(group);
            }
            if waiting.closed {
                return Next::Closed;
            }
            let (guard, timeout) = self
                .wake
                .wait_timeout(waiting, IDLE_LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
            if timeout.timed_out() {
                return Next::Idle;
            }
        }
    }

    /// Drops what was delivered from elsewhere: it follows what a failed batch lost, and is asked for again.
    fn drop_remote(&self) {
        self.waiting()
            .works
            .retain(|work| matches!(work, Work::Local(_) | Work::Sweep));
    }

    /// The committer is gone: whoever waits learns it, and nobody waits any more.
    fn end(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.works.clear();
        waiting.install.clear();
        waiting.local = 0;
    }

    /// Drops everything that waits: its callers learn that nothing was written. From now on local writes are
    /// refused with `why`, or taken again.
    fn refuse(&self, why: Option<String>) {
        let mut waiting = self.waiting();
        if why.is_some() {
            waiting.works.clear();
            waiting.local = 0;
        }
        waiting.refused = why;
    }

    /// Waits for a while, less if the queue is closed. True if it is.
    fn pause(&self, length: Duration) -> bool {
        let waiting = self.waiting();
        let (guard, _) = self
            .wake
            .wait_timeout_while(waiting, length, |waiting| !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        guard.closed
    }
}

/// The committer's thread from first to last.
pub(super) struct Committer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) shared: Arc<Shared>,
    pub(super) reserve: Option<Reserve>,
    pub(super) ledger: Ledger,
    /// Batches that failed since the last that did not.
    pub(super) failures: u32,
}

/// After so many failed batches in a row the replica takes a rest between them, and says that it is not well.
const FAILURES_MAX: u32 = 3;

/// Ends the queue with its committer, also when that panics.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.queue.end();
    }
}

impl Committer {
    pub(super) fn run(mut self) {
        let _ending = Ending(self.shared.clone());
        let mut swept_ms = self.shared.now_ms();
        loop {
            match self.shared.queue.next() {
                Next::Group(group) => {
                    if !self.commit(group) {
                        return;
                    }
                }
                Next::BeginAgain(Beginning {
                    unless_here: Some(dot),
                    ..
                }) if self.ledger.vector().covers(&dot) => {}
                Next::BeginAgain(beginning) => {
                    if let Some(dot) = beginning.unless_here {
                        self.shared.listener().lost(dot);
                    }
                    if !self.begin_again(beginning) {
                        return;
                    }
                }
                Next::Install(tell) => {
                    let (installed, running) = self.install();
                    let _ = tell.send(installed);
                    if !running {
                        return;
                    }
                }
                Next::Idle => {}
                Next::Closed => return,
            }
            let space = self.reserve.as_mut().map_or(Space::Enough, Reserve::look);
            self.shared.set_space(space);
            if self.shared.now_ms().saturating_sub(swept_ms) > SWEEP_EVERY.as_millis() as u64 {
                swept_ms = self.shared.now_ms();
                self.shared.checkpoints.expire(swept_ms);
                if !self.commit(vec![Work::Sweep]) {
                    return;
                }
            }
        }
    }

    /// Commits a group; false if the thread is to end.
    fn commit(&mut self, group: Vec<Work>) -> bool {
        let now_ms = self.shared.now_ms();
        let (ledger, space) = (&mut self.ledger, self.shared.space());
        let (result, answers) = catch_unwind(AssertUnwindSafe(|| ledger.commit(now_ms, space, group)))
            // Whoever waits is told by the answers that are dropped.
            .unwrap_or_else(|_| (Err(LedgerError::Panicked), Answers::default()));
        match result {
            Ok(mut committed) => {
                if let Some(stable) = committed.trim_on.take() {
                    let _ = self.shared.queue.push(Work::Trim(stable));
                }
                if !committed.moved.is_empty() {
                    self.failures = 0;
                    self.shared.set_failing(None);
                }
                self.publish(&committed);
                answers.tell();
                true
            }
            Err(error) => {
                answers.tell();
                tracing::error!(%error, "a batch failed; its writer has ended");
                if matches!(error, LedgerError::Disk(DiskError::Full)) {
                    if let Some(reserve) = &mut self.reserve {
                        reserve.give_up();
                    }
                    self.shared.checkpoints.give_up();
                    self.shared.set_space(Space::Full);
                }
                self.shared.count_failed_batch();
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    self.shared.set_failing(Some(error.to_string()));
                    if self.shared.queue.pause(REOPEN_AFTER) {
                        return false;
                    }
                }
                self.begin_again(Beginning::default())
            }
        }
    }

    /// Puts the copy that has come in the place of everything; also says whether the thread is to go on.
    fn install(&mut self) -> (Result<(), InstallError>, bool) {
        let ready = || {
            let copy = self.disk.arrived()?.ok_or(InstallError::NotHere)?;
            if !copy.vector.covers_vector(self.ledger.vector()) {
                let transactions = self.ledger.vector().missing_from(&copy.vector);
                return Err(InstallError::Lacks { transactions });
            }
            let (starts, clock) = (self.ledger.own_starts(), self.ledger.clock().clone());
            let own = snapshot::own(&copy, starts, clock, self.shared.now_ms())?;
            Ok((copy, own))
        };
        let (copy, own) = match ready() {
            Ok(ready) => ready,
            Err(error) => return (Err(error), true),
        };
        let before = self.ledger.start().replica;
        let installed = self.disk.install(&copy, &own);
        // Whatever the disk answered, what is found on reopening is what happened: a copy has no replica id.
        if !self.begin_again(Beginning::default()) {
            return (Err(InstallError::Closed), false);
        }
        match installed {
            Err(error) if self.ledger.start().replica == before => (Err(error.into()), true),
            _ => (Ok(()), true),
        }
    }

    fn publish(&mut self, committed: &Committed) {
        if committed.moved.is_empty() && committed.trimmed.is_none() && committed.rejected.is_empty() {
            return;
        }
        self.shared.publish(&self.ledger);
        self.shared.count(committed);
        self.shared.listener().committed(committed);
    }

    /// Reopens the disk and begins a new start, however long that takes. False if the queue was closed meanwhile.
    fn begin_again(&mut self, beginning: Beginning) -> bool {
        loop {
            let opened = self
                .disk
                .reopen()
                .map_err(LedgerError::from)
                .and_then(|()| Ledger::open(self.disk.clone(), beginning, self.shared.seed()));
            match opened {
                Ok(ledger) => {
                    self.ledger = ledger;
                    self.shared.publish(&self.ledger);
                    self.shared.queue.refuse(None);
                    self.shared.queue.drop_remote();
                    self.shared.listener().restarted(
                        self.ledger.start(),
                        self.ledger.own_starts(),
                        self.ledger.vector(),
                    );
                    return true;
                }
                Err(error) => {
                    tracing::error!(%error, "the disk could not be reopened; trying again");
                    self.shared.queue.refuse(Some(error.to_string()));
                    if let (LedgerError::Disk(DiskError::Full), Some(reserve)) = (&error, &mut self.reserve) {
                        reserve.give_up();
                    }
                    if self.shared.queue.pause(REOPEN_AFTER) {
                        return false;
                    }
                }
            }
        }
    }
}
