//! A replica's commits, as its committer makes them: works wait in a queue, a group of them becomes a batch, and the batch takes
//! its time. One that fails has the store opened anew, by a new writer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gossip::{Dot, Input, Received, Writer};

use super::{
    deeds::{Deed, Outcome},
    process::Waiting,
    trouble::Kind,
    world::{Happening, World},
};
use crate::store::{
    Beginning, CommittedGroup as Committed, KeepLog, Keeping, Ledger, LedgerError, Ruling, Space, Task, Txn,
    disk::{Disk, DiskError},
};

/// Works in one group, as the committer takes them.
const GROUP_MAX: usize = 256;
/// Between two tries to open a disk that failed.
pub(crate) const REOPEN_AFTER: Duration = Duration::from_millis(500);
/// How long an answer waits for a second site.
const DURABILITY_TIMEOUT: Duration = Duration::from_millis(500);

impl World {
    /// Puts a person's write into the committer's queue.
    pub(crate) fn write(&mut self, at: usize, id: u64, deed: Deed) {
        if let Some(running) = &mut self.processes[at].running {
            let told = Arc::clone(&running.told);
            running
                .queue
                .push_back(Task::Local(Box::new(move |txn: &mut Txn<'_>| {
                    let refused = deed.write(txn);
                    Ruling {
                        keep: refused.is_none(),
                        finish: Box::new(move |done| {
                            let outcome = match (refused, done) {
                                (Some(why), _) => Outcome::Refused(why),
                                (None, Ok(written)) => Outcome::Done(written.dot),
                                (None, Err(error)) => Outcome::Failed(error),
                            };
                            lock(&told).push((id, outcome));
                        }),
                    }
                })));
        }
        self.commit_soon(at);
    }

    pub(crate) fn commit_soon(&mut self, at: usize) {
        let process = &mut self.processes[at];
        let Some(running) = &mut process.running else {
            return;
        };
        if running.ledger.is_some() && !std::mem::replace(&mut running.committing, true) {
            let takes = self.rng.ms(process.batch_ms / 2, process.batch_ms);
            let life = process.life;
            self.after(takes, Happening::Commit { at, life });
        }
    }

    /// The batch under way is on the disk now, or is not.
    pub(crate) fn commit(&mut self, at: usize, life: u64) {
        if self.processes[at].life != life {
            return;
        }
        let now_ms = self.wall_ms(at);
        self.checks.batch_made(now_ms);
        gossip::planted::write_as_newer(self.processes[at].newer);
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        running.committing = false;
        if let Some(beginning) = running.begin_again.take() {
            let ledger = running.ledger.as_ref();
            if ledger.is_none_or(|ledger| !beginning.is_done(ledger.start(), ledger.vector())) {
                self.reopen(at, beginning);
                return;
            }
        }
        let Some(ledger) = &mut running.ledger else { return };
        let group = next_group(ledger, &mut running.queue);
        if group.is_empty() {
            return;
        }
        let received: Vec<Received> = group
            .iter()
            .filter_map(|task| match task {
                Task::Remote(received) => Some(received.clone()),
                _ => None,
            })
            .collect();
        let staged = group.iter().filter_map(Staged::of).collect::<Vec<_>>();
        let start = ledger.start();
        let (result, answers) = ledger.commit(now_ms, running.space, group);
        let told = Arc::clone(&running.told);
        match result {
            Ok(mut committed) => {
                running.queue.extend(committed.trim_on.take().map(Task::Trim));
                self.tally.count(
                    "repairs that waited for their cut",
                    committed.waiting.len() as u64,
                );
                for repair in std::mem::take(&mut committed.waiting) {
                    running.waiting_repairs.keep(now_ms, repair);
                }
                for repair in running.waiting_repairs.covered(now_ms, ledger.vector()) {
                    running.queue.push_back(Task::Repair { repair, kept: None });
                }
                let merging = ledger.is_merging();
                running.settlement.committed(&committed, ledger.vector());
                if let Some(report) = &committed.scrubbed {
                    self.processes[at].scrubbed += 1;
                    self.tally.count("times that everything was read again", 1);
                    self.tally.count(
                        "values that a scrub found wrong",
                        report.mended + report.damaged + report.unreadable,
                    );
                }
                self.not_gone(at, &committed.unsettled.cancelled);
                let members = committed.cluster_changed;
                answers.tell();
                let dots = in_order(staged, &committed, &lock(&told));
                self.committed(at, start, &committed, &dots, &received);
                self.heed(at, &told);
                let kept = self.processes[at]
                    .running
                    .as_ref()
                    .map(|running| Arc::clone(&running.kept));
                if members {
                    self.members_may_have_changed(at);
                }
                if committed.caught_up {
                    self.caught_up(at);
                } else if committed.catch_up_failed {
                    self.catch_up_failed(at);
                } else {
                    let (moved, local) = (committed.moved, committed.local);
                    if !moved.is_empty() {
                        self.input(at, Input::Committed { moved, local });
                    }
                    if let Some(trimmed) = committed.trimmed {
                        self.input(at, Input::Trimmed(trimmed));
                    }
                }
                if !committed.rejected.is_empty() {
                    self.input(at, Input::Rejected(committed.rejected));
                }
                if let Some(kept) = kept {
                    self.parts_kept(&kept);
                }
                if self.processes[at]
                    .running
                    .as_ref()
                    .is_some_and(|running| merging || !running.queue.is_empty())
                {
                    self.commit_soon(at);
                }
            }
            Err(error) => {
                answers.tell();
                self.heed(at, &told);
                if let Some(kept) = self.processes[at]
                    .running
                    .as_ref()
                    .map(|running| Arc::clone(&running.kept))
                {
                    self.parts_kept(&kept);
                }
                self.batch_failed(at, start, &error);
                self.reopen(at, Beginning::default());
            }
        }
    }

    /// What the people who wrote were told.
    fn heed(&mut self, at: usize, told: &Mutex<Vec<(u64, Outcome)>>) {
        let told = std::mem::take(&mut *lock(told));
        for (id, outcome) in told {
            if let Outcome::Done(Some(dot)) = outcome {
                let until = self.now + DURABILITY_TIMEOUT;
                if let Some(running) = &mut self.processes[at].running {
                    running.waiting.push(Waiting { deed: id, dot, until });
                }
                let life = self.processes[at].life;
                self.after(DURABILITY_TIMEOUT, Happening::Tick { at, life });
            }
            self.deed_told(at, id, outcome);
        }
    }

    fn batch_failed(&mut self, at: usize, start: Writer, error: &LedgerError) {
        self.tally.count("batches that failed", 1);
        let name = &self.processes[at].name;
        self.story
            .tell(self.now, || format!("{name}: a batch fails: {error}"));
        self.checks.failed(start);
        if let (Some(running), LedgerError::Disk(DiskError::Full)) = (&mut self.processes[at].running, error)
        {
            running.space = Space::Full;
            self.tally.fault(Kind::FullDisk);
        }
    }

    /// The store is opened anew: nothing in memory survives, a new writer begins.
    pub(crate) fn reopen(&mut self, at: usize, beginning: Beginning) {
        let seed = self.rng.bytes();
        let keeping = self.keeping();
        let process = &mut self.processes[at];
        let Some(running) = &mut process.running else {
            return;
        };
        running.committing = false;
        running.waiting.clear();
        let before = running.ledger.take().map(|ledger| ledger.vector().clone());
        let disk = process.disk.clone();
        let reopened = disk.reopen().map_err(LedgerError::from);
        if let (Ok(()), Some(vector)) = (&reopened, before) {
            self.landed(at, &vector);
        }
        let opened = reopened.and_then(|()| Ledger::open(Arc::new(disk), beginning, keeping, seed));
        let process = &mut self.processes[at];
        let Some(running) = &mut process.running else {
            return;
        };
        match opened {
            Ok(ledger) => {
                running
                    .queue
                    .retain(|task| matches!(task, Task::Local(_) | Task::Sweep));
                let input = Input::Restarted {
                    start: ledger.start(),
                    own_starts: ledger.own_starts().to_vec(),
                    vector: ledger.vector().clone(),
                };
                // With a peer's copy installed the log begins where that peer's does.
                let trimmed = Input::Trimmed(ledger.trimmed().clone());
                let waits = !running.queue.is_empty() || ledger.is_merging();
                let (name, start) = (&process.name, ledger.start());
                self.story
                    .tell(self.now, || format!("{name} begins again as {start}"));
                self.opened(at, &ledger);
                let process = &mut self.processes[at];
                if let Some(running) = &mut process.running {
                    running.ledger = Some(ledger);
                    // As a site looks every second: a batch that failed as if there were none says nothing of the room there is.
                    if !process.disk.is_limited() {
                        running.space = Space::Enough;
                    }
                }
                self.input(at, input);
                self.input(at, trimmed);
                self.members_may_have_changed(at);
                self.nothing_settled(at);
                self.parts_dropped(at);
                if waits {
                    self.commit_soon(at);
                }
            }
            Err(error) => {
                running.queue.clear();
                running.begin_again = Some(beginning);
                let life = process.life;
                self.story.tell(self.now, || {
                    format!("{} cannot open its disk: {error}", process.name)
                });
                self.after(REOPEN_AFTER, Happening::Reopen { at, life });
                self.parts_dropped(at);
            }
        }
    }

    /// What was on its way to the disk when that was reopened is not kept.
    fn parts_dropped(&mut self, at: usize) {
        if let Some(kept) = self.processes[at]
            .running
            .as_ref()
            .map(|running| Arc::clone(&running.kept))
        {
            self.parts_kept(&kept);
        }
    }

    pub(crate) fn try_reopening(&mut self, at: usize, life: u64) {
        if self.processes[at].life == life
            && let Some(running) = &mut self.processes[at].running
            && running.ledger.is_none()
        {
            let beginning = running.begin_again.take().unwrap_or_default();
            self.reopen(at, beginning);
        }
    }

    /// How replicas keep their logs in this world.
    pub(crate) fn keeping(&self) -> Keeping {
        Keeping {
            log: if self.options.trims {
                KeepLog::Unstable
            } else {
                KeepLog::Everything
            },
            log_bytes_max: self.options.log_bytes_max,
            merge_entries_max: 3,
            ..Keeping::default()
        }
    }

    /// All that a catch-up brought is merged.
    pub(crate) fn caught_up(&mut self, at: usize) {
        let Some(ledger) = self.processes[at]
            .running
            .as_ref()
            .and_then(|running| running.ledger.as_ref())
        else {
            return;
        };
        let (vector, trimmed) = (ledger.vector().clone(), ledger.trimmed().clone());
        self.tally.count("catch-ups that were merged", 1);
        if let Some(numbers) = self.checks.tracks[at].coming.take() {
            self.checks.caught_up(at, &numbers);
        }
        self.look_if_told(at);
        self.input(at, Input::CaughtUp { vector, trimmed });
    }

    /// What a catch-up brought could not be read back: all is as before, and another one has to come.
    pub(crate) fn catch_up_failed(&mut self, at: usize) {
        let running = self.processes[at].running.as_ref();
        let Some(ledger) = running.and_then(|running| running.ledger.as_ref()) else {
            return;
        };
        let (vector, trimmed) = (ledger.vector().clone(), ledger.trimmed().clone());
        self.tally.count("catch-ups that could not be merged", 1);
        self.checks.tracks[at].coming = None;
        self.input(at, Input::CaughtUp { vector, trimmed });
    }
}

