//! An email domain that certifies its own users, as a domain does that wants to be asked for no mail.
//!
//! It says how at `https://DOMAIN/.well-known/browserid`: two pages and a public key. Persona's dialog opens the
//! *provisioning* page, in a frame or in its own window; the page has the server certify the browser's key, if somebody is
//! signed in here and it is their address. If not, the dialog sends them to the *authentication* page first.
//!
//! Its users are whoever types a name; all have one password, which the page shows. Nobody else's domain rests on it: what
//! it certifies counts for addresses of its own domain only, and only where somebody trusts its TLS certificate.

mod certificate;

#[cfg(feature = "lab")]
use std::sync::{Mutex, PoisonError};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use minijinja::Value;
use rand::rng;
use rustls::ServerConfig;
use serde::Deserialize;
use serde_json::json;

use self::certificate::HostCertificate;
use super::{
    DemoError,
    page::{self, Templates, is_from, with_cookie},
    sessions::Sessions,
};
use crate::{
    browserid::{Domain, NewCertificate, PublicKey, SigningKey, certificate::LIFETIME_MS, json::Object},
    identity::Address,
    public_url::PublicUrl,
};

/// Everybody's password here.
pub const PASSWORD: &str = "open sesame";

/// The email domain.
pub struct IdentityProvider {
    shared: Arc<Shared>,
    host: HostCertificate,
}

struct Shared {
    domain: Domain,
    persona: PublicUrl,
    /// Under which browsers reach its pages.
    origins: Vec<String>,
    key: SigningKey,
    #[cfg(feature = "lab")]
    says: Mutex<Says>,
    sessions: Sessions<Address>,
    templates: Templates,
    policy: String,
    provisioning_policy: String,
}

impl IdentityProvider {
    /// A domain with new keys that certifies for this Persona. Its pages are at its own host, and at `pages` where that is
    /// said: no browser trusts a certificate that was made here.
    pub fn new(
        domain: Domain,
        persona: PublicUrl,
        pages: Option<&PublicUrl>,
    ) -> Result<IdentityProvider, DemoError> {
        let host = HostCertificate::make(domain.as_str())?;
        let policy = |ancestors: &str| {
            format!(
                "default-src 'none'; script-src 'self' {persona}; style-src 'self'; img-src 'self'; connect-src 'self'; \
                 form-action 'none'; base-uri 'none'; frame-ancestors {ancestors}"
            )
        };
        let shared = Shared {
            origins: std::iter::once(format!("https://{domain}"))
                .chain(pages.map(|pages| pages.origin().to_owned()))
                .collect(),
            key: SigningKey::generate(&mut rng())?,
            #[cfg(feature = "lab")]
            says: Mutex::default(),
            sessions: Sessions::of_framed_pages("postbox"),
            templates: Templates::new(&[
                (HOME, include_str!("static/idp_home.html")),
                (SIGN_IN, include_str!("static/idp_sign_in.html")),
                (PROVISION, include_str!("static/idp_provision.html")),
            ])?,
            policy: policy("'none'"),
            provisioning_policy: policy(persona.origin()),
            domain,
            persona,
        };
        Ok(IdentityProvider {
            shared: Arc::new(shared),
            host,
        })
    }

    /// PEM of the authority that made its TLS certificate, for `[outbound] ca_file`. The authority made this one and forgot
    /// its key.
    pub fn authority_pem(&self) -> &str {
        &self.host.authority_pem
    }

    /// Laboratory: what may change what it says of itself.
    #[cfg(feature = "lab")]
    pub fn mouth(&self) -> Mouth {
        Mouth(self.shared.clone())
    }

    /// The TLS of its host.
    pub fn tls(&self) -> Arc<ServerConfig> {
        self.host.server.clone()
    }

    /// Its support document, pages and calls.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/.well-known/browserid", get(support_document))
            .route("/", get(home))
            .route("/sign_in", get(sign_in_page))
            .route("/provision", get(provisioning_page))
            .route("/session", post(sign_in))
            .route("/sign_out", post(sign_out))
            .route("/certify", post(certify))
            .route(
                "/idp.js",
                get(async || page::script(include_str!("static/idp.js"))),
            )
            .route(
                "/provision.js",
                get(async || page::script(include_str!("static/idp_provision.js"))),
            )
            .route("/demo.css", get(page::style))
            .route("/favicon.ico", get(page::favicon))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self.shared.clone())
    }
}

impl Shared {
    fn is_own_page(&self, headers: &HeaderMap) -> bool {
        is_from(headers, self.origins.iter().map(String::as_str))
    }

    /// An address of this domain.
    fn own(&self, typed: &str) -> Option<Address> {
        let typed = typed.trim();
        let address = match typed.contains('@') {
            true => Address::parse(typed),
            false => Address::parse(&format!("{typed}@{}", self.domain)),
        };
        address
            .ok()
            .filter(|address| address.domain() == self.domain.as_str())
    }

    fn facts(&self, headers: &HeaderMap) -> [(&'static str, Value); 4] {
        let somebody = self
            .sessions
            .find(headers)
            .map(|(_, address)| address.typed().to_owned());
        [
            ("domain", Value::from(self.domain.as_str())),
            ("persona", Value::from(self.persona.origin())),
            ("password", Value::from(PASSWORD)),
            ("email", Value::from(somebody)),
        ]
    }
}

/// Laboratory: what the domain says of itself. Domains change their minds, and what people had with them has to go on.
#[cfg(feature = "lab")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    /// It certifies its own users.
    #[default]
    Certifies,
    /// It leaves that to Persona.
    Delegates,
    /// Nobody is to sign in with its addresses.
    Disabled,
    /// Nothing: it has a fault.
    Nothing,
}

