//! The starts of members, and what follows from one of ours that we did not make.
//!
//! Starts of one member are ordered by epoch, whatever the replica id: a wiped disk begins again at 1. (Of one epoch, the
//! greater replica id is later.) Whoever knows a later one, or another one of the same replica and epoch, says so
//! (`known_start`), and whether a process that runs in it speaks to them just now; and believes no ack of the lower. The
//! replica then restarts its writer after it. Copies of one disk would outbid each other for ever: so that is done a few
//! times at most; once for a start that somebody runs (it may be our own former process, whose end a peer has not noticed)
//! or that is of our own replica and epoch; and never for a start of our own replica id once we are ready. Beyond that it
//! is an alarm. Peers have a little time to tell what they know, and all of it is answered by one start.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::Connection;
use super::hello::STALE_AFTER;
use super::vector::{Dot, MemberId, Vector, Writer};
use super::{ConnectionId, Event, Gossip};

/// So often a process takes an epoch after one that it is told of. More than once, because who was cut off tells of an
/// earlier one than others do; and not for ever, because two processes that run as one member would outdo each other.
const LATER_STARTS_MAX: u32 = 3;

/// So long what peers tell of later starts is gathered, and then answered by one: others may know a later one, or hear it
/// run.
const NEWS_WAIT: Duration = Duration::from_secs(1);

/// Later starts of this member that peers know: the latest of them, and what is known of any.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaterStart {
    start: Writer,
    /// Another process may run in one of them.
    runs: bool,
    /// One of them is of our replica id.
    copied: bool,
    since: Duration,
    /// The site was told, and is restarting its writer.
    told: bool,
}

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

    /// Says hello again if the far end does not know yet of a later start of its member, or not that it runs.
    pub(super) fn tell_start(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let theirs = connection.theirs.as_ref().map(|theirs| theirs.start);
        let latest = latest_start(&self.known_starts, &self.committed, connection.member, theirs);
        let Some(latest) = latest.filter(|latest| Some(*latest) != theirs) else {
            return;
        };
        let told = connection.told_start.filter(|(told, _)| *told == latest);
        let enough = told.is_some_and(|(_, ran)| ran || !self.is_run_elsewhere(id, connection, latest));
        if !enough {
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
        // Who has our epoch of our replica id began from a copy of our directory, whether it is heard or not. (Or ours was
        // rolled back: then nobody runs in any of these starts.)
        let of_one_epoch = known.replica == ours.replica && known.epoch == ours.epoch;
        if !(of_one_epoch || is_later(&known, &ours))
            || known == ours
            || self.config.own_starts.contains(&known)
        {
            return;
        }
        let copied = known.replica == ours.replica;
        let passing = self.later_start.filter(|later| later.told);
        if passing.is_some_and(|later| !is_later(&known, &later.start)) {
            return;
        }
        let news = if passing.is_some() {
            &mut self.next_later_start
        } else {
            &mut self.later_start
        };
        let later = news.get_or_insert(LaterStart {
            start: known,
            runs: false,
            copied: false,
            since: self.now.at,
            told: false,
        });
        later.runs |= runs || of_one_epoch;
        later.copied |= copied;
        if is_later(&known, &later.start) {
            later.start = known;
        }
    }

    /// Tells the site of later starts, when peers had time to tell of all; at once if it means an alarm.
    pub(super) fn settle_later_start(&mut self) {
        let Some(later) = self.later_start.filter(|later| !later.told) else {
            return;
        };
        let raced = self.later_starts >= LATER_STARTS_MAX || (later.runs && self.passed_running);
        let live = raced || (self.was_ready && later.copied);
        if !live && self.now.at < later.since + NEWS_WAIT {
            return;
        }
        self.later_starts += u32::from(!live);
        self.passed_running |= later.runs || live;
        self.later_start = Some(LaterStart { told: true, ..later });
        self.emit(Event::LaterStart {
            known: later.start,
            copied: later.copied,
            live,
        });
    }

    /// The writer was restarted, perhaps for another reason: what that does not answer may be later than it too.
    pub(super) fn began_again(&mut self) {
        let ours = self.config.start;
        let is_unanswered = |later: &LaterStart| is_later(&later.start, &ours);
        if self
            .later_start
            .is_some_and(|later| later.told && is_unanswered(&later))
        {
            return;
        }
        let untold = self.later_start.filter(|later| !later.told);
        let next = self.next_later_start.take().or(untold).filter(is_unanswered);
        // Peers have time anew: they hear of our new start just now.
        let since = self.now.at;
        self.later_start = next.map(|next| LaterStart { since, ..next });
    }
}

impl LaterStart {
    /// When to come back for it.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.told).then(|| self.since + NEWS_WAIT)
    }
}
