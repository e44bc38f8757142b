//! What a replica that left or was evicted still does: it hands over what it has, and nothing else.
//!
//! It learns its state from the cluster record, which it may pull like everything else. From then on it is not ready,
//! trims and settles nothing, and counts nothing for anybody. It deletes nothing.
//!
//! It goes on hearing what the cluster says, by states if no log brings that any more: an eviction may be voided by one
//! that comes to be known late, and it is to learn so. Then it is in again as if it had just started.

use super::{Event, Gossip, PeerState};

impl Gossip {
    /// Were we put out, or have left?
    pub(super) fn put_out(&self) -> bool {
        self.own_state.is_some_and(|state| !state.takes_part())
    }

    pub(super) fn settle_standing(&mut self) {
        if !self.put_out() {
            if std::mem::take(&mut self.put_out_told) {
                self.handed_over = false;
                self.lose_readiness();
            }
            return;
        }
        if !self.put_out_told {
            self.put_out_told = true;
            self.ready = false;
            self.alone = false;
            self.targets.clear();
            self.emit(Event::Evicted);
        }
        if !self.handed_over && self.is_elsewhere_whole() {
            self.handed_over = true;
            self.emit(Event::HandedOver);
        }
    }

    /// Does each active member in reach say that it has all that is here? Not while none is.
    fn is_elsewhere_whole(&self) -> bool {
        let mut active = self
            .chosen
            .iter()
            .filter(|(member, _)| self.state_of(member) == Some(PeerState::Active))
            .filter_map(|(_, id)| self.connections.get(id)?.theirs.as_ref())
            .peekable();
        active.peek().is_some() && active.all(|theirs| theirs.vector.covers_vector(&self.committed))
    }
}
