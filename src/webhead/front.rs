//! Before any request of people's is looked at: whose it is, and whether there is room for it.
//!
//! The client's address is the connection's, or what a trusted proxy says; it goes on to other tiers in a header that counts
//! for nothing when it comes from outside. More requests at once than [`IN_FLIGHT_MAX`] are refused at once, and so is a share
//! of them while requests [wait too long](super::congestion) for a processor: a few that wait too long would make all wait
//! too long.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::{congestion::Congestion, verify::VERIFY};
use crate::{
    limits::{Client, Cost, LimitSettings, Limits, TrustedProxies},
    listener::Peer,
    wsapi::{
        Endpoint, PREFIX, Problem,
        answer::NOT_KEPT,
        reception::{CLIENT_HEADER, monotonic, too_many},
    },
};

/// Requests under way at once. Each is well under a millisecond of work but for a password's hash, which has a bound of its
/// own; with so many before it one still waits less than a second.
const IN_FLIGHT_MAX: usize = 1024;
/// For any request: a sign-up waits for a hash, a write and two disks.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// When to come back to a site that is full.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What every request of people's passes first.
#[derive(Clone)]
pub struct Front {
    proxies: Arc<TrustedProxies>,
    limits: Arc<Limits>,
    places: Arc<Semaphore>,
    congestion: Congestion,
}

impl Front {
    /// One that believes these proxies.
    pub fn new(proxies: TrustedProxies, limits: &LimitSettings) -> Front {
        Front {
            proxies: Arc::new(proxies),
            limits: Arc::new(Limits::new(limits, monotonic())),
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            congestion: Congestion::watched(),
        }
    }

    /// Puts itself before a router.
    pub(super) fn before(self, router: Router) -> Router {
        router
            .layer(TimeoutLayer::with_status_code(
                StatusCode::SERVICE_UNAVAILABLE,
                REQUEST_TIMEOUT,
            ))
            .layer(CatchPanicLayer::new())
            .layer(middleware::from_fn_with_state(self, enter))
    }
}

/// Also what is refused here, or cut off, is for this moment, and says when to come back.
async fn enter(State(front): State<Front>, request: Request, next: Next) -> Response {
    let is_call = request.uri().path().starts_with(PREFIX);
    let mut response = admit(front, request, next).await;
    let is_away = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    if is_call && !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, NOT_KEPT);
    }
    if is_away && !headers.contains_key(RETRY_AFTER) {
        headers.insert(RETRY_AFTER, HeaderValue::from(FULL_RETRY.as_secs()));
    }
    response
}

async fn admit(front: Front, mut request: Request, next: Next) -> Response {
    let place = front.places.try_acquire().ok();
    let Some(_place) = place.filter(|_| !front.congestion.refuses()) else {
        metrics::counter!("persona_requests_shed_total").increment(1);
        return Problem::unavailable("busy", "server is too busy", FULL_RETRY).into_response();
    };
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
    let client = Client::of(peer, request.headers(), &front.proxies);
    if let Some(cost) = cost_of(request.uri().path())
        && let Err(error) = front.limits.pay(client, cost)
    {
        return too_many(error).into_response();
    }
    let headers = request.headers_mut();
    match HeaderValue::from_str(&client.address().to_string()) {
        Ok(client) => drop(headers.insert(CLIENT_HEADER, client)),
        Err(_) => drop(headers.remove(CLIENT_HEADER)),
    }
    next.run(request).await
}

/// What a request makes us do; `None` where it is not a browser that pays: see [`verify`](super::verify).
fn cost_of(path: &str) -> Option<Cost> {
    match path.strip_prefix(PREFIX) {
        Some(name) => Some(Endpoint::named(name).map_or(Cost::Read, |endpoint| endpoint.cost)),
        None if path == VERIFY => None,
        None => Some(Cost::Read),
    }
}
