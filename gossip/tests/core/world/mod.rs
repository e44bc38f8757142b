//! A network of replicas in virtual time, from one seed: no socket, thread or clock.
//!
//! Each replica is the real core, a model of a disk that keeps what was committed, and a driver like the real
//! one: ordered control and push streams, pulls served from the log in commit order, redials for ever. Links
//! have delays, lose pushes, and can be cut in either direction. The disks check causal order, gaps and chains
//! themselves: the checkers know nothing of how the core came to its decisions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken model ends the test"
)]
#![allow(clippy::needless_pass_by_value, reason = "outputs are used up")]

mod commits;
mod disk;
mod network;
mod rng;
mod talks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use std::time::Duration;

use gossip::{
    Config, ConnectionId, Dot, Event, Gossip, Input, Limits, MemberId, Message, Now, Output, Peer, PeerState,
    Received, ReplicaId, Vector, Writer,
};

pub(crate) use disk::Disk;
use network::{Carried, Link};
pub(crate) use rng::{Rng, seeds};
use talks::TalkEnd;

pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
const COMMIT: Duration = Duration::from_millis(2);
const PULL_CHUNK: usize = 64;

enum Happening {
    Input {
        site: usize,
        life: u64,
        input: Input,
    },
    Over {
        site: usize,
        connection: ConnectionId,
        class: usize,
        input: Carried,
    },
    Commit {
        site: usize,
        life: u64,
    },
    Dial {
        from: usize,
        to: usize,
    },
    Established {
        from: usize,
        to: usize,
        lives: (u64, u64),
    },
    Check,
    Lost {
        site: usize,
        connection: ConnectionId,
    },
    TalkEnd(Box<TalkEnd>),
}

