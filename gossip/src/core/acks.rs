//! What each member has on its disk, as far as is known here; and what follows from it.
//!
//! An ack is (member, start, counter, vector). A later start replaces an earlier one, *also downwards*: that disk
//! was wiped or rolled back. Within a start the greater counter counts. An ack counts only while the member
//! does not speak to us with another start than the ack's: then it is of a disk that is no more, or a copy.
//! Promise: nothing is called stable, or on a site's disk, that the latest ack known here does not state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::starts::is_later;
use super::vector::{Dot, MemberId, ReplicaId, Tip, Vector, Writer};
use super::wire::{ACKS_COUNT_MAX, Ack, Message, Moved, State, VECTOR_ENTRIES_MAX};
use super::{ConnectionId, Gossip, Output, Peer, RELAY_WHOLE_INTERVAL, STABLE_INTERVAL};
use crate::planted::{self, Bug};

/// The latest ack of each other member.
#[derive(Debug, Default)]
pub(super) struct AckTable {
    acks: BTreeMap<MemberId, Acked>,
}

#[derive(Debug)]
struct Acked {
    start: Writer,
    counter: u64,
    vector: Vector,
    /// The counter at which each entry last moved, so that a relay says no more than it must.
    moved: BTreeMap<Writer, u64>,
    floors_moved: u64,
    /// The counter at which the vector was taken over whole: nothing older can be built on.
    whole: u64,
}

impl AckTable {
    pub(super) fn vector(&self, member: &MemberId) -> Option<&Vector> {
        self.acks.get(member).map(|acked| &acked.vector)
    }

    pub(super) fn start(&self, member: &MemberId) -> Option<Writer> {
        self.acks.get(member).map(|acked| acked.start)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&MemberId) -> bool) {
        self.acks.retain(|member, _| keep(member));
    }

    /// Takes an ack with its whole vector; says whether it was news.
    pub(super) fn whole(
        &mut self,
        member: MemberId,
        start: Writer,
        counter: u64,
        vector: impl FnOnce() -> Vector,
    ) -> bool {
        if let Some(acked) = self.acks.get(&member) {
            let newer = if acked.start == start {
                counter > acked.counter
            } else {
                is_later(&start, &acked.start)
            };
            if !newer {
                return false;
            }
        }
        let mut vector = vector();
        if planted::is(Bug::AcksKeepMaximum)
            && let Some(earlier) = self.acks.get(&member)
        {
            vector.merge_max(&earlier.vector);
        }
        let acked = Acked {
            start,
            counter,
            vector,
            moved: BTreeMap::new(),
            floors_moved: 0,
            whole: counter,
        };
        self.acks.insert(member, acked);
        true
    }

    /// Takes what a member stated of itself since the last time it did; says whether it was news.
    pub(super) fn state(&mut self, member: MemberId, start: Writer, state: &State) -> bool {
        // Whatever its start stated before was taken here when it was stated, or was known already: see
        // `Gossip::hello`. So this builds on all of it.
        self.build(member, start, state.counter, &state.moved)
    }

    /// A member said itself, hash and all, what is on its disk. What was built of its statements and of relays should be
    /// the same; an ack that lost count on the way would hold back what is stable for as long as the member runs.
    pub(super) fn confirm(&mut self, member: &MemberId, start: Writer, counter: u64, vector: Vector) -> bool {
        let Some(acked) = self.acks.get_mut(member) else {
            return false;
        };
        if acked.start != start || counter < acked.counter || acked.vector == vector {
            return false;
        }
        acked.counter = counter;
        acked.vector = vector;
        acked.moved.clear();
        acked.whole = counter;
        true
    }

    fn relayed(&mut self, ack: &Ack) -> bool {
        if ack.base == 0 {
            let mut vector = Vector::new();
            return ack.vector.apply(&mut vector).is_ok()
                && self.whole(ack.member, ack.start, ack.counter, || vector);
        }
        let known = self
            .acks
            .get(&ack.member)
            .is_some_and(|acked| acked.counter >= ack.base);
        known && self.build(ack.member, ack.start, ack.counter, &ack.vector)
    }

    fn build(&mut self, member: MemberId, start: Writer, counter: u64, moved: &Moved) -> bool {
        let Some(acked) = self.acks.get_mut(&member) else {
            return false;
        };
        if acked.start != start || counter <= acked.counter || moved.apply(&mut acked.vector).is_err() {
            return false;
        }
        acked.counter = counter;
        if !moved.floors.is_empty() {
            acked.floors_moved = counter;
            let vector = &acked.vector;
            acked.moved.retain(|writer, _| !vector.folded(writer));
        }
        acked
            .moved
            .extend(moved.entries.iter().map(|(writer, _)| (*writer, counter)));
        true
    }
}

