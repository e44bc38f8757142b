//! Transactions on their way: pushes, the order they are delivered in, the early buffer, pulls.
//!
//! A transaction goes to the committer only when it is the next of its writer, continues the very bytes before
//! it, and all that it follows went before. One that is early waits in a bounded buffer, and its sender is
//! asked at once for what it follows. What does not fit is dropped: a pull brings it again.
//! Promise: for each writer the delivered numbers have no gap, and nothing is delivered before what it follows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::envelope::Received;
use super::vector::{Dot, MemberId, Tip, Vector, Writer};
use super::wire::{Moved, PullEnd};
use super::{ConnectionId, Event, Gossip, Output, PULL_PATIENCE, PULL_STALLED, Theirs};

/// A number that a peer has of a writer and we do not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    number: u64,
    /// The latest number that it said since; waited for in its turn, so that a steady stream never looks late.
    latest: u64,
    /// When to pull, if it has not come by then.
    due: Duration,
}

/// A pull that runs.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) connection: ConnectionId,
    pub(super) progress: Duration,
    /// How many of the transactions that came were news.
    fresh: u64,
}

/// Transactions that came before what they follow.
#[derive(Debug, Default)]
pub(super) struct Early {
    waiting: BTreeMap<Writer, BTreeMap<u64, Waiting>>,
    /// In the order in which they came: the oldest goes first for want of room.
    order: BTreeMap<u64, Dot>,
    next: u64,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    received: Received,
    from: MemberId,
    order: u64,
}

/// Delivered, not yet on disk.
#[derive(Debug, Default)]
pub(super) struct Pending {
    numbers: BTreeMap<Writer, VecDeque<(u64, usize)>>,
    pub(super) bytes: usize,
}

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

/// What a transaction costs to hold beside its bytes, roughly: the envelope taken apart.
const HELD_OVERHEAD: usize = 256;

/// After a pull that brought nothing, that peer is not asked for so long; doubled each time.
const FRUITLESS_REST: Duration = Duration::from_millis(250);
/// After a failed pull, or a rejected delivery.
const FAILED_REST: Duration = Duration::from_millis(500);
/// After an answer that the log is trimmed, and between two events that say a snapshot is needed.
const TRIMMED_REST: Duration = Duration::from_secs(10);

impl Early {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    fn insert(&mut self, received: Received, from: MemberId) {
        let dot = received.envelope.dot;
        let of_writer = self.waiting.entry(dot.writer).or_default();
        if of_writer.contains_key(&dot.number) {
            return;
        }
        let order = self.next;
        self.next += 1;
        self.bytes += held(&received);
        self.order.insert(order, dot);
        of_writer.insert(
            dot.number,
            Waiting {
                received,
                from,
                order,
            },
        );
    }

    fn remove(&mut self, dot: &Dot) -> Option<Waiting> {
        let of_writer = self.waiting.get_mut(&dot.writer)?;
        let waiting = of_writer.remove(&dot.number)?;
        if of_writer.is_empty() {
            self.waiting.remove(&dot.writer);
        }
        self.order.remove(&waiting.order);
        self.bytes -= held(&waiting.received);
        Some(waiting)
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.order.values().next().copied();
        oldest.is_some_and(|dot| self.remove(&dot).is_some())
    }

    /// The lowest number waiting of each writer.
    fn firsts(&self) -> Vec<Dot> {
        let first = |(writer, of_writer): (&Writer, &BTreeMap<u64, Waiting>)| {
            Some(Dot {
                writer: *writer,
                number: *of_writer.keys().next()?,
            })
        };
        self.waiting.iter().filter_map(first).collect()
    }

    fn get(&self, dot: &Dot) -> Option<&Waiting> {
        self.waiting.get(&dot.writer)?.get(&dot.number)
    }
}

impl Pending {
    fn delivered(&mut self, received: &Received) {
        let dot = received.envelope.dot;
        self.bytes += held(received);
        self.numbers
            .entry(dot.writer)
            .or_default()
            .push_back((dot.number, held(received)));
    }

