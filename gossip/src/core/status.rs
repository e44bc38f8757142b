//! What an operator sees of the gossip of this replica.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::vector::{MemberId, Vector, Writer};
use super::{Gossip, Peer, PeerState};

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
    /// Stable ones that nothing concurrent can come to any more.
    pub settled: u64,
    /// Takes over what others have beside the log: catches up by states, or takes a snapshot.
    pub holding: bool,
    /// Was put out of the cluster, or left: it only hands over what it has.
    pub evicted: bool,
    /// And has handed over all of it to whom it reached.
    pub handed_over: bool,
    /// What every member that counts can, as it last said.
    pub common_features: BTreeSet<String>,
    /// Members for whom the log is kept while they take over a copy.
    pub leases: usize,
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
    /// It takes over what others have beside the log; its ack counts for nothing.
    pub holding: bool,
    /// What it last said that it can.
    pub features: BTreeSet<String>,
    /// Protocol versions spoken, as it last said: least, greatest.
    pub versions: Option<(u16, u16)>,
    /// How it compared with us.
    pub looks: LookCounts,
    /// Since a comparison with it last came to a verdict.
    pub verdict_ms_ago: Option<u64>,
}

/// Comparisons with peers that this replica asked for, and what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LookCounts {
    pub begun: u64,
    /// Nothing differed.
    pub equal: u64,
    /// What differed was on its way.
    pub lag_only: u64,
    /// Came to differences that nothing explains.
    pub divergent: u64,
    /// Records in those.
    pub divergent_records: u64,
    /// A log did not reach back far enough to tell.
    pub inconclusive: u64,
    /// Came to nothing: the peer or the connection was lost, or it does not offer them.
    pub failed: u64,
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
    /// Questions to peers, for somebody who waited here.
    pub asked: u64,
    /// Messages whose name was not known.
    pub unknown: u64,
    pub looks: LookCounts,
    pub catch_ups: u64,
    pub catch_ups_failed: u64,
    pub snapshots: u64,
    pub snapshots_failed: u64,
}

impl Gossip {
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
            settled: self.settling.told.total(),
            holding: self.holding(),
            evicted: self.put_out(),
            handed_over: self.handed_over,
            common_features: self.common_features(),
            leases: self.leases.len(),
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
        let (advertised, look) = (self.advertised.get(&peer.id), self.looks.get(&peer.id));
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
            holding: theirs.is_some_and(|theirs| theirs.holding),
            features: advertised.map_or_else(BTreeSet::new, |advertised| advertised.features.clone()),
            versions: advertised.map(|advertised| advertised.versions),
            looks: look.map_or_else(LookCounts::default, |look| look.counts),
            verdict_ms_ago: look.and_then(|look| look.verdict_at.as_ref()).map(millis),
        }
    }
}
