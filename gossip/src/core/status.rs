//! What an operator sees of the gossip of this replica.

use serde::Serialize;

use super::PeerState;
use super::vector::{MemberId, Writer};

/// The whole picture, from here.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    pub ready: bool,
    /// Ready, with nobody in reach at the time.
    pub alone: bool,
    pub isolated: bool,
    pub start: Option<Writer>,
    /// How many transactions are on this disk, folded ones included.
    pub transactions: u64,
    pub vector_entries: usize,
    /// Transactions that every active and leaving member has.
    pub stable: u64,
    /// Median of the peers' clocks less ours; nothing with fewer than three.
    pub skew_ms: Option<i64>,
    /// Other sites connected.
    pub sites: usize,
    pub peers: Vec<PeerStatus>,
    pub early_count: usize,
    pub early_bytes: usize,
    /// Delivered, not yet committed.
    pub pending_bytes: usize,
    pub pulls: usize,
    pub counters: Counters,
}

/// One other member, from here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerStatus {
    pub member: MemberId,
    pub name: String,
    pub site: String,
    pub state: PeerState,
    pub connected: bool,
    pub ready: bool,
    pub rtt_us: Option<u64>,
    /// Since anything was heard of it, on any connection.
    pub heard_ms_ago: Option<u64>,
    pub start: Option<Writer>,
    /// Does its ack count: is it of the latest start that we know?
    pub believed: bool,
    /// How many transactions it has, by its latest ack.
    pub transactions: Option<u64>,
    /// How many of its transactions we lack.
    pub behind_us: u64,
    /// How many of our transactions it lacks: its known lag.
    pub behind_them: u64,
    /// Its clock less ours.
    pub offset_ms: Option<i64>,
}

/// Counts since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub pushed: u64,
    pub push_received: u64,
    pub pull_received: u64,
    pub delivered: u64,
    /// Known already when they came.
    pub duplicates: u64,
    /// Came before what they follow.
    pub early: u64,
    /// Early ones thrown away for want of room; they are pulled again.
    pub early_dropped: u64,
    pub pulls_started: u64,
    pub pulls_stalled: u64,
    pub forks: u64,
    pub refused: u64,
    pub misbehaved: u64,
    pub closed: u64,
    pub states_sent: u64,
    pub acks_relayed: u64,
    /// Messages whose name was not known.
    pub unknown: u64,
}
