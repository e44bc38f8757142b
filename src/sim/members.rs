//! Who belongs to the cluster, as each replica has it from its cluster record and its configuration.

use crdt::{ClusterView, ClusterWrite, MemberField, MemberState};
use gossip::{Input, Peer, PeerState, Vector};

use super::{
    deeds::Deed,
    world::{World, read_records},
};
use crate::store::{Records, Txn};

impl World {
    /// The members as a process has them.
    pub(crate) fn peers_seen_by(&self, at: usize) -> Vec<Peer> {
        let view = read_records(&self.processes[at].disk, |records| records.cluster()).unwrap_or_default();
        let of = |peer: &Peer| Peer {
            state: state_of(&view, peer).unwrap_or(peer.state),
            ..peer.clone()
        };
        self.peers.iter().map(of).collect()
    }

    /// Tells the core of a process who belongs to the cluster now.
    pub(crate) fn members_may_have_changed(&mut self, at: usize) {
        if read_records(&self.processes[at].disk, |records| records.cluster()).is_err() {
            return self.input(at, Input::MembersUnknown);
        }
        let peers = self.peers_seen_by(at);
        let own = self.processes[at].member;
        let state = peers.iter().find(|peer| peer.id == own).map(|peer| peer.state);
        let process = &mut self.processes[at];
        let before = std::mem::replace(&mut process.state, state);
        let active = state == Some(PeerState::Active);
        let arrives = active && before.is_some() && before != state;
        process.arriving |= arrives;
        if let Some(running) = &mut process.running {
            running.takes_part = active;
            if arrives {
                running.before_serving = None;
            }
            if process.arriving
                && running.before_serving.is_none()
                && let Some(ledger) = &running.ledger
            {
                running.before_serving = Some(ledger.vector().clone());
            }
        }
        self.input(at, Input::Members(peers));
    }

    /// Whoever arrives has arrived when what it held then is settled; like a site, only while it is in: nobody counts with one
    /// that still joins. Its operator lists it in the configurations then: whoever loses its disk and is listed goes on as the
    /// same member with those that are listed, so if all of them do and one that came later is not, they are a cluster without
    /// it, and nobody could tell them what it still writes.
    pub(crate) fn may_have_arrived(&mut self, at: usize, settled: &Vector) {
        let process = &mut self.processes[at];
        let before = process
            .running
            .as_ref()
            .filter(|running| running.takes_part)
            .and_then(|running| running.before_serving.as_ref());
        if process.arriving && before.is_some_and(|before| settled.covers_vector(before)) {
            process.arriving = false;
            let own = process.member;
            if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == own) {
                peer.state = PeerState::Active;
            }
            let name = &process.name;
            self.story.tell(self.now, || format!("{name} has arrived"));
            self.tally.count("members that arrived", 1);
        }
    }

    /// A member that its configuration lists as active writes so itself, as a site does.
    pub(crate) fn register(&mut self, at: usize) {
        let own = crdt::MemberId::from_bytes(self.processes[at].member.0);
        let view = read_records(&self.processes[at].disk, |records| records.cluster()).unwrap_or_default();
        if self.processes[at].serves() && !view.members.contains_key(&own) {
            let deed = Deed::Member {
                id: own,
                state: MemberState::Active,
            };
            self.do_now(at, deed);
        }
    }

    /// Nobody is joining any more; whoever was, and has caught up, is told so first.
    pub(crate) fn joined(&mut self) -> bool {
        let mut joined = true;
        for at in 0..self.processes.len() {
            let own = self.processes[at].member;
            let state = self
                .peers_seen_by(at)
                .iter()
                .find(|peer| peer.id == own)
                .map(|peer| peer.state);
            if state == Some(PeerState::Joining) && !self.processes[at].retired {
                joined = false;
                self.become_active(at, state);
            }
        }
        joined
    }

    /// A member that has caught up takes its part.
    pub(crate) fn become_active(&mut self, at: usize, state: Option<PeerState>) {
        let process = &self.processes[at];
        let Some(running) = &process.running else { return };
        if state == Some(PeerState::Joining) && running.gossip.is_ready() && running.ledger.is_some() {
            let deed = Deed::Member {
                id: crdt::MemberId::from_bytes(process.member.0),
                state: MemberState::Active,
            };
            self.do_now(at, deed);
        }
    }
}

impl World {
    /// A member's word that another is out is on the disk.
    pub(crate) fn said_out(&mut self, at: usize, dot: gossip::Dot, id: crdt::MemberId, by: crdt::MemberId) {
        self.tally.count("deeds: evictions", 1);
        let view = read_records(&self.processes[at].disk, |records| records.cluster()).unwrap_or_default();
        let evicted = view.members.get(&id).and_then(|member| member.evicted.as_ref());
        let when = evicted
            .filter(|evicted| evicted.by == by)
            .map(|evicted| evicted.at);
        self.checks.evictions.said(dot, id, by, when);
    }
}

fn state_of(view: &ClusterView, peer: &Peer) -> Option<PeerState> {
    let member = view.members.get(&crdt::MemberId::from_bytes(peer.id.0))?;
    Some(match member.state {
        MemberState::Joining => PeerState::Joining,
        MemberState::Active => PeerState::Active,
        MemberState::Leaving => PeerState::Leaving,
        MemberState::Left => PeerState::Left,
        MemberState::Evicted => PeerState::Evicted,
    })
}

/// Writes that one member has put another out.
pub(crate) fn write_eviction(
    txn: &mut Txn<'_>,
    id: crdt::MemberId,
    by: crdt::MemberId,
) -> Result<(), crate::store::ReadError> {
    let cluster = txn.cluster()?;
    let known = cluster.members.get(&id);
    let has_a_word = cluster
        .members
        .get(&by)
        .is_none_or(|by| by.state == MemberState::Active);
    let is_out = known.is_some_and(|known| known.evicted.is_some() || known.state == MemberState::Left);
    if is_out || !has_a_word {
        return Ok(());
    }
    let at = txn.stamp_past(cluster.latest);
    if known.is_none() {
        let field = MemberField::Name(id.to_string());
        txn.write_cluster(ClusterWrite::Member { id, at, field });
    }
    let field = MemberField::Evicted {
        by,
        compromised: false,
        words: String::new(),
    };
    txn.write_cluster(ClusterWrite::Member { id, at, field });
    Ok(())
}

/// Writes that one that was put out comes back as somebody else. Its life before has ended, whatever becomes of the
/// evictions that ended it.
pub(crate) fn write_enrolment(
    txn: &mut Txn<'_>,
    id: crdt::MemberId,
    former: crdt::MemberId,
) -> Result<(), crate::store::ReadError> {
    let latest = txn.cluster()?.latest;
    let at = txn.stamp_past(latest);
    for (id, state) in [(id, MemberState::Joining), (former, MemberState::Left)] {
        let field = MemberField::State(state);
        txn.write_cluster(ClusterWrite::Member { id, at, field });
    }
    Ok(())
}

/// Writes a member's state into the cluster record.
pub(crate) fn write_state(
    txn: &mut Txn<'_>,
    id: crdt::MemberId,
    state: MemberState,
) -> Result<(), crate::store::ReadError> {
    let latest = txn.cluster()?.latest;
    let at = txn.stamp_past(latest);
    let field = MemberField::State(state);
    txn.write_cluster(ClusterWrite::Member { id, at, field });
    Ok(())
}
