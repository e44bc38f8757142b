//! Cancelled accounts are forgotten, down to the disk: what each still waits for.
//!
//! The batch that cancels an account deletes what it named. That is not the end of it: what was written of it before
//! lies in the log until everyone has it, in tables until they are rewritten, perhaps in quarantine, or in a copy.
//! And more may still come, written by who had not heard of the cancellation. So, in this order:
//!
//! 1. all that was known when the cancellation was seen is *settled*: nothing of the account's is on its way here;
//! 2. the records that had losers by then are collapsed: whom it had beaten claims the same address;
//! 3. the log, quarantine and stagings hold nothing older than that moment;
//! 4. the disk is rewritten, once for all that wait for it, for that reads and writes everything;
//! 5. copies in the data directory that were there then are gone.
//!
//! Whatever comes of the account before that, or after (from a member that was put out, and hands over late), sends it back
//! to the beginning.
//! Then the site gives a receipt. (One that the member gave for a disk that it has no more, because a backup was put back,
//! it takes back as soon as the erasure begins.)
//!
//!  Nothing of this is written down before: after a restart each account begins again,
//! found by a scan for cancelled accounts without a receipt.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crdt::AccountId;
use gossip::Vector;

use super::collapse::Losers;
use crate::{
    planted::{self, Bug},
    store::{Obstacle, Remains},
};

/// Accounts under way at most; those beyond are found by a later scan.
const PENDING_MAX: usize = 65_536;

/// The accounts that are being forgotten, each at its stage. Pure.
#[derive(Debug, Default)]
pub struct Erasures {
    pending: BTreeMap<AccountId, Stage>,
    /// Those of them that have begun since somebody looked.
    begun: BTreeSet<AccountId>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// All that was known of it when its cancellation was seen is within this vector.
    Seen(Arc<Vector>),
    /// Nothing of it is on its way; waits for the losers that were noted by then.
    Settled(u64),
    /// All that there is of it came before this place in the log, and this moment.
    Clearing {
        place: u64,
        at_ms: u64,
        obstacle: Obstacle,
    },
    /// What is left is deleted, but lies in tables yet. The same place and moment: until the tables are rewritten something may
    /// come in the way again.
    Due { place: u64, at_ms: u64 },
    /// They were rewritten while these copies were there.
    Rewritten(Arc<BTreeSet<String>>),
}

impl Stage {
    fn is_gone(&self) -> bool {
        match self {
            Stage::Rewritten(_) => true,
            Stage::Due { .. } => planted::is(Bug::ReceiptsEarly),
            _ => false,
        }
    }
}

/// What an account's erasure waits for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A scan that finds it.
    Scan,
    /// All members' acknowledgements, and what they had written then.
    Settled,
    /// Records with losers.
    Losers,
    /// What still holds its bytes.
    Gone(Obstacle),
    /// The next time that the disk is rewritten.
    Rewrite,
    /// Copies in the data directory, made before the disk was rewritten.
    Copies,
    /// An operator, who says that every member can read a receipt.
    Finalised,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitsFor::Scan => "the scan for cancelled accounts, which begins when a site starts",
            WaitsFor::Settled => {
                "every member to have the cancellation, and to have sent what it wrote before"
            }
            WaitsFor::Losers => "concurrent claims of addresses to be collapsed",
            WaitsFor::Gone(Obstacle::Log) => {
                "the log to be trimmed: some member lacks a part of it, or `log.keep` is \"everything\""
            }
            WaitsFor::Gone(Obstacle::Quarantine) => {
                "quarantine to be healed; it may hold a part of the account"
            }
            WaitsFor::Gone(Obstacle::CatchUp) => "a catch-up to be merged",
            WaitsFor::Gone(Obstacle::Staging) => "stagings begun before to end, which takes a day at most",
            WaitsFor::Rewrite => "the disk to be rewritten, every `erasure.interval_minutes`",
            WaitsFor::Copies => "copies in the data directory to be removed",
            WaitsFor::Finalised => {
                "its receipt to be allowed: nothing is left here, but receipts are written only after `persona cluster \
                 finalise erasure-receipts`"
            }
        })
    }
}