/// A work of a group that may leave a transaction.
enum Staged {
    /// A person's write: which transaction it is, if any, its answer tells.
    Local,
    Remote(Dot),
}

impl Staged {
    fn of(task: &Task) -> Option<Staged> {
        match task {
            Task::Local(_) => Some(Staged::Local),
            Task::Remote(received) => Some(Staged::Remote(received.envelope.dot)),
            _ => None,
        }
    }
}

/// The transactions of a batch as they were staged: each one's writer saw those before it.
fn in_order(staged: Vec<Staged>, committed: &Committed, told: &[(u64, Outcome)]) -> Vec<Dot> {
    let mut answers = told.iter().map(|(_, outcome)| match outcome {
        Outcome::Done(dot) => *dot,
        _ => None,
    });
    let (mut rejected, mut remote) = (committed.rejected.clone(), committed.remote.clone());
    let dot = |staged| match staged {
        Staged::Local => answers.next().flatten(),
        // One that came more than once was rejected until it was next, and counts no more after that.
        Staged::Remote(dot) if take(&mut rejected, dot) => None,
        Staged::Remote(dot) => take(&mut remote, dot).then_some(dot),
    };
    staged.into_iter().filter_map(dot).collect()
}

fn take(dots: &mut Vec<Dot>, dot: Dot) -> bool {
    let place = dots.iter().position(|one| *one == dot);
    place.map(|place| dots.remove(place)).is_some()
}

fn lock(told: &Mutex<Vec<(u64, Outcome)>>) -> MutexGuard<'_, Vec<(u64, Outcome)>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is committed next. What a catch-up brought comes before anything else.
pub(crate) fn next_group(ledger: &Ledger, queue: &mut VecDeque<Task>) -> Vec<Task> {
    if ledger.is_merging() {
        return vec![Task::MergeAside];
    }
    // Reading again is alone in its group.
    let is_scrub = |task: &Task| matches!(task, Task::Scrub { .. });
    let count = match queue.iter().position(is_scrub) {
        Some(0) => 1,
        Some(place) => place,
        None => queue.len(),
    };
    queue.drain(..count.min(GROUP_MAX)).collect()
}