    pub(super) fn committed(&mut self, writer: Writer, number: u64) {
        let Some(numbers) = self.numbers.get_mut(&writer) else {
            return;
        };
        while let Some((_, bytes)) = numbers.pop_front_if(|(waiting, _)| *waiting <= number) {
            self.bytes -= bytes;
        }
        if numbers.is_empty() {
            self.numbers.remove(&writer);
        }
    }
}

impl Theirs {
    pub(super) fn pull_due(&self) -> Option<Duration> {
        if self.pull.is_some() {
            return None;
        }
        let floors = self.floors_ahead.then_some(Duration::ZERO);
        let due = self.ahead.values().map(|ahead| ahead.due).chain(floors).min()?;
        Some(due.max(self.rest_until))
    }
}

fn held(received: &Received) -> usize {
    2 * received.bytes.len() + HELD_OVERHEAD
}

impl Gossip {
    /// Sends one of our transactions to everyone that said hello.
    pub(super) fn push(&mut self, bytes: &Arc<[u8]>) {
        for connection in self.chosen.values() {
            self.counters.pushed += 1;
            self.outputs.push_back(Output::Push {
                connection: *connection,
                bytes: Arc::clone(bytes),
            });
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

    pub(super) fn pulled(
        &mut self,
        id: ConnectionId,
        number: u64,
        transactions: Vec<Arc<[u8]>>,
        end: Option<PullEnd>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let member = connection.member;
        let Some(theirs) = &mut connection.theirs else {
            return;
        };
        theirs.heard = self.now.at;
        let mut fresh = 0;
        let some = !transactions.is_empty();
        for bytes in transactions {
            self.counters.pull_received += 1;
            match Received::decode(bytes) {
                Ok(received) => fresh += u64::from(self.take(member, received) == Taken::Delivered),
                Err(error) => {
                    self.misbehaved(id, &format!("sent no transaction in a pull: {error}"));
                    return;
                }
            }
        }
        // One that was cancelled may still bring something; its end does not concern the next.
        let Some(pull) = self.pulls.get_mut(&number).filter(|pull| pull.connection == id) else {
            return;
        };
        pull.fresh += fresh;
        if some {
            pull.progress = self.now.at;
        }
        let Some(end) = end else { return };
        let fruitless = pull.fresh == 0;
        self.pulls.remove(&number);
        let Some(theirs) = self
            .connections
            .get_mut(&id)
            .and_then(|connection| connection.theirs.as_mut())
        else {
            return;
        };
        theirs.pull = None;
        theirs.fruitless = if fruitless {
            theirs.fruitless.saturating_add(1)
        } else {
            0
        };
        let rest = match end {
            PullEnd::Done if fruitless => {
                (FRUITLESS_REST * (1 << theirs.fruitless.min(6).saturating_sub(1))).min(TRIMMED_REST)
            }
            PullEnd::Done => Duration::ZERO,
            PullEnd::Failed => FAILED_REST,
            PullEnd::Trimmed => TRIMMED_REST,
        };
        theirs.answered_trimmed = end == PullEnd::Trimmed;
        theirs.rest_until = self.now.at + rest;
    }

    /// The store did not take them: begin again from what is on disk.
    pub(super) fn rejected(&mut self, dots: &[Dot]) {
        if dots.iter().all(|dot| self.committed.covers(dot)) {
            return;
        }
        self.frontier = self.committed.clone();
        self.pending = Pending::default();
        self.delivering.clear();
        self.outputs
            .retain(|output| !matches!(output, Output::Deliver(_)));
        self.cancel_pulls();
        self.pulls_rest_until = self.now.at + FAILED_REST;
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in connections {
            self.note_all_ahead(connection);
        }
    }

    /// Takes a transaction in, whoever brought it, and whatever waited for it.
    fn take(&mut self, from: MemberId, received: Received) -> Taken {
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
    fn take_early(&mut self) {
        let mut moved = !self.early.waiting.is_empty();
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
            if *followed == writer {
                continue; // its own chain says so already
            }
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

    /// A peer said that it has these. What is on its way by push is given time to come.
    pub(super) fn note_ahead(&mut self, id: ConnectionId, moved: &Moved) {
        let now = self.now.at;
        let news: Vec<(Writer, u64, Duration)> = moved
            .entries
            .iter()
            .filter(|(writer, tip)| {
                *writer != self.config.start
                    && !self.frontier.covers(&Dot {
                        writer: *writer,
                        number: tip.number,
                    })
            })
            .map(|(writer, tip)| (*writer, tip.number, now + self.patience(writer)))
            .collect();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(theirs) = &mut connection.theirs else {
            return;
        };
        for (writer, number, due) in news {
            let ahead = theirs.ahead.entry(writer).or_insert(Ahead {
                number,
                latest: number,
                due,
            });
            ahead.latest = ahead.latest.max(number);
        }
        if !moved.floors.is_empty() {
            theirs.floors_ahead = !self.frontier.covers_floors(&theirs.vector);
        }
    }

    /// After a hello, or when the frontier fell back, nothing is on its way by push.
    pub(super) fn note_all_ahead(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(theirs) = &mut connection.theirs else {
            return;
        };
        theirs.pushed_after = theirs.vector.get(&theirs.start).map_or(0, |tip| tip.number);
        theirs.floors_ahead = !self.frontier.covers_floors(&theirs.vector);
        theirs.ahead.clear();
        for (writer, tip) in theirs.vector.iter() {
            let dot = Dot {
                writer,
                number: tip.number,
            };
            if writer != self.config.start && !self.frontier.covers(&dot) {
                let due = self.now.at;
                theirs.ahead.insert(
                    writer,
                    Ahead {
                        number: tip.number,
                        latest: tip.number,
                        due,
                    },
                );
            }
        }
    }

    /// How long what `writer` made may still come by push: its member is connected to us, and we have all that
    /// it made before that.
    fn patience(&self, writer: &Writer) -> Duration {
        let pushes = self
            .chosen
            .values()
            .filter_map(|id| self.connections.get(id)?.theirs.as_ref())
            .any(|theirs| {
                theirs.start == *writer
                    && (theirs.pushed_after == 0
                        || self.frontier.covers(&Dot {
                            writer: *writer,
                            number: theirs.pushed_after,
                        }))
            });
        if pushes { PULL_PATIENCE } else { Duration::ZERO }
    }

    /// A pushed transaction was early: its sender has what it follows.
    fn ask_at_once(&mut self, id: ConnectionId, dot: Dot) {
        let now = self.now.at;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(theirs) = &mut connection.theirs else {
            return;
        };
        let (number, due) = (dot.number, now);
        let ahead = theirs.ahead.entry(dot.writer).or_insert(Ahead {
            number,
            latest: number,
            due,
        });
        ahead.latest = ahead.latest.max(number);
        ahead.due = ahead.due.min(now);
    }

    pub(super) fn cancel_pulls(&mut self) {
        for (number, pull) in std::mem::take(&mut self.pulls) {
            self.outputs.push_back(Output::CancelPull {
                connection: pull.connection,
                pull: number,
            });
            let connection = self.connections.get_mut(&pull.connection);
            if let Some(theirs) = connection.and_then(|connection| connection.theirs.as_mut()) {
                theirs.pull = None;
            }
        }
    }

    /// Gives up pulls that stand still, and begins those that are due.
    pub(super) fn settle_pulls(&mut self) {
        self.give_up_stalled();
        let now = self.now.at;
        let patience: BTreeMap<Writer, Duration> = self
            .chosen
            .values()
            .filter_map(|id| self.connections.get(id)?.theirs.as_ref())
            .map(|theirs| (theirs.start, self.patience(&theirs.start)))
            .collect();
        let frontier = &self.frontier;
        for connection in self.connections.values_mut() {
            let Some(theirs) = &mut connection.theirs else {
                continue;
            };
            theirs.floors_ahead = theirs.floors_ahead && !frontier.covers_floors(&theirs.vector);
            theirs.ahead.retain(|writer, ahead| {
                if !frontier.covers(&Dot {
                    writer: *writer,
                    number: ahead.number,
                }) {
                    return true;
                }
                ahead.number = ahead.latest;
                ahead.due = now + patience.get(writer).copied().unwrap_or_default();
                !frontier.covers(&Dot {
                    writer: *writer,
                    number: ahead.number,
                })
            });
        }
        if now < self.pulls_rest_until || self.held_bytes() > self.config.limits.held_bytes_max {
            return;
        }
        while self.pulls.len() < self.config.limits.pulls_max {
            let Some(id) = self.next_to_pull() else { break };
            let number = self.next_pull;
            self.next_pull += 1;
            let Some(theirs) = self
                .connections
                .get_mut(&id)
                .and_then(|connection| connection.theirs.as_mut())
            else {
                break;
            };
            theirs.pull = Some(number);
            self.pulls.insert(
                number,
                Pull {
                    connection: id,
                    progress: now,
                    fresh: 0,
                },
            );
            self.counters.pulls_started += 1;
            let vector = self.frontier.clone();
            self.outputs.push_back(Output::Pull {
                connection: id,
                pull: number,
                vector,
            });
        }
    }

    fn give_up_stalled(&mut self) {
        let now = self.now.at;
        if self.pulls.values().all(|pull| now < pull.progress + PULL_STALLED) {
            return;
        }
        // While the committer is the slow one, the driver reads nothing: not the peer's fault.
        let full = self.held_bytes() > self.config.limits.held_bytes_max / 2;
        let stalled: Vec<u64> = self
            .pulls
            .iter_mut()
            .filter(|(_, pull)| now >= pull.progress + PULL_STALLED)
            .filter_map(|(number, pull)| {
                if full {
                    pull.progress = now;
                }
                (!full).then_some(*number)
            })
            .collect();
        for number in stalled {
            let Some(pull) = self.pulls.remove(&number) else {
                continue;
            };
            self.counters.pulls_stalled += 1;
            self.outputs.push_back(Output::CancelPull {
                connection: pull.connection,
                pull: number,
            });
            let connection = self.connections.get_mut(&pull.connection);
            if let Some(theirs) = connection.and_then(|connection| connection.theirs.as_mut()) {
                theirs.pull = None;
                theirs.rest_until = now + PULL_STALLED;
            }
        }
    }

    /// The nearest peer that has what is due and no running pull brings.
    fn next_to_pull(&mut self) -> Option<ConnectionId> {
        let now = self.now.at;
        let running: Vec<&Vector> = self
            .pulls
            .values()
            .filter_map(|pull| {
                let theirs = self.connections.get(&pull.connection)?.theirs.as_ref()?;
                Some(&theirs.vector)
            })
            .collect();
        let mut nearest: Option<(Duration, ConnectionId)> = None;
        let mut unservable: Option<(Duration, MemberId)> = None;
        for (member, id) in &self.chosen {
            let Some(connection) = self.connections.get(id) else {
                continue;
            };
            let Some(theirs) = &connection.theirs else {
                continue;
            };
            let due = theirs.pull.is_none() && (theirs.answered_trimmed || theirs.rest_until <= now);
            let wanted = |(writer, ahead): (&Writer, &Ahead)| {
                let dot = Dot {
                    writer: *writer,
                    number: ahead.number,
                };
                ahead.due <= now
                    && !self.ignored.contains(&(*member, *writer))
                    && !running.iter().any(|vector| vector.covers(&dot))
            };
            if !due || !(theirs.floors_ahead || theirs.ahead.iter().any(wanted)) {
                continue;
            }
            let distance = connection.rtt.unwrap_or(Duration::MAX);
            let resting = theirs.rest_until > now;
            let servable = !theirs.floors_ahead && !resting && self.frontier.covers_vector(&theirs.trimmed);
            if servable {
                if nearest.is_none_or(|(least, _)| distance < least) {
                    nearest = Some((distance, *id));
                }
            } else if unservable.is_none_or(|(least, _)| distance < least) {
                unservable = Some((distance, *member));
            }
        }
        if let (None, Some((_, from)), true) = (nearest, unservable, self.pulls.is_empty()) {
            let told = self.snapshot_told.is_some_and(|told| told + TRIMMED_REST > now);
            if !told {
                self.snapshot_told = Some(now);
                self.emit(Event::NeedsSnapshot { from });
            }
        }
        nearest.map(|(_, id)| id)
    }
}

/// What became of a transaction that came.
#[derive(PartialEq, Eq)]
enum Taken {
    Delivered,
    Early,
    No,
}