/// What has become of the replica around it.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// What is settled.
    pub settled: &'a Vector,
    /// Records with losers.
    pub losers: &'a Losers,
    /// Where bytes of transactions still lie, looked for after `settled` was told; `None`: not looked for.
    pub remains: Option<&'a Remains>,
    /// The wall clock, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Erasures {
    /// An account is cancelled, and all that is known of it is within this vector.
    pub fn begin(&mut self, account: AccountId, within: &Arc<Vector>) {
        if self.pending.len() < PENDING_MAX && !self.pending.contains_key(&account) {
            self.pending.insert(account, Stage::Seen(within.clone()));
            self.begun.insert(account);
        }
    }

    /// Those that have begun, or begun again.
    pub fn begun(&self) -> Vec<AccountId> {
        self.begun.iter().copied().collect()
    }

    /// Somebody has looked at these.
    pub fn looked_at(&mut self, begun: &[AccountId]) {
        for account in begun {
            self.begun.remove(account);
        }
    }

    /// A commit cancelled an account, or brought something of one that was cancelled before: whatever was done for it by now is
    /// done again.
    pub fn begin_again(&mut self, account: AccountId, within: &Arc<Vector>) {
        if self.pending.len() < PENDING_MAX || self.pending.contains_key(&account) {
            self.pending.insert(account, Stage::Seen(within.clone()));
            self.begun.insert(account);
        }
    }

    /// The vector was raised by something else than transactions: what it brought may hold more of them.
    pub fn raised(&mut self, to: &Arc<Vector>) {
        for stage in self.pending.values_mut() {
            *stage = Stage::Seen(to.clone());
        }
    }

    /// Whether the next [`advance`](Self::advance) asks what remains.
    pub fn asks_for_remains(&self) -> bool {
        self.pending
            .values()
            .any(|stage| matches!(stage, Stage::Settled(_) | Stage::Clearing { .. }))
    }

    /// Moves each account as far as it goes.
    pub fn advance(&mut self, around: Around<'_>) {
        for (account, stage) in &mut self.pending {
            if let Stage::Seen(within) = stage
                && around.settled.covers_vector(within)
            {
                *stage = Stage::Settled(around.losers.mark());
            }
            let Some(remains) = around.remains else { continue };
            if let Stage::Settled(mark) = stage
                && around.losers.passed(*mark)
            {
                *stage = Stage::Clearing {
                    place: remains.next_place,
                    at_ms: around.now_ms,
                    obstacle: Obstacle::Log,
                };
            }
            clear(*account, stage, remains);
        }
    }

    /// Looks again, right before the disk is rewritten and right after, whether anything came in the way of what is due: what
    /// lay there meanwhile was rewritten with the rest.
    pub fn recheck(&mut self, remains: &Remains) {
        for (account, stage) in &mut self.pending {
            clear(*account, stage, remains);
        }
    }

    /// Those that wait for the disk to be rewritten. What is due when that begins is gone when it ends.
    pub fn due(&self) -> Vec<AccountId> {
        let due = |stage: &Stage| matches!(stage, Stage::Due { .. }) && !planted::is(Bug::ReceiptsEarly);
        self.pending
            .iter()
            .filter(|(_, stage)| due(stage))
            .map(|(account, _)| *account)
            .collect()
    }

    /// The disk was rewritten for these; at its end there were these copies beside it.
    pub fn rewritten(&mut self, due: &[AccountId], copies: BTreeSet<String>) {
        let copies = Arc::new(copies);
        for account in due {
            if let Some(stage) = self.pending.get_mut(account)
                && matches!(stage, Stage::Due { .. })
            {
                *stage = Stage::Rewritten(copies.clone());
            }
        }
    }

    /// Those of which nothing is left, given the copies that there are now.
    pub fn forgotten(&self, copies: &BTreeSet<String>) -> Vec<AccountId> {
        let gone = |stage: &Stage| match stage {
            Stage::Rewritten(then) => then.is_disjoint(copies),
            stage => stage.is_gone(),
        };
        self.pending
            .iter()
            .filter(|(_, stage)| gone(stage))
            .map(|(account, _)| *account)
            .collect()
    }

    /// Whether nothing of it has come since the disk was rewritten for it.
    pub fn is_gone(&self, account: AccountId) -> bool {
        self.pending.get(&account).is_some_and(Stage::is_gone)
    }

    /// Its receipt is written. If something of it has come meanwhile, the erasure goes on: that receipt does not hold.
    pub fn end(&mut self, account: AccountId) {
        if self.is_gone(account) {
            self.pending.remove(&account);
            self.begun.remove(&account);
        }
    }

    /// What an account waits for.
    pub fn waits_for(&self, account: AccountId) -> WaitsFor {
        match self.pending.get(&account) {
            None => WaitsFor::Scan,
            Some(Stage::Seen(_)) => WaitsFor::Settled,
            Some(Stage::Settled(_)) => WaitsFor::Losers,
            Some(Stage::Clearing { obstacle, .. }) => WaitsFor::Gone(*obstacle),
            Some(Stage::Due { .. }) => WaitsFor::Rewrite,
            Some(Stage::Rewritten(_)) => WaitsFor::Copies,
        }
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.pending.len()
    }
}

