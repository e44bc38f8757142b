//! What the store has done since it was opened, for people to read: counts, the latest repairs, the latest scrub.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{CommittedGroup, RepairOutcome, Repaired, ScrubReport, lock};

/// Added to by the committer's thread, read by anybody.
#[derive(Default)]
pub(super) struct History {
    counters: Counters,
    repairs: Mutex<VecDeque<RepairNote>>,
    scrubbed: Mutex<ScrubReport>,
}

#[derive(Default)]
struct Counters {
    groups: AtomicU64,
    local: AtomicU64,
    remote: AtomicU64,
    rejected: AtomicU64,
    quarantined: AtomicU64,
    missing_values: AtomicU64,
    from_future: AtomicU64,
    failed_batches: AtomicU64,
    repaired: AtomicU64,
    repairs_refused: AtomicU64,
    catch_ups: AtomicU64,
    scrub_passes: AtomicU64,
    scrub_mended: AtomicU64,
    scrub_damaged: AtomicU64,
}

/// A record that another replica's state changed here.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct RepairNote {
    /// Counts from 1 since the store was opened.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The record's key.
    pub record: String,
    /// What became of it.
    pub outcome: RepairOutcome,
}

/// Repairs remembered: the latest.
const REPAIRS_MAX: usize = 256;

/// What the store has done since it was opened, for people to read.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct StoreCounters {
    /// Batches synced.
    pub commits: u64,
    /// Transactions of this replica.
    pub transactions_local: u64,
    /// Transactions of others.
    pub transactions_remote: u64,
    /// Transactions delivered out of order, and so not applied.
    pub transactions_rejected: u64,
    /// Parts of transactions that could not be merged.
    pub quarantined: u64,
    /// Vault values that a record names and nobody brought.
    pub missing_values: u64,
    /// Transactions stamped by a clock far ahead.
    pub from_future: u64,
    /// Batches that failed; each ended a writer.
    pub failed_batches: u64,
    /// Records that another replica's state changed here.
    pub repaired: u64,
    /// States that could not be read or merged, and those after which something is still missing.
    pub repairs_refused: u64,
    /// Catch-ups merged.
    pub catch_ups: u64,
    /// How often everything has been read again.
    pub scrub_passes: u64,
    /// What was then found wrong and made again from what it follows from.
    pub scrub_mended: u64,
    /// What was then found wrong and could not be.
    pub scrub_damaged: u64,
}

impl History {
    /// A group was committed.
    pub(super) fn committed(&self, committed: &CommittedGroup, now_ms: u64) {
        let add = |counter: &AtomicU64, count: u64| counter.fetch_add(count, Ordering::Relaxed);
        add(&self.counters.groups, 1);
        add(&self.counters.local, committed.local.len() as u64);
        add(&self.counters.remote, committed.remote.len() as u64);
        add(&self.counters.rejected, committed.rejected.len() as u64);
        add(&self.counters.quarantined, committed.counts.quarantined);
        add(&self.counters.missing_values, committed.counts.missing_values);
        add(&self.counters.from_future, committed.from_future);
        add(&self.counters.catch_ups, u64::from(committed.caught_up));
        add(&self.counters.repaired, committed.repaired_in_catch_up);
        let mut notes = lock(&self.repairs);
        for Repaired { key, outcome } in &committed.repaired {
            match outcome {
                RepairOutcome::Unchanged => continue,
                RepairOutcome::Concluded => {
                    tracing::warn!(record = %key, "something of a record was missing, and no member has it");
                    add(&self.counters.repaired, 1)
                }
                RepairOutcome::Healed | RepairOutcome::Added => add(&self.counters.repaired, 1),
                RepairOutcome::Quarantined | RepairOutcome::Refused => add(&self.counters.repairs_refused, 1),
            };
            if notes.len() == REPAIRS_MAX {
                notes.pop_front();
            }
            let number = notes.back().map_or(0, |note| note.number) + 1;
            notes.push_back(RepairNote {
                number,
                at_ms: now_ms,
                record: key.to_string(),
                outcome: *outcome,
            });
        }
    }

    /// Everything was read again.
    pub(super) fn scrub_ended(&self, report: &ScrubReport) {
        if report.mended + report.damaged + report.unreadable > 0 {
            tracing::error!(
                mended = report.mended,
                damaged = report.damaged,
                unreadable_blocks = report.unreadable,
                findings = ?report.findings,
                "reading everything again found damage"
            );
        }
        self.counters.scrub_passes.fetch_add(1, Ordering::Relaxed);
        self.counters
            .scrub_mended
            .fetch_add(report.mended, Ordering::Relaxed);
        self.counters
            .scrub_damaged
            .fetch_add(report.damaged + report.unreadable, Ordering::Relaxed);
        *lock(&self.scrubbed) = report.clone();
    }

    /// A batch failed, and ended its writer.
    pub(super) fn batch_failed(&self) {
        self.counters.failed_batches.fetch_add(1, Ordering::Relaxed);
    }

    /// The latest records that another replica's state changed here, the latest last.
    pub(super) fn repairs(&self) -> Vec<RepairNote> {
        lock(&self.repairs).iter().cloned().collect()
    }

    /// What the latest pass over everything found.
    pub(super) fn scrubbed(&self) -> ScrubReport {
        lock(&self.scrubbed).clone()
    }

    pub(super) fn counters(&self) -> StoreCounters {
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreCounters {
            commits: read(&counters.groups),
            transactions_local: read(&counters.local),
            transactions_remote: read(&counters.remote),
            transactions_rejected: read(&counters.rejected),
            quarantined: read(&counters.quarantined),
            missing_values: read(&counters.missing_values),
            from_future: read(&counters.from_future),
            failed_batches: read(&counters.failed_batches),
            repaired: read(&counters.repaired),
            repairs_refused: read(&counters.repairs_refused),
            catch_ups: read(&counters.catch_ups),
            scrub_passes: read(&counters.scrub_passes),
            scrub_mended: read(&counters.scrub_mended),
            scrub_damaged: read(&counters.scrub_damaged),
        }
    }
}
