//! The machine: who has which transactions, what to send, what to ask for, what may be forgotten.
//!
//! [`Gossip::handle`] takes one thing that happened, [`Gossip::poll`] gives what is to be done, and
//! [`Gossip::deadline`] says when to come back if nothing happens. No I/O, clock, entropy or tasks in here.
//!
//! Three vectors hold the truth about this replica. *Committed* is what is on the disk, and all that peers ever
//! hear. The *frontier* is that and what was delivered to the committer since; it decides what is next. *Trimmed*
//! is what the log no longer holds. Whatever is not committed may be forgotten at any moment: it is asked for
//! again.
//!
//! - `hello`: who speaks; starts of members; which of two connections stays; readiness.
//! - `exchange`: pushes and order; `early`: what waits in memory; `pull`: what is asked for.
//! - `acks`: what each member has on disk; durability, stability, folding.
//! - `statement`: what is stated of disks, and when.
//! - `clock`: how far we are off our peers' clocks.

mod acks;
mod clock;
mod connection;
mod early;
pub mod envelope;
mod exchange;
mod hello;
mod interface;
mod pull;
mod statement;
pub mod status;
pub mod vector;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use acks::AckTable;
use connection::{Connection, Theirs};
use early::{Early, Pending};
use envelope::Received;
pub use interface::{Config, ConnectionId, Event, Input, Limits, Now, Output, Peer, PeerState};
use pull::Pull;
use status::{Counters, PeerStatus, Status};
use vector::{Dot, MemberId, Tip, Vector, Writer};
use wire::Message;

/// Vectors are stated to everyone at most this often; to a transaction's origin at once.
pub const STATE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// And at least this often, moved or not.
pub const STATE_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// How often moved acks of third members are relayed.
pub const RELAY_INTERVAL: Duration = Duration::from_secs(1);
/// How often they are relayed whole.
pub const RELAY_WHOLE_INTERVAL: Duration = Duration::from_secs(30);
/// How often is looked for log entries that became stable.
pub const STABLE_INTERVAL: Duration = Duration::from_secs(1);
/// A push is given this long to arrive before what it brings is pulled.
pub const PULL_PATIENCE: Duration = Duration::from_millis(250);
/// A pull without progress for this long is given up.
pub const PULL_STALLED: Duration = Duration::from_secs(2);
/// A pull that is due and cannot be begun is looked at again after this.
const PULL_AGAIN: Duration = Duration::from_millis(100);
/// A connection says hello within this.
pub const HELLO_WAIT: Duration = Duration::from_secs(5);
/// After a start, peers get this long to say hello before the first of them decide that we are level.
pub const READY_SETTLE: Duration = Duration::from_secs(1);
/// Without a word of any other site for so long, we are isolated.
pub const ISOLATED_AFTER: Duration = Duration::from_secs(60);

/// The state machine of one replica.
#[derive(Debug)]
pub struct Gossip {
    config: Config,
    now: Now,
    started: Duration,
    /// All other members.
    members: BTreeMap<MemberId, Peer>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// The connection of each member that said hello.
    chosen: BTreeMap<MemberId, ConnectionId>,

    committed: Vector,
    frontier: Vector,
    trimmed: Vector,
    /// Counts the states of `committed`.
    counter: u64,
    /// Of `committed`, once somebody asked.
    committed_hash: Option<[u8; 16]>,

    acks: AckTable,
    /// The latest start of each other member, heard or relayed.
    known_starts: BTreeMap<MemberId, Writer>,
    /// A later start of this member that the site was told of; it is to restart its writer.
    later_start: Option<Writer>,
    later_starts: u32,
    /// The last one that an alarm was raised for.
    alarmed: Option<Writer>,
    writer_ahead: bool,

    early: Early,
    pending: Pending,
    delivering: Vec<Received>,
    /// Forks: this writer as this member has it is not taken.
    ignored: BTreeSet<(MemberId, Writer)>,
    pulls: BTreeMap<u64, Pull>,
    next_pull: u64,
    pulls_rest_until: Duration,
    snapshot_told: Option<Duration>,

    ready: bool,
    alone: bool,
    /// What the connected active members had when they said hello, until we cover it.
    targets: BTreeMap<MemberId, Vector>,
    /// Whose target we covered.
    level_with: BTreeSet<MemberId>,

