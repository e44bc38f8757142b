//! What goes into the machine and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::envelope::Received;
use super::vector::{Dot, MemberId, Tip, Vector, Writer};
use super::wire::{Message, PullEnd};
use crate::planted::{self, Bug};
use crate::reconcile::{Purpose, Verdict};

/// The time, as the driver reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic, since the process began.
    pub at: Duration,
    /// The wall clock: milliseconds since 1970.
    pub wall_ms: u64,
}

/// A member of the cluster, as the cluster record has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub id: MemberId,
    pub name: String,
    pub site: String,
    pub state: PeerState,
}

/// Where a member is on its one-way road.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum PeerState {
    /// Catching up; counts for nothing.
    Joining,
    Active,
    /// Goes away in good order; still counts for stability.
    Leaving,
    /// Gone in good order. It counts for nothing, and may still hand over what it has.
    Left,
    /// Put out by an operator. It counts for nothing, and may still hand over what it has.
    Evicted,
    /// Put out as compromised: it is not talked to at all.
    Banned,
}

impl PeerState {
    /// Does it count for durability and stability?
    pub(super) fn counts(self) -> bool {
        matches!(self, PeerState::Active | PeerState::Leaving)
            || (self == PeerState::Joining && planted::is(Bug::JoinerCounts))
    }

    /// Is it pushed to, and listened to beyond what it hands over?
    pub(super) fn takes_part(self) -> bool {
        self <= PeerState::Leaving
    }
}

/// What this replica is.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: [u8; 16],
    pub member: MemberId,
    pub site: String,
    /// The writer of this start.
    pub start: Writer,
    /// Every start that this data directory made, newest last.
    pub own_starts: Vec<Writer>,
    /// Protocol versions spoken: least, greatest.
    pub versions: (u16, u16),
    pub features: BTreeSet<String>,
    pub fingerprints: BTreeMap<String, [u8; 8]>,
    /// With nobody in reach for so long after the start, ready alone.
    pub startup_grace: Duration,
    /// Each peer in reach is compared with once in so long; never, if there is none.
    pub look_interval: Option<Duration>,
    pub limits: Limits,
}

/// How much the machine holds at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub early_bytes_max: usize,
    pub early_count_max: usize,
    /// Above it no pull is begun, and the driver reads no more transactions.
    pub held_bytes_max: usize,
    pub pulls_max: usize,
    /// A replica with nothing pulls a log of so many transactions at most; of more it copies the whole data.
    pub log_catch_up_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            early_bytes_max: 8 * 1024 * 1024,
            early_count_max: 8192,
            held_bytes_max: 16 * 1024 * 1024,
            pulls_max: 2,
            log_catch_up_max: 20_000,
        }
    }
}

