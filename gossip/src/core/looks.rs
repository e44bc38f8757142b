//! When this replica compares what it holds with a peer's.
//!
//! Each active peer in reach once per [`Config::look_interval`](super::Config::look_interval): spread over the interval by the
//! members' order, so that askers do not meet at one answerer. At once when an operator asks.

use std::time::Duration;

use super::status::LookCounts;
use super::talk::Subject;
use super::vector::MemberId;
use super::{Gossip, PeerState};
use crate::reconcile::{Purpose, Verdict};

/// How often is looked whether a look is due.
const LOOKS_INTERVAL: Duration = Duration::from_secs(1);

/// Comparisons with one peer.
#[derive(Debug, Default)]
pub(super) struct Look {
    due: Option<Duration>,
    /// What an operator asked for.
    asked: Option<Purpose>,
    pub(super) counts: LookCounts,
    pub(super) verdict_at: Option<Duration>,
}

impl Gossip {
    /// An operator asks. Who is not connected is passed over.
    pub(super) fn look_now(&mut self, member: Option<MemberId>, purpose: Purpose) {
        let asked: Vec<MemberId> = match member {
            Some(member) => self
                .chosen
                .contains_key(&member)
                .then_some(member)
                .into_iter()
                .collect(),
            None => {
                let mut active: Vec<MemberId> = self.chosen.keys().copied().collect();
                active.retain(|member| self.state_of(member) == Some(PeerState::Active));
                active
            }
        };
        for member in asked {
            self.looks.entry(member).or_default().asked = Some(purpose);
        }
        self.looks_at = self.now.at;
    }

    pub(super) fn settle_looks(&mut self) {
        let now = self.now.at;
        if self.talk.is_some() || now < self.looks_at {
            return;
        }
        self.looks_at = now + LOOKS_INTERVAL;
        let (asked, purpose) = match self.asked_look() {
            Some((member, purpose)) => (Some(member), purpose),
            None => (self.due_look(), Purpose::Repair),
        };
        let Some(member) = asked else { return };
        let Some(id) = self.chosen.get(&member).copied() else {
            return;
        };
        if purpose == Purpose::CatchUp {
            self.begin_catch_up(member, id, false);
            return;
        }
        self.counters.looks.begun += 1;
        let look = self.looks.entry(member).or_default();
        look.counts.begun += 1;
        look.due = self.config.look_interval.map(|interval| now + interval);
        self.begin_talk(member, id, Subject::Conversation(purpose), false);
    }

    fn asked_look(&mut self) -> Option<(MemberId, Purpose)> {
        let chosen = &self.chosen;
        self.looks.iter_mut().find_map(|(member, look)| {
            let purpose = look.asked.take()?;
            chosen.contains_key(member).then_some((*member, purpose))
        })
    }

    /// The peer that is due for longest; both must be ready.
    fn due_look(&mut self) -> Option<MemberId> {
        let interval = self.config.look_interval.filter(|_| self.ready)?;
        let now = self.now.at;
        let active: Vec<MemberId> = self
            .members
            .values()
            .filter(|peer| peer.state == PeerState::Active)
            .map(|peer| peer.id)
            .collect();
        let before_us = active
            .iter()
            .filter(|member| **member < self.config.member)
            .count();
        let mut longest: Option<(Duration, MemberId)> = None;
        for (place, member) in active.iter().enumerate() {
            let theirs = self
                .chosen
                .get(member)
                .and_then(|id| self.connections.get(id)?.theirs.as_ref());
            if !theirs.is_some_and(|theirs| theirs.ready && !theirs.holding) {
                continue;
            }
            // Those after us come first: of two members no two look at the same third at a time.
            let turn = (place + active.len() - before_us) % active.len() + 1;
            let first = || {
                now + interval * u32::try_from(turn).unwrap_or(0) / u32::try_from(active.len()).unwrap_or(1)
            };
            let due = *self
                .looks
                .entry(*member)
                .or_default()
                .due
                .get_or_insert_with(first);
            if due <= now && longest.is_none_or(|(least, _)| due < least) {
                longest = Some((due, *member));
            }
        }
        longest.map(|(_, member)| member)
    }

    pub(super) fn looked(&mut self, member: MemberId, verdict: Option<&Verdict>) {
        count(&mut self.counters.looks, verdict);
        let Some(look) = self.looks.get_mut(&member) else {
            return;
        };
        count(&mut look.counts, verdict);
        if verdict.is_some_and(|verdict| verdict.conclusive) {
            look.verdict_at = Some(self.now.at);
        }
        // The next one that an operator asked for follows at once.
        if self.looks.values().any(|look| look.asked.is_some()) {
            self.looks_at = self.now.at;
        }
    }
}

fn count(counts: &mut LookCounts, verdict: Option<&Verdict>) {
    let Some(verdict) = verdict else {
        counts.failed += 1;
        return;
    };
    counts.divergent_records += verdict.divergent.len() as u64;
    if !verdict.divergent.is_empty() {
        counts.divergent += 1;
    } else if !verdict.conclusive {
        counts.inconclusive += 1;
    } else if verdict.lagging > 0 {
        counts.lag_only += 1;
    } else {
        counts.equal += 1;
    }
}