    stable_at: Duration,
    stable_told: Vector,
    /// Has anything moved since stability was last computed?
    stable_dirty: bool,
    heard: BTreeMap<MemberId, Duration>,
    heard_other_site: Duration,
    isolated: bool,
    offsets: BTreeMap<MemberId, clock::Offset>,
    skew_told: Option<Duration>,
    skew_at: Duration,

    counters: Counters,
    outputs: VecDeque<Output>,
}

impl Gossip {
    #[must_use]
    pub fn new(now: Now, config: Config, vector: Vector, trimmed: Vector, members: Vec<Peer>) -> Gossip {
        let mut gossip = Gossip {
            now,
            started: now.at,
            members: BTreeMap::new(),
            connections: BTreeMap::new(),
            chosen: BTreeMap::new(),
            frontier: vector.clone(),
            committed: vector,
            trimmed,
            counter: 1,
            committed_hash: None,
            acks: AckTable::default(),
            known_starts: BTreeMap::new(),
            later_start: None,
            later_starts: 0,
            alarmed: None,
            writer_ahead: false,
            early: Early::default(),
            pending: Pending::default(),
            delivering: Vec::new(),
            ignored: BTreeSet::new(),
            pulls: BTreeMap::new(),
            next_pull: 1,
            pulls_rest_until: Duration::ZERO,
            snapshot_told: None,
            ready: false,
            alone: false,
            targets: BTreeMap::new(),
            level_with: BTreeSet::new(),
            stable_at: now.at,
            stable_told: Vector::new(),
            stable_dirty: true,
            heard: BTreeMap::new(),
            heard_other_site: now.at,
            isolated: false,
            offsets: BTreeMap::new(),
            skew_told: None,
            skew_at: Duration::ZERO,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            config,
        };
        gossip.members_are(members);
        gossip.settle();
        gossip
    }

