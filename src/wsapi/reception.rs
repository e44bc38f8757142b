//! Who asks: the same first steps of every call, whichever tier answers it.
//!
//! A call's cookies are verified, its arguments read, its CSRF value compared with the browser's; the client pays. Nothing
//! here asks the records: whether a session is still good is for [`signed_in`](super::signed_in).
//!
//! *CSRF.* A POST repeats a random value that only pages of this host can know: of the session if there is one, else of the
//! browser's `persona_visit` cookie. Where the browser says where a request comes from (`Sec-Fetch-Site`, `Origin`), that
//! must be us, whatever the value.
//!
//! *Once.* A POST may carry an `Idempotency-Key`: what it wrote then is remembered for ten minutes under that key, at every
//! site. The key is bound to the browser by the CSRF value, so nobody else's answer can be asked for.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::to_bytes,
    extract::{FromRef, FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::ORIGIN, request::Parts},
};
use rand::RngExt;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    Problem,
    arguments::{Arguments, BODY_BYTES_MAX},
    cookies::{CookieName, Cookies},
};
use crate::{
    browserid::{
        Kind, SignatureCache, Unverified,
        json::{decode_base64url, encode_base64url},
    },
    identity::{Address, Directory, Once, staging::BegunHere},
    limits::{Client, Cost, LimitSettings, Limits, RetryAfter},
    public_url::PublicUrl,
    session::{Device, Session, SessionError},
    tiers::keys::PublishedKeys,
};

/// For a body to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Signatures of cookies that are remembered, two for each browser: about 8 MB.
const SIGNATURES_MAX: usize = 200_000;
/// Characters of an idempotency key.
const ONCE_CHARS: std::ops::RangeInclusive<usize> = 16..=64;
/// Between tiers: whose request it is. From outside it counts for nothing.
pub const CLIENT_HEADER: HeaderName = HeaderName::from_static("x-persona-client");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What every tier that people's requests reach has at hand.
pub struct Reception {
    /// Under which people reach the service.
    pub public_url: PublicUrl,
    /// How its cookies are named.
    pub cookies: Cookies,
    /// The public keys of all sites.
    pub keys: PublishedKeys,
    /// What the records say.
    pub directory: Directory,
    /// What addresses pay with.
    pub limits: Limits,
    signatures: SignatureCache,
}

impl Reception {
    /// The reception of a service at this address.
    pub fn new(
        public_url: PublicUrl,
        keys: PublishedKeys,
        directory: Directory,
        limits: &LimitSettings,
    ) -> Reception {
        Reception {
            cookies: Cookies::new(&public_url),
            public_url,
            keys,
            directory,
            limits: Limits::new(limits, monotonic()),
            signatures: SignatureCache::new(SIGNATURES_MAX),
        }
    }

    /// An address pays for what is done about it, known or not.
    pub fn pay_for(&self, address: &Address, cost: Cost) -> Result<(), Problem> {
        let email = self.directory.email_id(address);
        self.limits
            .pay_for_address(email.as_bytes(), cost)
            .map_err(too_many)
    }

    /// An address pays for a password that is tried, known or not. A browser that signed in to an account here has a bucket
    /// of its own at each address: whoever floods an address keeps nobody out who signed in to it before.
    pub fn pay_for_password(&self, address: &Address, device: Option<&Device>) -> Result<(), Problem> {
        self.limits
            .pay_for_address(&self.payer(address, device), Cost::Password)
            .map_err(too_many)
    }

    /// What an address paid for a password comes back: whoever asked is whom they said they were.
    pub fn give_back_password(&self, address: &Address, device: Option<&Device>) {
        let payer = self.payer(address, device);
        self.limits.give_back_to_address(&payer, Cost::Password);
    }

    fn payer(&self, address: &Address, device: Option<&Device>) -> Vec<u8> {
        let email = self.directory.email_id(address);
        let device = device.map_or(&[][..], |device| &device.id);
        [email.as_bytes(), device].concat()
    }

    /// Now, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }

