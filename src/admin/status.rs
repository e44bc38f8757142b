//! What an operator looks at: how this site is, and what it holds.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use crate::{config::hex, members::Standing, site::Site, store};

/// How a site is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StatusReport {
    /// Its site.
    pub site: String,
    /// Its member id.
    pub member: String,
    /// Its name, for people.
    pub name: String,
    /// Its state as a member: joining, active, leaving or out.
    #[serde(default)]
    pub standing: String,
    /// Out of the cluster, and everything here is at every member in reach.
    #[serde(default)]
    pub handed_over: bool,
    /// Of this build.
    pub version: String,
    /// A laboratory build.
    pub lab: bool,
    /// Of the process.
    pub pid: u32,
    /// The writer of its present start.
    pub writer: String,
    /// Caught up since its start.
    pub ready: bool,
    /// Ready, but with nobody in reach.
    pub alone: bool,
    /// No other site was heard for a minute.
    pub isolated: bool,
    /// Going out of service.
    pub draining: bool,
    /// Fit to serve; otherwise `unhealthy` says why.
    pub healthy: bool,
    /// Why it is not fit to serve.
    pub unhealthy: Vec<String>,
    /// Transactions that it has.
    pub vector_total: u64,
    /// Hash of its version vector.
    pub vector_hash: String,
    /// Transactions that every member has.
    pub stable: u64,
    /// Transactions that the log holds no more.
    #[serde(default)]
    pub trimmed: u64,
    /// Parts of transactions in quarantine since it was started.
    pub quarantined: u64,
    /// Transactions that wait for what they follow.
    pub early: usize,
    /// Its clock against the median of its peers', in milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// What a person should look into, the latest last.
    pub alarms: Vec<String>,
    /// Its disk.
    pub disk: DiskReport,
    /// What it has done since it was started.
    pub counters: BTreeMap<String, u64>,
    /// The other members.
    pub peers: Vec<PeerReport>,
}

/// A site's disk.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DiskReport {
    /// Free, for an ordinary user.
    pub free_mib: u64,
    /// `ok`, `nearly-full` or `full`.
    pub state: String,
    /// Taken by the store.
    pub store_bytes: u64,
}

/// Another member, seen from this site.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerReport {
    /// Its member id.
    pub member: String,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// A connection with it stands.
    pub connected: bool,
    /// It says that it is ready.
    pub ready: bool,
    /// Round trip, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Transactions here that it lacks.
    pub behind_us: u64,
    /// Transactions there that we lack.
    pub ahead_of_us: u64,
    /// Since anything was heard of it.
    pub heard_ms_ago: Option<u64>,
    /// How often what it holds was compared with what is here, and what that came to.
    #[serde(default)]
    pub looks: LooksReport,
    /// Since such a comparison last told anything.
    #[serde(default)]
    pub verdict_ms_ago: Option<u64>,
}

/// Comparisons with one peer that this site asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct LooksReport {
    /// Nothing differed.
    pub equal: u64,
    /// What differed was on its way.
    pub lag_only: u64,
    /// Something differed that should not.
    pub divergent: u64,
    /// Records that did.
    pub divergent_records: u64,
    /// A log did not reach back far enough to tell.
    pub inconclusive: u64,
    /// The peer or the connection was lost.
    pub failed: u64,
}

#[derive(Serialize)]
pub(super) struct VectorReport {
    writers: BTreeMap<String, u64>,
    floors: BTreeMap<String, u32>,
}

#[derive(Serialize)]
pub(super) struct DigestReport {
    records: u64,
    digest: String,
}

#[derive(Serialize)]
pub(super) struct DrainReport {
    draining: bool,
}

pub(super) async fn status(State(site): State<Arc<Site>>) -> Json<StatusReport> {
    Json(report(&site))
}

