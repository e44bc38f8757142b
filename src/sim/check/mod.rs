//! Those who check. They see what a replica's disk holds, what it told, and that a disk was replaced by another; they
//! know nothing of who made what trouble, and share no code with what they judge but the formats.
//!
//! | file | of DESIGN §6.6 |
//! | --- | --- |
//! | `transactions` | 3: one content for a dot, synced before it leaves, no writer after a failed batch; 5: causal order |
//! | `records` | 1: vector and documents; 2: named and present; 5: views, owners; 6: what clocks decide |
//! | `settled` | what is done once nothing concurrent is on its way was not done too early |
//! | `members` | 6: of members that put each other out, who said so first stays |
//! | `erasure` | 7: erasure reaches every byte |
//! | `damage` | what was damaged by hand, and until when it may differ |
//! | `promises` | 3: acks and disks; 4: nothing acknowledged is lost |
//! | `end` | 5: everything converges; 7: bounds |

mod damage;
mod end;
mod erasure;
mod members;
mod promises;
mod records;
mod settled;
mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use crdt::{AccountId, Epoch, MemberId, RecordKey};
use gossip::{Dot, Writer};

pub(crate) use self::{
    damage::Damage,
    end::EndOf,
    promises::{Meaning, Promise},
};
use self::{
    erasure::Erasing, members::Evictions, promises::Promises, records::Seen, settled::Settling,
    transactions::Known,
};

/// One subject of checking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checker {
    /// A dot has one content, a start one name.
    Content,
    /// What leaves is synced; a writer never outlives a failed batch.
    Sync,
    /// Causal order at every reader.
    Order,
    /// Acks never exceed what is on the disk now.
    Acks,
    /// What the vector covers is in the documents, and nothing else.
    Documents,
    /// Named by a surviving value, and present: the same.
    Vault,
    /// Views, index, digests and log are what they follow from; equal heads, equal views.
    Views,
    /// Records are never deleted; cancelled stays cancelled; epochs of sessions never go back.
    Forward,
    /// An address has one owner.
    Owners,
    /// Clocks decide only between concurrent values, by the policy.
    Clocks,
    /// Nothing acknowledged is lost.
    Acknowledged,
    /// After healing everything is the same everywhere, in time.
    Convergence,
    /// Vectors, buffers and starts are bounded.
    Bounds,
    /// Lag is not taken for divergence.
    Divergence,
    /// Nothing that comes is concurrent with what was called settled.
    Settled,
    /// After a receipt nothing of a cancelled account is on a disk.
    Erased,
    /// Of members that put each other out, those who said so first stay.
    Members,
    /// What was damaged by hand is found and healed.
    Damage,
}

impl Checker {
    pub(crate) const ALL: [Checker; 18] = [
        Checker::Content,
        Checker::Sync,
        Checker::Order,
        Checker::Acks,
        Checker::Documents,
        Checker::Vault,
        Checker::Views,
        Checker::Forward,
        Checker::Owners,
        Checker::Clocks,
        Checker::Acknowledged,
        Checker::Convergence,
        Checker::Bounds,
        Checker::Divergence,
        Checker::Settled,
        Checker::Erased,
        Checker::Members,
        Checker::Damage,
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Checker::Content => "content",
            Checker::Sync => "sync",
            Checker::Order => "order",
            Checker::Acks => "acks",
            Checker::Documents => "documents",
            Checker::Vault => "vault",
            Checker::Views => "views",
            Checker::Forward => "forward",
            Checker::Owners => "owners",
            Checker::Clocks => "clocks",
            Checker::Acknowledged => "acknowledged",
            Checker::Convergence => "convergence",
            Checker::Bounds => "bounds",
            Checker::Divergence => "divergence",
            Checker::Settled => "settled",
            Checker::Erased => "erased",
            Checker::Members => "members",
            Checker::Damage => "damage",
        }
    }
}

/// Something is wrong.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Violation {
    /// Who found it.
    pub checker: Checker,
    /// What it is.
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checker {}: {}", self.checker.name(), self.words)
    }
}

/// What a checker comes to.
pub(crate) type Found = Result<(), Violation>;

/// How many of each writer's transactions. It never folds: checkers keep what replicas forget.
pub(crate) type Numbers = BTreeMap<Writer, u64>;