impl Acked {
    fn relay(&self, member: MemberId, last: Option<(Writer, u64)>) -> Option<Ack> {
        let base = match last {
            Some((start, counter)) if start == self.start => {
                if counter >= self.counter {
                    return None;
                }
                if counter >= self.whole { counter } else { 0 }
            }
            _ => 0,
        };
        let vector = if base == 0 {
            Moved::from(&self.vector)
        } else {
            let moved = self.moved.iter().filter(|(_, counter)| **counter > base);
            Moved {
                entries: moved
                    .filter_map(|(writer, _)| Some((*writer, self.vector.get(writer)?)))
                    .collect(),
                floors: if self.floors_moved > base {
                    self.vector.floors().collect()
                } else {
                    Vec::new()
                },
            }
        };
        Some(Ack {
            member,
            start: self.start,
            counter: self.counter,
            base,
            vector,
        })
    }
}

impl Gossip {
    /// Distinct sites that have `dot` on disk, by the acks as they are now; ours counts if this disk has it, and
    /// this member counts.
    #[must_use]
    pub fn sites_with(&self, dot: &Dot) -> usize {
        let mut sites: Vec<&str> = Vec::new();
        if self.own_counts() && self.committed.covers(dot) {
            sites.push(&self.config.site);
        }
        for peer in self.counted() {
            let covers = self
                .acks
                .vector(&peer.id)
                .is_some_and(|vector| vector.covers(dot));
            if covers && !sites.contains(&peer.site.as_str()) && self.believed(&peer.id) {
                sites.push(&peer.site);
            }
        }
        sites.len()
    }

    /// Members that count, were heard themselves within `heard_within`, and are not known to have all of `vector` on
    /// disk. One that is silent is not among them, nor one that joins.
    #[must_use]
    pub fn lacking(&self, vector: &Vector, heard_within: Duration) -> Vec<MemberId> {
        let heard = |peer: &&Peer| {
            let heard = self.heard.get(&peer.id);
            heard.is_some_and(|at| self.now.at.saturating_sub(*at) <= heard_within)
        };
        let lacks = |peer: &&Peer| {
            let theirs = self.believed_vector(&peer.id);
            theirs.is_none_or(|theirs| !theirs.covers_vector(vector))
        };
        let lacking = self.counted().filter(heard).filter(lacks);
        lacking.map(|peer| peer.id).collect()
    }

    /// Does any other site have all of `vector` on disk? What a drain waits for.
    #[must_use]
    pub fn elsewhere(&self, vector: &Vector) -> bool {
        self.counted().any(|peer| {
            peer.site != self.config.site
                && self
                    .believed_vector(&peer.id)
                    .is_some_and(|theirs| theirs.covers_vector(vector))
        })
    }

