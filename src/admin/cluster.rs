//! Who is a member: shown, invited, put out; leaving; keys and features.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use crdt::{ClusterView, Member, MemberState};
use gossip::{PeerState, PeerStatus};
use serde::{Deserialize, Serialize};

use super::{accounts::Body, error::ApiError};
use crate::{
    config::hex,
    members::{
        self, MembersError, effective, enrol, features,
        record::{self, RecordError},
        state_name, why_out,
    },
    site::Site,
};

/// Who is in the cluster, as this site sees it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClusterReport {
    /// The cluster's id.
    pub cluster: String,
    /// This member's id.
    pub own: String,
    /// All that ever were.
    pub members: Vec<MemberReport>,
    /// Invitations that may still be used.
    pub invitations: Vec<OpenInvitation>,
}

/// A member.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MemberReport {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// `joining`, `active`, `leaving`, `left` or `evicted`.
    pub state: String,
    /// Why it is out.
    pub why: Option<String>,
    /// Put out as compromised: nothing is taken from it.
    pub compromised: bool,
    /// Where it is dialled.
    pub addresses: Vec<String>,
    /// Fingerprints of its keys: the present one, and the next while it is being replaced.
    pub keys: Vec<String>,
    /// The version of the program that it runs.
    pub version: String,
    /// What it can read that not every version can.
    pub features: Vec<String>,
    /// A connection with it stands; none for this member itself.
    pub connected: Option<bool>,
    /// Transactions here that it lacks, as far as is known.
    pub lacks: Option<u64>,
    /// Transactions there that this site lacks.
    pub has_beyond: Option<u64>,
    /// Since anything was heard of it.
    pub heard_ms_ago: Option<u64>,
}

/// An invitation that may still be used. The token itself is nowhere.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OpenInvitation {
    /// Beginning of the hash of its token.
    pub token: String,
    /// Who made it.
    pub by: String,
    /// Until when it may be used, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// An invitation, newly made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InviteReport {
    /// `TOKEN@HOST:PORT`: shown once.
    pub invitation: String,
    /// Until when it may be used, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// What an eviction cuts off, or has cut off.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EvictionReport {
    /// Whom.
    pub member: MemberReport,
    /// It was done; else this is what it would do.
    pub evicted: bool,
    /// Transactions here.
    pub transactions: u64,
    /// Of those, how many every member that counts has.
    pub stable: u64,
    /// Who else counts, and lacks some of what is here.
    pub also_behind: Vec<String>,
}

/// Where a departure stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaveReport {
    /// This member's state.
    pub state: String,
    /// Members that lack some of what is here, as far as is known.
    pub waits_for: Vec<String>,
}

/// Where the replacement of a key stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RotationReport {
    /// The next key is listed, and not used yet.
    pub rotating: bool,
    /// Fingerprints of this member's keys: the present one, and the next.
    pub keys: Vec<String>,
    /// Members that may not know the next one yet.
    pub waits_for: Vec<String>,
}

