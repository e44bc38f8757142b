//! Transactions on their way: pushes, and the order in which they are delivered.
//!
//! A transaction goes to the committer only when it is the next of its writer, continues the very bytes before
//! it, and all that it follows went before. One that is early waits in a bounded buffer, and its sender is
//! asked at once for what it follows. What does not fit is dropped: a pull brings it again.
//! Promise: for each writer the delivered numbers have no gap, and nothing is delivered before what it follows.

use std::sync::Arc;

use super::envelope::Received;
use super::vector::{Dot, MemberId, Tip, Writer};
use super::{ConnectionId, Event, Gossip, Output, Peer};

/// What a received transaction is to us.
enum Fate {
    Next,
    Known,
    Early,
    /// This dot is not, with that hash, what we have.
    Fork {
        dot: Dot,
        ours: [u8; 8],
        theirs: [u8; 8],
    },
}

/// A member whose forked writers are more than this is not listened to.
const IGNORED_MAX: usize = 1024;

impl Gossip {
    /// Sends one of our transactions to everyone that takes part, said hello, and states all that we have folded.
    ///
    /// What a catch-up or a copy brought folded, a transaction does not say that it follows. Whoever lacks some of that
    /// would take the push for the next one if it overtook our statement of those floors, which goes on another stream.
    /// A pull or a catch-up brings it instead.
    pub(super) fn push(&mut self, bytes: &Arc<[u8]>) {
        for (member, id) in &self.chosen {
            let theirs = self.connections.get(id);
            let theirs = theirs.and_then(|connection| connection.theirs.as_ref());
            let can_tell = theirs.is_some_and(|theirs| theirs.vector.covers_floors(&self.committed));
            if can_tell && self.members.get(member).is_some_and(Peer::takes_part) {
                self.counters.pushed += 1;
                self.outputs.push_back(Output::Push {
                    connection: *id,
                    bytes: Arc::clone(bytes),
                });
            }
        }
    }

    pub(super) fn pushed(&mut self, id: ConnectionId, bytes: Arc<[u8]>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let member = connection.member;
        // The push stream may overtake the hello; what it brought is pulled once that is here.
        let Some(theirs) = &mut connection.theirs else {
            return;
        };
        theirs.heard = self.now.at;
        self.counters.push_received += 1;
        // A writer does not say that it follows what it has folded: who lacks some of that cannot tell that this is early.
        // It sees to that itself (see `push`); one of an earlier version does not.
        let folded_more = !self.frontier.covers_floors(&theirs.vector);
        if folded_more || self.copies() {
            // The catch-up or the copy has it, or a pull brings it after that.
            return;
        }
        match Received::decode(bytes) {
            Ok(received) => {
                let dot = received.envelope.dot;
                if self.take(member, received) == Taken::Early {
                    self.ask_at_once(id, dot);
                }
            }
            Err(error) => self.misbehaved(id, &format!("pushed no transaction: {error}")),
        }
    }

    /// Takes a transaction in, whoever brought it, and whatever waited for it.
    pub(super) fn take(&mut self, from: MemberId, received: Received) -> Taken {
        let dot = received.envelope.dot;
        if self.ignored.contains(&(from, dot.writer)) {
            return Taken::No;
        }
        if dot.writer.replica == self.config.start.replica {
            self.own_writer_seen(from, dot.writer, dot.number);
            if dot.writer == self.config.start {
                return Taken::No;
            }
        }
        match self.fate(&received) {
            Fate::Known => {
                self.counters.duplicates += 1;
                Taken::No
            }
            Fate::Fork { dot, ours, theirs } => {
                self.fork(from, received.envelope.dot.writer, dot, ours, theirs);
                Taken::No
            }
            Fate::Early => {
                self.counters.early += 1;
                self.early.insert(received, from);
                let limits = self.config.limits;
                while self.early.len() > limits.early_count_max || self.early.bytes > limits.early_bytes_max {
                    if !self.early.drop_oldest() {
                        break;
                    }
                    self.counters.early_dropped += 1;
                }
                Taken::Early
            }
            Fate::Next => {
                self.advance(received);
                self.take_early();
                Taken::Delivered
            }
        }
    }

    fn advance(&mut self, received: Received) {
        let (writer, tip) = received.envelope.tip(received.hash);
        self.frontier.advance(writer, tip);
        self.pending.delivered(&received);
        self.counters.delivered += 1;
        self.delivering.push(received);
    }

    /// Delivers of the early ones what is next now. Only the first of each writer can be.
    pub(super) fn take_early(&mut self) {
        let mut moved = self.early.len() > 0;
        while std::mem::take(&mut moved) {
            for dot in self.early.firsts() {
                let Some(fate) = self.early.get(&dot).map(|waiting| self.fate(&waiting.received)) else {
                    continue;
                };
                if matches!(fate, Fate::Early) {
                    continue;
                }
                moved = true;
                let Some(waiting) = self.early.remove(&dot) else {
                    continue;
                };
                match fate {
                    Fate::Next => self.advance(waiting.received),
                    Fate::Fork {
                        dot: at,
                        ours,
                        theirs,
                    } => {
                        self.fork(waiting.from, dot.writer, at, ours, theirs);
                    }
                    Fate::Known | Fate::Early => self.counters.duplicates += 1,
                }
            }
        }
    }

    fn fate(&self, received: &Received) -> Fate {
        let envelope = &received.envelope;
        let Dot { writer, number } = envelope.dot;
        if self.frontier.folded(&writer) {
            return Fate::Known;
        }
        let tip = self.frontier.get(&writer).unwrap_or(Tip {
            number: 0,
            hash: [0; 8],
        });
        if number < tip.number {
            return Fate::Known;
        }
        if number == tip.number {
            if received.hash == tip.hash {
                return Fate::Known;
            }
            return Fate::Fork {
                dot: envelope.dot,
                ours: tip.hash,
                theirs: received.hash,
            };
        }
        if number > tip.number + 1 {
            return Fate::Early;
        }
        if envelope.predecessor != tip.hash {
            let dot = Dot {
                writer,
                number: tip.number,
            };
            return Fate::Fork {
                dot,
                ours: tip.hash,
                theirs: envelope.predecessor,
            };
        }
        for (followed, at) in &envelope.follows {
            let dot = Dot {
                writer: *followed,
                number: at.number,
            };
            if !self.frontier.covers(&dot) {
                return Fate::Early;
            }
            if let Some(ours) = self.frontier.get(followed)
                && ours.number == at.number
                && ours.hash != at.hash
            {
                return Fate::Fork {
                    dot,
                    ours: ours.hash,
                    theirs: at.hash,
                };
            }
        }
        Fate::Next
    }

    /// Shows a fork, once for each member that brings it, and takes that writer from it no more.
    fn fork(&mut self, from: MemberId, writer: Writer, dot: Dot, ours: [u8; 8], theirs: [u8; 8]) {
        if self.ignored.len() < IGNORED_MAX && self.ignored.insert((from, writer)) {
            self.counters.forks += 1;
            self.emit(Event::Fork {
                dot,
                ours,
                theirs,
                from,
            });
        }
    }

    /// Hands what became next to the committer.
    pub(super) fn deliver(&mut self) {
        if !self.delivering.is_empty() {
            self.outputs
                .push_back(Output::Deliver(std::mem::take(&mut self.delivering)));
        }
    }
}

/// What became of a transaction that came.
#[derive(PartialEq, Eq)]
pub(super) enum Taken {
    Delivered,
    Early,
    No,
}
