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
//! - `members`: who is a member, and what each counts for; `handover`: what one that was put out still does.
//! - `hello`: who speaks; which of two connections stays; `starts`: starts of members, ours too; `readiness`.
//! - `exchange`: pushes and order; `early`: what waits in memory; `pull`: what is asked for.
//! - `disk`: what the store reports.
//! - `acks`: what each member has on disk; durability, stability, folding. `settled`: what nothing concurrent can
//!   come to any more. `lease`: what stays in the log for one that joins.
//! - `talk`: what is asked of a peer beside its log, one thing at a time. `catch_up`: when no log brings what we
//!   lack. `looks`: when to compare.
//! - `ask`: what somebody waits for.
//! - `statement`: what is stated of disks, and when.
//! - `clock`: how far we are off our peers' clocks.

mod acks;
pub mod ask;
mod catch_up;
mod clock;
mod connection;
mod disk;
mod early;
pub mod envelope;
mod exchange;
mod handover;
mod hello;
mod interface;
mod lease;
mod looks;
mod members;
mod pull;
mod readiness;
mod settled;
mod starts;
mod statement;
pub mod status;
mod talk;
pub mod vector;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use acks::AckTable;
use connection::{Connection, Theirs};
use early::{Early, Pending};
use envelope::Received;
pub use interface::{Config, ConnectionId, Event, Input, Limits, Now, Output, Peer, PeerState};
use lease::Lease;
use looks::Look;
use members::Advertised;
use pull::Pull;
use settled::Settling;
use starts::LaterStart;
use status::Counters;
use talk::Talk;
use vector::{MemberId, Vector, Writer};
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
    /// All other members.
    members: BTreeMap<MemberId, Peer>,
    /// What the cluster record says of this member; nothing if it does not list it.
    own_state: Option<PeerState>,
    /// What each member last said that it can.
    advertised: BTreeMap<MemberId, Advertised>,
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
    /// A later start of this member that peers know.
    later_start: Option<LaterStart>,
    /// What was told since the site restarts its writer.
    next_later_start: Option<LaterStart>,
    /// So many we have begun past.
    later_starts: u32,
    /// Another process may have run in one of them: one more that runs is another one.
    passed_running: bool,
    writer_ahead: bool,

    early: Early,
    pending: Pending,
    delivering: Vec<Received>,
    /// Forks: this writer as this member has it is not taken.
    ignored: BTreeSet<(MemberId, Writer)>,
    pulls: BTreeMap<u64, Pull>,
    next_pull: u64,
    pulls_rest_until: Duration,
    /// Of which writers somebody waits for something, and until when; none for any.
    wanted: BTreeMap<Option<Writer>, Duration>,
    /// When peers were last asked.
    asked_at: Option<Duration>,
    /// What runs beside the log.
    talk: Option<Talk>,
    /// On which connections a talk failed, and until when nothing is asked there.
    rests: BTreeMap<ConnectionId, Duration>,
    looks: BTreeMap<MemberId, Look>,
    looks_at: Duration,

    ready: bool,
    alone: bool,
    /// Was it ever ready in this process?
    was_ready: bool,
    /// Since the start, or since readiness was lost.
    unready_since: Duration,
    put_out_told: bool,
    handed_over: bool,
    /// What the connected active members had when they said hello, until we cover it.
    targets: BTreeMap<MemberId, Vector>,
    /// Whose target we covered.
    level_with: BTreeSet<MemberId>,

    stable_at: Duration,
    stable_told: Vector,
    trim_told: Vector,
    /// Whether those are all: see [`Input::MembersUnknown`].
    members_known: bool,
    settling: Settling,
    leases: BTreeMap<MemberId, Lease>,
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
            members: BTreeMap::new(),
            own_state: None,
            advertised: BTreeMap::new(),
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
            next_later_start: None,
            later_starts: 0,
            passed_running: false,
            writer_ahead: false,
            early: Early::default(),
            pending: Pending::default(),
            delivering: Vec::new(),
            ignored: BTreeSet::new(),
            pulls: BTreeMap::new(),
            next_pull: 1,
            pulls_rest_until: Duration::ZERO,
            wanted: BTreeMap::new(),
            asked_at: None,
            talk: None,
            rests: BTreeMap::new(),
            looks: BTreeMap::new(),
            looks_at: now.at,
            ready: false,
            alone: false,
            was_ready: false,
            unready_since: now.at,
            put_out_told: false,
            handed_over: false,
            targets: BTreeMap::new(),
            level_with: BTreeSet::new(),
            stable_at: now.at,
            stable_told: Vector::new(),
            trim_told: Vector::new(),
            members_known: true,
            settling: Settling::default(),
            leases: BTreeMap::new(),
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
            Input::MembersUnknown => self.members_unknown(),
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
            Input::Reconciled {
                member,
                purpose,
                verdict,
            } => self.reconciled(member, purpose, verdict.as_ref()),
            Input::CaughtUp { vector, trimmed } => self.caught_up(vector, trimmed),
            Input::SnapshotEnded { member, installed } => self.snapshot_ended(member, installed),
            Input::Serving { member, cut } => self.serving(member, cut),
            Input::Ask { writer } => self.ask(writer),
            Input::ReconcileNow { member, purpose } => self.look_now(member, purpose),
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
                let at = self.unready_since + at;
                if at > self.now.at {
                    deadline = deadline.min(at);
                }
            }
        }
        if !self.isolated {
            deadline = deadline.min(self.heard_other_site + ISOLATED_AFTER);
        }
        if let Some(due) = self.later_start.and_then(|later| later.due()) {
            deadline = deadline.min(due);
        }
        for pull in self.pulls.values() {
            deadline = deadline.min(pull.progress + PULL_STALLED);
        }
        for connection in self.connections.values() {
            deadline = deadline.min(connection.spoke_due((self.ready, self.holding())));
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
                if self.takes_part(&member) {
                    self.relayed_acks(&acks);
                }
            }
            Message::Ask => self.asked(id),
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

    /// Does what is due, whatever has just happened.
    fn settle(&mut self) {
        self.deliver();
        self.close_silent();
        self.settle_standing();
        self.settle_later_start();
        self.settle_readiness();
        self.settle_talks();
        self.settle_pulls();
        self.speak();
        self.settle_stable();
        self.settle_isolation();
        self.settle_skew();
    }

    fn send(&mut self, connection: ConnectionId, message: Message) {
        self.outputs.push_back(Output::Send { connection, message });
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
