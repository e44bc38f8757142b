//! The API by which tiers of one site ask each other: who may ask what.
//!
//! A listener of its own, with mutual TLS. Every route lists the tiers that it takes; who is not listed gets the same 404 as
//! for a route that is not there.

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use super::{Tier, certificates::tier_of};
use crate::listener::Peer;

/// Who may come through.
#[derive(Clone)]
struct Doorkeeper {
    site: String,
    takes: &'static [Tier],
}

/// Lets only these tiers of the site reach a router.
pub fn only_for(takes: &'static [Tier], site: &str, router: Router) -> Router {
    let doorkeeper = Doorkeeper {
        site: site.to_owned(),
        takes,
    };
    router.layer(middleware::from_fn_with_state(doorkeeper, admit))
}

async fn admit(State(doorkeeper): State<Doorkeeper>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let tier = peer
        .and_then(|peer| peer.certificate.as_ref())
        .and_then(|certificate| tier_of(certificate, &doorkeeper.site));
    match tier {
        Some(tier) if doorkeeper.takes.contains(&tier) => next.run(request).await,
        tier => {
            metrics::counter!("persona_tier_turned_away_total").increment(1);
            tracing::warn!(
                tier = tier.map_or("none", Tier::name),
                path = request.uri().path(),
                "a tier asked for what it may not"
            );
            StatusCode::NOT_FOUND.into_response()
        }
    }
}