/// What is known of one disk. A copy of the disk takes all of it along.
#[derive(Clone, Default)]
pub(crate) struct Track {
    /// What is on it.
    pub(crate) numbers: Numbers,
    /// What a catch-up that has come whole will have brought.
    pub(crate) coming: Option<Numbers>,
    /// Some of a catch-up was merged, and the rest could not be: it holds more than its vector says.
    half_merged: bool,
    records: BTreeSet<RecordKey>,
    cancelled: BTreeSet<AccountId>,
    epochs: BTreeMap<AccountId, Epoch>,
}

impl Track {
    pub(crate) fn covers(&self, dot: &Dot) -> bool {
        self.numbers
            .get(&dot.writer)
            .is_some_and(|number| *number >= dot.number)
    }
}

/// All checkers, and what they have seen.
#[derive(Default)]
pub(crate) struct Checks {
    /// One for each process's disk.
    pub(crate) tracks: Vec<Track>,
    transactions: BTreeMap<Dot, Known>,
    changes: BTreeMap<RecordKey, Vec<(Dot, [u8; 32])>>,
    /// Starts, with the process that made each.
    starts: BTreeMap<Writer, usize>,
    /// And the member that each is of.
    members: BTreeMap<Writer, MemberId>,
    /// What nobody need have heard of who folds its writer, the last of each writer: what it wrote on when a clone of its
    /// replica had started a later one, what one of two clones held when it ended, what a backup brought back when no
    /// other disk had it any more.
    unheard: BTreeMap<Writer, u64>,
    ended: BTreeSet<Writer>,
    seen: Seen,
    promises: Promises,
    settling: Settling,
    erasing: Erasing,
    pub(crate) evictions: Evictions,
    /// Disks that were damaged by hand and are not whole again, by process.
    pub(crate) damaged: BTreeMap<usize, Damage>,
    /// What was healed lately, and when: a look that began before still finds it.
    healed: Vec<(Duration, Damage)>,
    /// The least and the greatest time at which any replica made a batch, by its own clock, in milliseconds.
    clocks: Option<(u64, u64)>,
}

impl Checks {
    pub(crate) fn new(processes: usize) -> Checks {
        Checks {
            tracks: vec![Track::default(); processes],
            ..Checks::default()
        }
    }

    /// A replica makes a batch, at this time by its own clock: what has expired by then is gone from its disk.
    pub(crate) fn batch_made(&mut self, wall_ms: u64) {
        let (least, greatest) = self.clocks.unwrap_or((wall_ms, wall_ms));
        self.clocks = Some((least.min(wall_ms), greatest.max(wall_ms)));
    }

    /// A process's disk is another one now: an older copy, a copy of another's, or empty.
    pub(crate) fn disk_replaced(&mut self, at: usize, track: Track) {
        match self.tracks.get_mut(at) {
            Some(known) => *known = track,
            None => self.tracks.push(track),
        }
        self.damaged.remove(&at);
        self.settling.set_back(at);
        self.erasing.set_back(at);
        self.forget_what_is_gone();
    }

    /// A copy of another's data has come in the place of what was on this disk.
    pub(crate) fn disk_copied(&mut self, at: usize, numbers: Numbers) {
        self.disk_replaced(
            at,
            Track {
                numbers,
                ..Track::default()
            },
        );
    }

    /// What another disk held is on this one too.
    pub(crate) fn caught_up(&mut self, at: usize, numbers: &Numbers) {
        let known = &mut self.tracks[at].numbers;
        for (writer, number) in numbers {
            let entry = known.entry(*writer).or_default();
            *entry = (*entry).max(*number);
        }
    }

    /// The records that a process's disk holds.
    pub(crate) fn records_of_disk(&self, at: usize) -> &BTreeSet<RecordKey> {
        &self.tracks[at].records
    }

    /// A batch of this start failed.
    pub(crate) fn failed(&mut self, start: Writer) {
        self.ended.insert(start);
    }

    fn numbers_before(&self, at: usize) -> Arc<Numbers> {
        Arc::new(self.tracks[at].numbers.clone())
    }
}

fn wrong<T>(checker: Checker, words: impl Into<String>) -> Result<T, Violation> {
    Err(Violation {
        checker,
        words: words.into(),
    })
}
