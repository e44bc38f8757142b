//! What only a laboratory may do: shape the network, ask when a transaction became visible, and wait for one.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::get,
};
use serde::{Deserialize, Serialize};

use crdt::AccountId;
use gossip::Dot;

use super::error::ApiError;
use crate::{
    config::LinkConfig,
    site::Site,
    store::{ReadError, Records},
};

/// What the router below has.
pub(crate) const ROUTES: [&str; 4] = [LINKS, COMMITS, AWAITED, HASHES];
const LINKS: &str = "/lab/links";
const COMMITS: &str = "/lab/commits";
const AWAITED: &str = "/lab/awaited";
const HASHES: &str = "/lab/accounts/{account}/hashes";

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route(LINKS, get(links).put(set_links))
        .route(COMMITS, get(commits))
        .route(AWAITED, get(awaited))
        .route(HASHES, get(hashes))
}

async fn links(State(site): State<Arc<Site>>) -> Json<Vec<LinkConfig>> {
    let link = |address: &String| {
        let address = address.parse().ok()?;
        let link = site.shape.get(address);
        Some(LinkConfig {
            address,
            delay_us: link.delay.as_micros() as u64,
            jitter_us: link.jitter.as_micros() as u64,
            loss: link.loss,
            cut_out: link.cut_out,
            cut_in: link.cut_in,
        })
    };
    Json(
        site.config
            .members
            .iter()
            .flat_map(|member| &member.addresses)
            .filter_map(link)
            .collect(),
    )
}

async fn set_links(State(site): State<Arc<Site>>, Json(links): Json<Vec<LinkConfig>>) -> Json<usize> {
    for link in &links {
        site.shape.set(link.address, link.into());
    }
    Json(links.len())
}

/// The hashes of an account's passwords, those that lost too: what is looked for on the disks once it is cancelled.
async fn hashes(
    State(site): State<Arc<Site>>,
    Path(account): Path<String>,
) -> Result<Json<Vec<String>>, ApiError> {
    let unknown = || ApiError::not_found("There is no such account here.");
    let id: AccountId = account.parse().map_err(|_| unknown())?;
    let hashes = site.store.read(|records| {
        let view = records.account(id)?;
        let mut hashes = Vec::new();
        for name in view.iter().flat_map(crdt::AccountView::names) {
            if let Some(value) = records.vault(*name)? {
                hashes.push(String::from_utf8_lossy(&value).into_owned());
            }
        }
        Ok::<_, ReadError>(hashes)
    });
    Ok(Json(hashes??))
}

/// A transaction (`writer`, `number`) or a signing key (`kid`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    writer: Option<String>,
    number: Option<u64>,
    kid: Option<String>,
}

#[derive(Serialize)]
struct Came {
    came: bool,
    waited_us: u64,
}

/// Waits for what may not be here yet, as whoever serves people does.
async fn awaited(
    State(site): State<Arc<Site>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Came>, ApiError> {
    let begun = Instant::now();
    let wrong = || ApiError::bad_request("bad-query", "`writer` and `number`, or `kid`.");
    let came = match (wanted.writer, wanted.number, wanted.kid) {
        (Some(writer), Some(number), None) => {
            let writer = writer.parse().map_err(|_| wrong())?;
            site.await_transaction(Dot { writer, number }).await
        }
        (None, None, Some(kid)) => site.await_key(&kid).await,
        _ => return Err(wrong()),
    };
    Ok(Json(Came {
        came,
        waited_us: begun.elapsed().as_micros() as u64,
    }))
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

#[derive(Serialize)]
struct Commits {
    next: u64,
    commits: Vec<Commit>,
}

#[derive(Serialize)]
struct Commit {
    seq: u64,
    writer: String,
    number: u64,
    at_us: u64,
    local: bool,
}

async fn commits(State(site): State<Arc<Site>>, Query(query): Query<After>) -> Json<Commits> {
    let (next, sightings) = site.replication.sightings(query.after);
    let commits = sightings
        .into_iter()
        .map(|sighting| Commit {
            seq: sighting.sequence,
            writer: sighting.dot.writer.to_string(),
            number: sighting.dot.number,
            at_us: sighting.at_us,
            local: sighting.local,
        })
        .collect();
    Json(Commits { next, commits })
}
