//! What a replica is given to commit, whom it tells, and what a group of it came to.

use std::sync::Arc;

use crdt::Hlc;
use gossip::{Dot, Received, Tip, Vector, Writer, reconcile::Part};

use super::{
    catch_up::NotKept,
    group::Counts,
    repair::{Repair, Repaired},
    scrub::ScrubReport,
    txn::{TransactError, Txn},
    unsettled::Unsettled,
};

/// Something to commit.
pub(crate) enum Work {
    /// A write of this replica.
    Local(LocalWork),
    /// A transaction from elsewhere. The caller keeps causal order; the ledger checks it.
    Remote(Received),
    /// Every member has what this vector covers: the log may forget it. Writers under its floors may be folded.
    Trim(Vector),
    /// Remove cells past their expiry, and what a catch-up that was given up has left.
    Sweep,
    /// States of records from elsewhere.
    Repair { repair: Repair, kept: Option<TellKept> },
    /// A part of a catch-up whose conversation began under this writer.
    Aside {
        start: Writer,
        part: Part,
        kept: TellKept,
    },
    /// The conversation of a catch-up is over, whatever became of it: no further part of it comes.
    AsideEnds,
    /// Merge a part of what lies aside. Nothing else is committed while [`Ledger::is_merging`].
    MergeAside,
    /// Read about so many bytes of what is stored again. Alone in its group.
    Scrub { bytes: u64, anew: bool },
    /// Nothing: whoever waits learns that what came before it has its outcome.
    Mark(TellKept),
}

/// Tells whoever brought states or cells.
pub(crate) type TellKept = Box<dyn FnOnce(Result<(), NotKept>) + Send>;

/// Runs a local write, and says what becomes of it.
pub(crate) type LocalWork = Box<dyn FnOnce(&mut Txn<'_>) -> Verdict + Send>;
/// Tells the one who waits.
pub(crate) type Finish = Box<dyn FnOnce(Result<Done, TransactError>) + Send>;

/// What a local write's closure came to.
pub(crate) struct Verdict {
    /// False: a refusal of the domain; nothing of it is written.
    pub(crate) keep: bool,
    pub(crate) finish: Finish,
}

/// Those who wait for a group, and what each is to be told.
#[derive(Default)]
pub(crate) struct Answers {
    pub(super) waiting: Vec<(Finish, Result<Done, TransactError>)>,
    pub(super) kept: Vec<(TellKept, Result<(), NotKept>)>,
    pub(super) failure: Option<TransactError>,
}

impl Answers {
    /// Tells everyone. If the batch failed, nobody is told of success.
    pub(crate) fn tell(self) {
        for (finish, result) in self.waiting {
            finish(match &self.failure {
                Some(error) => result.and(Err(error.clone())),
                None => result,
            });
        }
        for (tell, result) in self.kept {
            tell(match &self.failure {
                Some(_) => Err(NotKept::Disk),
                None => result,
            });
        }
    }
}

/// A local write that is durable here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) dot: Option<Dot>,
    pub(crate) hlc: Hlc,
}

/// What a group came to.
#[derive(Default)]
pub struct Committed {
    /// Vector entries that moved.
    pub moved: Vec<(Writer, Tip)>,
    /// Transactions of this replica, synced and ready to be pushed.
    pub local: Vec<(Dot, Arc<[u8]>)>,
    /// Transactions of others that are visible now.
    pub remote: Vec<Dot>,
    /// Transactions of others that were not next in causal order: whoever delivered them is mistaken.
    pub rejected: Vec<Dot>,
    /// Transactions of others stamped by a clock far ahead of ours.
    pub from_future: u64,
    /// What was trimmed from the log, if anything was.
    pub trimmed: Option<Vector>,
    /// There is more to trim than one batch takes.
    pub(crate) trim_on: Option<Vector>,
    /// Where the log begins once this group is on the disk: what was trimmed in it is still seen below.
    pub(super) log_from: Vec<u8>,
    /// What went to quarantine or is missing.
    pub counts: Counts,
    /// The cluster record is among what changed.
    pub cluster_changed: bool,
    /// What became of the states that came.
    pub repaired: Vec<Repaired>,
    /// States whose cut the vector does not cover: to be tried again when it has moved.
    pub waiting: Vec<Repair>,
    /// Records that a catch-up changed in this group.
    pub repaired_in_catch_up: u64,
    /// With this group everything has been read again.
    pub scrubbed: Option<ScrubReport>,
    /// With this group a catch-up is merged: the vector was raised to what it brought.
    pub caught_up: bool,
    /// With this group the merging of one was given up, since some of it could not be read: another has to come.
    pub catch_up_failed: bool,
    /// What the group leaves to be settled: losers to be collapsed, accounts to be erased.
    pub unsettled: Unsettled,
}