    /// Takes one thing in. `now.at` never goes back between calls.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = Now {
            at: now.at.max(self.now.at),
            wall_ms: now.wall_ms,
        };
        match input {
            Input::Tick => {}
            Input::Members(members) => self.members_are(members),
            Input::Connected {
                connection,
                member,
                dialed,
            } => self.connected(connection, member, dialed),
            Input::Disconnected { connection } => self.forget_connection(connection),
            Input::Rtt { connection, rtt } => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.rtt = Some(rtt);
                }
            }
            Input::Message { connection, message } => self.message(connection, message),
            Input::Pushed { connection, bytes } => self.pushed(connection, bytes),
            Input::Pulled {
                connection,
                pull,
                transactions,
                end,
            } => {
                self.pulled(connection, pull, transactions, end);
            }
            Input::Committed { moved, local } => self.committed(&moved, local),
            Input::Restarted {
                start,
                own_starts,
                vector,
            } => self.restarted(start, own_starts, vector),
            Input::Trimmed(trimmed) => self.trimmed(trimmed),
            Input::Rejected(dots) => self.rejected(&dots),
            Input::Reconciled { .. } | Input::SnapshotEnded { .. } | Input::ReconcileNow { .. } => {}
        }
        self.settle();
    }

    /// One thing to do; none when there is nothing left.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Gossip::handle`] with [`Input::Tick`] if nothing else happens first; monotonic.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        let mut deadline = self.stable_at + STABLE_INTERVAL;
        if !self.ready {
            for at in [READY_SETTLE, self.config.startup_grace] {
                let at = self.started + at;
                if at > self.now.at {
                    deadline = deadline.min(at);
                }
            }
        }
        if !self.isolated {
            deadline = deadline.min(self.heard_other_site + ISOLATED_AFTER);
        }
        for pull in self.pulls.values() {
            deadline = deadline.min(pull.progress + PULL_STALLED);
        }
        for connection in self.connections.values() {
            deadline = deadline.min(connection.spoke_due(self.ready));
            match &connection.theirs {
                None => deadline = deadline.min(connection.opened + HELLO_WAIT),
                Some(theirs) => {
                    deadline = deadline.min(connection.relayed_at + RELAY_INTERVAL);
                    if let Some(due) = theirs.pull_due() {
                        // What is due now cannot be done now, or it would have been.
                        let due = due.max(self.pulls_rest_until);
                        let again = self.now.at + PULL_AGAIN;
                        deadline = deadline.min(if due <= self.now.at { again } else { due });
                    }
                }
            }
        }
        deadline.max(self.now.at + Duration::from_millis(1))
    }

    /// How many bytes wait here or with the committer. The driver reads no more transactions above
    /// [`Limits::held_bytes_max`]; control messages it always reads.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.early.bytes + self.pending.bytes
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Ready, but with nobody in reach when it became so.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Other sites that a member which counts is connected from.
    #[must_use]
    pub fn connected_sites(&self) -> usize {
        let sites: BTreeSet<&str> = self
            .chosen
            .keys()
            .filter_map(|member| self.members.get(member))
            .filter(|peer| peer.counts() && peer.site != self.config.site)
            .map(|peer| peer.site.as_str())
            .collect();
        sites.len()
    }

    /// What is on this disk.
    #[must_use]
    pub fn vector(&self) -> &Vector {
        &self.committed
    }

    /// The writer of this start, as the machine knows it.
    #[must_use]
    pub fn start(&self) -> Writer {
        self.config.start
    }

    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            ready: self.ready,
            alone: self.alone,
            isolated: self.isolated,
            start: Some(self.config.start),
            transactions: self.committed.total(),
            vector_entries: self.committed.len(),
            stable: self.stable_told.total(),
            skew_ms: self.skew(),
            sites: self.connected_sites(),
            peers: self.members.values().map(|peer| self.peer_status(peer)).collect(),
            early_count: self.early.len(),
            early_bytes: self.early.bytes,
            pending_bytes: self.pending.bytes,
            pulls: self.pulls.len(),
            counters: self.counters,
        }
    }

    fn peer_status(&self, peer: &Peer) -> PeerStatus {
        let connection = self.chosen.get(&peer.id).and_then(|id| self.connections.get(id));
        let theirs = connection.and_then(|connection| connection.theirs.as_ref());
        let vector = theirs
            .map(|theirs| &theirs.vector)
            .or_else(|| self.acks.vector(&peer.id));
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let millis = |since: &Duration| {
            u64::try_from(self.now.at.saturating_sub(*since).as_millis()).unwrap_or(u64::MAX)
        };
        PeerStatus {
            member: peer.id,
            name: peer.name.clone(),
            site: peer.site.clone(),
            state: peer.state,
            connected: theirs.is_some(),
            ready: theirs.is_some_and(|theirs| theirs.ready),
            rtt_us: connection.and_then(|connection| connection.rtt).map(micros),
            heard_ms_ago: self.heard.get(&peer.id).map(millis),
            start: theirs
                .map(|theirs| theirs.start)
                .or(self.known_starts.get(&peer.id).copied()),
            believed: self.believed(&peer.id),
            transactions: vector.map(Vector::total),
            behind_us: vector.map_or(0, |vector| vector.missing_from(&self.committed)),
            behind_them: vector.map_or(0, |vector| self.committed.missing_from(vector)),
            offset_ms: self.offsets.get(&peer.id).map(|offset| offset.ms),
        }
    }

    fn members_are(&mut self, members: Vec<Peer>) {
        let own = self.config.member;
        self.members = members
            .into_iter()
            .map(|peer| (peer.id, peer))
            .filter(|(id, _)| *id != own)
            .collect();
        let known = &self.members;
        self.acks.retain(|member| known.contains_key(member));
        self.known_starts.retain(|member, _| known.contains_key(member));
        self.offsets.retain(|member, _| known.contains_key(member));
        self.heard.retain(|member, _| known.contains_key(member));
        self.ignored.retain(|(member, _)| known.contains_key(member));
        self.targets.retain(|member, _| {
            known
                .get(member)
                .is_some_and(|peer| peer.state == PeerState::Active)
        });
        let strangers: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| !self.may_talk(&connection.member))
            .map(|(id, _)| *id)
            .collect();
        for connection in strangers {
            self.refuse(
                connection,
                wire::RefuseCode::MEMBER,
                "no longer a member of this cluster",
            );
        }
        self.stable_dirty = true;
    }

    fn may_talk(&self, member: &MemberId) -> bool {
        self.members
            .get(member)
            .is_some_and(|peer| peer.state < PeerState::Left)
    }

    fn message(&mut self, id: ConnectionId, message: Message) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let member = connection.member;
        let greeted = connection.theirs.is_some();
        if let Some(theirs) = &mut connection.theirs {
            theirs.heard = self.now.at;
        }
        match message {
            Message::Hello(hello) => self.hello(id, *hello),
            Message::Refuse { words, .. } => {
                self.counters.refused += 1;
                self.emit(Event::Refused {
                    member,
                    words: format!("it refused us: {words}"),
                });
                self.close(id, "refused by the peer");
            }
            Message::Unsupported { .. } => {}
            Message::Unknown { name } => {
                self.counters.unknown += 1;
                self.send(id, Message::Unsupported { name });
            }
            _ if !greeted => self.misbehaved(id, "spoke before its hello"),
            Message::State(state) => {
                self.heard_of(member);
                self.state(id, &state);
            }
            Message::Acks(acks) => {
                self.heard_of(member);
                self.relayed_acks(&acks);
            }
            Message::Restate => {
                let at = self.now.at;
                let due = connection
                    .restate_answered
                    .is_none_or(|last| at - last >= STATE_INTERVAL_MAX);
                if due {
                    connection.restate_answered = Some(at);
                    self.say_hello(id);
                }
            }
        }
    }

    fn heard_of(&mut self, member: MemberId) {
        self.heard.insert(member, self.now.at);
        if self
            .members
            .get(&member)
            .is_some_and(|peer| peer.site != self.config.site)
        {
            self.heard_other_site = self.now.at;
        }
    }

    /// One batch is on our disk.
    fn committed(&mut self, moved: &[(Writer, Tip)], local: Vec<(Dot, Arc<[u8]>)>) {
        let mut changed = false;
        for (dot, bytes) in &local {
            let tip = Tip {
                number: dot.number,
                hash: envelope::transaction_hash(bytes),
            };
            changed |= self.on_disk(dot.writer, tip);
        }
        for (writer, tip) in moved {
            changed |= self.on_disk(*writer, *tip);
        }
        if changed {
            self.counter += 1;
            self.committed_hash = None;
            self.stable_dirty = true;
        }
        for (_, bytes) in local {
            self.push(&bytes);
        }
    }

    fn on_disk(&mut self, writer: Writer, tip: Tip) -> bool {
        if !self.committed.advance(writer, tip) {
            return false;
        }
        self.frontier.advance(writer, tip);
        self.pending.committed(writer, tip.number);
        let own = writer == self.config.start;
        for connection in self.connections.values_mut() {
            connection.unsaid.insert(writer);
            if !own
                && connection
                    .theirs
                    .as_ref()
                    .is_some_and(|theirs| theirs.start == writer)
            {
                connection.urgent = true;
            }
        }
        true
    }

    fn restarted(&mut self, start: Writer, own_starts: Vec<Writer>, vector: Vector) {
        self.config.start = start;
        self.config.own_starts = own_starts;
        self.frontier = vector.clone();
        self.committed = vector;
        self.counter += 1;
        self.committed_hash = None;
        self.pending = Pending::default();
        self.delivering.clear();
        self.outputs
            .retain(|output| !matches!(output, Output::Deliver(_) | Output::Trim(_)));
        self.later_start = None;
        self.writer_ahead = false;
        // What was told may not have been heard by the store that was.
        self.stable_told = Vector::new();
        self.stable_dirty = true;
        self.cancel_pulls();
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in connections {
            self.say_hello(connection);
            self.note_all_ahead(connection);
        }
    }

    fn trimmed(&mut self, trimmed: Vector) {
        let moved = trimmed.moved_since(&self.trimmed);
        let mut folded = false;
        for (replica, floor) in trimmed.floors() {
            if self.trimmed.floor(&replica) != Some(floor) {
                folded = true;
                self.committed.fold(replica, floor.epoch);
                self.frontier.fold(replica, floor.epoch);
            }
        }
        for connection in self.connections.values_mut() {
            connection
                .unsaid_trimmed
                .extend(moved.iter().map(|(writer, _)| *writer));
            connection.unsaid_trimmed_floors |= folded;
            connection.unsaid_floors |= folded;
        }
        if folded {
            self.counter += 1;
            self.committed_hash = None;
        }
        self.stable_dirty = true;
        self.trimmed = trimmed;
    }

    /// Does what is due, whatever has just happened.
    fn settle(&mut self) {
        self.deliver();
        self.close_silent();
        self.settle_readiness();
        self.speak();
        self.settle_pulls();
        self.settle_stable();
        self.settle_isolation();
        self.settle_skew();
    }

    fn settle_isolation(&mut self) {
        let others = self
            .members
            .values()
            .any(|peer| peer.counts() && peer.site != self.config.site);
        let isolated = others && self.now.at >= self.heard_other_site + ISOLATED_AFTER;
        if isolated != self.isolated {
            self.isolated = isolated;
            self.emit(Event::Isolated(isolated));
        }
        if !others {
            self.heard_other_site = self.now.at;
        }
    }

    fn send(&mut self, connection: ConnectionId, message: Message) {
        self.outputs.push_back(Output::Send { connection, message });
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