/// One connection, as the driver numbers it. Numbers are not reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The members now, by the cluster record; this one may be among them.
    Members(Vec<Peer>),
    /// Who belongs to the cluster cannot be told now: those told last stand in. Somebody may have joined meanwhile, so nothing
    /// becomes stable or settled, until members are told again.
    MembersUnknown,
    /// A connection whose far end has proved to be `member`.
    Connected {
        connection: ConnectionId,
        member: MemberId,
        dialed: bool,
    },
    Disconnected {
        connection: ConnectionId,
    },
    Rtt {
        connection: ConnectionId,
        rtt: Duration,
    },
    /// A frame on the control stream.
    Message {
        connection: ConnectionId,
        message: Message,
    },
    /// A transaction on the push stream.
    Pushed {
        connection: ConnectionId,
        bytes: Arc<[u8]>,
    },
    /// Transactions on a pull stream, or its end.
    Pulled {
        connection: ConnectionId,
        pull: u64,
        transactions: Vec<Arc<[u8]>>,
        end: Option<PullEnd>,
    },
    /// One batch is on disk: the entries that moved, and this replica's own transactions in it.
    Committed {
        moved: Vec<(Writer, Tip)>,
        local: Vec<(Dot, Arc<[u8]>)>,
    },
    /// A batch failed and the store was reopened, or the writer or replica id was drawn anew. Nothing that was
    /// delivered and is not in `vector` survives.
    Restarted {
        start: Writer,
        own_starts: Vec<Writer>,
        vector: Vector,
    },
    /// What the log no longer holds now, floors included: these writers are folded in the store.
    Trimmed(Vector),
    /// Delivered transactions that the store did not take; they are asked for again after a rest.
    Rejected(Vec<Dot>),
    /// What an [`Output::Reconcile`] came to; `None`: it failed, or the connection ended. Each is answered once.
    Reconciled {
        member: MemberId,
        purpose: Purpose,
        verdict: Option<Verdict>,
    },
    /// What a catch-up brought is merged, and this is on disk now. Comes after its conversation succeeded.
    CaughtUp {
        vector: Vector,
        trimmed: Vector,
    },
    /// An [`Output::Snapshot`] ended. Each is answered once. If it was installed, [`Input::Restarted`] and
    /// [`Input::Trimmed`] came before this.
    SnapshotEnded {
        member: MemberId,
        installed: bool,
    },
    /// A member takes a snapshot or a catch-up of this cut from us: what comes after it stays in our log until
    /// the member counts. Said again now and then while it lasts.
    Serving {
        member: MemberId,
        cut: Vector,
    },
    /// Somebody waits for what this writer made, or for anything: peers are asked what they have, now.
    Ask {
        writer: Option<Writer>,
    },
    /// An operator asks for a conversation now, with one member or with all that are connected.
    ReconcileNow {
        member: Option<MemberId>,
        purpose: Purpose,
    },
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    Send {
        connection: ConnectionId,
        message: Message,
    },
    /// A transaction of this replica, onto the push stream.
    Push {
        connection: ConnectionId,
        bytes: Arc<[u8]>,
    },
    /// Ask for everything beyond `vector`.
    Pull {
        connection: ConnectionId,
        pull: u64,
        vector: Vector,
    },
    CancelPull {
        connection: ConnectionId,
        pull: u64,
    },
    /// To the committer: in causal order, without gaps, chains checked.
    Deliver(Vec<Received>),
    /// Every member that counts has all of this.
    Stable(Vector),
    /// Log entries up to this may go; what its floors cover may be folded. Of what is stable it lacks what is kept for one
    /// that takes a copy.
    Trim(Vector),
    /// Begin a conversation about what both hold.
    Reconcile {
        connection: ConnectionId,
        purpose: Purpose,
    },
    /// Take a whole copy of the peer's data, and install it.
    Snapshot {
        connection: ConnectionId,
    },
    /// All of this is stable, and nothing concurrent with it is still on its way.
    Settled(Vector),
    /// After what was sent before it has left.
    Close {
        connection: ConnectionId,
        reason: String,
    },
    Event(Event),
}

/// What the site should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Level with all in reach, or nobody is. Once in a process life, but for [`Event::Unready`].
    Ready {
        alone: bool,
        /// This disk may be an old copy, and nobody is there to say so: its next epoch may be one that the others
        /// have folded. Take a new replica id before anything is written.
        renew: bool,
    },
    /// What this replica lacks is in no reachable log any more. It catches up by states, and is ready after that.
    Unready,
    /// This member was evicted, or has left: it only hands over what it has.
    Evicted,
    /// Everything here is at each active member in reach. Comes after [`Event::Evicted`].
    HandedOver,
    /// One dot with two contents. Theirs was not applied.
    Fork {
        dot: Dot,
        ours: [u8; 8],
        theirs: [u8; 8],
        from: MemberId,
    },
    /// Peers know a start of this member that is not before ours and that this data directory did not make: it was
    /// restored, wiped, or copied. Take an epoch after it, under a new replica id if one that they know was of ours
    /// (`copied`); if `live`, a copy runs: raise an alarm.
    LaterStart {
        known: Writer,
        copied: bool,
        live: bool,
    },
    /// A peer has a number of our present writer that we do not: the disk was rolled back under it. Restart it.
    WriterAhead {
        dot: Dot,
        from: MemberId,
    },
    /// We refused `member`, or it us.
    Refused {
        member: MemberId,
        words: String,
    },
    Misbehaved {
        member: MemberId,
        why: String,
    },
    /// Our clock is over 5 s off the median of our peers'. Positive: theirs are ahead.
    ClockSkew {
        offset_ms: i64,
    },
    /// Nothing was heard of any other site for 60 s, or is again.
    Isolated(bool),
}

impl Peer {
    pub(super) fn counts(&self) -> bool {
        self.state.counts()
    }

    pub(super) fn takes_part(&self) -> bool {
        self.state.takes_part()
    }
}
