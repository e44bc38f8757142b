//! Who speaks: hellos, the starts of members, and which of two connections stays.
//!
//! Starts of one member are ordered by epoch, whatever the replica id: a wiped disk begins again at 1. (Of one epoch, the
//! greater replica id is later.) Whoever knows a later one, or another one of the same replica and epoch, says so
//! (`known_start`), and whether a process that runs in it speaks to them just now; and believes no ack of the lower. The
//! replica then restarts its writer after it. Copies of one disk would outbid each other for ever: so that is done a few
//! times at most, once for a start that somebody runs (it may be our own former process, whose end a peer has not noticed),
//! and never for a start of our own replica id once we are ready; then it is an alarm.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::Connection;
use super::members::Advertised;
use super::vector::{Dot, MemberId, Vector, Writer};
use super::wire::{Hello, Moved, RefuseCode};
use super::{ConnectionId, Event, Gossip, PeerState, Theirs, clock};

/// So often a process takes an epoch after one that it is told of. More than once, because who was cut off tells of an
/// earlier one than others do; and not for ever, because two processes that run as one member would outdo each other.
const LATER_STARTS_MAX: u32 = 3;

/// Of two connections that else are equal, one that was silent this long goes.
const STALE_AFTER: Duration = Duration::from_millis(1500);

/// Is `start` after `other`, both of one member?
pub(super) fn is_later(start: &Writer, other: &Writer) -> bool {
    (start.epoch, start.replica) > (other.epoch, other.replica)
}

/// The latest start of `member` that is known, by hello and relay, and, for a member that speaks to us in
/// start `theirs`, by what its replica wrote.
pub(super) fn latest_start(
    known: &BTreeMap<MemberId, Writer>,
    committed: &Vector,
    member: MemberId,
    theirs: Option<Writer>,
) -> Option<Writer> {
    let known = known.get(&member).copied();
    let wrote = theirs.and_then(|theirs| {
        let folded = committed.floor(&theirs.replica).map(|floor| Writer {
            replica: theirs.replica,
            epoch: floor.epoch,
            nonce: [0; 8],
        });
        let written = committed.of_replica(theirs.replica).map(|(writer, _)| writer);
        written
            .filter(|writer| *writer != theirs)
            .chain(folded)
            .max_by_key(|writer| writer.epoch)
    });
    match (known, wrote) {
        (Some(known), Some(wrote)) if is_later(&wrote, &known) => Some(wrote),
        (Some(known), _) => Some(known),
        (None, wrote) => wrote,
    }
}

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

    /// Notes a start of another member, and tells the member if it speaks to us in a lower one.
    pub(super) fn learn_start(&mut self, member: MemberId, start: Writer) {
        match self.known_starts.get(&member) {
            Some(known) if !is_later(&start, known) => return,
            _ => self.known_starts.insert(member, start),
        };
        self.stable_dirty = true;
        // It may be another disk, with writes that the acks of the start before tell nothing of.
        self.settling.forget_pair();
        let talking = self.chosen.get(&member).copied();
        let talking = talking.filter(|id| {
            let theirs = self
                .connections
                .get(id)
                .and_then(|connection| connection.theirs.as_ref());
            theirs.is_some_and(|theirs| theirs.start != start)
        });
        if let Some(id) = talking {
            self.tell_start(id);
        }
    }

    /// Says hello again if the far end does not know yet of a later start of its member.
    fn tell_start(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let theirs = connection.theirs.as_ref().map(|theirs| theirs.start);
        let latest = latest_start(&self.known_starts, &self.committed, connection.member, theirs);
        if latest.is_some() && latest != theirs && connection.told_start != latest {
            self.say_hello(id);
        }
    }

    /// Does a process that runs in `start` speak to us on another connection of the member?
    pub(super) fn is_run_elsewhere(&self, id: ConnectionId, connection: &Connection, start: Writer) -> bool {
        let others = self.connections.iter().filter(|(other, _)| **other != id);
        others
            .filter(|(_, other)| other.member == connection.member)
            .filter_map(|(_, other)| other.theirs.as_ref())
            .any(|theirs| theirs.start == start && self.now.at < theirs.heard + STALE_AFTER)
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

    /// Somebody has a number of one of our writers.
    pub(super) fn own_writer_seen(&mut self, from: MemberId, writer: Writer, number: u64) {
        if writer.replica != self.config.start.replica {
            return;
        }
        if writer != self.config.start {
            self.start_seen(writer, false);
            return;
        }
        let dot = Dot { writer, number };
        if !self.committed.covers(&dot) && !self.writer_ahead {
            self.writer_ahead = true;
            self.emit(Event::WriterAhead { dot, from });
        }
    }

    /// Somebody knows a start of this member, or a writer of this replica. `runs`: a process in it speaks to them just now.
    pub(super) fn start_seen(&mut self, known: Writer, runs: bool) {
        let ours = self.config.start;
        let of_one_epoch = known.replica == ours.replica && known.epoch == ours.epoch;
        if !(of_one_epoch || is_later(&known, &ours))
            || known == ours
            || self.config.own_starts.contains(&known)
        {
            return;
        }
        if self.later_start.is_some_and(|later| later.epoch >= known.epoch) {
            return;
        }
        // One peer tells of several in one breath: until we have begun past the first, they are the same news.
        let raced = self.later_starts >= LATER_STARTS_MAX || (runs && self.passed_running);
        let again = self.later_start.is_none() && raced;
        let live = again || (self.was_ready && known.replica == ours.replica);
        if live {
            // Nor is what else was written under our replica's id: it gets another one once.
            let same_news = self.alarmed.is_some_and(|told| {
                told == known || (known.replica == ours.replica && told.replica == ours.replica)
            });
            if !same_news {
                self.alarmed = Some(known);
                self.emit(Event::LaterStart { known, live });
            }
        } else {
            if self.later_start.is_none() {
                self.later_starts += 1;
            }
            self.passed_running |= runs;
            self.later_start = Some(known);
            self.emit(Event::LaterStart { known, live });
        }
    }
}

fn old_theirs_same(gossip: &Gossip, a: ConnectionId, b: ConnectionId) -> bool {
    let start = |id| {
        let connection = gossip.connections.get(&id)?;
        connection.theirs.as_ref().map(|theirs| theirs.start)
    };
    start(a) == start(b)
}
