//! What the store reports: batches on disk, a new start, what its log no longer holds, a catch-up merged.

use std::sync::Arc;
use std::time::Duration;

use super::early::Pending;
use super::settled::Settling;
use super::vector::{Dot, Tip, Vector, Writer};
use super::{ConnectionId, Gossip, Output, envelope};

impl Gossip {
    /// One batch is on our disk.
    pub(super) fn committed(&mut self, moved: &[(Writer, Tip)], local: Vec<(Dot, Arc<[u8]>)>) {
        let mut changed = false;
        for (dot, bytes) in &local {
            let tip = Tip {
                number: dot.number,
                hash: envelope::transaction_hash(bytes),
            };
            changed |= self.on_disk(dot.writer, tip);
        }
        for (writer, tip) in moved {
            changed |= self.on_disk(*writer, *tip);
        }
        if changed {
            self.counter += 1;
            self.committed_hash = None;
            self.stable_dirty = true;
        }
        for (_, bytes) in local {
            self.push(&bytes);
        }
    }

    fn on_disk(&mut self, writer: Writer, tip: Tip) -> bool {
        if !self.committed.advance(writer, tip) {
            return false;
        }
        self.frontier.advance(writer, tip);
        self.pending.committed(writer, tip.number);
        let own = writer == self.config.start;
        for connection in self.connections.values_mut() {
            connection.unsaid.insert(writer);
            if !own
                && connection
                    .theirs
                    .as_ref()
                    .is_some_and(|theirs| theirs.start == writer)
            {
                connection.urgent = true;
            }
        }
        true
    }

    pub(super) fn restarted(&mut self, start: Writer, own_starts: Vec<Writer>, vector: Vector) {
        self.config.start = start;
        self.config.own_starts = own_starts;
        let before = std::mem::replace(&mut self.frontier, vector.clone());
        self.forget_folded(&before);
        self.committed = vector;
        self.counter += 1;
        self.committed_hash = None;
        self.pending = Pending::default();
        self.delivering.clear();
        self.outputs
            .retain(|output| !matches!(output, Output::Deliver(_) | Output::Trim(_)));
        self.began_again();
        self.writer_ahead = false;
        // What was told may not have been heard by the store that was.
        self.stable_told = Vector::new();
        self.trim_told = Vector::new();
        self.settling = Settling::default();
        self.merge_ended();
        self.stable_dirty = true;
        self.cancel_pulls();
        self.restate_all();
    }

    /// A catch-up is merged: the vector jumped.
    pub(super) fn caught_up(&mut self, vector: Vector, trimmed: Vector) {
        self.committed = vector;
        let before = self.frontier.clone();
        self.frontier.merge_max(&self.committed);
        self.forget_folded(&before);
        self.pending.covered(&self.committed);
        self.counter += 1;
        self.committed_hash = None;
        self.trimmed(trimmed);
        self.merge_ended();
        self.take_early();
        self.deliver();
        self.restate_all();
    }

    /// Floors have come: what waits for something of theirs that was not here before waits for what may be lost.
    fn forget_folded(&mut self, before: &Vector) {
        self.counters.early_dropped += self.early.forget_folded(before, &self.frontier);
    }

    fn restate_all(&mut self) {
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in connections {
            self.say_hello(id);
            let connection = self.connections.get_mut(&id);
            if let Some(theirs) = connection.and_then(|connection| connection.theirs.as_mut()) {
                theirs.rest_until = Duration::ZERO;
                theirs.answered_trimmed = false;
            }
            self.note_all_ahead(id);
        }
    }

    pub(super) fn trimmed(&mut self, trimmed: Vector) {
        let moved = trimmed.moved_since(&self.trimmed);
        let mut folded = false;
        let before = self.frontier.clone();
        for (replica, floor) in trimmed.floors() {
            if self.trimmed.floor(&replica) != Some(floor) {
                folded = true;
                self.committed.fold(replica, floor.epoch);
                self.frontier.fold(replica, floor.epoch);
            }
        }
        for connection in self.connections.values_mut() {
            connection
                .unsaid_trimmed
                .extend(moved.iter().map(|(writer, _)| *writer));
            connection.unsaid_trimmed_floors |= folded;
            connection.unsaid_floors |= folded;
        }
        if folded {
            self.forget_folded(&before);
            self.counter += 1;
            self.committed_hash = None;
        }
        self.stable_dirty = true;
        self.trimmed = trimmed;
    }
}
