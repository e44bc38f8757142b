//! Signing keys: shown, replaced, revoked.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use crdt::{ClusterView, KeyState, MemberId};
use serde::{Deserialize, Serialize};

use super::{accounts::Body, error::ApiError};
use crate::{
    browserid::Usage,
    keyring::{self, record},
    members::{self, record::RecordError},
    site::Site,
};

/// The signing keys of all sites, as this one knows them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeysReport {
    /// All that the cluster record has.
    pub keys: Vec<KeyReport>,
    /// For what this member's key is being replaced: `session`, `certificate`.
    pub rotating: Vec<String>,
    /// What keeps this site's keys from going on.
    pub trouble: Vec<String>,
    /// Browsers throw away certificates from before, in milliseconds since 1970.
    pub domain_key_creation_ms: u64,
}

/// A signing key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeyReport {
    /// Its name: the thumbprint of its public half.
    pub kid: String,
    /// `session` or `certificate`.
    #[serde(rename = "use")]
    pub usage: String,
    /// The member whose site has the private half: its name, or its id.
    pub member: String,
    /// That is this member.
    pub own: bool,
    /// `published`, `active`, `retired` or `revoked`, its member's eviction considered.
    pub state: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it was published, in milliseconds since 1970.
    pub published_ms: u64,
    /// The private half is here.
    pub held: bool,
    /// This site signs with it at this moment.
    pub signs: bool,
    /// Until when it verifies, in milliseconds since 1970: 0 if it does not, none if there is no end yet.
    pub verifies_until_ms: Option<u64>,
    /// Members that were heard of late and may not have it on disk yet: until they have, it does not sign.
    pub waits_for: Vec<String>,
}

/// What a revocation ends, or has ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RevocationReport {
    /// Which.
    pub key: KeyReport,
    /// It is revoked; else this is what it would be.
    pub revoked: bool,
    /// It was not before.
    pub newly: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// Both, if it is not said.
    #[serde(default, rename = "use")]
    usage: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    /// Its name, or the beginning of it.
    key: String,
    /// Else it is only shown.
    #[serde(default)]
    confirmed: bool,
}

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/keys", get(list))
        .route("/keys/rotate", post(rotate))
        .route("/keys/revoke", post(revoke))
}

/// What a key's state is called in reports.
fn state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Published => "published",
        KeyState::Active => "active",
        KeyState::Retired => "retired",
        KeyState::Revoked => "revoked",
    }
}

fn report(site: &Site, cluster: &ClusterView, kid: &str, key: &crdt::SigningKey) -> KeyReport {
    let name = |id: MemberId| {
        let known = cluster.members.get(&id).filter(|member| !member.name.is_empty());
        known.map_or_else(|| id.to_string(), |member| member.name.clone())
    };
    let usage = Usage::named(&key.usage);
    let standing = record::standing(key, cluster);
    let own = key.member == Some(site.own.id);
    let signer = match usage {
        Some(Usage::Session) => site.keyring.session_signer(),
        Some(Usage::Certificate) => site.keyring.certificate_signer(),
        Some(Usage::Assertion) | None => None,
    };
    KeyReport {
        kid: kid.to_owned(),
        usage: key.usage.clone(),
        member: key.member.map_or_else(|| "nobody".to_owned(), name),
        own,
        state: state_name(standing.state).to_owned(),
        since_ms: standing.since.ms(),
        published_ms: key.published.ms(),
        held: own && site.publisher.is_held(kid),
        signs: signer.is_some_and(|signer| signer.kid() == kid),
        // A use that is not known here verifies nothing here.
        verifies_until_ms: usage.map_or(Some(0), |usage| record::verifies_until_ms(standing, usage)),
        waits_for: site.publisher.waits_for(kid).into_iter().map(name).collect(),
    }
}

fn reports(site: &Site, cluster: &ClusterView) -> Vec<KeyReport> {
    let reports = cluster.keys.iter();
    let mut reports: Vec<KeyReport> = reports
        .map(|(kid, key)| report(site, cluster, kid, key))
        .collect();
    reports.sort_by(|one, other| {
        (&one.member, &one.usage, one.published_ms, &one.kid).cmp(&(
            &other.member,
            &other.usage,
            other.published_ms,
            &other.kid,
        ))
    });
    reports
}

async fn list(State(site): State<Arc<Site>>) -> Answer<KeysReport> {
    let cluster = members::cluster(&site.store)?;
    let keys = reports(&site, &cluster);
    let is_rotating = |usage: &Usage| {
        let own = |state: &str| {
            let keys = keys.iter();
            keys.filter(|key| key.own && key.held && key.usage == usage.name() && key.state == state)
                .count()
        };
        site.publisher.is_wished(*usage) || own("published") > 0 || own("active") > 1
    };
    let rotating = keyring::USES.into_iter().filter(is_rotating);
    Ok(Json(KeysReport {
        rotating: rotating.map(|usage| usage.name().to_owned()).collect(),
        trouble: site.publisher.trouble(),
        domain_key_creation_ms: site.signing_keys.domain_key_creation_ms(),
        keys,
    }))
}

async fn rotate(State(site): State<Arc<Site>>, Body(wish): Body<Rotation>) -> Answer<KeysReport> {
    if let Some(words) = site.standing().why_not_serving() {
        return Err(ApiError::conflict("not-now", words));
    }
    let uses: Vec<Usage> = match wish.usage.as_deref() {
        None => keyring::USES.to_vec(),
        Some(name) => keyring::USES
            .into_iter()
            .filter(|usage| usage.name() == name)
            .collect(),
    };
    if uses.is_empty() {
        return Err(ApiError::bad_request(
            "bad-use",
            "`use` is `session` or `certificate`, or absent for both.",
        ));
    }
    for usage in uses {
        site.publisher.rotate(usage);
    }
    site.replication.keys_wished.notify_one();
    list(State(site)).await
}

async fn revoke(State(site): State<Arc<Site>>, Body(wish): Body<Revocation>) -> Answer<RevocationReport> {
    let cluster = members::cluster(&site.store)?;
    let kid = record::named(&cluster, &wish.key)?.0.to_owned();
    let newly = if wish.confirmed {
        super::cluster::listed(&site).await?;
        let (own, named) = (site.own.id, kid.clone());
        let revoked = site
            .store
            .transact(move |txn| -> Result<bool, RecordError> { record::revoke(own, &named, txn) })
            .await?;
        if revoked.dot.is_some() {
            tracing::warn!(%kid, "a signing key was revoked");
        }
        site.answer(revoked.dot).await;
        revoked.value
    } else {
        false
    };
    let cluster = members::cluster(&site.store)?;
    let key = record::named(&cluster, &kid)?.1;
    let key = report(&site, &cluster, &kid, key);
    Ok(Json(RevocationReport {
        revoked: key.state == state_name(KeyState::Revoked),
        newly,
        key,
    }))
}
