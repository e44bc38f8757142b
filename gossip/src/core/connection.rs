//! Connections to peers, from their opening to their end, and what is remembered of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::pull::Ahead;
use super::vector::{MemberId, Vector, Writer};
use super::wire::{Message, RefuseCode};
use super::{ConnectionId, Event, Gossip, HELLO_WAIT, Output};

/// One connection. Before its hello nothing else is taken from it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) member: MemberId,
    pub(super) dialed: bool,
    pub(super) opened: Duration,
    pub(super) rtt: Option<Duration>,
    pub(super) theirs: Option<Theirs>,
    /// Entries that moved since we last spoke here.
    pub(super) unsaid: BTreeSet<Writer>,
    pub(super) unsaid_floors: bool,
    pub(super) unsaid_trimmed: BTreeSet<Writer>,
    pub(super) unsaid_trimmed_floors: bool,
    /// Ready, holding: as we last said here.
    pub(super) said: (bool, bool),
    pub(super) spoke: Duration,
    /// The far end waits for this ack.
    pub(super) urgent: bool,
    /// Somebody waits there, until then at most.
    pub(super) asks_until: Duration,
    /// What we last told it of its own starts: the latest, and whether that runs.
    pub(super) told_start: Option<(Writer, bool)>,
    /// Per third member: start and counter of the ack that we last relayed here.
    pub(super) relayed: BTreeMap<MemberId, (Writer, u64)>,
    pub(super) relayed_at: Duration,
    pub(super) relayed_whole_at: Duration,
    pub(super) restate_sent: Option<Duration>,
    pub(super) restate_answered: Option<Duration>,
}

/// What the far end said of itself.
#[derive(Debug)]
pub(super) struct Theirs {
    pub(super) start: Writer,
    pub(super) counter: u64,
    pub(super) vector: Vector,
    pub(super) trimmed: Vector,
    pub(super) ready: bool,
    pub(super) holding: bool,
    /// The number of its own writer at its hello: what comes after it is pushed.
    pub(super) pushed_after: u64,
    pub(super) heard: Duration,
    pub(super) ahead: BTreeMap<Writer, Ahead>,
    pub(super) floors_ahead: bool,
    pub(super) pull: Option<u64>,
    /// No pull from it before this.
    pub(super) rest_until: Duration,
    pub(super) fruitless: u32,
    /// Its log answered that it no longer has what we lack.
    pub(super) answered_trimmed: bool,
}

impl Gossip {
    pub(super) fn connected(&mut self, id: ConnectionId, member: MemberId, dialed: bool) {
        let at = self.now.at;
        self.connections.insert(id, Connection::new(member, dialed, at));
        if !self.may_talk(&member) {
            self.refuse(id, RefuseCode::MEMBER, "not a member of this cluster");
            return;
        }
        self.say_hello(id);
    }

    pub(super) fn close_silent(&mut self) {
        let at = self.now.at;
        let silent: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.theirs.is_none() && connection.opened + HELLO_WAIT <= at)
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            self.close(id, "no hello");
        }
    }

    pub(super) fn misbehaved(&mut self, id: ConnectionId, why: &str) {
        self.counters.misbehaved += 1;
        if let Some(connection) = self.connections.get(&id) {
            let member = connection.member;
            self.emit(Event::Misbehaved {
                member,
                why: why.to_owned(),
            });
        }
        self.close(id, why);
    }

    pub(super) fn refuse(&mut self, id: ConnectionId, code: RefuseCode, words: &str) {
        let Some(member) = self.connections.get(&id).map(|connection| connection.member) else {
            return;
        };
        self.counters.refused += 1;
        self.send(
            id,
            Message::Refuse {
                code,
                words: words.to_owned(),
            },
        );
        self.emit(Event::Refused {
            member,
            words: format!("we refused it: {words}"),
        });
        self.close(id, words);
    }

    pub(super) fn close(&mut self, id: ConnectionId, reason: &str) {
        if self.connections.contains_key(&id) {
            self.counters.closed += 1;
            self.outputs.push_back(Output::Close {
                connection: id,
                reason: reason.to_owned(),
            });
            self.forget_connection(id);
        }
    }

    pub(super) fn forget_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.pulls.retain(|_, pull| pull.connection != id);
        self.rests.remove(&id);
        if self.chosen.get(&connection.member) == Some(&id) {
            self.chosen.remove(&connection.member);
            self.targets.remove(&connection.member);
            // The member's ack may count again: that was another start of it.
            self.stable_dirty = true;
        }
    }
}

impl Connection {
    fn new(member: MemberId, dialed: bool, at: Duration) -> Connection {
        Connection {
            member,
            dialed,
            opened: at,
            rtt: None,
            theirs: None,
            unsaid: BTreeSet::new(),
            unsaid_floors: false,
            unsaid_trimmed: BTreeSet::new(),
            unsaid_trimmed_floors: false,
            said: (false, false),
            spoke: at,
            urgent: false,
            asks_until: Duration::ZERO,
            told_start: None,
            relayed: BTreeMap::new(),
            relayed_at: at,
            relayed_whole_at: at,
            restate_sent: None,
            restate_answered: None,
        }
    }
}
