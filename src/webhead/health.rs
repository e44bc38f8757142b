//! How a webhead is, for load balancers and people: the Dockerflow endpoints.
//!
//! `/__lbheartbeat__` says that this process lives. `/__heartbeat__` says whether people should be sent here: each check by
//! name, 503 if one fails. `/__version__` says what runs. None of them waits behind people's requests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use futures_util::future::{BoxFuture, join_all};
use serde::Serialize;
use tokio::time::timeout;

use super::Webhead;
use crate::wsapi::answer::NOT_KEPT;

/// For all checks: a heartbeat that takes longer is worth nothing.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Says why people should not be sent here, or nothing.
pub type Check = Arc<dyn Fn() -> BoxFuture<'static, Vec<String>> + Send + Sync>;

/// What should be well where people are served, by name.
#[derive(Clone, Default)]
pub struct Health(Arc<BTreeMap<&'static str, (Weight, Check)>>);

/// What it means if a check fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// People should not be sent here.
    Error,
    /// Somebody should look into it. It is no reason to send people elsewhere: where it has one cause for all sites, as a
    /// mail server that is away, there would be no site left to send them to.
    Warning,
}

impl Health {
    /// Adds a check that must not fail.
    #[must_use]
    pub fn and(mut self, name: &'static str, check: Check) -> Health {
        Arc::make_mut(&mut self.0).insert(name, (Weight::Error, check));
        self
    }

    /// Adds a check that is only told.
    #[must_use]
    pub fn noting(mut self, name: &'static str, check: Check) -> Health {
        Arc::make_mut(&mut self.0).insert(name, (Weight::Warning, check));
        self
    }

    /// Makes all checks at once.
    pub async fn look(&self) -> Heartbeat {
        let looks = self.0.iter().map(|(name, (weight, check))| async move {
            let reasons = timeout(CHECK_TIMEOUT, check()).await;
            let reasons = reasons.unwrap_or_else(|_| vec!["did not answer in time".to_owned()]);
            (*name, *weight, reasons)
        });
        let mut heartbeat = Heartbeat::default();
        for (name, weight, reasons) in join_all(looks).await {
            let status = match weight {
                _ if reasons.is_empty() => Status::Ok,
                Weight::Warning => Status::Warning,
                Weight::Error => Status::Error,
            };
            heartbeat.checks.insert(name, status);
            heartbeat.status = heartbeat.status.max(status);
            if !reasons.is_empty() {
                heartbeat.details.insert(name, reasons);
            }
        }
        heartbeat
    }
}

/// How a check went, the worst the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Well.
    #[default]
    Ok,
    /// To be looked into.
    Warning,
    /// People should not be sent here.
    Error,
}

/// The answer of `/__heartbeat__`.
#[derive(Debug, Default, Serialize)]
pub struct Heartbeat {
    status: Status,
    checks: BTreeMap<&'static str, Status>,
    details: BTreeMap<&'static str, Vec<String>>,
}

impl IntoResponse for Heartbeat {
    fn into_response(self) -> Response {
        let status = match self.status {
            Status::Error => StatusCode::SERVICE_UNAVAILABLE,
            Status::Ok | Status::Warning => StatusCode::OK,
        };
        (status, [(CACHE_CONTROL, NOT_KEPT)], Json(self)).into_response()
    }
}

/// What runs.
#[derive(Serialize)]
pub(super) struct Version {
    source: &'static str,
    version: &'static str,
    /// A laboratory: its mail and its switches are open to whoever is on this machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lab: bool,
}

pub(super) async fn lbheartbeat() -> impl IntoResponse {
    ([(CACHE_CONTROL, NOT_KEPT)], "")
}

pub(super) async fn heartbeat(State(webhead): State<Webhead>) -> Heartbeat {
    webhead.health.look().await
}

pub(super) async fn version() -> impl IntoResponse {
    let version = Version {
        source: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        lab: cfg!(feature = "lab"),
    };
    ([(CACHE_CONTROL, NOT_KEPT)], Json(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reasons: &'static [&'static str]) -> Check {
        Arc::new(move || {
            let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
            Box::pin(async move { reasons })
        })
    }

    #[tokio::test]
    async fn one_check_that_must_not_fail_is_enough_and_is_named() {
        let well = Health::default().and("replica", check(&[]));
        assert_eq!(well.look().await.into_response().status(), StatusCode::OK);
        let warned = well.noting("mail", check(&["the outbox is full"]));
        let heartbeat = warned.look().await;
        assert_eq!(heartbeat.checks["replica"], Status::Ok);
        assert_eq!(heartbeat.details["mail"], ["the outbox is full"]);
        assert_eq!(heartbeat.into_response().status(), StatusCode::OK);
        let ill = warned.and("disk", check(&["gone"])).look().await;
        assert_eq!(ill.status, Status::Error);
        assert_eq!(ill.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_fails() {
        let hangs: Check = Arc::new(|| Box::pin(std::future::pending()));
        let heartbeat = Health::default().and("replica", hangs).look().await;
        assert_eq!(heartbeat.checks["replica"], Status::Error);
    }
}
