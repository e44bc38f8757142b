//! What is done once nothing concurrent is on its way was not done too early: against what every writer's disk held
//! when it wrote.
//!
//! Nobody can know what comes from a disk that went back after its ack, or is no more, from a copy of it, or from a
//! member that was put out: what such a process wrote is excused.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crdt::{MemberId, RecordKey};
use gossip::{Dot, PeerState, Vector};

use super::{Checker, Checks, Found, Numbers, transactions::Known, wrong};
use crate::sim::{process::Process, tally::Tally, world::World};

#[derive(Default)]
pub(super) struct Settling {
    /// By process, what it was told last.
    told: BTreeMap<usize, Told>,
    collapses: Vec<Collapse>,
    /// How often each process's disk was replaced by another.
    set_back: BTreeMap<usize, u64>,
}

/// Nothing concurrent with this is on its way to a process.
struct Told {
    /// In virtual time.
    when: Duration,
    numbers: Numbers,
    unheard: Unheard,
}

/// The losers of a record went with this transaction.
struct Collapse {
    dot: Dot,
    key: RecordKey,
    /// What had changed the record.
    seen: Vec<Dot>,
    unheard: Unheard,
}

/// Whom a process did not wait for when it concluded something.
struct Unheard {
    /// Who it is, as a member.
    by: MemberId,
    /// Nobody can know what these still write, or need to.
    excused: BTreeSet<usize>,
    /// Nobody counts them yet, and this is who they are. They write of themselves alone.
    joining: BTreeMap<usize, MemberId>,
}

impl Unheard {
    /// Who joins may have been somebody else before, whom nobody waits for any more. It may also have become active among
    /// those who had put this process out: they waited for it no more than it did for them, and there it writes like anybody.
    fn includes(&self, maker: usize, known: &Known) -> bool {
        let joins = self.joining.get(&maker).is_some_and(|member| {
            known.records == [RecordKey::CLUSTER] || known.by != *member || known.out.contains(&self.by)
        });
        joins || self.excused.contains(&maker)
    }
}

impl Settling {
    pub(super) fn set_back(&mut self, at: usize) {
        self.told.remove(&at);
        *self.set_back.entry(at).or_default() += 1;
        for told in self.told.values_mut() {
            told.unheard.excused.insert(at);
        }
        for collapse in &mut self.collapses {
            collapse.unheard.excused.insert(at);
        }
    }

    /// What comes to `at` from a process says nothing about what was called settled there.
    pub(super) fn excuses(&self, at: usize, maker: usize, known: &Known) -> bool {
        let told = self.told.get(&at);
        self.disks_before(maker) != known.disk || told.is_none_or(|told| told.unheard.includes(maker, known))
    }

    /// States that a process comes with say nothing about what was called settled at `at`.
    pub(super) fn excuses_states(&self, at: usize, from: usize) -> bool {
        self.told.get(&at).is_none_or(|told| {
            let Unheard { excused, joining, .. } = &told.unheard;
            excused.contains(&from) || joining.contains_key(&from)
        })
    }

    /// How often a process's disk was replaced until now.
    pub(super) fn disks_before(&self, at: usize) -> u64 {
        self.set_back.get(&at).copied().unwrap_or_default()
    }
}

impl World {
    /// A process says that nothing concurrent with this is on its way.
    pub(crate) fn check_settled(&mut self, at: usize, settled: &Vector) {
        let lacks = settled.iter().find(|(writer, tip)| {
            let (writer, number) = (*writer, tip.number);
            number > 0 && !self.checks.tracks[at].covers(&Dot { writer, number })
        });
        if let Some((writer, tip)) = lacks {
            let name = &self.processes[at].name;
            let words = format!("{name} calls {} of {writer} settled, and lacks it", tip.number);
            let found = wrong(Checker::Settled, words);
            self.fail(found);
        }
        let numbers = settled.iter().map(|(writer, tip)| (writer, tip.number));
        let told = Told {
            when: self.now,
            numbers: numbers.filter(|(_, number)| *number > 0).collect(),
            unheard: self.unheard(at),
        };
        self.checks.settling.told.insert(at, told);
    }

    /// Whom a process does not wait for, as of now.
    fn unheard(&self, at: usize) -> Unheard {
        Unheard {
            by: MemberId::from_bytes(self.processes[at].member.0),
            excused: self.unknowable(at),
            joining: self.joining(at),
        }
    }

    /// The processes of which a process cannot know what they still write, or need not.
    fn unknowable(&self, at: usize) -> BTreeSet<usize> {
        let Some(running) = &self.processes[at].running else {
            return BTreeSet::new();
        };
        let status = running.gossip.status();
        let unknowable = |other: &usize| {
            let process = &self.processes[*other];
            let peer = status.peers.iter().find(|peer| peer.member == process.member);
            let Some(peer) = peer.filter(|peer| {
                matches!(
                    peer.state,
                    PeerState::Active | PeerState::Leaving | PeerState::Joining
                )
            }) else {
                return *other != at;
            };
            // While two processes run as one member, either's ack stands for both, and each has writes that the other lacks.
            let is_copied = |now: bool| {
                let copy = |copy: &Process| copy.copy_of == Some(*other) && !(now && copy.retired);
                self.processes.iter().any(copy)
            };
            let one_of_two = process.copy_of.is_some() || is_copied(true);
            let runs = process.start().is_some() && process.start() == peer.start;
            let gone = || is_copied(false) || self.checks.settling.set_back.contains_key(other);
            one_of_two || (!runs && gone())
        };
        (0..self.processes.len()).filter(unknowable).collect()
    }

