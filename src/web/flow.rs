//! A sign-in by redirection, where a popup is blocked or cut off: a form of the relying party's page begins it.
//!
//! Who asks is the `Origin` header, which only the browser writes. All that the form said is kept with it in one cookie of
//! this host, under a random name that the dialog's address has: whoever makes somebody open another address of the
//! dialog changes nothing of it, neither who is answered, nor where, nor to which key. The service keeps nothing.
//!
//! The cookie grants nothing: it says what the dialog shows and to whom it answers. Over HTTPS its name begins with
//! `__Host-`, so that no other host can plant one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{headers::Caching, pages::Page};
use crate::{
    browserid::{
        assertion::NONCE_BYTES_MAX,
        json::{decode_base64url, encode_base64url},
        jwk::P256Key,
    },
    mail::RelyingParty,
    public_url::{self, PublicUrl},
};

/// Bytes of the form at most, as of every body.
pub(super) const FORM_BYTES_MAX: usize = 10 * 1024;
/// Bytes of a cookie's value: browsers take 4 KB with name and attributes.
const COOKIE_BYTES_MAX: usize = 3000;
/// Flows at once in one browser: beyond it the oldest ends, so that a request's cookies stay below what is read of them.
const FLOWS_MAX: usize = 2;
/// How long somebody may take: to sign up, with a mail on its way.
const LIFETIME: Duration = Duration::from_secs(2 * 3600);
/// Random bytes of a flow's name.
const ID_BYTES: usize = 16;

/// What a relying party asks for. Names are the dialog's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Flow {
    /// Its name, as in the dialog's address.
    #[serde(default)]
    id: String,
    /// Whose answer it is: the browser's word.
    origin: String,
    /// The path to come back to.
    return_to: String,
    /// The key to which the answer is sealed.
    key: PublicJwk,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    background_color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privacy_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terms_of_service: Option<String>,
}

/// A point of P-256 (RFC 7518 §6.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PublicJwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

/// Why a flow is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The browser did not say who asks, or said `null`.
    Origin,
    /// Plain HTTP, from another machine than this one.
    Http,
    /// The form lacks something, or has too much.
    Form,
}

impl Refused {
    /// The page that says it, with the cure.
    pub(super) const fn page(self) -> Page {
        match self {
            Refused::Origin => Page::NoOrigin,
            Refused::Http => Page::PlainHttp,
            Refused::Form => Page::BadForm,
        }
    }
}

/// A flow that has begun: the browser is sent on to the dialog, with the cookies that it needs.
#[derive(Debug)]
pub(super) struct Begun {
    location: HeaderValue,
    cookies: Vec<HeaderValue>,
}

impl IntoResponse for Begun {
    fn into_response(self) -> Response {
        // 303: the dialog is asked for with a GET.
        let mut response = StatusCode::SEE_OTHER.into_response();
        let headers = response.headers_mut();
        headers.insert(LOCATION, self.location);
        headers.insert(CACHE_CONTROL, Caching::Never.header());
        for cookie in self.cookies {
            headers.append(SET_COOKIE, cookie);
        }
        response
    }
}

/// Flows of a service at one public address.
pub(super) struct Flows {
    is_https: bool,
}

impl Flows {
    pub(super) fn new(public_url: &PublicUrl) -> Flows {
        Flows {
            is_https: public_url.origin().starts_with("https://"),
        }
    }

    /// Begins what a form asks for.
    pub(super) fn begin(&self, request: &HeaderMap, form: &[u8]) -> Result<Begun, Refused> {
        let origin = origin_of(request)?;
        let is_form = request
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        if !is_form {
            return Err(Refused::Form);
        }
        let id = self.new_id();
        let flow = Flow::read(&origin, form).ok_or(Refused::Form)?;
        let json = serde_json::to_vec(&flow).map_err(|_| Refused::Form)?;
        let value = encode_base64url(json);
        if value.len() > COOKIE_BYTES_MAX {
            return Err(Refused::Form);
        }
        let mut cookies: Vec<_> = self
            .surplus(request)
            .filter_map(|old| self.cookie(&old, "", Duration::ZERO))
            .collect();
        cookies.push(self.cookie(&id, &value, LIFETIME).ok_or(Refused::Form)?);
        let location = HeaderValue::from_str(&format!("/sign_in?flow={id}")).map_err(|_| Refused::Form)?;
        Ok(Begun { location, cookies })
    }

    /// The flow of this name, if this browser has it and it is one of ours.
    pub(super) fn read(&self, id: &str, request: &HeaderMap) -> Option<Flow> {
        if !is_id(id) {
            return None;
        }
        let mut found = self.kept(request).filter(|(kept, _)| *kept == id);
        let (_, value) = found.next()?;
        // Of two with one name neither counts: one of them is somebody else's.
        if found.next().is_some() || value.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let flow: Flow = serde_json::from_slice(&decode_base64url(value)?).ok()?;
        let origin: RelyingParty = flow.origin.parse().ok()?;
        let is_right = origin.origin() == flow.origin
            && may_ask(&flow.origin)
            && is_path_of(&flow.return_to, &flow.origin)
            && flow.key.is_point();
        is_right.then(|| Flow {
            id: id.to_owned(),
            ..flow
        })
    }