/// What may change what a domain says; kept by whoever runs it.
#[cfg(feature = "lab")]
#[derive(Clone)]
pub struct Mouth(Arc<Shared>);

#[cfg(feature = "lab")]
impl Mouth {
    /// From now on it says this; who asked before may remember the other for as long as it was told to.
    pub fn say(&self, says: Says) {
        *self.0.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }
}

#[cfg(feature = "lab")]
impl Shared {
    /// What is said instead of the usual, if anything.
    fn other_word(&self) -> Option<Response> {
        let document = match *self.says.lock().unwrap_or_else(PoisonError::into_inner) {
            Says::Certifies => return None,
            Says::Delegates => json!({ "authority": self.persona.host() }),
            Says::Disabled => json!({ "disabled": true }),
            Says::Nothing => return Some(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        };
        Some(([(CACHE_CONTROL, KEPT)], Json(document)).into_response())
    }
}

type Provider = State<Arc<Shared>>;

async fn support_document(State(provider): Provider) -> Response {
    #[cfg(feature = "lab")]
    if let Some(other) = provider.other_word() {
        return other;
    }
    let mut key = provider.key.public().to_jwk();
    // Its certificates name it.
    key["kid"] = provider.key.kid().into();
    let document = json!({
        "public-key": key,
        "authentication": "/sign_in",
        "provisioning": "/provision",
    });
    // A domain in earnest would have it kept for hours. The key of this one ends with its process.
    ([(CACHE_CONTROL, KEPT)], Json(document)).into_response()
}

async fn home(State(provider): Provider, headers: HeaderMap) -> Response {
    let facts = provider.facts(&headers);
    provider.templates.page(HOME, &provider.policy, &facts)
}

async fn sign_in_page(State(provider): Provider, headers: HeaderMap) -> Response {
    let facts = provider.facts(&headers);
    provider.templates.page(SIGN_IN, &provider.policy, &facts)
}

async fn provisioning_page(State(provider): Provider, headers: HeaderMap) -> Response {
    let facts = provider.facts(&headers);
    provider
        .templates
        .page(PROVISION, &provider.provisioning_policy, &facts)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    user: String,
    password: String,
}

async fn sign_in(
    State(provider): Provider,
    headers: HeaderMap,
    Json(given): Json<SignIn>,
) -> Result<Response, Refused> {
    if !provider.is_own_page(&headers) {
        return Err(Refused::OtherSite);
    }
    let address = provider.own(&given.user).ok_or(Refused::NoSuchUser)?;
    // Everybody may read it on the page: there is nothing to guess, and nothing to be throttled.
    if given.password != PASSWORD {
        return Err(Refused::WrongPassword);
    }
    if let Some((id, _)) = provider.sessions.find(&headers) {
        provider.sessions.end(id);
    }
    let answer = json!({ "email": address.typed() });
    let cookie = provider.sessions.begin(address);
    Ok(with_cookie(Json(answer).into_response(), cookie))
}

async fn sign_out(State(provider): Provider, headers: HeaderMap) -> Result<Response, Refused> {
    if !provider.is_own_page(&headers) {
        return Err(Refused::OtherSite);
    }
    let cookie = provider
        .sessions
        .find(&headers)
        .and_then(|(id, _)| provider.sessions.end(id));
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), cookie))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Certify {
    email: String,
    /// A JWK, as text.
    pubkey: String,
    /// For how many seconds.
    duration: u64,
}

async fn certify(
    State(provider): Provider,
    headers: HeaderMap,
    Json(wanted): Json<Certify>,
) -> Result<Response, Refused> {
    if !provider.is_own_page(&headers) {
        return Err(Refused::OtherSite);
    }
    let (_, signed_in) = provider.sessions.find(&headers).ok_or(Refused::NotSignedIn)?;
    let email = provider.own(&wanted.email).ok_or(Refused::NotSignedIn)?;
    if email.normalised() != signed_in.normalised() {
        return Err(Refused::NotSignedIn);
    }
    let public_key = Object::parse(wanted.pubkey.as_bytes())
        .ok()
        .and_then(|jwk| PublicKey::from_jwk(&jwk).ok())
        .ok_or(Refused::NotAKey)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let lifetime_ms = wanted.duration.saturating_mul(1000).min(LIFETIME_MS);
    let certificate = NewCertificate {
        issuer: &provider.domain,
        email: &email,
        public_key: &public_key,
        now_ms,
        rests_on_ms: 0,
        resets: 0,
        short: false,
        session_ends_ms: now_ms.saturating_add(lifetime_ms),
    };
    let certificate = certificate.issue(&provider.key).map_err(|_| Refused::NotAKey)?;
    Ok(Json(json!({ "certificate": certificate })).into_response())
}

/// Why not.
enum Refused {
    OtherSite,
    NoSuchUser,
    WrongPassword,
    NotSignedIn,
    NotAKey,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, reason) = match self {
            Refused::OtherSite => (StatusCode::FORBIDDEN, "this is for our own pages"),
            Refused::NoSuchUser => (StatusCode::BAD_REQUEST, "that is no address of this domain"),
            Refused::WrongPassword => (
                StatusCode::UNAUTHORIZED,
                "that is not the password; it stands on this page",
            ),
            Refused::NotSignedIn => (StatusCode::FORBIDDEN, "nobody of that address is signed in here"),
            Refused::NotAKey => (StatusCode::BAD_REQUEST, "that key cannot be certified"),
        };
        (status, Json(json!({ "reason": reason }))).into_response()
    }
}

/// For how long others may keep what it says of itself.
const KEPT: &str = "public, max-age=10";
const HOME: &str = "home.html";
const SIGN_IN: &str = "sign_in.html";
const PROVISION: &str = "provision.html";
/// Bytes of a request: a key has a few hundred.
const BODY_BYTES_MAX: usize = 16 * 1024;
