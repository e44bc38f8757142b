//! Pulls: who is behind asks anyone who is ahead for everything beyond its frontier.
//!
//! A peer answers in its own commit order, hence causally. What is on its way by push is given time to come; what
//! one running pull brings is not asked of another. A pull that stands still is given up, and another peer asked.

use std::sync::Arc;
use std::time::Duration;

use super::early::Pending;
use super::envelope::Received;
use super::exchange::Taken;
use super::vector::{Dot, Vector, Writer};
use super::wire::{Moved, PullEnd};
use super::{ConnectionId, Gossip, Output, PULL_PATIENCE, PULL_STALLED, Peer, Theirs};

/// A number that a peer has of a writer and we do not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    number: u64,
    /// The latest number that it said since; waited for in its turn, so that a steady stream never looks late.
    latest: u64,
    /// When to pull, if it has not come by then.
    due: Duration,
}

impl Ahead {
    /// Somebody waits for it.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.due = self.due.min(now);
    }
}

/// A pull that runs.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) connection: ConnectionId,
    pub(super) progress: Duration,
    /// How many of the transactions that came were news.
    fresh: u64,
}

/// After a pull that brought nothing, that peer is not asked for so long; doubled each time.
const FRUITLESS_REST: Duration = Duration::from_millis(250);
/// After a failed pull, or a rejected delivery.
const FAILED_REST: Duration = Duration::from_millis(500);
/// After an answer that the log is trimmed.
const TRIMMED_REST: Duration = Duration::from_secs(10);

impl Theirs {
    /// Is a pull from it due, as far as it alone is concerned?
    fn wants(&self, now: Duration) -> bool {
        self.pull.is_none()
            && (self.answered_trimmed || self.rest_until <= now)
            && (self.floors_ahead || self.ahead.values().any(|ahead| ahead.due <= now))
    }

    /// Has it anything that we lack, as far as it said?
    pub(super) fn is_ahead(&self) -> bool {
        self.floors_ahead || !self.ahead.is_empty()
    }

    pub(super) fn pull_due(&self) -> Option<Duration> {
        if self.pull.is_some() {
            return None;
        }
        let floors = self.floors_ahead.then_some(Duration::ZERO);
        let due = self.ahead.values().map(|ahead| ahead.due).chain(floors).min()?;
        Some(due.max(self.rest_until))
    }
}

impl Gossip {
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

    /// How long what `writer` made may still come by push: its member is connected to us, we have all that it made
    /// before that, and nobody waits for it.
    fn patience(&self, writer: &Writer) -> Duration {
        if self.is_wanted(writer) {
            return Duration::ZERO;
        }
        let pushes = self
            .chosen
            .iter()
            .filter(|(member, _)| self.members.get(*member).is_some_and(Peer::takes_part))
            .filter_map(|(_, id)| self.connections.get(id)?.theirs.as_ref())
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
    pub(super) fn ask_at_once(&mut self, id: ConnectionId, dot: Dot) {
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
        if !self.settle_ahead() {
            return;
        }
        let now = self.now.at;
        if now < self.pulls_rest_until || self.held_bytes() > self.config.limits.held_bytes_max {
            return;
        }
        if self.holding() || self.copies() {
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
        if self.pulls.is_empty() {
            self.settle_catch_up();
        }
    }

    /// Strikes out what came meanwhile; says whether any pull is due. This runs after every input.
    fn settle_ahead(&mut self) -> bool {
        let now = self.now.at;
        let frontier = &self.frontier;
        let mut due = false;
        let mut later = Vec::new();
        for (id, connection) in &mut self.connections {
            let Some(theirs) = &mut connection.theirs else {
                continue;
            };
            theirs.floors_ahead = theirs.floors_ahead && !frontier.covers_floors(&theirs.vector);
            theirs.ahead.retain(|writer, ahead| {
                let here = |number| {
                    frontier.covers(&Dot {
                        writer: *writer,
                        number,
                    })
                };
                if here(ahead.latest) {
                    return false;
                }
                if here(ahead.number) {
                    ahead.number = ahead.latest;
                    later.push((*id, *writer));
                }
                true
            });
            due |= theirs.wants(now);
        }
        for (id, writer) in later {
            let at = now + self.patience(&writer);
            let theirs = self
                .connections
                .get_mut(&id)
                .and_then(|connection| connection.theirs.as_mut());
            if let Some(theirs) = theirs {
                if let Some(ahead) = theirs.ahead.get_mut(&writer) {
                    ahead.due = at;
                }
                due |= theirs.wants(now);
            }
        }
        due
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
    fn next_to_pull(&self) -> Option<ConnectionId> {
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
        for (member, id) in &self.chosen {
            let Some(connection) = self.connections.get(id) else {
                continue;
            };
            let Some(theirs) = &connection.theirs else {
                continue;
            };
            let wanted = |(writer, ahead): (&Writer, &Ahead)| {
                let dot = Dot {
                    writer: *writer,
                    number: ahead.number,
                };
                ahead.due <= now
                    && !self.ignored.contains(&(*member, *writer))
                    && !running.iter().any(|vector| vector.covers(&dot))
            };
            if !theirs.wants(now) || !theirs.ahead.iter().any(wanted) || !self.servable(theirs) {
                continue;
            }
            let distance = connection.rtt.unwrap_or(Duration::MAX);
            if nearest.is_none_or(|(least, _)| distance < least) {
                nearest = Some((distance, *id));
            }
        }
        nearest.map(|(_, id)| id)
    }
}