/// A feature.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FeatureReport {
    /// Its name.
    pub name: String,
    /// This build can read it.
    pub known: bool,
    /// It may be written.
    pub finalised: bool,
    /// Members that count and can read it.
    pub advertised_by: Vec<String>,
    /// Members that count and cannot.
    pub lacked_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InviteWish {
    valid_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EvictionWish {
    /// By name or id.
    member: String,
    #[serde(default)]
    compromised: bool,
    #[serde(default)]
    words: String,
    /// Else it is only shown.
    #[serde(default)]
    confirmed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finalise {
    feature: String,
}

#[derive(Serialize)]
struct Finalised {
    feature: String,
    /// It was not before.
    newly: bool,
}

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/cluster", get(show))
        .route("/cluster/invite", post(invite))
        .route("/cluster/leave", get(leaving).post(leave))
        .route("/cluster/evict", post(evict))
        .route("/cluster/key", get(rotation).post(rotate))
        .route("/cluster/features", get(show_features).post(finalise))
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> ApiError {
        match error {
            RecordError::Members(error) => error.into(),
            RecordError::Refused(words) => ApiError::conflict("not-now", words),
            RecordError::Feature(error) => ApiError::conflict("not-finalisable", error.to_string()),
        }
    }
}

impl From<MembersError> for ApiError {
    fn from(error: MembersError) -> ApiError {
        ApiError::unavailable("unavailable", error.to_string())
    }
}

/// Has this member in the record before it says something there: it serves a moment before that is written.
pub(super) async fn listed(site: &Site) -> Result<(), ApiError> {
    if site.is_serving() {
        record::register(&site.own, &site.public_keys(), &site.store).await?;
    }
    Ok(())
}

/// The members as this site sees them, each with what the gossip knows of it.
struct Seen {
    cluster: ClusterView,
    members: Vec<Member>,
    peers: BTreeMap<[u8; 8], PeerStatus>,
}

impl Seen {
    fn now(site: &Site) -> Result<Seen, ApiError> {
        let cluster = members::cluster(&site.store)?;
        let status = site.node.status();
        let peers = status.gossip.peers.iter().cloned();
        Ok(Seen {
            members: effective(&site.config, &site.own, &site.public_keys(), cluster.clone()),
            cluster,
            peers: peers.map(|peer| (peer.member.0, peer)).collect(),
        })
    }

    fn report(&self, member: &Member) -> MemberReport {
        let peer = self.peers.get(member.id.as_bytes());
        MemberReport {
            id: member.id.to_string(),
            name: member.name.clone(),
            site: member.site.clone(),
            state: state_name(member.state).to_owned(),
            why: why_out(member, &self.cluster),
            compromised: member.is_compromised(),
            addresses: member.addresses.clone(),
            keys: fingerprints(&member.keys),
            version: member.version.clone(),
            features: member.features.iter().cloned().collect(),
            connected: peer.map(|peer| peer.connected),
            lacks: peer.and_then(|peer| peer.transactions.map(|_| peer.behind_them)),
            has_beyond: peer.map(|peer| peer.behind_us),
            heard_ms_ago: peer.and_then(|peer| peer.heard_ms_ago),
        }
    }

    /// Other members that count and are not known to have all that is here.
    fn behind(&self) -> Vec<String> {
        let behind = |peer: &&PeerStatus| {
            matches!(peer.state, PeerState::Active | PeerState::Leaving)
                && (!peer.believed || peer.behind_them > 0)
        };
        let behind = self.peers.values().filter(behind);
        behind.map(|peer| peer.name.clone()).collect()
    }
}

fn fingerprints(keys: &[Vec<u8>]) -> Vec<String> {
    keys.iter().map(|key| gossip::quic::fingerprint(key)).collect()
}

async fn show(State(site): State<Arc<Site>>) -> Answer<ClusterReport> {
    let seen = Seen::now(&site)?;
    let used = record::used(&seen.cluster);
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let open = seen
        .cluster
        .invites
        .iter()
        .filter(|(token, invite)| invite.expires_ms > now_ms && !used.contains(*token));
    let name = |id| {
        let known = seen.cluster.members.get(id);
        known.map_or_else(|| id.to_string(), |member| member.name.clone())
    };
    Ok(Json(ClusterReport {
        cluster: hex(&site.config.cluster.id.0),
        own: site.own.id.to_string(),
        invitations: open
            .map(|(token, invite)| OpenInvitation {
                token: hex(&token[..4]),
                by: name(&invite.by),
                expires_ms: invite.expires_ms,
            })
            .collect(),
        members: seen.members.iter().map(|member| seen.report(member)).collect(),
    }))
}

async fn invite(State(site): State<Arc<Site>>, Body(wish): Body<InviteWish>) -> Answer<InviteReport> {
    listed(&site).await?;
    let keys = site.public_keys();
    let token = enrol::new_token(keys.first().map_or(&[], Vec::as_slice));
    let invite = record::invite(site.own.id, token.hash(), wish.valid_ms, &site.store).await?;
    let address = site.own.addresses.first().map_or("", String::as_str);
    Ok(Json(InviteReport {
        invitation: format!("{}@{address}", token.text()),
        expires_ms: invite.expires_ms,
    }))
}

async fn evict(State(site): State<Arc<Site>>, Body(wish): Body<EvictionWish>) -> Answer<EvictionReport> {
    listed(&site).await?;
    let seen = Seen::now(&site)?;
    let target = record::named(&seen.members, &wish.member)?;
    if wish.confirmed {
        let (target, store) = (target.clone(), &site.store);
        record::evict(site.own.id, target, wish.compromised, wish.words, store).await?;
    }
    let before = seen.report(target);
    let seen = Seen::now(&site)?;
    let now = seen
        .members
        .iter()
        .find(|member| member.id.to_string() == before.id);
    let status = site.node.status();
    let also_behind = seen.behind().into_iter().filter(|name| *name != before.name);
    Ok(Json(EvictionReport {
        evicted: now.is_some_and(|member| member.state == MemberState::Evicted),
        transactions: status.gossip.transactions,
        stable: status.gossip.stable,
        also_behind: also_behind.collect(),
        // What was known of it, not what is left of that once it is out.
        member: MemberReport {
            state: now.map_or(before.state, |member| state_name(member.state).to_owned()),
            why: now.and_then(|member| why_out(member, &seen.cluster)),
            ..before
        },
    }))
}

async fn leaving(State(site): State<Arc<Site>>) -> Answer<LeaveReport> {
    let seen = Seen::now(&site)?;
    let own = seen.members.iter().find(|member| member.id == site.own.id);
    Ok(Json(LeaveReport {
        state: own.map_or("unknown", |own| state_name(own.state)).to_owned(),
        waits_for: seen.behind(),
    }))
}

async fn leave(State(site): State<Arc<Site>>) -> Answer<LeaveReport> {
    listed(&site).await?;
    record::begin_to_leave(site.own.id, &site.store).await?;
    leaving(State(site)).await
}

async fn rotation(State(site): State<Arc<Site>>) -> Answer<RotationReport> {
    let rotating = site.is_rotating();
    Ok(Json(RotationReport {
        rotating,
        keys: fingerprints(&site.public_keys()),
        waits_for: if rotating {
            Seen::now(&site)?.behind()
        } else {
            Vec::new()
        },
    }))
}

async fn rotate(State(site): State<Arc<Site>>) -> Answer<RotationReport> {
    if let Some(words) = site.standing().why_not_serving() {
        return Err(ApiError::conflict("not-now", words));
    }
    site.rotate_key()
        .map_err(|error| ApiError::unavailable("unavailable", error.to_string()))?;
    rotation(State(site)).await
}

async fn show_features(State(site): State<Arc<Site>>) -> Answer<Vec<FeatureReport>> {
    let cluster = members::cluster(&site.store)?;
    let counting: Vec<&Member> = cluster
        .members
        .values()
        .filter(|member| !member.is_out())
        .collect();
    let known = features::known();
    let advertised = counting.iter().flat_map(|member| member.features.iter());
    let names: BTreeSet<String> = known.iter().chain(advertised).cloned().collect();
    let report = |name: String| {
        let (can, cannot): (Vec<&Member>, Vec<&Member>) = counting
            .iter()
            .copied()
            .partition(|member| member.features.contains(&name));
        let called = |members: Vec<&Member>| members.iter().map(|member| member.name.clone()).collect();
        FeatureReport {
            known: known.contains(&name),
            finalised: cluster.finalised(&name),
            advertised_by: called(can),
            lacked_by: called(cannot),
            name,
        }
    };
    Ok(Json(names.into_iter().map(report).collect()))
}

async fn finalise(State(site): State<Arc<Site>>, Body(wish): Body<Finalise>) -> Answer<Finalised> {
    listed(&site).await?;
    let newly = record::finalise(site.own.id, wish.feature.clone(), &site.store).await?;
    Ok(Json(Finalised {
        feature: wish.feature,
        newly,
    }))
}