    /// Flows in a request's cookies: name and value.
    fn kept<'h>(&self, request: &'h HeaderMap) -> impl Iterator<Item = (&'h str, &'h str)> {
        let prefix = self.prefix();
        request
            .get_all(COOKIE)
            .into_iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(move |pair| {
                let (name, value) = pair.trim().split_once('=')?;
                let id = name.strip_prefix(prefix)?;
                is_id(id).then_some((id, value))
            })
    }

    /// Those that have to end for one more to begin. Names begin with the time, so the oldest come first.
    fn surplus(&self, request: &HeaderMap) -> impl Iterator<Item = String> {
        let mut ids: Vec<_> = self.kept(request).map(|(id, _)| id.to_owned()).collect();
        ids.sort_unstable();
        ids.dedup();
        let ended = (ids.len() + 1).saturating_sub(FLOWS_MAX);
        ids.into_iter().take(ended)
    }

    fn new_id(&self) -> String {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let random: [u8; ID_BYTES] = rand::rng().random();
        format!("{seconds:010x}{}", encode_base64url(random))
    }

    fn cookie(&self, id: &str, value: &str, age: Duration) -> Option<HeaderValue> {
        let (prefix, age) = (self.prefix(), age.as_secs());
        let secure = if self.is_https { "; Secure" } else { "" };
        let text = format!("{prefix}{id}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
        let mut header = HeaderValue::from_str(&text).ok()?;
        // It says where somebody signs in.
        header.set_sensitive(true);
        Some(header)
    }

    const fn prefix(&self) -> &'static str {
        if self.is_https {
            "__Host-persona_flow_"
        } else {
            "persona_flow_"
        }
    }
}

impl Flow {
    /// Reads a form. `None`: it lacks what a flow needs. What may be absent and is not understood, is absent.
    fn read(origin: &str, form: &[u8]) -> Option<Flow> {
        let mut flow = Flow {
            id: String::new(),
            origin: origin.to_owned(),
            return_to: String::new(),
            key: PublicJwk {
                kty: String::new(),
                crv: String::new(),
                x: String::new(),
                y: String::new(),
            },
            email: None,
            nonce: None,
            site_name: None,
            background_color: None,
            privacy_policy: None,
            terms_of_service: None,
        };
        let short = |value: &str, chars_max: usize| {
            (!value.is_empty() && value.chars().count() <= chars_max).then(|| value.to_owned())
        };
        for (name, value) in url::form_urlencoded::parse(form) {
            match name.as_ref() {
                "returnTo" => flow.return_to = value.into_owned(),
                "key" => flow.key = serde_json::from_str(&value).ok()?,
                "email" => flow.email = short(&value, 254),
                // Without it the site would not take the assertion: better to say so now.
                "nonce" if value.len() > NONCE_BYTES_MAX => return None,
                "nonce" => flow.nonce = short(&value, NONCE_BYTES_MAX),
                "siteName" => flow.site_name = short(&value, 100),
                "backgroundColor" => flow.background_color = short(&value, 7),
                "privacyPolicy" => flow.privacy_policy = short(&value, 2083),
                "termsOfService" => flow.terms_of_service = short(&value, 2083),
                _ => {}
            }
        }
        let is_whole = is_path_of(&flow.return_to, origin) && flow.key.is_point();
        is_whole.then_some(flow)
    }

    /// As the dialog reads it.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl PublicJwk {
    fn is_point(&self) -> bool {
        let coordinate = |text: &str| <[u8; 32]>::try_from(decode_base64url(text)?).ok();
        let (Some(x), Some(y)) = (coordinate(&self.x), coordinate(&self.y)) else {
            return false;
        };
        self.kty == "EC" && self.crv == "P-256" && P256Key::from_coordinates(&x, &y).is_ok()
    }
}

/// Who asks.
fn origin_of(request: &HeaderMap) -> Result<String, Refused> {
    let mut origins = request.get_all(ORIGIN).into_iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return Err(Refused::Origin);
    };
    let text = origin.to_str().map_err(|_| Refused::Origin)?;
    let origin: RelyingParty = text.parse().map_err(|_| Refused::Origin)?;
    if !may_ask(origin.origin()) {
        return Err(Refused::Http);
    }
    Ok(origin.origin().to_owned())
}

/// Plain HTTP is for this machine only: elsewhere anybody on the way could be that site.
fn may_ask(origin: &str) -> bool {
    Url::parse(origin).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => url.host().is_some_and(|host| public_url::is_loopback(&host)),
        _ => false,
    })
}

/// Whether this is a path of that origin and of nothing else, by the rules by which browsers read one.
fn is_path_of(path: &str, origin: &str) -> bool {
    let is_plain = path.starts_with('/')
        && !path[1..].starts_with(['/', '\\'])
        && !path
            .chars()
            .any(|char| char.is_control() || char == '#' || char == '\\');
    is_plain
        && Url::parse(origin)
            .and_then(|base| base.join(path))
            .is_ok_and(|url| url.origin().ascii_serialization() == origin)
}

fn is_id(text: &str) -> bool {
    text.len() == 10 + (ID_BYTES * 8).div_ceil(6)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
