//! What only a laboratory may do: shape the network, and ask when a transaction became visible.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use serde::{Deserialize, Serialize};

use crate::{config::LinkConfig, site::Site};

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/lab/links", get(links).put(set_links))
        .route("/lab/commits", get(commits))
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
