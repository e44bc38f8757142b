//! A web site that people sign in to with Persona, the way a real one should do it.
//!
//! The site has a session of its own from the first page on, and in it a random *nonce*. The nonce goes to Persona with the
//! request and comes back inside the assertion, so an assertion is good for the browser that asked for it, once. `POST
//! /login` takes one only from this site's own pages (`Origin`), has Persona verify it, compares audience and nonce, and
//! then begins a *new* session: whoever knew the old one knows nothing.
//!
//! `/` signs in by a popup. The other pages are the same with headers that keep popups from working, as some sites have.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use minijinja::Value;
use rand::RngExt;
use serde::Deserialize;
use serde_json::json;

use super::{
    DemoError,
    page::{self, Templates, is_from, with_cookie},
    sessions::Sessions,
    verification::{NoVerdict, Verdict, Verification},
};
use crate::{browserid::json::encode_base64url, public_url::PublicUrl};

/// The web site.
pub struct RelyingParty {
    origin: PublicUrl,
    persona: PublicUrl,
    verification: Verification,
    sessions: Sessions<Visitor>,
    templates: Templates,
    policy: String,
}

/// What the site knows of a browser.
#[derive(Clone)]
struct Visitor {
    nonce: String,
    person: Option<Person>,
}

/// Who signed in.
#[derive(Clone)]
struct Person {
    email: String,
    issuer: String,
}

/// How a page makes signing in harder.
#[derive(Clone, Copy)]
struct Variant {
    path: &'static str,
    words: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

const VARIANTS: [Variant; 4] = [
    Variant {
        path: "/",
        words: "In a popup",
        headers: &[],
    },
    Variant {
        path: "/redirect",
        words: "By redirection: this page is cross-origin isolated",
        headers: &[
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-embedder-policy", "credentialless"),
        ],
    },
    Variant {
        path: "/opener-policy",
        words: "Cut from its popups by Cross-Origin-Opener-Policy: same-origin",
        headers: &[("cross-origin-opener-policy", "same-origin")],
    },
    Variant {
        path: "/no-referrer",
        words: "Silent about itself by Referrer-Policy: no-referrer",
        headers: &[("referrer-policy", "no-referrer")],
    },
];

impl RelyingParty {
    /// A site at this origin that trusts this Persona.
    pub fn new(origin: PublicUrl, persona: PublicUrl) -> Result<RelyingParty, DemoError> {
        let policy = format!(
            "default-src 'none'; script-src 'self' {persona}; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self' {persona}; base-uri 'none'; frame-ancestors 'none'"
        );
        Ok(RelyingParty {
            verification: Verification::new(&persona)?,
            sessions: Sessions::new("corner_books", origin.origin().starts_with("https://")),
            templates: Templates::new(&[(TEMPLATE, include_str!("static/rp.html"))])?,
            policy,
            origin,
            persona,
        })
    }

    /// Its pages and calls.
    pub fn router(self) -> Router {
        let mut router = Router::new()
            .route("/login", post(login))
            .route("/logout", post(logout))
            .route("/rp.js", get(async || page::script(include_str!("static/rp.js"))))
            .route("/demo.css", get(page::style))
            .route("/favicon.ico", get(page::favicon));
        for variant in VARIANTS {
            let serve = move |State(site): State<Arc<RelyingParty>>, headers: HeaderMap| async move {
                site.page(variant, &headers)
            };
            router = router.route(variant.path, get(serve));
        }
        #[cfg(feature = "lab")]
        let router = router.merge(careless());
        router
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::new(self))
    }

    fn page(&self, variant: Variant, headers: &HeaderMap) -> Response {
        let (visitor, cookie) = match self.sessions.find(headers) {
            Some((_, visitor)) => (visitor, None),
            None => {
                let visitor = Visitor::new(None);
                let cookie = self.sessions.begin(visitor.clone());
                (visitor, cookie)
            }
        };
        let (email, issuer) = match visitor.person {
            Some(person) => (Some(person.email), Some(person.issuer)),
            None => (None, None),
        };
        let variants = VARIANTS.iter().map(|other| {
            Value::from_pairs([
                ("path", Value::from(other.path)),
                ("words", Value::from(other.words)),
                ("here", Value::from(other.path == variant.path)),
            ])
        });
        let facts = [
            ("origin", Value::from(self.origin.origin())),
            ("persona", Value::from(self.persona.origin())),
            ("email", Value::from(email)),
            ("issuer", Value::from(issuer)),
            ("nonce", Value::from(visitor.nonce)),
            ("variants", Value::from(variants.collect::<Vec<_>>())),
        ];
        let mut response = self.templates.page(TEMPLATE, &self.policy, &facts);
        for &(name, value) in variant.headers {
            response = page::with(response, name, value);
        }
        with_cookie(response, cookie)
    }

