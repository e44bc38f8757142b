//! Who speaks: hellos, and which of two connections stays.

use std::collections::BTreeMap;
use std::time::Duration;

use super::members::Advertised;
use super::starts::{is_later, latest_start};
use super::wire::{Hello, Moved, RefuseCode};
use super::{ConnectionId, Gossip, PeerState, Theirs, clock};

/// Of two connections that else are equal, one that was silent this long goes.
pub(super) const STALE_AFTER: Duration = Duration::from_millis(1500);

impl Gossip {
    pub(super) fn hello(&mut self, id: ConnectionId, hello: Hello) {
        if let Some((code, words)) = self.mismatch(id, &hello) {
            self.refuse(id, code, &words);
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (member, rtt) = (connection.member, connection.rtt);
        let start = hello.start;
        let before = connection.theirs.take();
        let same_start = before.as_ref().is_some_and(|before| before.start == start);
        connection.theirs = Some(Theirs {
            start,
            counter: hello.counter,
            vector: hello.vector,
            trimmed: hello.trimmed,
            ready: hello.ready,
            holding: hello.holding,
            pushed_after: 0,
            heard: self.now.at,
            ahead: BTreeMap::new(),
            floors_ahead: false,
            pull: before.as_ref().and_then(|before| before.pull),
            rest_until: Duration::ZERO,
            fruitless: 0,
            answered_trimmed: false,
        });
        if before.is_some_and(|before| before.start != start) {
            connection.told_start = None;
        }
        if !same_start {
            self.ignored.retain(|(ignored, _)| *ignored != member);
        }
        self.heard_of(member);
        self.offsets
            .insert(member, clock::Offset::measure(self.now, hello.wall_ms, rtt));

        self.advertised.insert(
            member,
            Advertised {
                features: hello.features,
                versions: hello.versions,
            },
        );
        let takes_part = self.takes_part(&member);
        if takes_part {
            self.learn_start(member, start);
        }
        if let Some(known) = hello.known_start {
            self.start_seen(known, hello.known_start_runs);
        }
        let latest = latest_start(&self.known_starts, &self.committed, member, Some(start));
        let believed = latest == Some(start) || latest.is_some_and(|latest| is_later(&start, &latest));
        if !believed {
            self.tell_start(id);
        }
        if !self.choose(id) {
            return;
        }
        let Some(theirs) = self
            .connections
            .get(&id)
            .and_then(|connection| connection.theirs.as_ref())
        else {
            return;
        };
        self.stable_dirty = true;
        if believed && takes_part {
            self.acks
                .whole(member, start, hello.counter, || theirs.vector.clone());
        }
        let active = self.state_of(&member) == Some(PeerState::Active);
        if active && !self.ready && !(same_start && self.targets.contains_key(&member)) {
            self.targets.insert(member, theirs.vector.clone());
        }
        let said = Moved::from(&theirs.vector);
        for (writer, tip) in &said.entries {
            self.own_writer_seen(member, *writer, tip.number);
        }
        self.note_all_ahead(id);
    }

    fn mismatch(&self, id: ConnectionId, hello: &Hello) -> Option<(RefuseCode, String)> {
        let member = self.connections.get(&id)?.member;
        if hello.cluster != self.config.cluster {
            return Some((RefuseCode::CLUSTER, "the peer is of another cluster".to_owned()));
        }
        if hello.member != member || member == self.config.member || !self.may_talk(&member) {
            return Some((
                RefuseCode::MEMBER,
                format!("the key is of member {member}, the hello of {}", hello.member),
            ));
        }
        let (ours, theirs) = (self.config.versions, hello.versions);
        if ours.0.max(theirs.0) > ours.1.min(theirs.1) {
            let words = format!(
                "no protocol version in common: here {} to {}, there {} to {}",
                ours.0, ours.1, theirs.0, theirs.1
            );
            return Some((RefuseCode::VERSIONS, words));
        }
        let differs = self.config.fingerprints.iter().find(|(name, ours)| {
            hello
                .fingerprints
                .get(*name)
                .is_some_and(|theirs| theirs != *ours)
        });
        differs.map(|(name, _)| {
            (
                RefuseCode::FINGERPRINT,
                format!("the fingerprints of {name} differ"),
            )
        })
    }

    /// Of two connections of a member that both said hello one stays. Says whether that is `id`.
    fn choose(&mut self, id: ConnectionId) -> bool {
        let Some(new) = self.connections.get(&id) else {
            return false;
        };
        let member = new.member;
        let rival = self.chosen.get(&member).copied().filter(|rival| *rival != id);
        let Some((rival, old)) = rival.and_then(|rival| Some((rival, self.connections.get(&rival)?))) else {
            self.chosen.insert(member, id);
            return true;
        };
        let (Some(old_theirs), Some(new_theirs)) = (&old.theirs, &new.theirs) else {
            return false;
        };
        // Both ends come to the same answer: the one that the smaller member id dialed.
        let preferred = |dialed: bool| dialed == (self.config.member < member);
        let keep_new = if old_theirs.start == new_theirs.start {
            let stale = old_theirs.heard + STALE_AFTER <= self.now.at;
            stale || preferred(new.dialed) || !preferred(old.dialed)
        } else {
            is_later(&new_theirs.start, &old_theirs.start)
        };
        let loser = if keep_new { rival } else { id };
        self.tell_start(loser);
        let why = if old_theirs_same(self, rival, id) {
            "a second connection"
        } else {
            "an earlier start"
        };
        self.close(loser, why);
        if keep_new {
            self.chosen.insert(member, id);
        }
        keep_new
    }
}

fn old_theirs_same(gossip: &Gossip, a: ConnectionId, b: ConnectionId) -> bool {
    let start = |id| {
        let connection = gossip.connections.get(&id)?;
        connection.theirs.as_ref().map(|theirs| theirs.start)
    };
    start(a) == start(b)
}
