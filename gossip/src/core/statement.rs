//! What replicas state of their disks: to everyone now and then, to a transaction's origin at once.
//!
//! A statement is relative to the one before it on the same connection, so it costs what moved. When nothing did, it carries
//! the hash of the whole vector: who finds another one has lost count, and asks for a hello.

use std::time::Duration;

use super::ask::STATE_INTERVAL_ASKED;
use super::wire::{Hello, Message, Moved, State};
use super::{
    Connection, ConnectionId, Gossip, RELAY_INTERVAL, STATE_INTERVAL_MAX, STATE_INTERVAL_MIN, clock, starts,
};

impl Gossip {
    /// A peer states what is on its disk, relative to what it last said here.
    pub(super) fn state(&mut self, id: ConnectionId, state: &State) {
        let at = self.now.at;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (member, rtt) = (connection.member, connection.rtt);
        let Some(theirs) = &mut connection.theirs else {
            return;
        };
        let applied = state
            .moved
            .apply(&mut theirs.vector)
            .and(state.trimmed.apply(&mut theirs.trimmed));
        if let Err(error) = applied {
            self.misbehaved(id, &error.to_string());
            return;
        }
        theirs.counter = state.counter;
        theirs.ready = state.ready;
        self.stable_dirty |= std::mem::replace(&mut theirs.holding, state.holding) != state.holding;
        let start = theirs.start;
        if state.moved.is_empty() && state.hash.is_some_and(|hash| hash != theirs.vector.hash()) {
            let due = connection
                .restate_sent
                .is_none_or(|last| at - last >= 5 * STATE_INTERVAL_MAX);
            if due {
                connection.restate_sent = Some(at);
                self.send(id, Message::Restate);
            }
            return;
        }
        let confirmed = state.hash.is_some().then(|| theirs.vector.clone());
        if self.takes_part(&member) {
            self.stable_dirty |= self.acks.state(member, start, state);
            if let Some(vector) = confirmed {
                self.stable_dirty |= self.acks.confirm(&member, start, state.counter, vector);
            }
        }
        self.offsets
            .insert(member, clock::Offset::measure(self.now, state.wall_ms, rtt));
        for (writer, tip) in &state.moved.entries {
            self.own_writer_seen(member, *writer, tip.number);
        }
        self.note_ahead(id, &state.moved);
    }

    /// States what is on our disk wherever that is due, and relays acks.
    pub(super) fn speak(&mut self) {
        let at = self.now.at;
        let now_so = (self.ready, self.holding());
        let due: Vec<(ConnectionId, bool, bool)> = self
            .connections
            .iter()
            .map(|(id, connection)| {
                let relay = connection.theirs.is_some()
                    && connection.relayed_at + RELAY_INTERVAL <= at
                    && self.takes_part(&connection.member);
                (*id, connection.spoke_due(now_so) <= at, relay)
            })
            .filter(|(_, state, relay)| *state || *relay)
            .collect();
        for (id, state, relay) in due {
            if state {
                self.say_state(id);
            }
            if relay {
                self.relay(id);
            }
        }
    }

    fn say_state(&mut self, id: ConnectionId) {
        let holding = self.holding();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let moved = Moved {
            entries: std::mem::take(&mut connection.unsaid)
                .into_iter()
                .filter_map(|writer| Some((writer, self.committed.get(&writer)?)))
                .collect(),
            floors: if std::mem::take(&mut connection.unsaid_floors) {
                self.committed.floors().collect()
            } else {
                Vec::new()
            },
        };
        let trimmed = Moved {
            entries: std::mem::take(&mut connection.unsaid_trimmed)
                .into_iter()
                .filter_map(|writer| Some((writer, self.trimmed.get(&writer)?)))
                .collect(),
            floors: if std::mem::take(&mut connection.unsaid_trimmed_floors) {
                self.trimmed.floors().collect()
            } else {
                Vec::new()
            },
        };
        connection.urgent = false;
        connection.said = (self.ready, holding);
        connection.spoke = self.now.at;
        let hash = moved
            .is_empty()
            .then(|| *self.committed_hash.get_or_insert_with(|| self.committed.hash()));
        let state = State {
            counter: self.counter,
            moved,
            hash,
            trimmed,
            ready: self.ready,
            holding,
            wall_ms: self.now.wall_ms,
        };
        self.counters.states_sent += 1;
        self.send(id, Message::State(state));
    }

    pub(super) fn say_hello(&mut self, id: ConnectionId) {
        let holding = self.holding();
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let theirs = connection.theirs.as_ref().map(|theirs| theirs.start);
        let known_start =
            starts::latest_start(&self.known_starts, &self.committed, connection.member, theirs);
        let known_start_runs = known_start.is_some_and(|known| self.is_run_elsewhere(id, connection, known));
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.told_start = known_start.map(|known| (known, known_start_runs));
        connection.unsaid.clear();
        connection.unsaid_floors = false;
        connection.unsaid_trimmed.clear();
        connection.unsaid_trimmed_floors = false;
        connection.urgent = false;
        connection.said = (self.ready, holding);
        connection.spoke = self.now.at;
        let hello = Hello {
            cluster: self.config.cluster,
            member: self.config.member,
            site: self.config.site.clone(),
            start: self.config.start,
            versions: self.config.versions,
            features: self.config.features.clone(),
            fingerprints: self.config.fingerprints.clone(),
            known_start,
            known_start_runs,
            counter: self.counter,
            vector: self.committed.clone(),
            trimmed: self.trimmed.clone(),
            ready: self.ready,
            holding,
            wall_ms: self.now.wall_ms,
        };
        self.send(id, Message::Hello(Box::new(hello)));
    }
}

impl Connection {
    /// When to state our vector here.
    pub(super) fn spoke_due(&self, now_so: (bool, bool)) -> Duration {
        let moved = !self.unsaid.is_empty()
            || self.unsaid_floors
            || !self.unsaid_trimmed.is_empty()
            || self.unsaid_trimmed_floors
            || self.said != now_so;
        if self.urgent {
            Duration::ZERO
        } else if moved && self.spoke < self.asks_until {
            self.spoke + STATE_INTERVAL_ASKED
        } else if moved {
            self.spoke + STATE_INTERVAL_MIN
        } else {
            self.spoke + STATE_INTERVAL_MAX
        }
    }
}
