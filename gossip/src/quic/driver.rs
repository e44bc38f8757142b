//! The one task that owns the core: feeds it what happens, and does what it says.
//!
//! Inputs are taken in bursts and outputs carried out after each burst, so that under load one delivery to the
//! store and one write per peer carry many transactions, and with no load each goes at once. It sleeps until
//! the core's deadline; nothing is polled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Endpoint, ServerConfig, TransportConfig};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connection::{Arrival, Environment, Link, News};
use super::gate::Gate;
use super::inquiry::{Inquiries, Outcome};
use super::streams::code;
use super::{Intake, MemberConfig, NodeStatus, dial, pinned};
use crate::reconcile::{Purpose, Verdict};
use crate::{
    Config, ConnectionId, Dot, Event, Gossip, Input, MemberId, Now, Output, Peer, PeerState, Tip, Vector,
    Writer,
};

/// Callers that may wait for durability at once; more are answered "degraded" at once.
pub const WAITERS_MAX: usize = 65_536;
/// Connections of one member at once: two while both ends dial, more only while old ones time out.
const CONNECTIONS_PER_MEMBER_MAX: usize = 4;
/// Inputs between two rounds of outputs.
const BURST_MAX: usize = 256;
/// A new picture is published at most this often.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Where a write is, when its answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk in so many sites, as many as were asked for or more.
    Reached {
        /// This one counted.
        sites: usize,
    },
    /// In so many only, and that was all that could be waited for.
    Degraded {
        /// This one counted.
        sites: usize,
    },
}

/// What the store and the callers tell the driver.
pub(super) enum Command {
    Committed {
        moved: Vec<(Writer, Tip)>,
        local: Vec<(Dot, Arc<[u8]>)>,
        bytes: usize,
    },
    /// Some reports did not fit.
    Resync,
    Restarted {
        start: Writer,
        own_starts: Vec<Writer>,
        vector: Vector,
    },
    CaughtUp {
        vector: Vector,
        trimmed: Vector,
    },
    Trimmed(Vector),
    Rejected(Vec<Dot>),
    Members(Vec<MemberConfig>),
    MembersUnknown,
    Wait(Waiter),
    Reconciled {
        member: MemberId,
        purpose: Purpose,
        verdict: Option<Verdict>,
    },
    /// A snapshot was taken, or not.
    Copied {
        member: MemberId,
        installed: bool,
    },
    Serving {
        member: MemberId,
        cut: Vector,
    },
    ReconcileNow {
        member: Option<MemberId>,
        purpose: Purpose,
        /// Hears whom it concerns.
        asked: oneshot::Sender<BTreeSet<MemberId>>,
        /// Hears each outcome, and is dropped after the last.
        verdicts: mpsc::UnboundedSender<Outcome>,
    },
    /// Somebody waits for what this writer made, or for anything.
    Ask(Option<Writer>),
    /// Who was heard of late and lacks any of this?
    Lacking {
        vector: Vector,
        heard_within: Duration,
        reply: oneshot::Sender<Vec<MemberId>>,
    },
    Stop,
}

/// Somebody who waits until every dot is in so many sites.
pub(super) struct Waiter {
    pub(super) dots: Vec<Dot>,
    pub(super) sites: usize,
    /// Waits on though too few sites are connected.
    pub(super) patient: bool,
    /// The least over the dots, as last seen.
    pub(super) reached: Arc<AtomicUsize>,
    pub(super) reply: oneshot::Sender<Durability>,
}

/// What a driver is made of.
pub(super) struct Parts {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Arc<TransportConfig>,
    pub(super) server: ServerConfig,
    pub(super) environment: Environment,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) arrivals: mpsc::UnboundedReceiver<Arrival>,
    pub(super) intake: Arc<Intake>,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(super) status: watch::Sender<Arc<NodeStatus>>,
    pub(super) config: Config,
    pub(super) vector: Vector,
    pub(super) trimmed: Vector,
    pub(super) members: Vec<MemberConfig>,
}

