//! What is done once nothing concurrent is on its way: losers go, and cancelled accounts are forgotten. The site's
//! settler, without its threads.

use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use crdt::AccountId;
use gossip::Vector;

use super::{
    deeds::{Deed, Gone},
    trouble::Kind,
    world::{Happening, World, read_disk, read_records},
};
use crate::store::{Contested, Records, Remains, Task, Unsettled, contested, disk::Disk, stretch};

/// How often what is settled is looked at, while anything waits for it.
pub(crate) const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// Records collapsed in one step.
const READY_MAX: usize = 16;
/// Between two rewritings of a disk.
const REWRITE_EVERY: Duration = Duration::from_secs(3);
/// Between two scans, in worlds whose disks forget.
const SCAN_EVERY: Duration = Duration::from_secs(12);
/// Between two times that what has ended, or was given up, goes from a disk: oftener than in earnest, because storms are short.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Bytes read again in one step, in worlds whose disks forget.
const SCRUB_BYTES: u64 = 64 * 1024;

impl World {
    /// A start begins: what earlier ones were told is found again.
    pub(crate) fn nothing_settled(&mut self, at: usize) {
        if let Some(running) = &mut self.processes[at].running
            && let Some(ledger) = &running.ledger
        {
            running.settlement.restarted(ledger.vector());
            lock(&running.gone).clear();
        }
        self.scan(at);
    }

    /// Looks for what there is to settle. A commit tells of nearly all of it, but not of what was damaged then.
    fn scan(&mut self, at: usize) {
        let now_ms = self.wall_ms(at);
        let slot = self.processes[at].start().map_or([0; 8], |start| start.replica.0);
        let found = self.on_disk(at, |disk| stretch(disk, slot, now_ms, &[], usize::MAX));
        if let Some(running) = &mut self.processes[at].running
            && let Some(ledger) = &running.ledger
            && let Ok(found) = found
        {
            running.settlement.found(&found.unsettled, ledger.vector());
        }
    }

    pub(crate) fn settled(&mut self, at: usize, settled: Vector) {
        self.tally.count("times that something was settled", 1);
        self.check_settled(at, &settled);
        self.may_have_arrived(at, &settled);
        if let Some(running) = &mut self.processes[at].running {
            running.settlement.settled(settled);
        }
    }

    /// Does what can be done now, and reads a little again where disks forget.
    pub(crate) fn settle_some(&mut self, at: usize, life: u64) {
        if self.processes[at].life != life {
            return;
        }
        self.after(SETTLE_EVERY, Happening::Settle { at, life });
        self.members_may_have_changed(at);
        let forgets = self.options.troubles.contains_key(&Kind::BitFlip);
        if forgets && self.now.as_secs().is_multiple_of(SCAN_EVERY.as_secs()) {
            self.scan(at);
        }
        if self.now.as_secs().is_multiple_of(SWEEP_EVERY.as_secs())
            && let Some(running) = &mut self.processes[at].running
            && running.ledger.is_some()
        {
            running.queue.push_back(Task::Sweep);
            self.commit_soon(at);
        }
        if forgets
            && let Some(running) = &mut self.processes[at].running
            && !running
                .queue
                .iter()
                .any(|task| matches!(task, Task::Scrub { .. }))
        {
            let (bytes, anew) = (SCRUB_BYTES, false);
            running.queue.push_back(Task::Scrub { bytes, anew });
            self.commit_soon(at);
        }
        self.collapse_some(at);
        self.erase_some(at);
    }

    /// Collapses what is ready, if that is this site's; forgets what has no losers any more.
    pub(crate) fn collapse_some(&mut self, at: usize) {
        let now_ms = self.wall_ms(at);
        let disk = self.processes[at].disk.clone();
        let serves = self.processes[at].serves();
        let own = crdt::MemberId::from_bytes(self.processes[at].member.0);
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        let ready = running.settlement.ready(READY_MAX, now_ms);
        let Some(ledger) = running.ledger.as_ref().filter(|_| !ready.is_empty()) else {
            return;
        };
        let read = read_records(&disk, |records| {
            let now = ready
                .iter()
                .map(|ready| contested(records, ready.contested.key))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((records.cluster()?, now))
        });
        let Ok((cluster, now)) = read else { return };
        let mut collapses: Vec<Contested> = Vec::new();
        for (ready, now) in ready.into_iter().zip(now) {
            match now {
                None => running.settlement.forget(ready.contested),
                Some(now) if now != ready.contested => {
                    let found = Unsettled {
                        contested: vec![now],
                        cancelled: Vec::new(),
                    };
                    running.settlement.found(&found, ledger.vector());
                }
                Some(now) if serves && ready.is_for(own, &cluster) => collapses.push(now),
                Some(_) => {}
            }
        }
        for ready in collapses {
            self.do_now(at, Deed::Collapse(ready));
        }
    }

    /// Moves the erasures on, rewrites the disk if any wait for that, and gives receipts.
    fn erase_some(&mut self, at: usize) {
        let now_ms = self.wall_ms(at);
        let now = self.now;
        let disk = self.processes[at].disk.clone();
        let serves = self.processes[at].serves();
        let member = crdt::MemberId::from_bytes(self.processes[at].member.0);
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        let settlement = &mut running.settlement;
        let remains = if settlement.asks_for_remains() {
            match read_disk(&disk, Remains::of) {
                Ok(remains) => Some(remains),
                Err(_) => return,
            }
        } else {
            None
        };
        settlement.advance(remains.as_ref(), now_ms);
        let due = settlement.erasures().due();
        let is_time = running.rewritten.is_none_or(|then| now >= then + REWRITE_EVERY);
        if !due.is_empty() && is_time {
            running.rewritten = Some(now);
            if disk.compact().is_err() {
                return;
            }
            self.tally.count("times that a disk was rewritten", 1);
            running.settlement.erasures().rewritten(&due, disk.copies());
        }
        let accounts = running.settlement.erasures().forgotten(&disk.copies());
        let gone = Arc::clone(&running.gone);
        lock(&gone).extend(&accounts);
        if !accounts.is_empty() && serves {
            let deed = Deed::Receipts {
                member,
                accounts,
                gone,
            };
            self.do_now(at, deed);
        }
    }

    /// A commit cancelled these accounts, or brought something of them.
    pub(crate) fn not_gone(&mut self, at: usize, accounts: &[AccountId]) {
        if let Some(running) = &self.processes[at].running {
            lock(&running.gone).retain(|account| !accounts.contains(account));
        }
    }

    /// Receipts are on the disk.
    pub(crate) fn receipted(&mut self, at: usize, accounts: &[AccountId]) {
        if let Some(running) = &mut self.processes[at].running {
            for account in accounts {
                running.settlement.erasures().end(*account);
            }
        }
        self.receipts_given(at, accounts);
    }
}

fn lock(gone: &Gone) -> MutexGuard<'_, BTreeSet<AccountId>> {
    gone.lock().unwrap_or_else(PoisonError::into_inner)
}
