//! The cookies of the service: read from a request, written into an answer.
//!
//! | name | what it is | grants |
//! | --- | --- | --- |
//! | `persona_visit` | a random value that the page repeats in every POST (double submit) | nothing |
//! | `persona_session` | who is signed in, signed ([`Session`](crate::session::Session)) | what a session may |
//! | `persona_device` | which accounts this browser signed in to before, signed | tries beyond the tenth |
//! | `persona_began` | which staging this browser began, and its nonce | nothing by itself |
//!
//! Over HTTPS their names begin with `__Host-` (RFC 6265bis §4.1.3.2): no other host of the domain, and nothing on the
//! way that is not encrypted, can set them. All are `HttpOnly`, `SameSite=Lax` and for the whole host.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use cookie::{Cookie, SameSite};

use crate::public_url::PublicUrl;

/// Bytes of a request's cookies at most that are read; the rest of a longer header is as if it were not there.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Which of the cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CookieName {
    /// Before and beside a session.
    Visit,
    /// Who is signed in.
    Session,
    /// Which accounts were signed in to here.
    Device,
    /// What was begun here.
    Began,
}

impl CookieName {
    const fn plain(self) -> &'static str {
        match self {
            CookieName::Visit => "persona_visit",
            CookieName::Session => "persona_session",
            CookieName::Device => "persona_device",
            CookieName::Began => "persona_began",
        }
    }

    const fn with_prefix(self) -> &'static str {
        match self {
            CookieName::Visit => "__Host-persona_visit",
            CookieName::Session => "__Host-persona_session",
            CookieName::Device => "__Host-persona_device",
            CookieName::Began => "__Host-persona_began",
        }
    }
}

/// How cookies are named and kept under one public address.
#[derive(Clone, Copy, Debug)]
pub struct Cookies {
    is_https: bool,
}

impl Cookies {
    /// Those of a service at this address.
    pub fn new(public_url: &PublicUrl) -> Cookies {
        Cookies {
            is_https: public_url.origin().starts_with("https://"),
        }
    }

    /// The value of a cookie in a request. Of two with one name neither counts: one of them is somebody else's.
    pub fn read<'h>(&self, name: CookieName, headers: &'h HeaderMap) -> Option<&'h str> {
        let name = self.name(name);
        let mut found = None;
        let mut bytes = 0;
        for header in headers.get_all(COOKIE) {
            bytes += header.len();
            if bytes > HEADER_BYTES_MAX {
                break;
            }
            let Ok(text) = header.to_str() else { continue };
            for pair in text.split(';') {
                if let Some((key, value)) = pair.split_once('=')
                    && key.trim() == name
                {
                    if found.is_some() {
                        return None;
                    }
                    found = Some(value.trim());
                }
            }
        }
        found
    }

    /// The header that sets a cookie for so long; without an age, until the browser is closed.
    pub fn set(&self, name: CookieName, value: &str, age: Option<Duration>) -> Option<HeaderValue> {
        let mut cookie = Cookie::build((self.name(name), value.to_owned()))
            .path("/")
            .http_only(true)
            .secure(self.is_https)
            .same_site(SameSite::Lax)
            .build();
        if let Some(age) = age {
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            cookie.set_max_age(cookie::time::Duration::seconds(seconds));
        }
        let mut header = HeaderValue::from_str(&cookie.to_string()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// The header that ends a cookie.
    pub fn end(&self, name: CookieName) -> Option<HeaderValue> {
        self.set(name, "", Some(Duration::ZERO))
    }

    fn name(&self, name: CookieName) -> &'static str {
        if self.is_https {
            name.with_prefix()
        } else {
            name.plain()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(url: &str) -> Cookies {
        Cookies::new(&url.parse().expect("a public URL"))
    }

    #[track_caller]
    fn check(url: &str, headers: &[&str], expected: Option<&str>) {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(COOKIE, header.parse().expect("a header"));
        }
        assert_eq!(
            cookies(url).read(CookieName::Session, &map),
            expected,
            "{headers:?}"
        );
    }

    #[test]
    fn a_cookie_counts_under_the_name_for_its_scheme_and_only_once() {
        let (https, http) = ("https://persona.example", "http://localhost:8080");
        check(https, &["__Host-persona_session=a"], Some("a"));
        check(https, &["persona_session=a"], None);
        check(http, &["persona_session=a"], Some("a"));
        check(http, &["other=1; persona_session=a; persona_device=b"], Some("a"));
        check(http, &["other=1", "persona_session = a "], Some("a"));
        check(http, &["persona_session=a; persona_session=b"], None);
        check(http, &["persona_session=a", "persona_session=a"], None);
        check(http, &["xpersona_session=a"], None);
        check(http, &["persona_session"], None);
        check(http, &["persona_session=a=b"], Some("a=b"));
        check(http, &[&"x".repeat(HEADER_BYTES_MAX), "persona_session=a"], None);
        check(http, &[], None);
    }

    #[test]
    fn a_cookie_is_set_for_this_host_alone() {
        let set = |url: &str, age| {
            let header = cookies(url).set(CookieName::Visit, "v", age).expect("a header");
            assert!(header.is_sensitive());
            header.to_str().expect("text").to_owned()
        };
        assert_eq!(
            set("https://persona.example", Some(Duration::from_secs(60))),
            "__Host-persona_visit=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"
        );
        assert_eq!(
            set("http://localhost:8080", None),
            "persona_visit=v; HttpOnly; SameSite=Lax; Path=/"
        );
        let ended = cookies("http://localhost")
            .end(CookieName::Began)
            .expect("a header");
        assert_eq!(ended, "persona_began=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    }
}