    /// Who the cookies say that asks. Cookies that are not ours, or over, are as if they were not there. One whose key is not
    /// known here, even after asking, is no reason to sign anybody out: the call is refused instead.
    pub async fn visitor(&self, headers: &HeaderMap) -> Result<Visitor, Problem> {
        let cookie = |name| self.cookies.read(name, headers);
        let session = match cookie(CookieName::Session) {
            Some(cookie) => match self.session(cookie) {
                Err(SessionError::UnknownKey) => {
                    let kid = Unverified::parse(Kind::Session, cookie).ok();
                    let kid = kid.as_ref().and_then(Unverified::kid).unwrap_or_default();
                    self.keys.ask_for(kid).await;
                    match self.session(cookie) {
                        Err(SessionError::UnknownKey) => return Err(unknown_key()),
                        session => session.ok(),
                    }
                }
                session => session.ok(),
            },
            None => None,
        };
        let device = cookie(CookieName::Device)
            .and_then(|cookie| Device::verify(cookie, &self.keys.sessions(), &self.signatures).ok());
        Ok(Visitor {
            visit: cookie(CookieName::Visit).and_then(read_random),
            began: cookie(CookieName::Began).and_then(|cookie| BegunHere::parse(cookie).ok()),
            session,
            device,
        })
    }

    fn session(&self, cookie: &str) -> Result<Session, SessionError> {
        Session::verify(cookie, &self.keys.sessions(), &self.signatures, self.now_ms())
    }

    /// Compares the CSRF value of a POST with the browser's.
    fn check_csrf(&self, visitor: &Visitor, headers: &HeaderMap, given: Option<&str>) -> Result<(), Problem> {
        let elsewhere = || {
            Problem::new(
                StatusCode::FORBIDDEN,
                "other-origin",
                "this call is for our own pages",
            )
        };
        let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin") {
            return Err(elsewhere());
        }
        let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
        if origin.is_some_and(|origin| origin != self.public_url.origin().as_bytes()) {
            return Err(elsewhere());
        }
        let Some(csrf) = visitor.csrf() else {
            return Err(Problem::new(StatusCode::FORBIDDEN, "no-cookie", "no cookie"));
        };
        let csrf = encode_base64url(csrf);
        let given = given.unwrap_or_default();
        if aws_lc_rs::constant_time::verify_slices_are_equal(csrf.as_bytes(), given.as_bytes()).is_err() {
            return Err(Problem::bad_request("csrf", "CSRF violation"));
        }
        Ok(())
    }
}

/// A clock that never goes back.
pub(crate) fn monotonic() -> impl Fn() -> Duration + Send + Sync + 'static {
    let begun = Instant::now();
    move || begun.elapsed()
}

/// Somebody asks too often.
pub(crate) fn too_many(error: RetryAfter) -> Problem {
    metrics::counter!("persona_requests_limited_total").increment(1);
    Problem::too_many("too-many-requests", error.to_string(), error.0)
}

fn unknown_key() -> Problem {
    Problem::unavailable(
        "unknown-key",
        "this site does not know yet who signed your session; try again",
        Duration::from_secs(1),
    )
}

/// Who asks, by their cookies alone.
#[derive(Debug, Default)]
pub struct Visitor {
    /// What its pages repeat in each POST while nobody is signed in.
    pub visit: Option<[u8; 16]>,
    /// Signed by us, and not past its time. The records may say that it is over.
    pub session: Option<Session>,
    /// Which accounts were signed in to here before.
    pub device: Option<Device>,
    /// What was begun here.
    pub began: Option<BegunHere>,
}

impl Visitor {
    /// What a POST must repeat. `None`: this browser has never been here.
    pub fn csrf(&self) -> Option<[u8; 16]> {
        self.session.as_ref().map(|session| session.csrf).or(self.visit)
    }
}

/// 16 random bytes, for a visit or a session.
pub fn random() -> [u8; 16] {
    rand::rng().random()
}

fn read_random(cookie: &str) -> Option<[u8; 16]> {
    decode_base64url(cookie)?.try_into().ok()
}

/// Whose request it is, as the webhead in front says.
pub fn client_of(headers: &HeaderMap) -> Client {
    headers
        .get(CLIENT_HEADER)
        .and_then(|client| client.to_str().ok())
        .and_then(|client| client.parse().ok())
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        .into()
}

