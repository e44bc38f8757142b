//! Comparing this site with others, and reading its own disk again, because an operator wants to know now.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use crdt::{RecordKey, RecordKind};
use gossip::{
    MemberId,
    reconcile::{Key, Purpose, Verdict},
};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use crate::{
    site::Site,
    store::{RepairNote, ScrubReport},
};

/// Records that differ are listed up to this many for each peer; the count tells of all.
const DIVERGENT_LISTED_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// A member's id or name; absent: every active member that is connected.
    #[serde(default)]
    peer: Option<String>,
    /// Only look.
    #[serde(default)]
    dry_run: bool,
}

/// What comparing with others came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RepairReport {
    /// Nothing was touched.
    pub dry_run: bool,
    /// With whom.
    pub peers: Vec<ComparedReport>,
    /// Records here that were changed meanwhile by another site's state.
    pub repaired: Vec<RepairNote>,
}

/// What comparing with one came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ComparedReport {
    /// Its member id.
    pub member: String,
    /// Its name, if it is known.
    pub name: String,
    /// In a word.
    pub outcome: Compared,
    /// Records that differ, and that nothing under way explains.
    pub divergent: usize,
    /// Which, as far as they are listed: `account ID`, `email ID` or `cluster`.
    pub records: Vec<String>,
    /// Records that differed and are on their way.
    pub lagging: u64,
    /// Bytes that comparing took, both directions.
    pub bytes: u64,
    /// How often an answer was waited for.
    pub round_trips: u32,
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compared {
    /// Both hold the same.
    Equal,
    /// What differs is on its way.
    Lag,
    /// Something differs that should not.
    Divergent,
    /// A log did not reach back far enough to tell.
    Inconclusive,
    /// It is not connected, or the conversation broke off.
    Failed,
}

/// Answers when everyone asked has answered, however long that takes.
pub(super) async fn repair(
    State(site): State<Arc<Site>>,
    body: Result<Json<Ask>, JsonRejection>,
) -> Result<Json<RepairReport>, ApiError> {
    let Json(Ask { peer, dry_run }) = body?;
    let status = site.node.status();
    let peers = &status.gossip.peers;
    let known = |member: &MemberId| peers.iter().find(|peer| peer.member == *member);
    let member = match peer {
        None => None,
        Some(named) => {
            let found = peers
                .iter()
                .find(|peer| peer.name == named || peer.member.to_string() == named);
            let Some(found) = found else {
                return Err(ApiError::bad_request(
                    "unknown-peer",
                    "No other member has this id or name; `persona status` lists them.",
                ));
            };
            Some(found.member)
        }
    };
    let purpose = if dry_run { Purpose::Look } else { Purpose::Repair };
    let earlier = site.store.repairs().last().map(|note| note.number);
    let verdicts = site.node.reconcile_now(member, purpose).await;
    let mut repaired = site.store.repairs();
    repaired.retain(|note| Some(note.number) > earlier);
    let peers = verdicts
        .into_iter()
        .map(|(member, verdict)| ComparedReport {
            member: member.to_string(),
            name: known(&member).map(|peer| peer.name.clone()).unwrap_or_default(),
            ..compared(verdict.as_ref())
        })
        .collect();
    Ok(Json(RepairReport {
        dry_run,
        peers,
        repaired,
    }))
}

fn compared(verdict: Option<&Verdict>) -> ComparedReport {
    let outcome = match verdict {
        None => Compared::Failed,
        Some(verdict) if !verdict.conclusive => Compared::Inconclusive,
        Some(verdict) if !verdict.divergent.is_empty() => Compared::Divergent,
        Some(verdict) if verdict.lagging > 0 => Compared::Lag,
        Some(_) => Compared::Equal,
    };
    let listed = verdict.into_iter().flat_map(|verdict| &verdict.divergent);
    ComparedReport {
        member: String::new(),
        name: String::new(),
        outcome,
        records: listed.take(DIVERGENT_LISTED_MAX).map(named).collect(),
        divergent: verdict.map_or(0, |verdict| verdict.divergent.len()),
        lagging: verdict.map_or(0, |verdict| verdict.lagging),
        bytes: verdict.map_or(0, |verdict| verdict.bytes),
        round_trips: verdict.map_or(0, |verdict| verdict.round_trips),
    }
}

/// A record in the words of the other commands.
fn named(key: &Key) -> String {
    let key = RecordKey::from_bytes(*key);
    match (key.kind(), key.account(), key.email()) {
        (_, Some(account), _) => format!("account {account}"),
        (_, _, Some(email)) => format!("email {email}"),
        (Some(RecordKind::Cluster), ..) => "cluster".to_owned(),
        _ => format!("record {key}"),
    }
}

/// Answers when everything has been read.
pub(super) async fn scrub(State(site): State<Arc<Site>>) -> Result<Json<ScrubReport>, ApiError> {
    match site.store.scrub_now().await {
        Some(report) => Ok(Json(report)),
        None => Err(ApiError::unavailable("unavailable", "Reading was broken off.")),
    }
}
