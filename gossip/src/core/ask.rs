//! Asking now: somebody waits here for what is not here yet.
//!
//! Usually nobody has to ask. Pushes come by themselves; what else peers have they state within a tenth of a second, and what
//! may still come by push is pulled only after a while. Who waits for one thing saves both: peers that were asked state
//! at once what they have and have not said, and for a moment whatever comes to their disks; and what the wanted writer
//! made is pulled as soon as anybody has it.

use std::time::Duration;

use super::vector::Writer;
use super::wire::Message;
use super::{ConnectionId, Gossip, Peer};

/// How long a question counts, at both ends: whoever asks waits no longer for the answer.
pub const ASK_LASTS: Duration = Duration::from_millis(300);
/// Between two questions to the same peers. The one before still counts for as long again.
pub const ASK_INTERVAL: Duration = Duration::from_millis(150);
/// Between two statements to one that has asked.
pub const STATE_INTERVAL_ASKED: Duration = Duration::from_millis(10);
/// Writers that are wanted at once; of more, what they made is pulled with the usual patience.
const WANTED_MAX: usize = 256;

impl Gossip {
    /// Somebody waits: for what `writer` made, or for anything.
    pub(super) fn ask(&mut self, writer: Option<Writer>) {
        let now = self.now.at;
        self.wanted.retain(|_, until| *until > now);
        if self.wanted.contains_key(&writer) || self.wanted.len() < WANTED_MAX {
            self.wanted.insert(writer, now + ASK_LASTS);
        }
        let wanted = |of: &Writer| writer.is_none_or(|writer| writer == *of);
        for connection in self.connections.values_mut() {
            if let Some(theirs) = &mut connection.theirs {
                let ahead = theirs.ahead.iter_mut().filter(|(of, _)| wanted(of));
                ahead.for_each(|(_, ahead)| ahead.hurry(now));
            }
        }
        if self.put_out() || self.asked_at.is_some_and(|at| now < at + ASK_INTERVAL) {
            return;
        }
        self.asked_at = Some(now);
        let whom: Vec<ConnectionId> = self
            .chosen
            .iter()
            .filter(|(member, _)| self.members.get(*member).is_some_and(Peer::takes_part))
            .map(|(_, id)| *id)
            .collect();
        for id in whom {
            self.counters.asked += 1;
            self.send(id, Message::Ask);
        }
    }

    /// Does somebody wait for what `writer` made?
    pub(super) fn is_wanted(&self, writer: &Writer) -> bool {
        let waits = |of: &Option<Writer>| self.wanted.get(of).is_some_and(|until| *until > self.now.at);
        waits(&None) || waits(&Some(*writer))
    }

    /// A peer waits: it is told at once of all that it was not told of, and of what comes in the next moment.
    pub(super) fn asked(&mut self, id: ConnectionId) {
        let now = self.now.at;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.asks_until = now + ASK_LASTS;
        }
    }
}