/// What holds bytes of an account that was cleared, or is to be, if anything does now.
fn clear(account: AccountId, stage: &mut Stage, remains: &Remains) {
    if let Stage::Clearing { place, at_ms, .. } | Stage::Due { place, at_ms } = *stage {
        *stage = match remains.obstacle(account, place, at_ms) {
            Some(obstacle) => Stage::Clearing {
                place,
                at_ms,
                obstacle,
            },
            None => Stage::Due { place, at_ms },
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a failure fails the test")]

    use crdt::RecordKey;

    use super::*;
    use crate::store::disk::{Batch, Disk, Family, memory::MemoryDisk};

    fn remains(entry: Option<(Family, Vec<u8>)>) -> Remains {
        let disk = MemoryDisk::default();
        let mut batch = Batch::new();
        if let Some((family, key)) = entry {
            batch.put(family, key, Vec::new());
        }
        disk.write(&batch).expect("written");
        let mut remains = Remains::default();
        disk.read(&mut |disk| remains = Remains::of(disk).expect("read"))
            .expect("read");
        remains
    }

    /// An account whose turn it is, but for the disk to be rewritten.
    fn due(account: AccountId) -> Erasures {
        let mut erasures = Erasures::default();
        erasures.begin(account, &Arc::default());
        erasures.advance(Around {
            settled: &Vector::new(),
            losers: &Losers::default(),
            remains: Some(&remains(None)),
            now_ms: 0,
        });
        assert_eq!(erasures.due(), [account]);
        erasures
    }

    #[test]
    fn what_comes_in_the_way_of_what_is_due_is_waited_for() {
        let account = AccountId::from_bytes([7; 15]);
        let quarantined =
            |record: RecordKey| (Family::Quarantine, [&record.as_bytes()[..], &[0; 8]].concat());
        let cases = [
            (None, WaitsFor::Rewrite),
            (
                Some((Family::Side, b"a state".to_vec())),
                WaitsFor::Gone(Obstacle::CatchUp),
            ),
            (
                Some(quarantined(account.into())),
                WaitsFor::Gone(Obstacle::Quarantine),
            ),
            (Some(quarantined(RecordKey::CLUSTER)), WaitsFor::Rewrite),
        ];
        for (entry, expected) in cases {
            let mut erasures = due(account);
            erasures.recheck(&remains(entry.clone()));
            assert_eq!(erasures.waits_for(account), expected, "{entry:?}");
            erasures.recheck(&remains(None));
            assert_eq!(erasures.due(), [account], "{entry:?} is gone");
        }
    }

    #[test]
    fn a_commit_sends_back_to_the_beginning_and_a_scan_does_not() {
        let account = AccountId::from_bytes([7; 15]);
        let mut erasures = due(account);
        erasures.begin(account, &Arc::default());
        assert_eq!(erasures.waits_for(account), WaitsFor::Rewrite);
        erasures.begin_again(account, &Arc::default());
        assert_eq!(erasures.waits_for(account), WaitsFor::Settled);
        erasures.rewritten(&[account], BTreeSet::new());
        assert!(erasures.forgotten(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_receipt_that_something_late_has_overtaken_ends_nothing() {
        let account = AccountId::from_bytes([7; 15]);
        let mut erasures = due(account);
        erasures.rewritten(&[account], BTreeSet::new());
        assert!(erasures.is_gone(account));
        erasures.begin_again(account, &Arc::default());
        assert!(!erasures.is_gone(account));
        erasures.end(account);
        assert_eq!(erasures.waits_for(account), WaitsFor::Settled);
    }
}