    /// The processes that are joining, as a process has it.
    fn joining(&self, at: usize) -> BTreeMap<usize, MemberId> {
        let peers = self.peers_seen_by(at);
        let joins = |other: usize| {
            let member = self.processes[other].member;
            let joining = |peer: &gossip::Peer| peer.id == member && peer.state == PeerState::Joining;
            peers
                .iter()
                .any(joining)
                .then(|| (other, MemberId::from_bytes(member.0)))
        };
        (0..self.processes.len()).filter_map(joins).collect()
    }

    /// What a process was told last does not name this, for whoever looks for the reason. What is folded it names no more.
    pub(crate) fn unsettled(&self, at: usize) -> String {
        let told = self.checks.settling.told.get(&at).map(|told| &told.numbers);
        let lacks = self.checks.tracks[at].numbers.iter();
        let lacks = lacks.filter(|(writer, number)| told.is_none_or(|told| !sees(told, writer, **number)));
        let running = self.processes[at].running.as_ref();
        let stable = running.map(|running| running.gossip.stable());
        let stable = stable.unwrap_or_default();
        let lacks: Vec<String> = lacks
            .map(|(writer, number)| {
                let known = told.and_then(|told| told.get(writer));
                if stable.folded(writer) {
                    return format!("{writer}: {number}, folded");
                }
                let stable = stable.get(writer).map(|tip| tip.number);
                format!("{writer}: {number}, stable {stable:?}, settled {known:?}")
            })
            .collect();
        lacks.join(", ")
    }

    /// The losers of a record went with a transaction that is on the disk.
    pub(crate) fn collapsed(&mut self, at: usize, dot: Dot, key: RecordKey) {
        let mut unheard = self.unheard(at);
        // It was decided on when the process was told, and may have waited for its disk since.
        if let Some(told) = self.checks.settling.told.get(&at) {
            unheard.excused.extend(&told.unheard.excused);
            unheard.joining.extend(told.unheard.joining.clone());
        }
        let found = self.checks.collapsed(&mut self.tally, dot, key, unheard);
        self.fail(found);
    }
}

impl Checks {
    /// Something comes from elsewhere: its writer had seen all that was called settled here.
    pub(super) fn not_concurrent(&self, tally: &mut Tally, at: usize, dot: Dot) -> Found {
        let Some(told) = self.settling.told.get(&at) else {
            return Ok(());
        };
        let (Some(maker), Some(known)) = (self.maker(&dot.writer), self.known(&dot)) else {
            return Ok(());
        };
        if self.settling.excuses(at, maker, known) {
            tally.count("arrivals that nobody could have known of", 1);
            return Ok(());
        }
        tally.look(Checker::Settled);
        let unseen = told
            .numbers
            .iter()
            .find(|(writer, number)| **writer != dot.writer && !sees(&known.after, writer, **number));
        match unseen {
            None => Ok(()),
            Some((writer, number)) => wrong(
                Checker::Settled,
                format!(
                    "{dot} comes to process {at}, and its writer had not seen {number} of {writer}, which was called \
                     settled there at {:.3}",
                    told.when.as_secs_f64()
                ),
            ),
        }
    }

    fn collapsed(&mut self, tally: &mut Tally, dot: Dot, key: RecordKey, unheard: Unheard) -> Found {
        tally.look(Checker::Settled);
        let Some(known) = self.known(&dot) else {
            return Ok(());
        };
        let after = Arc::clone(&known.after);
        let here = |other: &Dot| {
            *other != dot
                && if other.writer == dot.writer {
                    other.number < dot.number
                } else {
                    sees(&after, &other.writer, other.number)
                }
        };
        let (seen, unseen): (Vec<Dot>, Vec<Dot>) =
            self.changers(key).filter(|other| *other != dot).partition(here);
        let collapse = Collapse {
            dot,
            key,
            seen,
            unheard,
        };
        let found = unseen
            .iter()
            .try_for_each(|other| self.follows(&collapse, *other));
        self.settling.collapses.push(collapse);
        found
    }

    /// Something was written: who wrote it had seen what the losers that have gone had lost to.
    pub(super) fn not_too_late(&self, dot: Dot) -> Found {
        let records = self.records_of(&dot);
        let collapses = self.settling.collapses.iter();
        collapses
            .filter(|collapse| records.contains(&collapse.key))
            .try_for_each(|collapse| self.follows(collapse, dot))
    }

    fn follows(&self, collapse: &Collapse, dot: Dot) -> Found {
        let (Some(maker), Some(known)) = (self.maker(&dot.writer), self.known(&dot)) else {
            return Ok(());
        };
        let saw = |other: &Dot| {
            if other.writer == dot.writer {
                other.number < dot.number
            } else {
                sees(&known.after, &other.writer, other.number)
            }
        };
        let gone = self.settling.disks_before(maker) != known.disk;
        if gone || collapse.unheard.includes(maker, known) || saw(&collapse.dot) {
            return Ok(());
        }
        match collapse.seen.iter().find(|seen| !saw(seen)) {
            None => Ok(()),
            Some(unseen) => wrong(
                Checker::Settled,
                format!(
                    "the losers of {} went with {}, and {dot}, whose writer had not seen {unseen}, was on its way",
                    collapse.key, collapse.dot
                ),
            ),
        }
    }
}

fn sees(numbers: &Numbers, writer: &gossip::Writer, number: u64) -> bool {
    numbers.get(writer).is_some_and(|seen| *seen >= number)
}