    /// What every active and leaving member has on disk, this one included. Its floors are writers that may be
    /// folded: ended, equal in every ack, and gone from our log.
    #[must_use]
    pub fn stable(&self) -> Vector {
        let mut acks = vec![&self.committed];
        for peer in self.counted() {
            match self.believed_vector(&peer.id) {
                Some(vector) => acks.push(vector),
                None => return Vector::new(),
            }
        }
        let mut stable = Vector::new();
        for (replica, floor) in self.committed.floors() {
            // One that came with a catch-up may be news to others.
            if acks.iter().all(|ack| ack.covers_floor(replica, floor)) {
                stable.adopt_floor(replica, floor);
            }
        }
        for (writer, ours) in self.committed.iter() {
            let least = acks
                .iter()
                .filter(|ack| !ack.folded(&writer))
                .map(|ack| {
                    ack.get(&writer).unwrap_or(Tip {
                        number: 0,
                        hash: [0; 8],
                    })
                })
                .min_by_key(|tip| tip.number)
                .unwrap_or(ours);
            stable.set(writer, least);
        }
        for (replica, epoch) in self.foldable(&acks) {
            // The floor states what was folded, so it is made of what the log no longer holds.
            let mut folded = self.committed.clone();
            folded.fold(replica, epoch);
            if let Some(floor) = folded.floor(&replica) {
                stable.adopt_floor(replica, floor);
            }
        }
        stable
    }

    /// Up to which epoch each replica's writers may be folded.
    fn foldable(&self, acks: &[&Vector]) -> Vec<(ReplicaId, u32)> {
        let replicas: BTreeSet<ReplicaId> = self.committed.iter().map(|(writer, _)| writer.replica).collect();
        replicas
            .into_iter()
            .filter_map(|replica| Some((replica, self.foldable_epoch(replica, acks)?)))
            .collect()
    }

    fn foldable_epoch(&self, replica: ReplicaId, acks: &[&Vector]) -> Option<u32> {
        let mut floors = acks.iter().filter_map(|ack| ack.floor(&replica));
        if !floors.all(|floor| self.committed.covers_floor(replica, floor)) {
            return None;
        }
        let mut candidates: BTreeSet<Writer> = acks
            .iter()
            .flat_map(|ack| ack.of_replica(replica))
            .map(|(writer, _)| writer)
            .collect();
        // What a member runs may write more.
        if let Some(open) = self.running_epoch(replica) {
            candidates.retain(|writer| writer.epoch < open);
        }
        // Only who has something of a later start has said how an earlier one ended. What came to a member after an older
        // ack it may hold and not have told us; and the replica itself does not tell, if its disk was put back since. So
        // the last start stays open: also of a replica that nobody runs, for one that was put out may hand over more of it.
        let ended = |writer: &Writer, ack: &Vector| {
            let last = ack.of_replica(replica).next_back();
            last.is_some_and(|(last, _)| last.epoch > writer.epoch)
        };
        let whole = |writer: &Writer| {
            self.committed.get(writer).is_some_and(|ours| {
                self.trimmed.covers(&Dot {
                    writer: *writer,
                    number: ours.number,
                }) && acks
                    .iter()
                    .all(|ack| ack.folded(writer) || (ack.get(writer) == Some(ours) && ended(writer, ack)))
            })
        };
        // An epoch with a writer that is not whole is not; nor is any after it.
        match candidates.iter().find(|writer| !whole(writer)) {
            None => candidates.last().map(|writer| writer.epoch),
            Some(first) => candidates
                .iter()
                .map(|writer| writer.epoch)
                .take_while(|epoch| *epoch < first.epoch)
                .last(),
        }
    }

    /// The epoch of the start in which `replica` runs now, if a member runs it whose ack counts here.
    fn running_epoch(&self, replica: ReplicaId) -> Option<u32> {
        let counted = self.counted().flat_map(|peer| {
            let talking = self.chosen.get(&peer.id).and_then(|id| self.connections.get(id));
            let talking = talking.and_then(|connection| connection.theirs.as_ref());
            let known = self.known_starts.get(&peer.id).copied();
            [
                talking.map(|theirs| theirs.start),
                known,
                self.acks.start(&peer.id),
            ]
        });
        let starts = counted.flatten().chain([self.config.start]);
        starts
            .filter(|start| start.replica == replica)
            .map(|start| start.epoch)
            .min()
    }

    /// The replicas that members run now.
    pub(super) fn running_replicas(&self) -> BTreeSet<ReplicaId> {
        let acked = self.members.keys().filter_map(|member| self.acks.start(member));
        let starts = self.known_starts.values().copied().chain(acked);
        starts
            .chain([self.config.start])
            .map(|start| start.replica)
            .collect()
    }

