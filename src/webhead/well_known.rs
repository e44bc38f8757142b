//! `/.well-known/browserid`: our own support document, by which others verify what our keysigners certify.

use axum::{
    Json,
    extract::State,
    http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL},
    response::IntoResponse,
};
use serde_json::json;

use super::Webhead;

/// Short, so that a revoked key is soon gone from caches.
const KEPT: &str = "public, max-age=10";

/// Our pages for IdPs, and every certificate key that is not revoked, by `kid`.
#[utoipa::path(
    get,
    path = "/.well-known/browserid",
    tag = "verifier",
    responses((status = 200, description = "`{authentication, provisioning, keys: [JWK, …]}`"))
)]
pub(super) async fn support_document(State(webhead): State<Webhead>) -> impl IntoResponse {
    let keys = webhead.reception.keys.support_document_keys();
    // What was written for the original reads `public-key` alone: the key that was published last.
    let latest = keys.last().cloned();
    let document = json!({
        "public-key": latest,
        "keys": *keys,
        "authentication": "/sign_in",
        "provisioning": "/provision",
    });
    (
        [(CACHE_CONTROL, KEPT), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")],
        Json(document),
    )
}
