//! The one thread that writes: takes what waits, commits it as one group, tells those who wait.
//!
//! While one group is being synced the next one gathers, so the disk's latency, not the number of writers, sets the
//! size of a group (group commit). After a failed batch the writer has ended: the disk is reopened and a new start
//! begins, with nothing carried over in memory.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Shared,
    disk::{Disk, DiskError},
    ledger::{Beginning, Keeping, Ledger, LedgerError},
    repair::WaitingRepairs,
    scrub::ScrubReport,
    snapshot::{self, Install, InstallError},
    space::{Reserve, Space},
    txn::TransactError,
    work::{Answers, Committed, Work},
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

/// Bytes read again in one step: some milliseconds of work.
const SCRUB_BYTES: u64 = 32 << 10;
/// However little there is to read, a pass takes some steps: one for each family at least.
const SCRUB_STEPS_MIN: u64 = 16;

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
    disk_closed: bool,
    /// Who waits until everything has been read again.
    scrub: Vec<oneshot::Sender<ScrubReport>>,
    /// One of them came since a pass was last begun.
    scrub_anew: bool,
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
        if waiting.disk_closed && matches!(work, Work::Repair { .. } | Work::Aside { .. }) {
            return Err(TransactError::NotWritable(
                "its disk is being opened again".into(),
            ));
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

    /// Has everything read again, as fast as it goes beside the rest. Nobody is told if the store is closed before.
    pub(super) fn scrub(&self, tell: oneshot::Sender<ScrubReport>) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            waiting.scrub.push(tell);
            waiting.scrub_anew = true;
            self.wake.notify_one();
        }
    }

    /// Everything has been read again.
    fn scrubbed(&self, report: &ScrubReport) {
        for tell in self.waiting().scrub.drain(..) {
            let _ = tell.send(report.clone());
        }
    }

    /// Whether somebody waits for a pass, and whether that one is to begin anew.
    fn scrub_wanted(&self) -> (bool, bool) {
        let mut waiting = self.waiting();
        let anew = std::mem::take(&mut waiting.scrub_anew);
        (!waiting.scrub.is_empty(), anew)
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
            if !waiting.scrub.is_empty() {
                return Next::Idle;
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

    /// Drops what was delivered from elsewhere: it follows what a failed batch lost, and is asked for again. While
    /// the disk is `closed`, states are not taken at all: who brings them holds a snapshot of it, and must let go.
    fn drop_remote(&self, closed: bool) {
        let mut waiting = self.waiting();
        waiting.disk_closed = closed;
        waiting
            .works
            .retain(|work| matches!(work, Work::Local(_) | Work::Sweep | Work::Mark(_)));
    }

    /// The committer is gone: whoever waits learns it, and nobody waits any more.
    fn end(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.works.clear();
        waiting.scrub.clear();
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
    pub(super) keeping: Keeping,
    pub(super) reserve: Option<Reserve>,
    pub(super) ledger: Ledger,
    pub(super) waiting: WaitingRepairs,
    /// When something was last read again, and what there was to read.
    pub(super) scrubbed_ms: u64,
    pub(super) disk_bytes: u64,
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
            // What a catch-up brought comes before anything else.
            while self.ledger.is_merging() {
                if !self.commit(vec![Work::MergeAside]) {
                    return;
                }
            }
            match self.shared.queue.next() {
                Next::Group(group) => {
                    if !self.commit(group) {
                        return;
                    }
                }
                Next::BeginAgain(beginning)
                    if beginning.is_done(self.ledger.start(), self.ledger.vector()) => {}
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
            if !self.scrub() {
                return;
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

    /// Reads a little again, if its time has come; false if the thread is to end.
    fn scrub(&mut self) -> bool {
        let now_ms = self.shared.now_ms();
        let since_ms = now_ms.saturating_sub(self.scrubbed_ms);
        let due = self.keeping.scrub_period.is_some_and(|period| {
            let steps = (self.disk_bytes / SCRUB_BYTES).max(SCRUB_STEPS_MIN);
            since_ms >= period.as_millis() as u64 / steps
        });
        let (wanted, anew) = self.shared.queue.scrub_wanted();
        if !wanted && !due {
            return true;
        }
        self.scrubbed_ms = now_ms;
        self.disk_bytes = self.disk.bytes_used();
        self.commit(vec![Work::Scrub {
            bytes: SCRUB_BYTES,
            anew,
        }])
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
                if let Some(report) = &committed.scrubbed {
                    self.shared.history.scrub_ended(report);
                    self.shared.queue.scrubbed(report);
                }
                for repair in std::mem::take(&mut committed.waiting) {
                    self.waiting.keep(now_ms, repair);
                }
                for repair in self.waiting.covered(now_ms, self.ledger.vector()) {
                    let _ = self.shared.queue.push(Work::Repair { repair, kept: None });
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
                self.shared.history.batch_failed();
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
        let before = self.ledger.start().replica;
        let installed = match snapshot::install(&self.ledger, &*self.disk, self.shared.now_ms()) {
            Ok(installed) => installed,
            Err(error) => return (Err(error), true),
        };
        // Whatever the disk answered, what is found on reopening is what happened: a copy has no replica id yet.
        if !self.begin_again(Beginning::default()) {
            return (Err(InstallError::Closed), false);
        }
        match installed {
            Err(error) if self.ledger.start().replica == before => (Err(error.into()), true),
            _ => (Ok(()), true),
        }
    }

    fn publish(&mut self, committed: &Committed) {
        if committed.moved.is_empty()
            && committed.trimmed.is_none()
            && committed.rejected.is_empty()
            && committed.repaired.is_empty()
            && committed.repaired_in_catch_up == 0
            && committed.unsettled.is_empty()
        {
            return;
        }
        self.shared.publish(&self.ledger);
        self.shared.history.committed(committed, self.shared.now_ms());
        self.shared.listener().committed(committed);
    }

    /// Reopens the disk and begins a new start, however long that takes. False if the queue was closed meanwhile.
    fn begin_again(&mut self, beginning: Beginning) -> bool {
        // Whoever reads for long gives the disk back, so that it can be closed and opened.
        self.shared.cuts_ended.store(true, Ordering::Relaxed);
        self.shared.queue.drop_remote(true);
        loop {
            let opened =
                self.disk.reopen().map_err(LedgerError::from).and_then(|()| {
                    Ledger::open(self.disk.clone(), beginning, self.keeping, self.shared.seed())
                });
            match opened {
                Ok(ledger) => {
                    self.shared.cuts_ended.store(false, Ordering::Relaxed);
                    self.ledger = ledger;
                    self.shared.publish(&self.ledger);
                    self.shared.queue.refuse(None);
                    self.shared.queue.drop_remote(false);
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
