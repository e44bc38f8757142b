//! What stays in the log for one that takes a copy of it.
//!
//! A replica that takes a snapshot, or catches up by states, goes on with the log above the cut that it was given. While it
//! joins its acks count for nothing, so this end keeps what lies above: until the member counts and has the cut, or for
//! [`LEASE`] neither took more of the copy nor acknowledged more. That it is heard is not enough: one whose disk is full
//! speaks every second, and would hold the log for ever.

use std::time::Duration;

use super::vector::{MemberId, Vector};
use super::{Gossip, Peer};

/// A member that came no further for so long has no claim to the log any more.
pub(super) const LEASE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Lease {
    cut: Vector,
    /// When it last came further.
    moved: Duration,
    /// How many transactions it had acknowledged then.
    acknowledged: u64,
}

impl Gossip {
    pub(super) fn serving(&mut self, member: MemberId, cut: Vector) {
        if self.takes_part(&member) {
            let lease = Lease {
                cut,
                moved: self.now.at,
                acknowledged: 0,
            };
            self.leases.insert(member, lease);
        }
    }

    pub(super) fn end_leases(&mut self) {
        let mut leases = std::mem::take(&mut self.leases);
        leases.retain(|member, lease| {
            let theirs = self.believed_vector(member);
            let has_it = theirs.is_some_and(|theirs| theirs.covers_vector(&lease.cut));
            let acknowledged = theirs.map_or(0, Vector::total);
            if acknowledged > lease.acknowledged {
                lease.acknowledged = acknowledged;
                lease.moved = self.now.at;
            }
            let counts = self.members.get(member).is_some_and(Peer::counts);
            self.now.at < lease.moved + LEASE && !(counts && has_it)
        });
        self.leases = leases;
    }

    /// What of `stable` may go from the log now.
    pub(super) fn unleased(&self, stable: &Vector) -> Vector {
        let mut free = stable.clone();
        for (member, lease) in &self.leases {
            // Once it runs on the cut, it needs what comes after its own vector.
            let theirs = self
                .believed_vector(member)
                .filter(|theirs| theirs.covers_vector(&lease.cut));
            free = free.up_to(theirs.unwrap_or(&lease.cut));
        }
        free
    }
}