/// The status as it is now.
pub(crate) fn report(site: &Site) -> StatusReport {
    let state = site.store.state();
    let node = site.node.status();
    let gossip = &node.gossip;
    let peers: Vec<PeerReport> = gossip
        .peers
        .iter()
        .map(|peer| PeerReport {
            member: peer.member.to_string(),
            name: peer.name.clone(),
            site: peer.site.clone(),
            connected: peer.connected,
            ready: peer.ready,
            rtt_ms: peer.rtt_us.map(|us| us as f64 / 1000.0),
            behind_us: peer.behind_them,
            ahead_of_us: peer.behind_us,
            heard_ms_ago: peer.heard_ms_ago,
            looks: LooksReport {
                equal: peer.looks.equal,
                lag_only: peer.looks.lag_only,
                divergent: peer.looks.divergent,
                divergent_records: peer.looks.divergent_records,
                inconclusive: peer.looks.inconclusive,
                failed: peer.looks.failed,
            },
            verdict_ms_ago: peer.verdict_ms_ago,
        })
        .collect();
    let unhealthy = site.unhealthy();
    StatusReport {
        site: site.config.site.clone(),
        member: site.own.id.to_string(),
        name: site.own.name.clone(),
        standing: match site.standing() {
            Standing::Joining => "joining",
            Standing::Arriving => "arriving",
            Standing::Active => "active",
            Standing::Leaving => "leaving",
            Standing::Out { .. } => "out",
        }
        .to_owned(),
        handed_over: gossip.handed_over,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        lab: cfg!(feature = "lab"),
        pid: std::process::id(),
        writer: state.start.to_string(),
        ready: site.node.is_ready(),
        alone: gossip.alone,
        isolated: gossip.isolated,
        draining: site.is_draining(),
        healthy: unhealthy.is_empty(),
        unhealthy,
        vector_total: state.vector.total(),
        vector_hash: hex(&state.vector.hash()),
        stable: gossip.stable,
        trimmed: state.trimmed.total(),
        quarantined: site.store.counters().quarantined,
        early: gossip.early_count,
        clock_skew_ms: gossip.skew_ms,
        alarms: site
            .replication
            .alarms()
            .into_iter()
            .map(|alarm| {
                if alarm.times > 1 {
                    format!("{} (×{})", alarm.text, alarm.times)
                } else {
                    alarm.text
                }
            })
            .collect(),
        disk: DiskReport {
            free_mib: store::free_bytes(&site.config.data).unwrap_or(0) >> 20,
            state: match site.store.space() {
                store::Space::Enough => "ok",
                store::Space::NearlyFull => "nearly-full",
                store::Space::Full => "full",
            }
            .to_owned(),
            store_bytes: site.store.bytes_used(),
        },
        counters: counters(site),
        peers,
    }
}

/// Every counter of the store, the gossip and its traffic, by name.
fn counters(site: &Site) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::from([("degraded".to_owned(), site.degraded())]);
    let node = site.node.status();
    let parts = [
        serde_json::to_value(site.store.counters()),
        serde_json::to_value(node.gossip.counters),
        serde_json::to_value(&node.traffic),
    ];
    for part in parts.into_iter().flatten() {
        let serde_json::Value::Object(fields) = part else {
            continue;
        };
        for (name, value) in fields {
            if let Some(value) = value.as_u64() {
                counters.insert(name, value);
            }
        }
    }
    counters
}

pub(super) async fn vector(State(site): State<Arc<Site>>) -> Json<VectorReport> {
    let state = site.store.state();
    Json(VectorReport {
        writers: state
            .vector
            .iter()
            .map(|(writer, tip)| (writer.to_string(), tip.number))
            .collect(),
        floors: state
            .vector
            .floors()
            .map(|(replica, floor)| (replica.to_string(), floor.epoch))
            .collect(),
    })
}

pub(super) async fn digest(State(site): State<Arc<Site>>) -> Result<Json<DigestReport>, ApiError> {
    let store = site.store.clone();
    let digest = tokio::task::spawn_blocking(move || store.digest()).await;
    let (records, digest) =
        digest.map_err(|_| ApiError::unavailable("unavailable", "Reading was broken off."))??;
    Ok(Json(DigestReport {
        records,
        digest: hex(&digest),
    }))
}

pub(super) async fn drain(State(site): State<Arc<Site>>) -> Json<DrainReport> {
    site.drain();
    Json(DrainReport { draining: true })
}
