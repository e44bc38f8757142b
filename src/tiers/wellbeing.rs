//! Whether a tier in another process is well, as the webhead before it has to know.
//!
//! `/tiers/health` is a list of reasons against sending people here, in JSON; empty is well. A webhead's heartbeat asks each
//! tier that it passes requests on to: a site without its keysigner lives, but people are better served by another one.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    routing::get,
};
use tokio::time::timeout;

use super::{Upstream, upstream::Remote};
use crate::webhead::health::{Check, Health};

const PATH: &str = "/tiers/health";
/// For an answer, within the time that a heartbeat has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Tells how this process is.
pub(super) fn router(check: Check) -> Router {
    let tell = async |State(check): State<Check>| Json(check().await);
    Router::new().route(PATH, get(tell)).with_state(check)
}

impl Health {
    /// Adds a check of a tier that requests are passed on to, if it is in another process.
    #[must_use]
    pub fn before(self, name: &'static str, upstream: &Upstream) -> Health {
        match upstream {
            Upstream::Here(_) => self,
            Upstream::There(remote) => self.and(name, check(Remote::clone(remote))),
        }
    }
}

/// How a tier in another process is.
fn check(remote: Remote) -> Check {
    let remote = Arc::new(remote);
    Arc::new(move || {
        let remote = remote.clone();
        Box::pin(async move {
            match timeout(ANSWER_TIMEOUT, ask(&remote)).await {
                Ok(Some(reasons)) => reasons,
                Ok(None) | Err(_) => vec!["it does not answer".to_owned()],
            }
        })
    })
}

async fn ask(remote: &Remote) -> Option<Vec<String>> {
    let request = Request::builder().uri(PATH).body(Body::empty()).ok()?;
    let response = remote.ask(request).await.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.ok()?;
    serde_json::from_slice(&body).ok()
}
