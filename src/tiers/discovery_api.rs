//! Who speaks for a domain, as a webhead in a process of its own hears it: from the secure webhead, which alone asks hosts
//! that strangers name.
//!
//! | route | what |
//! | --- | --- |
//! | `/tiers/discovery/DOMAIN` | what the secure webhead knows, or finds out |
//! | `/tiers/discovery/DOMAIN/anew` | the same, asked anew, if that was not done within the last minute |
//!
//! Bodies are JSON. What is told may be remembered for as long as the secure webhead itself would; so verifying an assertion
//! does not cost a request between tiers each time.

use std::time::Duration;

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::upstream;
use crate::{
    browserid::{Domain, KeySet, json::Object},
    idp::{Discovery, Elsewhere, NoPrimary, Outcome, Primary, Trouble},
};

/// Bytes of an answer at most: a support document has 10 KB, and its keys are told in a form of our own.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An outcome as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    outcome: ToldOutcome,
    /// How much longer the secure webhead says so without asking, in milliseconds.
    fresh_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ToldOutcome {
    Primary {
        authority: String,
        authentication: String,
        provisioning: String,
        /// As a support document has them.
        keys: Value,
    },
    Ourselves,
    Disabled,
    /// It was asked, and has none.
    None {
        domain: String,
        why: String,
    },
    /// It was not asked: that is our trouble, and says nothing of it.
    Unasked,
}

impl Told {
    fn of(outcome: &Outcome, fresh_for: Duration) -> Told {
        let told = match outcome {
            Outcome::Primary(primary) => ToldOutcome::Primary {
                authority: primary.authority.to_string(),
                authentication: primary.auth_url.to_string(),
                provisioning: primary.prov_url.to_string(),
                keys: primary.keys.to_document(),
            },
            Outcome::Ourselves => ToldOutcome::Ourselves,
            Outcome::Disabled => ToldOutcome::Disabled,
            Outcome::None(none) if outcome.live().is_some() => ToldOutcome::None {
                domain: none.domain.to_string(),
                why: none.why.to_string(),
            },
            Outcome::None(_) => ToldOutcome::Unasked,
        };
        Told {
            outcome: told,
            fresh_ms: u64::try_from(fresh_for.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// `None`: it is nothing that a secure webhead says.
    fn read(self, asked: &Domain) -> Option<(Outcome, Duration)> {
        let outcome = match self.outcome {
            ToldOutcome::Primary {
                authority,
                authentication,
                provisioning,
                keys,
            } => Outcome::Primary(
                Primary {
                    authority: Domain::parse(&authority)?,
                    auth_url: Url::parse(&authentication).ok()?,
                    prov_url: Url::parse(&provisioning).ok()?,
                    keys: KeySet::primary(&Object::parse(keys.to_string().as_bytes()).ok()?).ok()?,
                }
                .into(),
            ),
            ToldOutcome::Ourselves => Outcome::Ourselves,
            ToldOutcome::Disabled => Outcome::Disabled,
            ToldOutcome::None { domain, why } => Outcome::None(NoPrimary {
                domain: Domain::parse(&domain)?,
                why: Trouble::Told(why),
            }),
            ToldOutcome::Unasked => Outcome::unasked(asked),
        };
        Some((outcome, Duration::from_millis(self.fresh_ms)))
    }
}

/// What a secure webhead answers to webheads.
pub fn router(discovery: Discovery) -> Router {
    Router::new()
        .route("/tiers/discovery/{domain}", post(look_up))
        .route("/tiers/discovery/{domain}/anew", post(look_up_anew))
        .with_state(discovery)
}

async fn look_up(State(discovery): State<Discovery>, Path(domain): Path<String>) -> Response {
    tell(&discovery, &domain, false).await
}

async fn look_up_anew(State(discovery): State<Discovery>, Path(domain): Path<String>) -> Response {
    tell(&discovery, &domain, true).await
}

async fn tell(discovery: &Discovery, domain: &str, anew: bool) -> Response {
    let Some(domain) = Domain::parse(domain) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let refreshed = if anew {
        discovery.refresh(&domain).await
    } else {
        None
    };
    let outcome = match refreshed {
        Some(outcome) => outcome,
        None => discovery.look_up(&domain).await,
    };
    Json(Told::of(&outcome, discovery.fresh_for(&domain))).into_response()
}

/// The secure webhead in another process, as somebody to ask.
#[derive(Clone)]
pub struct RemoteDiscovery(upstream::Remote);

impl RemoteDiscovery {
    /// Over this way to it.
    pub fn new(remote: upstream::Remote) -> RemoteDiscovery {
        RemoteDiscovery(remote)
    }

    async fn exchange(&self, domain: &Domain, anew: bool) -> Option<(Outcome, Duration)> {
        // A domain has letters, digits, hyphens and dots, and needs no escape.
        let path = match anew {
            true => format!("/tiers/discovery/{domain}/anew"),
            false => format!("/tiers/discovery/{domain}"),
        };
        let request = Request::builder().method(Method::POST).uri(path);
        let request = request.body(Body::empty()).ok()?;
        let response = match self.0.ask(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(%error, "who speaks for a domain could not be asked");
                return None;
            }
        };
        if response.status() != StatusCode::OK {
            tracing::warn!(status = %response.status(), "the secure webhead does not say who speaks for a domain");
            return None;
        }
        let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.ok()?;
        serde_json::from_slice::<Told>(&body).ok()?.read(domain)
    }
}

/// Whom it asks is its own business.
impl std::fmt::Debug for RemoteDiscovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RemoteDiscovery")
    }
}

