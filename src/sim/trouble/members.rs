//! Members that join and leave.

use std::time::Duration;

use crdt::MemberState;
use gossip::{MemberId, PeerState};

use super::{Kind, Remedy};
use crate::{
    sim::{
        check::Track,
        deeds::Deed,
        world::{Happening, World},
    },
    store::disk::memory::MemoryDisk,
};

/// How often is looked whether a member that leaves may go.
const LEAVE_LOOK: Duration = Duration::from_millis(300);
/// So many members stay in any case.
const ACTIVE_MIN: usize = 2;

impl World {
    /// A member that was held back so far may take its part once it has caught up.
    pub(super) fn let_join(&mut self) {
        let joining: Vec<usize> = (0..self.processes.len())
            .filter(|at| {
                let own = self.processes[*at].member;
                let states = self.peers_seen_by(*at);
                states
                    .iter()
                    .any(|peer| peer.id == own && peer.state == PeerState::Joining)
            })
            .collect();
        for at in joining {
            self.tally.fault(Kind::Join);
            self.tell(|| format!("process {at} may become active"));
            self.become_active(at, Some(PeerState::Joining));
        }
    }

    /// Somebody who serves, and another member that is not needed.
    pub(super) fn two_members(&mut self) -> Option<(usize, usize)> {
        let serve: Vec<usize> = (0..self.processes.len())
            .filter(|at| self.processes[*at].serves() && self.processes[*at].copy_of.is_none())
            .collect();
        let by = self.troubles.rng.pick(&serve)?;
        let peers = self.peers_seen_by(by);
        let active: Vec<MemberId> = peers
            .iter()
            .filter(|peer| peer.state == PeerState::Active && peer.id != self.processes[by].member)
            .map(|peer| peer.id)
            .collect();
        if active.len() < ACTIVE_MIN {
            return None;
        }
        let others: Vec<usize> = (0..self.processes.len())
            .filter(|at| {
                let process = &self.processes[*at];
                let copied = self.processes.iter().any(|other| other.copy_of == Some(*at));
                active.contains(&process.member) && process.copy_of.is_none() && !copied && !process.retired
            })
            .collect();
        Some((by, self.troubles.rng.pick(&others)?))
    }

    fn write_member(&mut self, by: usize, at: usize, state: MemberState) {
        let id = crdt::MemberId::from_bytes(self.processes[at].member.0);
        self.do_now(by, Deed::Member { id, state });
    }

    /// A member goes in good order: it says so, hands on what it has, and its disk is destroyed.
    pub(super) fn let_leave(&mut self) {
        let Some((_, at)) = self.two_members() else { return };
        // Who leaves heals nobody any more.
        if !self.processes[at].serves()
            || self.is_another_damaged(at)
            || std::mem::replace(&mut self.troubles.put_out, true)
        {
            return;
        }
        self.tally.fault(Kind::Leave);
        self.write_member(at, at, MemberState::Leaving);
        self.after(LEAVE_LOOK, Happening::Remedy(Remedy::Left(at)));
    }

    pub(super) fn gone_if_left(&mut self, at: usize) {
        let own = self.processes[at].member;
        let peers = self.peers_seen_by(at);
        let state = peers.iter().find(|peer| peer.id == own).map(|peer| peer.state);
        if self.processes[at].retired {
            return;
        }
        if self.processes[at].idle() && self.drained(at) {
            match state {
                Some(PeerState::Leaving) => self.write_member(at, at, MemberState::Left),
                // One that takes no part is healed by nobody, so damage of its own does not hold it.
                Some(PeerState::Left) if !self.is_another_damaged(at) && self.is_known_to_have_left(at) => {
                    self.check_drained(at);
                    self.kill(at);
                    self.tell(|| format!("process {at} has left"));
                    self.processes[at].retired = true;
                    // Its operator takes it out of the configurations too, so that no disk is needed to know.
                    if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == own) {
                        peer.state = PeerState::Left;
                    }
                    self.processes[at].disk = MemoryDisk::new();
                    self.checks.disk_replaced(at, Track::default());
                    return;
                }
                _ => {}
            }
        }
        self.after(LEAVE_LOOK, Happening::Remedy(Remedy::Left(at)));
    }

    /// Is it on the disk of one that stays? What it was told may be of a disk into which a backup was put since.
    fn is_known_to_have_left(&self, at: usize) -> bool {
        let own = self.processes[at].member;
        (0..self.processes.len()).any(|other| {
            let process = &self.processes[other];
            let peers = self.peers_seen_by(other);
            let listed = peers.iter().find(|peer| peer.id == own);
            other != at
                && process.state == Some(PeerState::Active)
                && !process.retired
                && listed.is_some_and(|peer| peer.state == PeerState::Left)
        })
    }
}
