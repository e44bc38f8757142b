//! Who is in, when members put each other out: worked out here from what was said, by the rule as it is written down
//! (the words in the order of their times; one counts unless who said it was out by then; the last active stays).

use std::collections::BTreeSet;

use crdt::{Hlc, MemberId, MemberState};
use gossip::Dot;

use super::{Checker, Found, wrong};
use crate::{
    sim::world::{World, read_records},
    store::Records,
};

/// What was said.
#[derive(Default)]
pub(crate) struct Evictions {
    said: Vec<Said>,
    /// Somebody may have said something that is not known here: no more can be told.
    unknown: bool,
    /// Words that are on their way to a disk.
    pub(crate) untold: BTreeSet<u64>,
}

struct Said {
    dot: Dot,
    at: Hlc,
    id: MemberId,
    by: MemberId,
}

impl Evictions {
    /// `at` as the record says right after; none if it does not say.
    pub(crate) fn said(&mut self, dot: Dot, id: MemberId, by: MemberId, at: Option<Hlc>) {
        match at {
            Some(at) => self.said.push(Said { dot, at, id, by }),
            None => self.unknown = true,
        }
    }

    /// Whether anybody may have been put out.
    pub(super) fn any_said(&self) -> bool {
        !self.said.is_empty() || !self.untold.is_empty() || self.unknown
    }

    /// The disk failed under it: it may be there all the same.
    pub(crate) fn may_have_been_said(&mut self) {
        self.unknown = true;
    }
}

impl World {
    /// Who is out, as a process has it, against what was said.
    pub(crate) fn check_members(&mut self, at: usize) {
        let evictions = &self.checks.evictions;
        if evictions.said.is_empty() || evictions.unknown || !evictions.untold.is_empty() {
            return;
        }
        let track = &self.checks.tracks[at];
        let mut said: Vec<&Said> = evictions
            .said
            .iter()
            .filter(|said| track.covers(&said.dot))
            .collect();
        if said.is_empty() {
            return;
        }
        said.sort_by_key(|said| (said.at, said.id, said.by));
        let Ok(view) = read_records(&self.processes[at].disk, |records| records.cluster()) else {
            return;
        };
        let active = |state| state == MemberState::Active;
        if view
            .members
            .values()
            .filter(|member| active(member.state))
            .count()
            <= 1
        {
            return;
        }
        self.tally.look(Checker::Members);
        let mut out = BTreeSet::new();
        let mut voided = 0;
        for said in said {
            if out.contains(&said.by) {
                voided += 1;
            } else {
                out.insert(said.id);
            }
        }
        self.tally.count("looks at evictions that are void", voided);
        let found = view
            .members
            .values()
            .find(|member| (member.state == MemberState::Evicted) != out.contains(&member.id))
            .map_or(Ok(()), |member| -> Found {
                let name = &self.processes[at].name;
                let words = if out.contains(&member.id) {
                    "was put out by who had a word"
                } else {
                    "was put out by nobody who had a word"
                };
                wrong(
                    Checker::Members,
                    format!("{name} has {} as {:?}, which {words}", member.id, member.state),
                )
            });
        self.fail(found);
    }
}
