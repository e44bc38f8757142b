//! What is decided once nothing concurrent is on its way any more: losers go, and what was cancelled is forgotten.
//!
//! The records themselves need no such moment: they merge in any order, and what they say is the same everywhere.
//! But two things may only be done when all that was written beside a change is known here. Superseding a claim that
//! lost, because a write on its way might have let it win; and saying that nothing is left of an account, because a
//! write on its way might bring something of it. The gossip tells what is *settled* (DESIGN.md §6.4), the committer
//! what there is to be done.
//!
//! - [`collapse`]: losers. [`erasure`]: cancelled accounts. Both pure, for the simulation to drive.
//! - [`Settlement`]: the two over one view of what is settled, pure as well.
//! - [`Settler`]: does in a site what they come to. [`receipts`]: who has forgotten an account.
//!
//! Promise: losers go at every replica or at none that they would have won at; a receipt is given only when a search
//! of every file in the data directory would find nothing.

pub mod collapse;
mod copies;
pub mod erasure;
pub mod receipts;
mod settler;

use std::sync::Arc;

use crdt::{AccountId, RecordKey};
use gossip::Vector;

use self::{
    collapse::{Losers, Ready},
    erasure::Erasures,
};
pub use self::{
    copies::Directories,
    erasure::{Around, WaitsFor},
    settler::{Settler, SettlerError, Told},
};
use crate::store::{CommittedGroup, Contested, Remains, Unsettled};

/// What waits to be settled at one replica. Pure: whoever drives it tells it of commits and of what is settled.
#[derive(Debug, Default)]
pub struct Settlement {
    settled: Vector,
    losers: Losers,
    erasures: Erasures,
    /// How often the vector was raised by something else than transactions.
    raised: u64,
    /// Where [`ready`](Self::ready) goes on.
    turn: Option<RecordKey>,
}

impl Settlement {
    /// A group was committed; the replica's vector is this since. True if there is more to be settled than before.
    pub fn committed(&mut self, group: &CommittedGroup, vector: &Vector) -> bool {
        // A catch-up merges states first and raises the vector last: what was noted in between says more than the
        // vector that it was noted with.
        if group.caught_up {
            let vector = Arc::new(vector.clone());
            self.raised += 1;
            self.losers.raised(&vector);
            self.erasures.raised(&vector);
        }
        let more = self.found(&group.unsettled, vector);
        let vector = Arc::new(vector.clone());
        for account in &group.unsettled.cancelled {
            self.erasures.begin_again(*account, &vector);
        }
        more
    }

    /// A scan found this, all of it within the vector. True if there is anything.
    pub fn found(&mut self, unsettled: &Unsettled, vector: &Vector) -> bool {
        if unsettled.is_empty() {
            return false;
        }
        let vector = Arc::new(vector.clone());
        for contested in &unsettled.contested {
            self.losers.note(*contested, &vector);
        }
        // What a scan finds may long be settled, and the gossip says so but once.
        self.losers.settled(&self.settled);
        for account in &unsettled.cancelled {
            self.erasures.begin(*account, &vector);
        }
        true
    }

    /// The gossip says that nothing concurrent with this is on its way. True if anything waited for it.
    pub fn settled(&mut self, settled: Vector) -> bool {
        self.settled = settled;
        self.losers.settled(&self.settled);
        self.is_waiting()
    }

    /// The replica began a new start at this vector, perhaps on other data: all is to be found anew. What was
    /// settled stays so, if it is here.
    pub fn restarted(&mut self, vector: &Vector) {
        let settled = std::mem::take(&mut self.settled);
        let covered = vector.covers_vector(&settled);
        *self = Settlement {
            settled: if covered { settled } else { Vector::new() },
            raised: self.raised + 1,
            ..Settlement::default()
        };
    }

    /// Whether there is anything to be settled.
    pub fn is_waiting(&self) -> bool {
        self.losers.count() + self.erasures.count() > 0
    }

    /// A number that changes when what was ready may not be ready any more.
    pub fn raised(&self) -> u64 {
        self.raised
    }

    /// Records whose losers may go now, a few at a time, round and round. Each stays until it is
    /// [forgotten](Self::forget): at all sites but the first, that is when the collapse has come.
    pub fn ready(&mut self, count_max: usize, now_ms: u64) -> Vec<Ready> {
        let mut ready = self.losers.ready(self.turn, count_max, now_ms);
        if ready.is_empty() {
            ready = self.losers.ready(None, count_max, now_ms);
        }
        self.turn = ready.last().map(|ready| ready.contested.key);
        ready
    }

    /// As it was then, a record has no losers any more, or cannot be helped now.
    pub fn forget(&mut self, then: Contested) {
        self.losers.forget(then);
    }

    /// Whether [`advance`](Self::advance) asks what remains.
    pub fn asks_for_remains(&self) -> bool {
        self.erasures.asks_for_remains()
    }

    /// Moves each erasure as far as it goes. `remains` was looked for after the latest [`settled`](Self::settled).
    pub fn advance(&mut self, remains: Option<&Remains>, now_ms: u64) {
        self.erasures.advance(Around {
            settled: &self.settled,
            losers: &self.losers,
            remains,
            now_ms,
        });
    }

    /// The cancelled accounts under way.
    pub fn erasures(&mut self) -> &mut Erasures {
        &mut self.erasures
    }

    /// What the erasure of an account waits for.
    pub fn waits_for(&self, account: AccountId) -> WaitsFor {
        self.erasures.waits_for(account)
    }

    /// Records with losers, and cancelled accounts without a receipt, that are known of.
    pub fn counts(&self) -> (usize, usize) {
        (self.losers.count(), self.erasures.count())
    }
}
