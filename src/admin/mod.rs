//! The operator's API: JSON over HTTP/1.1 on a Unix socket in the data directory, for its owner only (mode 0600).
//!
//! `API.md` beside this file lists every route. What people do is in `accounts`, who is a member in `cluster`, what
//! sites sign with in `keys`, what an operator looks at in `status`, what only a laboratory may do in `lab`.

mod accounts;
mod backup;
mod cluster;
mod error;
mod keys;
#[cfg(feature = "lab")]
mod lab;
mod repair;
mod status;

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::net::UnixListener;
use tower_http::timeout::TimeoutLayer;

#[cfg(feature = "lab")]
pub(crate) use self::lab::ROUTES as LAB_ROUTES;
pub(crate) use self::status::report;
pub use self::{
    cluster::{
        ClusterReport, EvictionReport, FeatureReport, InviteReport, LeaveReport, MemberReport, RotationReport,
    },
    error::ApiError,
    keys::{KeyReport, KeysReport, RevocationReport},
    repair::{Compared, ComparedReport, RepairReport},
    status::StatusReport,
};
use crate::site::Site;

/// A request's body: everything here is small.
const BODY_BYTES_MAX: usize = 10 * 1024;
/// No request may take longer: hashing and durability have shorter limits of their own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens on the socket; the future it returns serves until the site drains and requests under way are finished.
pub fn serve(site: Arc<Site>, socket: &Path) -> io::Result<impl Future<Output = ()> + use<>> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The data directory is its owner's alone, so nobody gets in before the mode is set.
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    let router = router(site.clone());
    Ok(async move {
        let draining = site.clone();
        let served = axum::serve(listener, router).with_graceful_shutdown(async move {
            draining.drain_begun().await;
            // Those who ask in this moment are told so and go elsewhere; a closed socket would only surprise them.
            tokio::time::sleep(DRAIN_ANNOUNCED).await;
        });
        // Connections that stay open without a request must not hold the drain up.
        let bounded = async {
            site.drain_begun().await;
            tokio::time::sleep(DRAIN_ANNOUNCED + REQUEST_TIMEOUT).await;
        };
        tokio::select! {
            result = served => if let Err(error) = result {
                tracing::error!(%error, "the admin API ended");
            },
            () = bounded => {}
        }
    })
}

/// How long a draining site still answers 503, so that whoever balances load notices before the socket is gone.
const DRAIN_ANNOUNCED: Duration = Duration::from_millis(500);

fn router(site: Arc<Site>) -> Router {
    let people = Router::new()
        .route("/accounts", post(accounts::create))
        .route("/sign-in", post(accounts::sign_in))
        .route("/password-reset", post(accounts::reset_password))
        .route("/accounts/{account}", get(accounts::show))
        .route("/accounts/{account}/password", post(accounts::change_password))
        .route("/accounts/{account}/emails", post(accounts::add_email))
        .route(
            "/accounts/{account}/emails/{address}",
            axum::routing::delete(accounts::remove_email),
        )
        .route("/accounts/{account}/cancel", post(accounts::cancel))
        .route(
            "/accounts/{account}/sign-out-everywhere",
            post(accounts::sign_out_everywhere),
        )
        .route("/emails/{address}", get(accounts::show_email))
        .route_layer(middleware::from_fn_with_state(site.clone(), only_while_serving));
    let operator = Router::new()
        .route("/status", get(status::status))
        .route("/vector", get(status::vector))
        .route("/digest", get(status::digest))
        .route("/accounts/{account}/erased", get(accounts::erased))
        .route("/drain", post(status::drain))
        .merge(cluster::routes())
        .merge(keys::routes());
    let long = Router::new()
        .route("/backup", post(backup::make))
        .route_layer(middleware::from_fn_with_state(site.clone(), only_while_serving))
        // A site that is not well is the one that needs these.
        .route("/repair", post(repair::repair))
        .route("/scrub", post(repair::scrub))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let router = people.merge(operator);
    #[cfg(feature = "lab")]
    let router = router.merge(lab::routes());
    router
        .fallback(|| async { ApiError::no_such_route() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(
            axum::http::StatusCode::GATEWAY_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        // Behind the time limit: they take as long as the disk and the others do.
        .merge(long)
        .with_state(site)
}

/// A site that is catching up or on its way out serves nobody: what it would say could be old.
async fn only_while_serving(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if site.is_draining() {
        return ApiError::unavailable("draining", "This site is going out of service.").into_response();
    }
    if let Some(words) = site.standing().why_not_serving() {
        return ApiError::unavailable("not-active", words).into_response();
    }
    if !site.is_serving() {
        return ApiError::unavailable("starting", "This site is still catching up with the others.")
            .into_response();
    }
    next.run(request).await
}