pub(super) struct Driver {
    gossip: Gossip,
    own: MemberId,
    held_bytes_max: usize,
    began: Instant,
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    server: ServerConfig,
    environment: Environment,
    commands: mpsc::UnboundedReceiver<Command>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    intake: Arc<Intake>,
    ready: Arc<AtomicBool>,
    wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    room: Arc<Gate>,
    status: watch::Sender<Arc<NodeStatus>>,
    published: Option<Instant>,
    members: BTreeMap<MemberId, Known>,
    links: BTreeMap<ConnectionId, Link>,
    /// Whose connections ended since the core was last heard.
    departed: BTreeMap<ConnectionId, MemberId>,
    waiters: Vec<Waiter>,
    inquiries: Inquiries,
    /// Something happened that may concern the waiters.
    moved: bool,
    /// Something happened that the published picture does not show.
    unpublished: bool,
    stopping: bool,
}

/// A member that is dialed.
struct Known {
    config: MemberConfig,
    /// Connections to it that live and are not being closed.
    living: watch::Sender<usize>,
    dialer: AbortHandle,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.dialer.abort();
    }
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let began = Instant::now();
        let peers = peers_of(&parts.members);
        let now = Now {
            at: Duration::ZERO,
            wall_ms: (parts.wall_ms)(),
        };
        let (own, held_bytes_max) = (parts.config.member, parts.config.limits.held_bytes_max);
        let room = Arc::clone(&parts.environment.room);
        let mut driver = Self {
            gossip: Gossip::new(now, parts.config, parts.vector, parts.trimmed, peers),
            own,
            held_bytes_max,
            began,
            endpoint: parts.endpoint,
            transport: parts.transport,
            server: parts.server,
            commands: parts.commands,
            arrivals: parts.arrivals,
            environment: parts.environment,
            intake: parts.intake,
            ready: parts.ready,
            room,
            wall_ms: parts.wall_ms,
            status: parts.status,
            published: None,
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            departed: BTreeMap::new(),
            waiters: Vec::new(),
            inquiries: Inquiries::default(),
            moved: false,
            unpublished: true,
            stopping: false,
        };
        driver.know(parts.members);
        driver
    }

    pub(super) async fn run(mut self) {
        let listener = tokio::spawn(dial::listen(
            self.endpoint.clone(),
            self.server.clone(),
            self.environment.clone(),
        ));
        let timer = tokio::time::sleep_until(self.began);
        tokio::pin!(timer);
        while !self.stopping {
            self.perform();
            self.answer_waiters();
            let wake = self.publish();
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                Some(arrival) = self.arrivals.recv() => self.arrive(arrival),
                () = &mut timer => {}
            }
            self.take_burst();
            if self.now().at >= self.gossip.deadline() {
                self.feed(Input::Tick);
            }
        }
        for link in self.links.values_mut() {
            link.cut(code::DONE, "the node stops");
        }
        self.endpoint.close(code::DONE, b"the node stops");
        listener.abort();
        self.members.clear();
        // So that the closes are really sent.
        self.endpoint.wait_idle().await;
    }

    /// What has come meanwhile, up to a burst.
    fn take_burst(&mut self) {
        for _ in 0..BURST_MAX {
            if let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            } else if let Ok(arrival) = self.arrivals.try_recv() {
                self.arrive(arrival);
            } else {
                return;
            }
        }
    }

    /// The only clocks: the monotonic one from the driver's beginning, and the wall's.
    fn now(&self) -> Now {
        Now {
            at: self.began.elapsed(),
            wall_ms: (self.wall_ms)(),
        }
    }

    fn feed(&mut self, input: Input) {
        self.unpublished = true;
        self.gossip.handle(self.now(), input);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Committed { moved, local, bytes } => {
                self.intake.bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.moved = true;
                self.feed(Input::Committed { moved, local });
            }
            Command::Resync => {
                // First the flag: whoever overflows after it asks again. Swapped and not stored, so that the vector
                // that is read next has what those who overflowed before had committed.
                self.intake.overflowed.swap(false, Ordering::AcqRel);
                self.environment.counters.resyncs.increase();
                self.moved = true;
                let moved = self.environment.replica.vector().iter().collect();
                self.feed(Input::Committed {
                    moved,
                    local: Vec::new(),
                });
            }
            Command::Restarted {
                start,
                own_starts,
                vector,
            } => {
                self.moved = true;
                self.feed(Input::Restarted {
                    start,
                    own_starts,
                    vector,
                });
            }
            Command::CaughtUp { vector, trimmed } => {
                self.moved = true;
                self.feed(Input::CaughtUp { vector, trimmed });
            }
            Command::Trimmed(trimmed) => self.feed(Input::Trimmed(trimmed)),
            Command::Rejected(dots) => self.feed(Input::Rejected(dots)),
            Command::Members(members) => self.replace_members(members),
            Command::MembersUnknown => self.feed(Input::MembersUnknown),
            Command::Wait(waiter) => {
                self.moved = true;
                if self.waiters.len() < WAITERS_MAX {
                    self.waiters.push(waiter);
                } else {
                    let sites = self.reached(&waiter.dots);
                    let _ = waiter.reply.send(Durability::Degraded { sites });
                }
            }
            Command::Reconciled {
                member,
                purpose,
                verdict,
            } => {
                self.inquiries.ended(member, purpose, verdict.as_ref());
                self.environment.replica.looked(member, purpose, verdict.as_ref());
                self.feed(Input::Reconciled {
                    member,
                    purpose,
                    verdict,
                });
            }
            Command::Copied { member, installed } => {
                self.moved = true;
                self.feed(Input::SnapshotEnded { member, installed });
            }
            Command::Serving { member, cut } => self.feed(Input::Serving { member, cut }),
            Command::ReconcileNow {
                member,
                purpose,
                asked,
                verdicts,
            } => self.inquire(member, purpose, asked, verdicts),
            Command::Ask(writer) => self.feed(Input::Ask { writer }),
            Command::Lacking {
                vector,
                heard_within,
                reply,
            } => {
                // Who does not wait any more needs no answer.
                let _ = reply.send(self.gossip.lacking(&vector, heard_within));
            }
            Command::Stop => self.stopping = true,
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let connection = arrival.connection;
        let listened = self.links.get(&connection).is_some_and(|link| !link.closing);
        match arrival.news {
            News::Connected(link) => self.connected(connection, link),
            News::Disconnected { reason } => {
                if let Some(mut link) = self.links.remove(&connection) {
                    link.cancel_requests();
                    self.departed.insert(connection, link.member);
                    let remote = link.connection.remote_address();
                    tracing::info!(member = %link.member, %remote, %reason, "disconnected");
                    self.count_living(link.member);
                    if !self
                        .links
                        .values()
                        .any(|other| other.member == link.member && !other.closing)
                    {
                        self.inquiries.lost(link.member);
                    }
                    self.moved = true;
                    self.feed(Input::Disconnected { connection });
                }
            }
            _ if !listened => {}
            News::Message { message, round_trip } => {
                if let Some(rtt) = round_trip {
                    self.feed(Input::Rtt { connection, rtt });
                }
                self.moved = true;
                self.feed(Input::Message { connection, message });
            }
            News::Pushed(bytes) => self.feed(Input::Pushed { connection, bytes }),
            News::Pulled {
                pull,
                transactions,
                end,
            } => {
                self.feed(Input::Pulled {
                    connection,
                    pull,
                    transactions,
                    end,
                });
            }
        }
    }

    fn connected(&mut self, id: ConnectionId, link: Link) {
        let (member, dialed) = (link.member, link.dialed);
        tracing::info!(%member, remote = %link.connection.remote_address(), dialed, "connected");
        let mut of_member = self.links.iter_mut().filter(|(_, other)| other.member == member);
        if let Some((_, oldest)) = of_member.next()
            && of_member.count() + 2 > CONNECTIONS_PER_MEMBER_MAX
        {
            oldest.cut(code::DONE, "too many connections");
            self.environment.counters.closes.increase();
        }
        self.links.insert(id, link);
        self.count_living(member);
        self.moved = true;
        self.feed(Input::Connected {
            connection: id,
            member,
            dialed,
        });
    }

    /// Does what the core says, until it has nothing more to say.
    fn perform(&mut self) {
        let mut deliveries = Vec::new();
        while let Some(output) = self.gossip.poll() {
            match output {
                Output::Send { connection, message } => {
                    if let Some(link) = self.links.get_mut(&connection)
                        && !link.say(&message)
                    {
                        tracing::warn!(member = %link.member, "closed: the peer reads its control stream too slowly");
                        link.cut(code::SLOW, "the control queue is full");
                        self.environment.counters.closes.increase();
                    }
                }
                Output::Push { connection, bytes } => {
                    if let Some(link) = self.links.get(&connection)
                        && !link.push(bytes)
                    {
                        self.environment.counters.pushes_dropped.increase();
                    }
                }
                Output::Pull {
                    connection,
                    pull,
                    vector,
                } => {
                    if let Some(link) = self.links.get_mut(&connection) {
                        link.pull(&self.environment, connection, pull, vector);
                    }
                }
                Output::CancelPull { connection, pull } => {
                    if let Some(link) = self.links.get_mut(&connection) {
                        link.cancel_pull(pull);
                    }
                }
                Output::Deliver(received) if deliveries.is_empty() => deliveries = received,
                Output::Deliver(received) => deliveries.extend(received),
                Output::Stable(stable) => self.environment.replica.stable(stable),
                Output::Trim(free) => self.environment.replica.trim(free),
                Output::Close { connection, reason } => {
                    if let Some(link) = self.links.get_mut(&connection) {
                        tracing::info!(member = %link.member, %reason, "closing");
                        link.close(reason);
                        let member = link.member;
                        self.count_living(member);
                    }
                }
                Output::Event(event) => self.tell(event),
                Output::Settled(settled) => self.environment.replica.settled(settled),
                Output::Reconcile { connection, purpose } => self.converse(connection, purpose),
                Output::Snapshot { connection } => match self.links.get_mut(&connection) {
                    Some(link) => link.copy(&self.environment, connection),
                    None => {
                        if let Some(member) = self.departed.get(&connection).copied() {
                            let installed = false;
                            self.feed(Input::SnapshotEnded { member, installed });
                        }
                    }
                },
            }
        }
        self.departed.clear();
        if !deliveries.is_empty() {
            self.environment.replica.deliver(deliveries);
        }
        self.room.set(self.gossip.held_bytes() <= self.held_bytes_max);
        self.ready.store(self.gossip.is_ready(), Ordering::Release);
    }

    fn converse(&mut self, connection: ConnectionId, purpose: Purpose) {
        let Some(link) = self.links.get_mut(&connection) else {
            if let Some(member) = self.departed.get(&connection).copied() {
                self.inquiries.ended(member, purpose, None);
                self.feed(Input::Reconciled {
                    member,
                    purpose,
                    verdict: None,
                });
            }
            return;
        };
        link.converse(&self.environment, connection, purpose);
        self.inquiries.begun(link.member, purpose);
    }

    /// Asks the core for conversations, and remembers who wants to know of their outcomes.
    fn inquire(
        &mut self,
        member: Option<MemberId>,
        purpose: Purpose,
        asked: oneshot::Sender<BTreeSet<MemberId>>,
        verdicts: mpsc::UnboundedSender<Outcome>,
    ) {
        let is_active = |id: &MemberId| {
            let known = self.members.get(id);
            known.is_some_and(|known| known.config.peer.state == PeerState::Active)
        };
        let connected = self
            .links
            .values()
            .filter(|link| !link.closing)
            .map(|link| link.member);
        let whom: BTreeSet<MemberId> = connected
            .filter(|id| member.map_or_else(|| is_active(id), |member| member == *id))
            .collect();
        if self.inquiries.add(purpose, &whom, verdicts) {
            self.feed(Input::ReconcileNow { member, purpose });
        }
        // Whoever does not wait any more needs no answer.
        let _ = asked.send(whom);
    }

    fn tell(&self, event: Event) {
        match &event {
            Event::Ready { .. } | Event::Isolated(_) => tracing::info!(?event, "gossip"),
            _ => tracing::warn!(?event, "gossip"),
        }
        self.environment.replica.event(event);
    }

    /// In how many sites all of these are.
    fn reached(&self, dots: &[Dot]) -> usize {
        dots.iter()
            .map(|dot| self.gossip.sites_with(dot))
            .min()
            .unwrap_or(usize::MAX)
    }

    fn answer_waiters(&mut self) {
        if !std::mem::take(&mut self.moved) || self.waiters.is_empty() {
            return;
        }
        let in_reach = 1 + self.gossip.connected_sites();
        let mut waiters = std::mem::take(&mut self.waiters);
        // In place: most waiters stay for several rounds.
        let mut at = 0;
        while let Some(waiter) = waiters.get(at) {
            let sites = self.reached(&waiter.dots);
            waiter.reached.store(sites, Ordering::Relaxed);
            let answer = if sites >= waiter.sites {
                Some(Durability::Reached { sites })
            } else if in_reach < waiter.sites && !waiter.patient {
                Some(Durability::Degraded { sites })
            } else {
                None
            };
            if answer.is_none() && !waiter.reply.is_closed() {
                at += 1;
                continue;
            }
            let waiter = waiters.swap_remove(at);
            if let Some(answer) = answer {
                // Who no longer waits needs no answer.
                let _ = waiter.reply.send(answer);
            }
        }
        self.waiters = waiters;
    }

    /// Publishes a new picture if that is due, and says when to wake.
    fn publish(&mut self) -> Instant {
        let deadline = self.began + self.gossip.deadline();
        if !self.unpublished {
            return deadline;
        }
        let now = Instant::now();
        match self.published.map(|last| last + STATUS_INTERVAL) {
            Some(due) if due > now => deadline.min(due),
            _ => {
                (self.unpublished, self.published) = (false, Some(now));
                let traffic = self.environment.counters.read();
                self.status.send_replace(Arc::new(NodeStatus {
                    gossip: self.gossip.status(),
                    traffic,
                }));
                deadline
            }
        }
    }

    fn replace_members(&mut self, members: Vec<MemberConfig>) {
        let keys = pinned(&members);
        for link in self.links.values_mut() {
            if !link.closing && keys.get(&link.public_key) != Some(&link.member) {
                tracing::info!(member = %link.member, "closed: its key is not listed any more");
                link.cut(code::UNLISTED, "key not listed");
                self.environment.counters.closes.increase();
            }
        }
        self.environment.tls.keys.replace(keys);
        let peers = peers_of(&members);
        self.know(members);
        self.moved = true;
        self.feed(Input::Members(peers));
    }

    /// Dials exactly these, as they are listed now.
    fn know(&mut self, members: Vec<MemberConfig>) {
        let mut before = std::mem::take(&mut self.members);
        for config in members {
            let id = config.peer.id;
            // Who left in good order has nothing to hand over that it did not.
            if id == self.own || matches!(config.peer.state, PeerState::Left | PeerState::Banned) {
                continue;
            }
            let same = before.remove(&id).filter(|known| known.config == config);
            let known = same.unwrap_or_else(|| {
                let (living, watched) = watch::channel(0);
                let dialer = tokio::spawn(dial::dial_forever(
                    self.endpoint.clone(),
                    Arc::clone(&self.transport),
                    config.clone(),
                    watched,
                    self.environment.clone(),
                ));
                Known {
                    config,
                    living,
                    dialer: dialer.abort_handle(),
                }
            });
            self.members.insert(id, known);
            self.count_living(id);
        }
    }

    fn count_living(&self, member: MemberId) {
        let Some(known) = self.members.get(&member) else {
            return;
        };
        let living = self
            .links
            .values()
            .filter(|link| link.member == member && !link.closing)
            .count();
        known
            .living
            .send_if_modified(|was| std::mem::replace(was, living) != living);
    }
}

fn peers_of(members: &[MemberConfig]) -> Vec<Peer> {
    members.iter().map(|member| member.peer.clone()).collect()
}
