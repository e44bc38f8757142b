//! Those who check. They see what a replica's disk holds, what it told, and that a disk was replaced by another; they
//! know nothing of who made what trouble, and share no code with what they judge but the formats.
//!
//! | file | of DESIGN §6.6 |
//! | --- | --- |
//! | `transactions` | 3: one content for a dot, synced before it leaves, no writer after a failed batch; 5: causal order |
//! | `records` | 1: vector and documents; 2: named and present; 5: views, owners; 6: what clocks decide |
//! | `promises` | 3: acks and disks; 4: nothing acknowledged is lost |
//! | `end` | 5: everything converges; 7: bounds |

mod end;
mod promises;
mod records;
mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crdt::{AccountId, Epoch, RecordKey};
use gossip::{Dot, Writer};

pub(crate) use self::{
    end::EndOf,
    promises::{Meaning, Promise},
};
use self::{promises::Promises, records::Seen, transactions::Known};

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
}

impl Checker {
    pub(crate) const ALL: [Checker; 15] = [
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

/// What is known of one disk.
#[derive(Clone, Default)]
pub(crate) struct Track {
    /// What is on it.
    pub(crate) numbers: Numbers,
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
    ended: BTreeSet<Writer>,
    seen: Seen,
    promises: Promises,
}

impl Checks {
    pub(crate) fn new(processes: usize) -> Checks {
        Checks {
            tracks: vec![Track::default(); processes],
            ..Checks::default()
        }
    }

    /// A process's disk is another one now: an older copy, a copy of another's, or empty.
    pub(crate) fn disk_replaced(&mut self, at: usize, track: Track) {
        match self.tracks.get_mut(at) {
            Some(known) => *known = track,
            None => self.tracks.push(track),
        }
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
