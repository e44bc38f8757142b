//! Links between processes: delays, losses and cuts. A link carries three classes, each in order and none in order
//! with the others: control, pushes, and pulls.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use gossip::{ConnectionId, Message, PullEnd, Vector, regions};

use super::{rng::Rng, talks::Side};

/// A connection that hears nothing for so long is dead.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// What does not get through a cut is sent again after this.
pub(crate) const SENT_AGAIN: Duration = Duration::from_millis(200);

/// What a link carries.
#[derive(Clone)]
pub(crate) enum Carried {
    Message(Message),
    Push(Arc<[u8]>),
    PullRequest {
        pull: u64,
        vector: Vector,
    },
    PullAnswer {
        pull: u64,
        transactions: Vec<Arc<[u8]>>,
        end: Option<PullEnd>,
    },
    Talk {
        id: u64,
        to: Side,
        frame: Vec<u8>,
    },
    Copy {
        id: u64,
        to: Side,
        frame: Vec<u8>,
    },
}

/// The streams of a link: within one, order is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Control,
    Push,
    Pull,
    /// Conversations about what both hold, and copies.
    Talk,
}

/// Two processes that hear each other.
pub(crate) struct Link {
    /// Who, and by which number each knows it.
    pub(crate) ends: [(usize, ConnectionId); 2],
    /// What is on its way, by direction and class: each arrival is of the first, whatever it was that was held up.
    pub(crate) under_way: [[VecDeque<Carried>; 4]; 2],
    /// When the last thing arrives.
    pub(crate) arrives: [[Duration; 4]; 2],
    pub(crate) cut_since: Option<Duration>,
}

/// How bad it is now, everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Pushes lost: a stream that was reset.
    pub(crate) lost_percent: u32,
    /// Pushes that come twice.
    pub(crate) doubled_percent: u32,
    /// Added to a delay, at most; drawn for each thing carried.
    pub(crate) jitter_ms: u64,
    /// Things that take a second longer, which sets the streams far apart.
    pub(crate) straggling_percent: u32,
}

/// All links.
#[derive(Default)]
pub(crate) struct Network {
    links: BTreeMap<u64, Link>,
    pairs: BTreeMap<(usize, usize), usize>,
    /// One way: from, to.
    pub(crate) cuts: BTreeSet<(usize, usize)>,
    pub(crate) weather: Weather,
    next: u64,
}

impl Network {
    /// The time that light and routers need, one way, between two sites.
    pub(crate) fn delay(from_site: usize, to_site: usize) -> Duration {
        regions::round_trip(from_site, to_site) / 2
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Whether two processes can set up a connection: that takes both directions.
    pub(crate) fn open(&self, a: usize, b: usize) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    pub(crate) fn linked(&self, a: usize, b: usize) -> bool {
        self.pairs.contains_key(&(a.min(b), a.max(b)))
    }

    /// A new link; gives the number of each end's connection.
    pub(crate) fn link(&mut self, now: Duration, from: usize, to: usize) -> [ConnectionId; 2] {
        self.next += 2;
        let id = self.next;
        let ends = [ConnectionId(id), ConnectionId(id + 1)];
        self.links.insert(
            id,
            Link {
                ends: [(from, ends[0]), (to, ends[1])],
                under_way: Default::default(),
                arrives: [[now; 4]; 2],
                cut_since: None,
            },
        );
        *self.pairs.entry((from.min(to), from.max(to))).or_default() += 1;
        ends
    }

    /// Ends a link; gives its two ends.
    pub(crate) fn unlink(&mut self, connection: ConnectionId) -> Option<[(usize, ConnectionId); 2]> {
        let link = self.links.remove(&(connection.0 & !1))?;
        let [(a, _), (b, _)] = link.ends;
        let pair = (a.min(b), a.max(b));
        if let Some(count) = self.pairs.get_mut(&pair) {
            *count -= 1;
            if *count == 0 {
                self.pairs.remove(&pair);
            }
        }
        Some(link.ends)
    }

    pub(crate) fn links_of(&self, process: usize) -> Vec<ConnectionId> {
        self.links
            .values()
            .filter(|link| link.ends.iter().any(|end| end.0 == process))
            .map(|link| link.ends[0].1)
            .collect()
    }

    /// The link and the direction in which `connection` sends.
    pub(crate) fn sending(&mut self, connection: ConnectionId) -> Option<(&mut Link, usize)> {
        let direction = (connection.0 & 1) as usize;
        Some((self.links.get_mut(&(connection.0 & !1))?, direction))
    }

    /// Who is at the other end.
    pub(crate) fn far_end(&self, connection: ConnectionId) -> Option<(usize, ConnectionId)> {
        let here = (connection.0 & 1) as usize;
        Some(self.links.get(&(connection.0 & !1))?.ends[1 - here])
    }

    /// Links that have been cut for too long, in either direction.
    pub(crate) fn silent(&mut self, now: Duration) -> Vec<ConnectionId> {
        let mut dead = Vec::new();
        for link in self.links.values_mut() {
            let [(a, connection), (b, _)] = link.ends;
            if self.cuts.contains(&(a, b)) || self.cuts.contains(&(b, a)) {
                if now - *link.cut_since.get_or_insert(now) >= IDLE_TIMEOUT {
                    dead.push(connection);
                }
            } else {
                link.cut_since = None;
            }
        }
        dead
    }
}

impl Weather {
    /// What is added to one thing's delay.
    pub(crate) fn extra(&self, rng: &mut Rng) -> (Duration, bool) {
        let straggles = self.straggling_percent > 0 && rng.chance(self.straggling_percent);
        let jitter = rng.ms(0, 4 + self.jitter_ms);
        (
            if straggles {
                jitter + rng.ms(200, 1500)
            } else {
                jitter
            },
            straggles,
        )
    }
}
