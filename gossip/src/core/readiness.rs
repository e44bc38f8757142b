//! When this replica may serve.
//!
//! Ready once level with what the active members in reach had when they said hello. These targets do not move, so ten
//! that start at once do not wait for each other's writes. Readiness is lost in two cases only: what this replica lacks
//! is in no reachable log any more; or it was put out of the cluster. Then the targets are taken anew: at once, or when it
//! is in again.

use super::{Event, Gossip, PeerState, READY_SETTLE};

impl Gossip {
    pub(super) fn settle_readiness(&mut self) {
        if self.ready || self.later_start.is_some() || self.holding() || self.put_out() {
            return;
        }
        let committed = &self.committed;
        let level_with = &mut self.level_with;
        self.targets.retain(|member, target| {
            let level = committed.covers_vector(target);
            if level {
                level_with.insert(*member);
            }
            !level
        });
        if !self.targets.is_empty() {
            return;
        }
        let age = self.now.at.saturating_sub(self.unready_since);
        let mut active = self
            .members
            .values()
            .filter(|peer| peer.state == PeerState::Active)
            .peekable();
        let nobody = active.peek().is_none();
        let everybody = active.all(|peer| self.level_with.contains(&peer.id));
        let settled = age >= READY_SETTLE.min(self.config.startup_grace);
        let level = !self.level_with.is_empty() && (everybody || settled);
        // One that joins has nothing to serve before it met somebody.
        let joins = self.own_state == Some(PeerState::Joining);
        let alone = self.level_with.is_empty() && (nobody || (!joins && age >= self.config.startup_grace));
        if level || alone {
            self.ready = true;
            self.was_ready = true;
            self.alone = alone;
            let renew = alone && !nobody && !self.committed.is_empty();
            self.emit(Event::Ready { alone, renew });
        } else if joins && self.level_with.is_empty() && age >= self.config.startup_grace {
            // Who was none when it said hello, and is active by now, says no new one. Those who are active wait for no newcomer,
            // so nobody waits in a circle.
            self.aim_anew();
        }
    }

    /// We are behind every log in reach, or were out: level again means level with what the active ones have now.
    pub(super) fn lose_readiness(&mut self) {
        if self.ready {
            self.ready = false;
            self.alone = false;
            self.emit(Event::Unready);
        }
        self.unready_since = self.now.at;
        self.level_with.clear();
        self.aim_anew();
    }

    /// What the active ones have now is to be level with.
    fn aim_anew(&mut self) {
        let active: Vec<_> = self
            .saying()
            .filter(|(member, _)| self.state_of(member) == Some(PeerState::Active))
            .map(|(member, theirs)| (*member, theirs.vector.clone()))
            .collect();
        self.targets.extend(active);
    }
}