impl Elsewhere for RemoteDiscovery {
    fn ask<'a>(&'a self, domain: &'a Domain, anew: bool) -> BoxFuture<'a, Option<(Outcome, Duration)>> {
        self.exchange(domain, anew).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect(text)
    }

    /// What is left of an outcome after the trip.
    fn trip(outcome: &Outcome) -> (Outcome, Duration) {
        let bytes = serde_json::to_vec(&Told::of(outcome, Duration::from_secs(7))).expect("told");
        let told: Told = serde_json::from_slice(&bytes).expect("heard");
        told.read(&domain("asked.example")).expect("understood")
    }

    #[test]
    fn every_outcome_survives_the_trip() {
        let document = format!(
            r#"{{"public-key":{KEY},"keys":[{}"kid":"b"}}]}}"#,
            KEY.replace('}', ",")
        );
        let keys = KeySet::primary(&Object::parse(document.as_bytes()).expect("JSON")).expect("keys");
        let primary = Outcome::Primary(
            Primary {
                authority: domain("idp.example"),
                auth_url: "https://idp.example/in".parse().expect("a URL"),
                prov_url: "https://idp.example/prov".parse().expect("a URL"),
                keys,
            }
            .into(),
        );
        let (Outcome::Primary(told), fresh_for) = trip(&primary) else {
            panic!("a primary")
        };
        assert_eq!(fresh_for, Duration::from_secs(7));
        assert_eq!(told.authority, domain("idp.example"));
        assert_eq!(told.auth_url.as_str(), "https://idp.example/in");
        assert_eq!(told.prov_url.as_str(), "https://idp.example/prov");
        let Outcome::Primary(primary) = primary else {
            panic!()
        };
        assert_eq!(told.keys.to_document(), primary.keys.to_document());
        assert!(told.keys.knows("b") && !told.keys.knows("c"));

        assert!(matches!(trip(&Outcome::Ourselves).0, Outcome::Ourselves));
        assert!(matches!(trip(&Outcome::Disabled).0, Outcome::Disabled));
        let none = |why| {
            Outcome::None(NoPrimary {
                domain: domain("end.example"),
                why,
            })
        };
        // What was found out says the same words; what was not found out says nothing of the domain.
        let (cycle, _) = trip(&none(Trouble::Cycle));
        assert_eq!(cycle.live(), none(Trouble::Cycle).live());
        let Outcome::None(told) = cycle else { panic!() };
        assert_eq!(
            told.to_string(),
            "can't get public key for end.example: its delegation goes in a circle"
        );
        assert_eq!(trip(&none(Trouble::Busy)).0.live(), None);
    }
}
