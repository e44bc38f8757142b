//! When no log brings what this replica lacks: it copies a peer's whole data, or catches up by states.
//!
//! *With nothing*, it copies from the nearest active and ready peer whose log is trimmed or long; where none is in reach
//! for long, from one that is ready and joins, as far as it knows. No pull runs meanwhile,
//! and a push is dropped: what is on this disk when the copy is installed would be lost.
//!
//! *With something*, when what it lacks is in no log in reach: a conversation with the nearest that has it brings the
//! states, and the vector jumps once they are merged. If what it lacks was written by members, this replica is behind the
//! cluster: it is not ready, and its acks count for nothing, until it is level. If all of it was written by replicas
//! that no member runs, it is only handed over: from one that was evicted, or from a peer that took it over. That may
//! concern all sites at once, so it takes nothing from readiness. One that was put out itself is always behind.

use std::collections::BTreeSet;
use std::time::Duration;

use super::talk::Subject;
use super::vector::{Dot, MemberId, ReplicaId, Vector};
use super::{ConnectionId, Gossip, PeerState, READY_SETTLE, Theirs};
use crate::reconcile::Purpose;

/// A log whose pulls brought nothing so often in a row is not waited for.
const FRUITLESS_MAX: u32 = 3;

impl Gossip {
    /// Is a whole copy on its way here, or about to be asked for?
    pub(super) fn copies(&self) -> bool {
        self.takes_snapshot() || self.copy_source().is_some()
    }

    /// A replica with nothing begins to copy, once it had time to meet the nearest.
    pub(super) fn settle_copy(&mut self) {
        let Some((member, id)) = self.copy_source() else {
            return;
        };
        let young = self.now.at < self.unready_since + READY_SETTLE;
        let met_all = self
            .members
            .values()
            .filter(|peer| peer.state == PeerState::Active)
            .all(|peer| self.chosen.contains_key(&peer.id));
        if young && !met_all {
            return;
        }
        self.lose_readiness();
        self.cancel_pulls();
        self.counters.snapshots += 1;
        self.begin_talk(member, id, Subject::Snapshot, true);
    }

    fn copy_source(&self) -> Option<(MemberId, ConnectionId)> {
        if !self.frontier.is_empty() || self.later_start.is_some() || self.put_out() {
            return None;
        }
        let is_active = |member: &MemberId| self.state_of(member) == Some(PeerState::Active);
        let gives = |member: &MemberId, theirs: &Theirs| {
            theirs.ready
                && !theirs.holding
                && !self.rests(member)
                && (!theirs.trimmed.is_empty() || theirs.vector.total() > self.config.limits.log_catch_up_max)
        };
        let nearest = self.nearest(|member, theirs| is_active(member) && gives(member, theirs));
        // From one that is still joining as far as we know only where nobody better has come for long: a disk with nothing
        // on it does not tell who has become active since.
        let young = self.now.at < self.unready_since + self.config.startup_grace;
        let somebody_is = || {
            self.saying()
                .any(|(member, theirs)| is_active(member) && theirs.ready && !theirs.vector.is_empty())
        };
        if nearest.is_some() || young || somebody_is() {
            return nearest;
        }
        self.nearest(|member, theirs| self.takes_part(member) && gives(member, theirs))
    }