pub(crate) struct Site {
    pub(crate) member: MemberId,
    pub(crate) disk: Disk,
    pub(crate) gossip: Option<Gossip>,
    pub(crate) events: Vec<Event>,
    /// Every dot of its own that reached two sites by its own table.
    pub(crate) answered: BTreeSet<Dot>,
    waiting: VecDeque<Dot>,
    life: u64,
    start: Option<Writer>,
    queue: VecDeque<Received>,
    writes: u64,
    commit_due: bool,
    followed: Vector,
    redrawn: bool,
    /// Its disk was lost once: who has not heard that yet may believe an ack of the old one.
    wiped: bool,
    /// Its disk went back once, or was copied: nothing is promised about what it writes before it has caught up.
    pub(crate) went_back: bool,
    /// The members as this site has them, if not as all do.
    peers: Option<Vec<Peer>>,
    pub(crate) settled: Vector,
    /// Members without whom that was concluded.
    settled_without: BTreeSet<MemberId>,
    /// With whom each connection was, also those that ended.
    connected: BTreeMap<ConnectionId, usize>,
    /// Talks that it began.
    pub(crate) talks: Vec<Output>,
    wakes: Option<Duration>,
    pub(crate) held_max: usize,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) sites: Vec<Site>,
    /// Pushes dropped, in percent.
    pub(crate) loss: u64,
    /// Batches that fail, in per mille.
    pub(crate) failing_commits: u64,
    /// Do sites trim what is stable?
    pub(crate) trims: bool,
    pub(crate) delay: fn(usize, usize) -> Duration,
    pub(crate) peers: Vec<Peer>,
    pub(crate) log_catch_up_max: u64,
    pub(crate) look_interval: Option<Duration>,
    /// What each transaction follows, and which member wrote it, if that one's disk never went back.
    pasts: BTreeMap<Dot, (Vector, Option<MemberId>)>,
    cuts: BTreeSet<(usize, usize)>,
    links: BTreeMap<u64, Link>,
    next: u64,
    calendar: BTreeMap<(Duration, u64), Happening>,
    seed: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            eprintln!(
                "at {:?}; repeat with: SIM_SEED={} cargo test --release -p gossip --no-default-features --test core {test}",
                self.now, self.seed
            );
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, count: usize, delay: fn(usize, usize) -> Duration) -> World {
        let peers = (0..count)
            .map(|index| Peer {
                id: member(index),
                name: format!("site-{index}"),
                site: format!("site-{index}"),
                state: PeerState::Active,
            })
            .collect();
        let mut world = World {
            now: Duration::ZERO,
            rng: Rng(seed),
            sites: Vec::new(),
            loss: 0,
            failing_commits: 0,
            trims: false,
            delay,
            peers,
            log_catch_up_max: 20_000,
            look_interval: None,
            pasts: BTreeMap::new(),
            cuts: BTreeSet::new(),
            links: BTreeMap::new(),
            next: 1,
            calendar: BTreeMap::new(),
            seed,
        };
        for index in 0..count {
            world.sites.push(Site::new(member(index), Disk::default()));
        }
        world.at(Duration::from_millis(100), Happening::Check);
        world
    }

    pub(crate) fn start_all(&mut self) {
        for site in 0..self.sites.len() {
            self.start(site);
        }
    }

    /// Starts the process of a site on whatever is on its disk.
    pub(crate) fn start(&mut self, index: usize) {
        self.restart_writer(index, 0);
        let now = self.clock();
        let peers = self.view(index);
        let site = &mut self.sites[index];
        site.life += 1;
        site.queue.clear();
        site.commit_due = false;
        site.wakes = None;
        let config = Config {
            cluster: [7; 16],
            member: site.member,
            site: format!("site-{}", site.member.0[7]),
            start: site.start.unwrap(),
            own_starts: site.disk.starts.clone(),
            versions: (1, 1),
            features: BTreeSet::new(),
            fingerprints: BTreeMap::new(),
            startup_grace: Duration::from_secs(10),
            look_interval: self.look_interval,
            limits: Limits {
                early_count_max: 256,
                log_catch_up_max: self.log_catch_up_max,
                ..Limits::default()
            },
        };
        site.gossip = Some(Gossip::new(
            now,
            config,
            site.disk.vector.clone(),
            site.disk.trimmed.clone(),
            peers,
        ));
        for other in 0..self.sites.len() {
            if self.sites[other].member != self.sites[index].member {
                self.dial_soon(index, other);
            }
        }
        self.drive(index);
    }

    /// Draws the next writer of a site, after epoch `above`.
    fn restart_writer(&mut self, index: usize, above: u32) {
        let fresh = self.rng.next().to_be_bytes();
        let nonce = self.rng.next().to_be_bytes();
        let site = &mut self.sites[index];
        let replica = *site.disk.replica.get_or_insert(ReplicaId(fresh));
        let last = site.disk.starts.last().map_or(0, |start| start.epoch);
        let start = Writer {
            replica,
            epoch: last.max(above) + 1,
            nonce,
        };
        site.disk.starts.push(start);
        site.start = Some(start);
        site.waiting.clear();
        site.followed = Vector::new();
    }

    /// `kill -9`: what was not committed is gone; peers notice when the connection has been idle too long.
    pub(crate) fn kill(&mut self, index: usize) {
        let site = &mut self.sites[index];
        site.gossip = None;
        site.life += 1;
        site.queue.clear();
        site.writes = 0;
        let dead: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.ends.iter().any(|end| end.0 == index))
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            let link = self.links.remove(&id).unwrap();
            for (site, connection) in link.ends {
                if site != index {
                    self.at(IDLE_TIMEOUT, Happening::Lost { site, connection });
                }
            }
        }
    }

    pub(crate) fn wipe(&mut self, index: usize) {
        self.kill(index);
        self.put_back(index, Disk::default());
        self.sites[index].wiped = true;
    }

    /// Another disk, from before.
    pub(crate) fn put_back(&mut self, index: usize, disk: Disk) {
        let site = &mut self.sites[index];
        site.disk = disk;
        site.went_back = true;
        site.settled = Vector::new();
    }

    /// The members as `index` has them, itself included.
    pub(crate) fn view(&self, index: usize) -> Vec<Peer> {
        self.sites[index]
            .peers
            .clone()
            .unwrap_or_else(|| self.peers.clone())
    }

    /// Changes the state of some members as a site sees it.
    pub(crate) fn see(&mut self, index: usize, states: &[(usize, PeerState)]) {
        let mut peers = self.view(index);
        for (other, state) in states {
            let id = self.sites[*other].member;
            peers
                .iter_mut()
                .filter(|peer| peer.id == id)
                .for_each(|peer| peer.state = *state);
        }
        self.sites[index].peers = Some(peers.clone());
        self.input(index, Input::Members(peers));
    }

    /// Puts another process beside the others, with a disk of its own and the seat of an existing one.
    pub(crate) fn clone_site(&mut self, index: usize) -> usize {
        let site = Site::new(self.sites[index].member, self.sites[index].disk.clone());
        self.sites.push(site);
        let clone = self.sites.len() - 1;
        self.sites[index].went_back = true;
        self.sites[clone].went_back = true;
        self.start(clone);
        clone
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    pub(crate) fn cut_off(&mut self, index: usize) {
        for other in (0..self.sites.len()).filter(|other| *other != index) {
            self.cut(index, other);
            self.cut(other, index);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// One local write; it is on disk a moment later.
    pub(crate) fn write(&mut self, index: usize) {
        if self.sites[index].gossip.is_none() {
            return;
        }
        self.sites[index].writes += 1;
        self.commit_soon(index);
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(((at, _), happening)) = self.calendar.pop_first() {
            if at > end {
                let order = self.next;
                self.next += 1;
                self.calendar.insert((at, order), happening);
                break;
            }
            self.now = at;
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs until all running replicas hold the same; panics if that takes longer than `bound`.
    pub(crate) fn settle(&mut self, bound: Duration) -> Duration {
        let begun = self.now;
        while !self.level() {
            assert!(
                self.now - begun < bound,
                "no agreement within {bound:?}: {}",
                self.picture()
            );
            self.run(Duration::from_millis(50));
        }
        self.now - begun
    }

    pub(crate) fn level(&self) -> bool {
        let mut running = self.sites.iter().filter(|site| site.gossip.is_some());
        let Some(first) = running.next() else { return true };
        let idle = |site: &Site| site.queue.is_empty() && site.writes == 0;
        idle(first)
            && running.all(|site| {
                idle(site)
                    && site.disk.vector.covers_vector(&first.disk.vector)
                    && first.disk.vector.covers_vector(&site.disk.vector)
            })
    }

    pub(crate) fn picture(&self) -> String {
        let picture = |site: &Site| {
            let status = site.gossip.as_ref().map(|gossip| {
                let status = gossip.status();
                let peers: Vec<String> = status
                    .peers
                    .iter()
                    .map(|peer| {
                        format!(
                            "{}{}{}-{}",
                            peer.name,
                            if peer.connected { "+" } else { "!" },
                            peer.behind_us,
                            peer.behind_them
                        )
                    })
                    .collect();
                format!(
                    "ready {} early {} pulls {} {:?} {peers:?}",
                    status.ready, status.early_count, status.pulls, status.counters
                )
            });
            format!(
                "\n{:?} {}: {status:?} {:?}",
                site.start,
                site.disk.vector.total(),
                site.events
            )
        };
        self.sites.iter().map(picture).collect()
    }

    fn clock(&self) -> Now {
        Now {
            at: self.now,
            wall_ms: 1_700_000_000_000 + u64::try_from(self.now.as_millis()).unwrap(),
        }
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        let order = self.next;
        self.next += 1;
        self.calendar.insert((self.now + after, order), happening);
    }

    fn dial_soon(&mut self, from: usize, to: usize) {
        let after = Duration::from_millis(50 + self.rng.below(500));
        self.at(after, Happening::Dial { from, to });
    }

    fn commit_soon(&mut self, index: usize) {
        if !std::mem::replace(&mut self.sites[index].commit_due, true) {
            let life = self.sites[index].life;
            self.at(COMMIT, Happening::Commit { site: index, life });
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Input { site, life, input } => {
                if self.sites[site].life == life {
                    if matches!(input, Input::Tick) {
                        self.sites[site].wakes = None;
                    }
                    self.input(site, input);
                }
            }
            Happening::Over {
                site,
                connection,
                class,
                input,
            } => self.arrive(site, connection, class, input),
            Happening::Commit { site, life } => {
                if self.sites[site].life == life {
                    self.commit(site);
                }
            }
            Happening::Dial { from, to } => {
                if self.sites[from].gossip.is_none() {
                    return;
                }
                let linked = self.links.values().any(|link| {
                    let ends = [link.ends[0].0, link.ends[1].0];
                    ends == [from, to] || ends == [to, from]
                });
                let reachable = self.sites[to].gossip.is_some()
                    && !self.cuts.contains(&(from, to))
                    && !self.cuts.contains(&(to, from));
                if !linked && reachable {
                    let lives = (self.sites[from].life, self.sites[to].life);
                    let handshake = (self.delay)(from % 10, to % 10) * 2;
                    self.at(handshake, Happening::Established { from, to, lives });
                }
                self.dial_soon(from, to);
            }
            Happening::Established { from, to, lives } => {
                if (self.sites[from].life, self.sites[to].life) == lives {
                    self.establish(from, to);
                }
            }
            Happening::Lost { site, connection } => {
                if self.sites[site].gossip.is_some() {
                    self.input(site, Input::Disconnected { connection });
                }
            }
            Happening::TalkEnd(end) => self.end_talk(*end),
            Happening::Check => {
                self.check_links();
                self.at(Duration::from_millis(100), Happening::Check);
            }
        }
    }

    fn input(&mut self, index: usize, input: Input) {
        let now = self.clock();
        if let Some(gossip) = &mut self.sites[index].gossip {
            gossip.handle(now, input);
            self.drive(index);
        }
    }

    fn drive(&mut self, index: usize) {
        while let Some(output) = self.sites[index].gossip.as_mut().and_then(Gossip::poll) {
            self.perform(index, output);
        }
        let now = self.now;
        let site = &mut self.sites[index];
        let Some(gossip) = &site.gossip else { return };
        site.held_max = site.held_max.max(gossip.held_bytes());
        let deadline = gossip.deadline();
        assert!(deadline > now, "a deadline in the past");
        // Acks of one writer are in order: the first that waits is reached first.
        let mut reached = Vec::new();
        while let Some(dot) = site.waiting.pop_front_if(|dot| gossip.sites_with(dot) >= 2) {
            reached.push(dot);
        }
        site.answered.extend(reached.iter().copied());
        let life = site.life;
        if site.wakes.is_none_or(|wakes| wakes > deadline) {
            site.wakes = Some(deadline);
            self.at(
                deadline - now,
                Happening::Input {
                    site: index,
                    life,
                    input: Input::Tick,
                },
            );
        }
        for dot in reached {
            let holders = self
                .sites
                .iter()
                .filter(|site| site.disk.vector.covers(&dot))
                .count();
            assert!(holders >= 2, "{dot} was called durable and is on {holders} disk");
        }
    }

    fn perform(&mut self, index: usize, output: Output) {
        match output {
            Output::Send { connection, message } => {
                // Through the codec, as on a real wire.
                let frame = message.to_frame();
                let message = Message::decode(&frame[4..]).expect("our own frame");
                self.carry(index, connection, 0, Carried::Message(message));
            }
            Output::Push { connection, bytes } => {
                if !self.rng.chance(self.loss) {
                    self.carry(index, connection, 1, Carried::Push(bytes));
                }
            }
            Output::Pull {
                connection,
                pull,
                vector,
            } => {
                self.carry(index, connection, 1, Carried::PullRequest { pull, vector });
            }
            Output::CancelPull { .. } => {}
            Output::Deliver(received) => {
                self.sites[index].queue.extend(received);
                self.commit_soon(index);
            }
            Output::Stable(stable) => self.check_stable(index, &stable),
            Output::Trim(free) => self.trim(index, &free),
            Output::Close { connection, .. } => {
                let link = self
                    .links
                    .iter()
                    .find(|(_, link)| link.ends.contains(&(index, connection)));
                let Some(id) = link.map(|(id, _)| *id) else { return };
                let link = self.links.remove(&id).unwrap();
                let after = (self.delay)(link.ends[0].0 % 10, link.ends[1].0 % 10) + Duration::from_millis(5);
                for (site, connection) in link.ends {
                    if site != index {
                        self.at(after, Happening::Lost { site, connection });
                    }
                }
            }
            Output::Event(event) => self.event(index, event),
            Output::Reconcile { .. } | Output::Snapshot { .. } => self.begin_talk(index, output),
            Output::Settled(settled) => self.settled(index, &settled),
        }
    }

    fn event(&mut self, index: usize, event: Event) {
        self.sites[index].events.push(event.clone());
        match event {
            Event::LaterStart { known, live, .. } => {
                if live {
                    if std::mem::replace(&mut self.sites[index].redrawn, true) {
                        return;
                    }
                    self.sites[index].disk.replica = None;
                }
                self.restarted(index, known.epoch);
            }
            Event::WriterAhead { .. } => self.restarted(index, 0),
            Event::Ready { renew: true, .. } => {
                self.sites[index].disk.replica = None;
                self.restarted(index, 0);
            }
            _ => {}
        }
    }

    /// The store was reopened: memory is lost, a new writer begins.
    fn restarted(&mut self, index: usize, above: u32) {
        self.restart_writer(index, above);
        let site = &mut self.sites[index];
        site.queue.clear();
        let input = Input::Restarted {
            start: site.start.unwrap(),
            own_starts: site.disk.starts.clone(),
            vector: site.disk.vector.clone(),
        };
        let life = site.life;
        self.at(
            Duration::ZERO,
            Happening::Input {
                site: index,
                life,
                input,
            },
        );
    }
}

impl Site {
    fn new(member: MemberId, disk: Disk) -> Site {
        Site {
            member,
            disk,
            gossip: None,
            events: Vec::new(),
            answered: BTreeSet::new(),
            waiting: VecDeque::new(),
            life: 0,
            start: None,
            queue: VecDeque::new(),
            writes: 0,
            commit_due: false,
            followed: Vector::new(),
            redrawn: false,
            wiped: false,
            went_back: false,
            peers: None,
            settled: Vector::new(),
            settled_without: BTreeSet::new(),
            connected: BTreeMap::new(),
            talks: Vec::new(),
            wakes: None,
            held_max: 0,
        }
    }

    pub(crate) fn gossip(&self) -> &Gossip {
        self.gossip.as_ref().expect("the site runs")
    }

    pub(crate) fn saw(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}

fn counts(peer: &Peer) -> bool {
    matches!(peer.state, PeerState::Active | PeerState::Leaving)
}

pub(crate) fn member(index: usize) -> MemberId {
    MemberId([0, 0, 0, 0, 0, 0, 0, u8::try_from(index).unwrap()])
}