/// A GET call: who asks, and what.
#[derive(Debug)]
pub struct Get<A> {
    /// Who asks.
    pub visitor: Visitor,
    /// From where.
    pub client: Client,
    /// What.
    pub args: A,
}

impl<S, A> FromRequestParts<S> for Get<A>
where
    S: Send + Sync,
    Arc<Reception>: FromRef<S>,
    A: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Get<A>, Problem> {
        let reception = Arc::<Reception>::from_ref(state);
        let query = parts.uri.query().unwrap_or_default();
        let arguments = Arguments::of_form(query.as_bytes())?;
        let visitor = reception.visitor(&parts.headers).await?;
        Ok(Get {
            visitor,
            client: client_of(&parts.headers),
            args: arguments.read()?,
        })
    }
}

/// A POST call: who asks, and what. Its CSRF value was right.
pub struct Post<A> {
    /// Who asks.
    pub visitor: Visitor,
    /// From where.
    pub client: Client,
    /// What.
    pub args: A,
    /// If the same may be asked again.
    pub once: Option<Once>,
    /// The random key that names it then, bound to the browser. It is a secret.
    pub request_key: Option<String>,
    /// What the browser says that it is.
    pub user_agent: String,
}

impl<S, A> FromRequest<S> for Post<A>
where
    S: Send + Sync,
    Arc<Reception>: FromRef<S>,
    A: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Post<A>, Problem> {
        let reception = Arc::<Reception>::from_ref(state);
        let (parts, body) = request.into_parts();
        let body = read_body(body).await?;
        let mut arguments = Arguments::of_body(&parts.headers, &body)?;
        let visitor = reception.visitor(&parts.headers).await?;
        let csrf = arguments.take_text("csrf");
        reception.check_csrf(&visitor, &parts.headers, csrf.as_deref())?;
        let request_key = request_key(&parts, &visitor)?;
        let once = request_key
            .as_ref()
            .map(|key| Once::new(key, &[parts.uri.path().as_bytes(), &body]));
        let user_agent = parts.headers.get(axum::http::header::USER_AGENT);
        Ok(Post {
            client: client_of(&parts.headers),
            args: arguments.read()?,
            once,
            request_key,
            user_agent: user_agent
                .and_then(|words| words.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            visitor,
        })
    }
}

/// A body within its limits of size and time.
pub(crate) async fn read_body(body: axum::body::Body) -> Result<axum::body::Bytes, Problem> {
    match timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("a request may have {BODY_BYTES_MAX} bytes"),
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            "the request took too long to arrive",
        )),
    }
}

/// The key of a request that may come twice, bound to the browser: nobody gets another's answer, and it stays unknown to
/// whoever sees the request alone.
fn request_key(parts: &Parts, visitor: &Visitor) -> Result<Option<String>, Problem> {
    let Some(key) = parts.headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = key.as_bytes();
    if !ONCE_CHARS.contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::bad_request(
            "bad-idempotency-key",
            "an Idempotency-Key is 16 to 64 visible ASCII characters",
        ));
    }
    let mut bound = encode_base64url(visitor.csrf().unwrap_or_default());
    bound.extend(key.iter().copied().map(char::from));
    Ok(Some(bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_request_is_bound_to_the_browser() {
        let parts = |key: &str| {
            let request = Request::builder().header(IDEMPOTENCY_KEY, key);
            request.body(()).expect("a request").into_parts().0
        };
        let visitor = |visit| Visitor {
            visit: Some([visit; 16]),
            ..Visitor::default()
        };
        let key = |key: &str, visit| request_key(&parts(key), &visitor(visit));
        let first = key("0123456789abcdef", 1);
        assert!(first.as_ref().is_ok_and(Option::is_some));
        assert_eq!(first, key("0123456789abcdef", 1));
        assert_ne!(first, key("0123456789abcdef", 2));
        assert_ne!(first, key("0123456789abcdeF", 1));
        assert!(key("short", 1).is_err());
        assert!(key(&"x".repeat(65), 1).is_err());
        assert!(key("with space in it", 1).is_err());
    }
}
