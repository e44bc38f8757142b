//! Who is a member, what each counts for, and which sites are in reach.
//!
//! | state | pushed to, relayed | pulled from | counts for durability, stability, reach | target of readiness |
//! | --- | --- | --- | --- | --- |
//! | joining | yes | yes | no | no |
//! | active | yes | yes | yes | yes |
//! | leaving | yes | yes | yes | no |
//! | left, evicted | no | yes: it hands over | no | no |
//! | banned | not talked to | | | |

use std::collections::BTreeSet;

use super::vector::MemberId;
use super::{ConnectionId, Event, Gossip, ISOLATED_AFTER, Peer, PeerState, Theirs, wire};

/// What a member last said that it can.
#[derive(Clone, Debug, Default)]
pub(super) struct Advertised {
    pub(super) features: BTreeSet<String>,
    /// Protocol versions spoken: least, greatest.
    pub(super) versions: (u16, u16),
}

impl Gossip {
    pub(super) fn members_are(&mut self, members: Vec<Peer>) {
        let own = self.config.member;
        let counted_before: BTreeSet<MemberId> = self.counted().map(|peer| peer.id).collect();
        self.own_state = members.iter().find(|peer| peer.id == own).map(|peer| peer.state);
        self.members = members
            .into_iter()
            .map(|peer| (peer.id, peer))
            .filter(|(id, _)| *id != own)
            .collect();
        let known = &self.members;
        let takes_part = |member: &MemberId| known.get(member).is_some_and(Peer::takes_part);
        let active = |member: &MemberId| {
            known
                .get(member)
                .is_some_and(|peer| peer.state == PeerState::Active)
        };
        self.acks.retain(takes_part);
        self.known_starts.retain(|member, _| takes_part(member));
        self.leases.retain(|member, _| takes_part(member));
        self.advertised.retain(|member, _| known.contains_key(member));
        self.offsets.retain(|member, _| known.contains_key(member));
        self.heard.retain(|member, _| known.contains_key(member));
        self.looks.retain(|member, _| known.contains_key(member));
        self.ignored.retain(|(member, _)| known.contains_key(member));
        self.targets.retain(|member, _| active(member));
        self.level_with.retain(active);
        let strangers: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| !self.may_talk(&connection.member))
            .map(|(id, _)| *id)
            .collect();
        for connection in strangers {
            self.refuse(
                connection,
                wire::RefuseCode::MEMBER,
                "no longer a member of this cluster",
            );
        }
        if !self.counted().map(|peer| peer.id).eq(counted_before) {
            // What would follow from their acks does not follow from those of others.
            self.settling.forget_pair();
        }
        self.believe_connected();
        self.members_known = true;
        self.stable_dirty = true;
    }

    /// One that joined might be missed: what follows from the acks of those that are known does not hold.
    pub(super) fn members_unknown(&mut self) {
        self.members_known = false;
        self.settling.forget_pair();
    }

    /// The members that are connected and have said hello, with what they say of themselves.
    pub(super) fn saying(&self) -> impl Iterator<Item = (&MemberId, &Theirs)> {
        self.chosen
            .iter()
            .filter_map(|(member, id)| Some((member, self.connections.get(id)?.theirs.as_ref()?)))
    }

    /// Who was out has no ack here, and says no new hello when it is in again: what it said since its last one is its
    /// whole ack. Without it nothing that it states from now on could be built on.
    fn believe_connected(&mut self) {
        let unknown = self
            .saying()
            .filter(|(member, _)| self.takes_part(member) && self.acks.start(member).is_none());
        let said: Vec<_> = unknown
            .map(|(member, theirs)| (*member, theirs.start, theirs.counter, theirs.vector.clone()))
            .collect();
        for (member, start, counter, vector) in said {
            self.learn_start(member, start);
            if self.known_starts.get(&member) == Some(&start) {
                self.acks.whole(member, start, counter, || vector);
            }
        }
    }

    pub(super) fn state_of(&self, member: &MemberId) -> Option<PeerState> {
        self.members.get(member).map(|peer| peer.state)
    }

    pub(super) fn may_talk(&self, member: &MemberId) -> bool {
        self.state_of(member)
            .is_some_and(|state| state != PeerState::Banned)
    }

    pub(super) fn takes_part(&self, member: &MemberId) -> bool {
        self.state_of(member).is_some_and(PeerState::takes_part)
    }

    /// Does this disk count for durability? One that the cluster record does not list is of a cluster that keeps no
    /// such record.
    pub(super) fn own_counts(&self) -> bool {
        self.own_state.is_none_or(PeerState::counts)
    }

    pub(super) fn heard_of(&mut self, member: MemberId) {
        self.heard.insert(member, self.now.at);
        let peer = self.members.get(&member);
        if peer.is_some_and(|peer| peer.counts() && peer.site != self.config.site) {
            self.heard_other_site = self.now.at;
        }
    }

    /// Other sites that a member which counts is connected from.
    #[must_use]
    pub fn connected_sites(&self) -> usize {
        let sites: BTreeSet<&str> = self
            .chosen
            .keys()
            .filter_map(|member| self.members.get(member))
            .filter(|peer| peer.counts() && peer.site != self.config.site)
            .map(|peer| peer.site.as_str())
            .collect();
        sites.len()
    }

    /// What every member that counts can, this one included: as each said in its last hello. One that was never heard
    /// can nothing.
    #[must_use]
    pub fn common_features(&self) -> BTreeSet<String> {
        let mut common = self.config.features.clone();
        for peer in self.members.values().filter(|peer| peer.counts()) {
            let theirs = self.advertised.get(&peer.id);
            common.retain(|feature| theirs.is_some_and(|theirs| theirs.features.contains(feature)));
        }
        common
    }

    pub(super) fn settle_isolation(&mut self) {
        let others = self
            .members
            .values()
            .any(|peer| peer.counts() && peer.site != self.config.site);
        let isolated = others && self.now.at >= self.heard_other_site + ISOLATED_AFTER;
        if isolated != self.isolated {
            self.isolated = isolated;
            self.emit(Event::Isolated(isolated));
        }
        if !others {
            self.heard_other_site = self.now.at;
        }
    }
}