    pub(super) fn counted(&self) -> impl Iterator<Item = &Peer> {
        self.members.values().filter(|peer| peer.counts())
    }

    pub(super) fn counted_acks(&self) -> impl Iterator<Item = &Vector> {
        self.counted().filter_map(|peer| self.believed_vector(&peer.id))
    }

    pub(super) fn believed_vector(&self, member: &MemberId) -> Option<&Vector> {
        self.acks.vector(member).filter(|_| self.believed(member))
    }

    /// Is the member's ack of the start in which it runs, as far as we know, and does it not take over a whole
    /// state just now?
    pub(super) fn believed(&self, member: &MemberId) -> bool {
        let Some(start) = self.acks.start(member) else {
            return false;
        };
        let talking = self.chosen.get(member).and_then(|id| self.connections.get(id));
        let talking = talking.and_then(|connection| connection.theirs.as_ref());
        talking.is_none_or(|theirs| theirs.start == start && !theirs.holding)
            && self.known_starts.get(member).is_none_or(|known| *known == start)
    }

    /// Acks of third members, as a peer has them.
    pub(super) fn relayed_acks(&mut self, acks: &[Ack]) {
        for ack in acks {
            if ack.member == self.config.member {
                self.start_seen(ack.start, false);
            } else if self.takes_part(&ack.member) {
                self.learn_start(ack.member, ack.start);
                if self.known_starts.get(&ack.member) == Some(&ack.start) {
                    self.stable_dirty |= self.acks.relayed(ack);
                }
            }
        }
    }

    /// Relays to a peer the acks that moved since we last did.
    pub(super) fn relay(&mut self, id: ConnectionId) {
        let at = self.now.at;
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let whole = connection.relayed_whole_at + RELAY_WHOLE_INTERVAL <= at;
        let acks: Vec<Ack> = self
            .acks
            .acks
            .iter()
            .filter(|(member, _)| **member != connection.member && self.believed(member))
            .filter_map(|(member, acked)| {
                let last = connection.relayed.get(member).filter(|_| !whole).copied();
                acked.relay(*member, last)
            })
            .take(ACKS_COUNT_MAX)
            .collect();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.relayed_at = at;
        if whole {
            connection.relayed_whole_at = at;
        }
        for ack in &acks {
            connection.relayed.insert(ack.member, (ack.start, ack.counter));
        }
        self.counters.acks_relayed += acks.len() as u64;
        // As many in one frame as it holds for certain; usually all.
        let mut message: Vec<Ack> = Vec::new();
        let mut entries = 0;
        for ack in acks {
            let more = ack.vector.entries.len() + ack.vector.floors.len();
            if entries + more > VECTOR_ENTRIES_MAX && !message.is_empty() {
                self.send(id, Message::Acks(std::mem::take(&mut message)));
                entries = 0;
            }
            entries += more;
            message.push(ack);
        }
        if !message.is_empty() {
            self.send(id, Message::Acks(message));
        }
    }

    /// Says what became stable and settled, now and then.
    pub(super) fn settle_stable(&mut self) {
        if self.now.at < self.stable_at + STABLE_INTERVAL {
            return;
        }
        self.stable_at = self.now.at;
        // A lease ends by time alone.
        let dirty = std::mem::take(&mut self.stable_dirty) || !self.leases.is_empty();
        if !dirty || self.put_out() || !self.members_known {
            return;
        }
        let stable = self.stable();
        if stable.is_empty() {
            self.settling.forget_pair();
            return;
        }
        self.end_leases();
        let free = self.unleased(&stable);
        // It may go down, when a disk was wiped; what was trimmed stays so.
        if !self.trim_told.covers_vector(&free) || free.floors().ne(self.trim_told.floors()) {
            self.trim_told = free.clone();
            self.outputs.push_back(Output::Trim(free));
        }
        self.settle_settled(&stable);
        if stable != self.stable_told {
            self.outputs.push_back(Output::Stable(stable.clone()));
            self.stable_told = stable;
        }
    }
}
