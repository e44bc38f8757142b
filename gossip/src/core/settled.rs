//! What is settled: stable, and nothing concurrent with it is still on its way to us.
//!
//! When a member acknowledged a transaction it had it on disk, so all that it wrote later follows it. What is concurrent
//! with it, it had written before, and that is in the ack. So once our own vector covers the acks from which stability was
//! concluded, nothing concurrent can come any more: not from its writer, and not through a third. (A disk that goes
//! back after its ack writes as if it had never acknowledged; nobody can know that.)
//!
//! Pairs of a stable vector and of what those acks covered are taken one at a time, and stay as they are until settled:
//! so it goes on under a steady load. But what lay on a disk that was lost or put back since, and nowhere else, never comes:
//! a pair that waits for such is given up, and the next one is of the acks as they are then.
//! Promise: what is told was stable at that moment, by the acks as they were then.

use super::vector::Vector;
use super::{Gossip, Output};
use crate::planted::{self, Bug};

#[derive(Debug, Default)]
pub(super) struct Settling {
    pair: Option<Pair>,
    pub(super) told: Vector,
}

#[derive(Debug)]
struct Pair {
    stable: Vector,
    /// All that the acks behind it cover.
    acknowledged: Vector,
}

impl Settling {
    /// Not every member's ack counts now: what follows from one before is not to be relied on.
    pub(super) fn forget_pair(&mut self) {
        self.pair = None;
    }
}

impl Gossip {
    /// With what is stable now: concludes what is settled, and takes the next pair.
    pub(super) fn settle_settled(&mut self, stable: &Vector) {
        self.conclude(stable);
        if self.settling.pair.is_none() && !self.settling.told.covers_vector(stable) {
            self.settling.pair = Some(Pair {
                stable: stable.clone(),
                acknowledged: self.acknowledged(),
            });
            self.conclude(stable);
        }
    }

    /// All that any of the acks which count covers, by the acks as they are now.
    fn acknowledged(&self) -> Vector {
        let mut acknowledged = Vector::new();
        for theirs in self.counted_acks() {
            acknowledged.merge_max(theirs);
        }
        acknowledged
    }

    fn conclude(&mut self, stable: &Vector) {
        let Some(pair) = self.settling.pair.take() else {
            return;
        };
        if !stable.covers_vector(&pair.stable) {
            // An ack went down, or is not believed any more: nothing follows from that pair.
            return;
        }
        if !self.committed.covers_vector(&pair.acknowledged) && !planted::is(Bug::SettlesWithoutAcks) {
            let mut held = self.acknowledged();
            held.merge_max(&self.committed);
            if held.covers_vector(&pair.acknowledged) {
                self.settling.pair = Some(pair);
            }
            return;
        }
        self.settling.told = pair.stable.clone();
        self.outputs.push_back(Output::Settled(pair.stable));
    }
}