    /// Nothing can be pulled. Is there somebody beyond whose log's beginning we are?
    pub(super) fn settle_catch_up(&mut self) {
        if self.talk.is_some() || self.later_start.is_some() || self.frontier.is_empty() {
            return;
        }
        let beyond = |member: &MemberId, theirs: &Theirs| {
            !self.rests(member)
                && theirs.is_ahead()
                && !self.servable(theirs)
                && !self.some_log_has(&theirs.trimmed)
        };
        // Also from one that is still joining as far as we know: that it is active may be what we lack.
        let gives = |member: &MemberId, theirs: &Theirs| {
            self.state_of(member).is_some_and(PeerState::takes_part)
                && !theirs.holding
                && beyond(member, theirs)
        };
        // Who is not ready itself has what its vector covers all the same. Where nobody who is ready has that, because each
        // is beyond the logs of the others, or because one with nothing was ready first, they would else wait for one
        // another for good.
        let from_member = self
            .nearest(|member, theirs| theirs.ready && gives(member, theirs))
            .or_else(|| {
                self.nearest(|member, theirs| {
                    !self.ready && gives(member, theirs) && !self.somebody_ready_has(theirs)
                })
            });
        // One that was put out has states that its half alone had: after all else.
        let chosen = from_member.or_else(|| {
            let past = |member: &MemberId| self.state_of(member).is_some_and(|state| !state.takes_part());
            self.ready
                .then(|| self.nearest(|member, theirs| past(member) && beyond(member, theirs)))?
        });
        let Some((member, id)) = chosen else { return };
        let theirs = self
            .connections
            .get(&id)
            .and_then(|connection| connection.theirs.as_ref());
        let behind = !self.ready || theirs.is_some_and(|theirs| self.behind_members(theirs));
        self.begin_catch_up(member, id, behind);
    }

    /// `behind`: is it the cluster that we are behind?
    pub(super) fn begin_catch_up(&mut self, member: MemberId, id: ConnectionId, behind: bool) {
        if behind {
            self.lose_readiness();
            self.cancel_pulls();
        }
        self.counters.catch_ups += 1;
        self.begin_talk(member, id, Subject::Conversation(Purpose::CatchUp), behind);
    }

    /// Does its log still begin where ours ends?
    pub(super) fn servable(&self, theirs: &Theirs) -> bool {
        let answered = theirs.answered_trimmed && theirs.rest_until > self.now.at;
        !theirs.floors_ahead && !answered && self.frontier.covers_vector(&theirs.trimmed)
    }

    /// Is there a log in reach that leads from here to all of `trimmed`?
    fn some_log_has(&self, trimmed: &Vector) -> bool {
        self.chosen
            .values()
            .filter_map(|id| self.connections.get(id)?.theirs.as_ref())
            .any(|theirs| {
                theirs.is_ahead()
                    && theirs.fruitless < FRUITLESS_MAX
                    && self.servable(theirs)
                    && theirs.vector.covers_vector(trimmed)
            })
    }

    /// Has any active member that is ready all that no log of this one holds any more?
    fn somebody_ready_has(&self, theirs: &Theirs) -> bool {
        self.saying().any(|(member, other)| {
            self.state_of(member) == Some(PeerState::Active)
                && other.ready
                && other.vector.covers_vector(&theirs.trimmed)
                && other.vector.covers_floors(&theirs.vector)
        })
    }

    /// Was some of what its log no longer holds, and we lack, written by a replica that a member runs?
    fn behind_members(&self, theirs: &Theirs) -> bool {
        let run: BTreeSet<ReplicaId> = self.running_replicas();
        let mut lacked = theirs
            .trimmed
            .iter()
            .filter(|(writer, tip)| {
                let (writer, number) = (*writer, tip.number);
                !self.frontier.covers(&Dot { writer, number })
            })
            .map(|(writer, _)| writer.replica)
            .chain(theirs.vector.floors().filter_map(|(replica, floor)| {
                (!self.frontier.covers_floor(replica, floor)).then_some(replica)
            }))
            .peekable();
        // If its log only said so, nobody knows what it lacks.
        lacked.peek().is_none() || lacked.any(|replica| run.contains(&replica))
    }

    fn nearest(&self, wanted: impl Fn(&MemberId, &Theirs) -> bool) -> Option<(MemberId, ConnectionId)> {
        self.chosen
            .iter()
            .filter_map(|(member, id)| Some((member, id, self.connections.get(id)?)))
            .filter(|(member, _, connection)| {
                connection
                    .theirs
                    .as_ref()
                    .is_some_and(|theirs| wanted(member, theirs))
            })
            .min_by_key(|(.., connection)| connection.rtt.unwrap_or(Duration::MAX))
            .map(|(member, id, _)| (*member, *id))
    }
}