    fn is_own_page(&self, headers: &HeaderMap) -> bool {
        is_from(headers, [self.origin.origin()].into_iter())
    }
}

impl Visitor {
    fn new(person: Option<Person>) -> Visitor {
        Visitor {
            nonce: encode_base64url(rand::rng().random::<[u8; 16]>()),
            person,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    assertion: String,
}

/// Why somebody is not signed in.
enum Refused {
    OtherSite,
    NoSession,
    NotProven(String),
    NoVerdict(NoVerdict),
}

async fn login(
    State(site): State<Arc<RelyingParty>>,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<Response, Refused> {
    if !site.is_own_page(&headers) {
        return Err(Refused::OtherSite);
    }
    let (id, visitor) = site.sessions.find(&headers).ok_or(Refused::NoSession)?;
    let own = site.origin.origin();
    let verdict = site
        .verification
        .ask(&login.assertion, own)
        .await
        .map_err(Refused::NoVerdict)?;
    let (email, issuer) = match verdict {
        // Persona has compared the audience; that it was ours costs nothing to see.
        Verdict::Okay { audience, .. } if audience != own => {
            return Err(Refused::NotProven("it was made for another site".to_owned()));
        }
        Verdict::Okay { nonce, .. } if nonce.as_deref() != Some(visitor.nonce.as_str()) => {
            return Err(Refused::NotProven(
                "it was asked for by another browser, or was used before".to_owned(),
            ));
        }
        Verdict::Okay {
            email,
            issuer,
            expires,
            ..
        } => {
            tracing::debug!(expires, "an assertion was good");
            (email, issuer)
        }
        Verdict::Failure { reason } => return Err(Refused::NotProven(reason)),
    };
    site.sessions.end(id);
    let answer = json!({ "email": email });
    let cookie = site.sessions.begin(Visitor::new(Some(Person { email, issuer })));
    Ok(with_cookie(Json(answer).into_response(), cookie))
}

async fn logout(State(site): State<Arc<RelyingParty>>, headers: HeaderMap) -> Result<Response, Refused> {
    if !site.is_own_page(&headers) {
        return Err(Refused::OtherSite);
    }
    let cookie = site
        .sessions
        .find(&headers)
        .and_then(|(id, _)| site.sessions.end(id));
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), cookie))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, reason) = match self {
            Refused::OtherSite => (StatusCode::FORBIDDEN, "this is for our own pages".to_owned()),
            Refused::NoSession => (
                StatusCode::FORBIDDEN,
                "this browser has no session here: reload the page, and let it keep cookies".to_owned(),
            ),
            Refused::NotProven(reason) => (StatusCode::UNAUTHORIZED, reason),
            Refused::NoVerdict(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
        };
        (status, Json(json!({ "reason": reason }))).into_response()
    }
}

/// Laboratory: what careless sites have, for [`evil`](super::evil) to try. `/careless?returnTo=PATH` hands what it is given
/// to `request()`; `/out?to=URL` sends anybody anywhere.
#[cfg(feature = "lab")]
fn careless() -> Router<Arc<RelyingParty>> {
    use axum::{extract::Query, response::Redirect};

    #[derive(Deserialize)]
    struct Out {
        to: String,
    }
    let redirected = Variant {
        path: "/careless",
        ..VARIANTS[1]
    };
    Router::new()
        .route(
            redirected.path,
            get(
                move |State(site): State<Arc<RelyingParty>>, headers: HeaderMap| async move {
                    site.page(redirected, &headers)
                },
            ),
        )
        .route("/out", get(async |Query(out): Query<Out>| Redirect::to(&out.to)))
}

const TEMPLATE: &str = "rp.html";
/// Bytes of a request: an assertion has 10 KB at most.
const BODY_BYTES_MAX: usize = 16 * 1024;
