//! What stays in the log for one that takes a copy of it.
//!
//! A replica that takes a snapshot, or catches up by states, goes on with the log above the cut that it was given. While it
//! joins its acks count for nothing, so this end keeps what lies above: until the member counts and has the cut, or was
//! silent for [`LEASE`].

use std::time::Duration;

use super::vector::{MemberId, Vector};
use super::{Gossip, Peer};

/// A member that was neither served nor heard for so long has no claim to the log any more.
pub(super) const LEASE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Lease {
    cut: Vector,
    served: Duration,
}

impl Gossip {
    pub(super) fn serving(&mut self, member: MemberId, cut: Vector) {
        if self.takes_part(&member) {
            let served = self.now.at;
            self.leases.insert(member, Lease { cut, served });
        }
    }

    pub(super) fn end_leases(&mut self) {
        let mut leases = std::mem::take(&mut self.leases);
        leases.retain(|member, lease| {
            let heard = self.heard.get(member).copied().unwrap_or_default();
            let has_it = self
                .believed_vector(member)
                .is_some_and(|theirs| theirs.covers_vector(&lease.cut));
            let counts = self.members.get(member).is_some_and(Peer::counts);
            self.now.at < lease.served.max(heard) + LEASE && !(counts && has_it)
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
