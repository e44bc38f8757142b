//! Bugs planted on purpose, by the names under which the command line knows them. Where each sits, the crates' own
//! `planted` modules say.

use super::{options::Options, trouble::Kind};
use crate::planted;

/// A planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// In merging.
    Crdt(crdt::planted::Bug),
    /// In gossip.
    Gossip(gossip::planted::Bug),
    /// In the store or the domain.
    Store(StoreBug),
}

/// One of the bugs of this crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreBug(planted::Bug);

impl Plant {
    /// Every bug: its name, and what it does.
    pub const ALL: [(&str, &str, Plant); 21] = {
        use crdt::planted::Bug as Crdt;
        use gossip::planted::Bug as Gossip;
        use planted::Bug as Store;
        const fn store(bug: Store) -> Plant {
            Plant::Store(StoreBug(bug))
        }
        [
            (
                "acks-keep-maximum",
                "an ack of a later start never lowers what a disk is believed to have",
                Plant::Gossip(Gossip::AcksKeepMaximum),
            ),
            (
                "joiner-counts",
                "the acks of a member that is still joining count",
                Plant::Gossip(Gossip::JoinerCounts),
            ),
            (
                "settles-without-acks",
                "what every member has is called settled, whatever they had written when they acknowledged it",
                Plant::Gossip(Gossip::SettlesWithoutAcks),
            ),
            (
                "answers-before-sync",
                "a batch fails, is told and pushed all the same, and its writer goes on",
                store(Store::AnswersBeforeSync),
            ),
            (
                "starts-by-the-clock",
                "two clones started in one second make the same writer",
                store(Store::StartsByTheClock),
            ),
            (
                "clones-race",
                "clones outbid each other's epochs",
                store(Store::ClonesRace),
            ),
            (
                "vault-id-reused",
                "proving an address again reuses the vault value of the proof before",
                store(Store::VaultIdReused),
            ),
            (
                "own-time-of-completion",
                "a completion stamps its own time as the time of its proof",
                store(Store::OwnTimeOfCompletion),
            ),
            (
                "reencodes",
                "transactions from elsewhere are relayed as this version would have written them",
                store(Store::Reencodes),
            ),
            (
                "skips-dependency",
                "a transaction does not say all that it follows",
                store(Store::SkipsDependency),
            ),
            (
                "forgets-digest",
                "a digest is not written when a record changes twice in one group",
                store(Store::ForgetsDigest),
            ),
            (
                "repairs-uncovered",
                "a repaired state is merged though the vector does not cover its cut",
                store(Store::RepairsUncovered),
            ),
            (
                "raises-early",
                "a catch-up raises the vector before the last of it is merged",
                store(Store::RaisesEarly),
            ),
            (
                "forgets-cells",
                "a catch-up leaves the cells out",
                store(Store::ForgetsCells),
            ),
            (
                "collapses-on-acks",
                "a loser's value is erased once all have acknowledged it, while the winner's release is in flight",
                store(Store::CollapsesOnAcks),
            ),
            (
                "mixes-cuts",
                "a copy that is taken up again takes a second cut's vector",
                store(Store::MixesCuts),
            ),
            (
                "receipts-early",
                "an erasure receipt is given before the disk is rewritten",
                store(Store::ReceiptsEarly),
            ),
            (
                "scrub-sleeps",
                "a scrub reads nothing again, so damage is found when somebody needs what is lost",
                store(Store::ScrubSleeps),
            ),
            (
                "both-halves-out",
                "two halves of the world that evict each other are both out",
                Plant::Crdt(Crdt::BothHalvesOut),
            ),
            (
                "hlc-capped",
                "a stamp that replaces a value from the future does not beat it",
                Plant::Crdt(Crdt::HlcCapped),
            ),
            (
                "wrong-tie-break",
                "of two completions of one reset the later stands",
                Plant::Crdt(Crdt::WrongTieBreak),
            ),
        ]
    };

    /// The world of a seed, made such that it comes to where the bug sits.
    pub fn provoked(self, mut options: Options) -> Options {
        let mut with = |kinds: &[Kind]| options.troubles.extend(kinds.iter().map(|kind| (*kind, 3)));
        match self {
            Plant::Store(StoreBug(planted::Bug::RaisesEarly | planted::Bug::ForgetsCells)) => {
                with(&[Kind::Absence, Kind::Crash]);
                options.trims = true;
                options.log_bytes_max = 2000;
            }
            Plant::Store(StoreBug(planted::Bug::RepairsUncovered)) => {
                with(&[Kind::Delay]);
                options.troubles.insert(Kind::BitFlip, 30);
                options.documents_only = true;
                options.late_states = true;
                // Few records, written to all the time: so what is repaired is just being changed elsewhere.
                options.addresses = 2;
                options.deeds = 300;
            }
            Plant::Store(StoreBug(planted::Bug::CollapsesOnAcks)) => {
                with(&[Kind::Delay, Kind::OneWayCut]);
                options.addresses = 2;
            }
            Plant::Crdt(_) | Plant::Gossip(_) | Plant::Store(_) => {}
        }
        options
    }

    /// The bug of this name.
    pub fn named(name: &str) -> Option<Plant> {
        Plant::ALL
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|(.., plant)| *plant)
    }

    /// Makes it on this thread from now on, or no more.
    pub(crate) fn switch(self, on: bool) {
        match self {
            Plant::Crdt(bug) => crdt::planted::plant(on.then_some(bug)),
            Plant::Gossip(bug) => gossip::planted::plant(on.then_some(bug)),
            Plant::Store(StoreBug(bug)) => planted::plant(on.then_some(bug)),
        }
    }
}
