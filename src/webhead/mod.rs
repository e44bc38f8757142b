//! The webhead: what strangers reach. Pages, the calls that only read, the verifier; everything else it passes on.
//!
//! | module | subject |
//! | --- | --- |
//! | [`context`](self) | `session_context` |
//! | [`account`](self) | what somebody signed in sees of their account |
//! | [`staging`](self) | how far a proof by mail has come |
//! | [`verify`](self) | `/verify` |
//! | [`well_known`](self) | our support document |
//! | [`health`] | heartbeats and version |
//! | [`front`](self) | whose request it is, and how many at once |
//!
//! It can do nothing that matters by itself: it holds no key that signs, and its way to the replica only reads.

mod account;
mod congestion;
mod context;
mod front;
pub mod health;
mod staging;
mod verify;
mod well_known;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRef, Request, State},
    handler::Handler,
    http::{Method, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, get, on, post},
};

use utoipa::OpenApi;

pub use self::front::Front;
use self::health::Health;
use crate::{
    tiers::{Tier, Upstream},
    verifier::Verifier,
    wsapi::{ENDPOINTS, Problem, Reception, answer::NOT_KEPT},
};

/// A webhead, and what it reaches.
#[derive(Clone)]
pub struct Webhead {
    /// Who asks.
    pub reception: Arc<Reception>,
    /// Who proves what to whom.
    pub verifier: Arc<Verifier>,
    /// Where writes go.
    pub secure_webhead: Upstream,
    /// Where keys to be certified go.
    pub keysigner: Upstream,
    /// Whether people should be sent here.
    pub health: Health,
}

impl FromRef<Webhead> for Arc<Reception> {
    fn from_ref(webhead: &Webhead) -> Arc<Reception> {
        webhead.reception.clone()
    }
}

/// Everything that people reach, behind what keeps it upright.
pub fn router(webhead: Webhead, front: Front, pages: Router) -> Router {
    let mut calls = Router::new();
    for endpoint in ENDPOINTS {
        let route = match (endpoint.tier, endpoint.name) {
            (Tier::Webhead, name) => here(name),
            (Tier::Keysigner, _) => passed_on(&endpoint.method, ask_keysigner),
            (Tier::SecureWebhead | Tier::Replica, _) => passed_on(&endpoint.method, ask_secure_webhead),
        };
        calls = calls.route(&format!("/wsapi/{}", endpoint.name), route);
    }
    let people = calls
        .route("/wsapi/{*name}", axum::routing::any(no_such_api))
        .method_not_allowed_fallback(no_such_api)
        // These are asked for by programs of others, who are told which method there is (405).
        .route(verify::VERIFY, post(verify::verify))
        .route("/openapi.json", get(description_as_json))
        .with_state(webhead.clone())
        .fallback_service(pages);
    let people = front.before(people);
    Router::new()
        .route("/.well-known/browserid", get(well_known::support_document))
        .route("/__lbheartbeat__", get(health::lbheartbeat))
        .route("/__heartbeat__", get(health::heartbeat))
        .route("/__version__", get(health::version))
        .with_state(webhead)
        .fallback_service(people)
}

/// Describes the calls that this tier answers itself.
pub fn description() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(
        context::session_context,
        context::interaction_data,
        context::ping,
        account::have_email,
        account::list_emails,
        account::account_details,
        account::list_sessions,
        staging::user_creation_status,
        staging::email_addition_status,
        staging::email_reverify_status,
        staging::password_reset_status,
        staging::transition_status,
        staging::email_for_token,
        verify::verify,
        well_known::support_document
    ))]
    struct Calls;
    Calls::openapi()
}

/// The calls that this tier answers itself.
fn here(name: &str) -> MethodRouter<Webhead> {
    match name {
        "session_context" => get(context::session_context),
        "have_email" => get(account::have_email),
        "list_emails" => get(account::list_emails),
        "account_details" => get(account::account_details),
        "list_sessions" => get(account::list_sessions),
        "user_creation_status" => get(staging::user_creation_status),
        "email_addition_status" => get(staging::email_addition_status),
        "email_reverify_status" => get(staging::email_reverify_status),
        "password_reset_status" => get(staging::password_reset_status),
        "transition_status" => get(staging::transition_status),
        "email_for_token" => get(staging::email_for_token),
        "interaction_data" => post(context::interaction_data),
        "ping" => get(context::ping),
        // A test makes sure that there is no other.
        _ => get(no_such_api),
    }
}

fn passed_on<H, T>(method: &Method, handler: H) -> MethodRouter<Webhead>
where
    H: Handler<T, Webhead>,
    T: 'static,
{
    let filter = if method == Method::GET {
        MethodFilter::GET
    } else {
        MethodFilter::POST
    };
    on(filter, handler)
}

async fn ask_secure_webhead(State(webhead): State<Webhead>, request: Request) -> Response {
    pass_on(&webhead.secure_webhead, request).await
}

async fn ask_keysigner(State(webhead): State<Webhead>, request: Request) -> Response {
    pass_on(&webhead.keysigner, request).await
}

async fn pass_on(upstream: &Upstream, request: Request) -> Response {
    match upstream.ask(request).await {
        Ok(response) => response,
        Err(no_answer) => {
            tracing::warn!(error = %no_answer, "a request could not be passed on");
            // Whether it was heard is not known: whoever sent an Idempotency-Key may ask again.
            Problem::unavailable(
                "tier-away",
                "this part of the site is away; try again",
                super::webhead::RETRY,
            )
            .into_response()
        }
    }
}

/// When a tier is away.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

async fn description_as_json() -> impl IntoResponse {
    Json(crate::wsapi::openapi::description())
}

async fn no_such_api() -> Response {
    let mut response = Problem::no_such_api().into_response();
    response.headers_mut().insert(CACHE_CONTROL, NOT_KEPT);
    response
}
