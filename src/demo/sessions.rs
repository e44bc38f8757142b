//! Who is signed in, in memory: gone with the process, for a while at most, and never more than there is room for.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use cookie::{Cookie, SameSite};
use rand::RngExt;

use crate::browserid::json::{decode_base64url, encode_base64url};

/// What a browser's cookie names. It is as good as the session, so it is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SessionId([u8; 32]);

/// Sessions that hold a `T` each.
pub(super) struct Sessions<T> {
    cookie: &'static str,
    same_site: SameSite,
    is_secure: bool,
    held: Mutex<HashMap<SessionId, Held<T>>>,
}

struct Held<T> {
    begun: Instant,
    value: T,
}

impl<T: Clone> Sessions<T> {
    /// None yet. Over HTTPS the cookie is `Secure`.
    pub(super) fn new(cookie: &'static str, is_secure: bool) -> Sessions<T> {
        Sessions {
            cookie,
            same_site: SameSite::Lax,
            is_secure,
            held: Mutex::default(),
        }
    }

    /// The same for pages that another site frames. Such a cookie is always `Secure`; browsers take it from a name of this
    /// machine over HTTP as well. It comes along with other sites' requests, so whoever takes it looks at `Origin` too.
    pub(super) fn of_framed_pages(cookie: &'static str) -> Sessions<T> {
        Sessions {
            same_site: SameSite::None,
            ..Sessions::new(cookie, true)
        }
    }

    /// The one that a request is of.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<(SessionId, T)> {
        let id = self.named(headers)?;
        let held = self.held();
        let session = held.get(&id).filter(|session| session.is_alive(Instant::now()))?;
        Some((id, session.value.clone()))
    }

    /// Begins one; gives its cookie. Where there is no room, the oldest goes.
    pub(super) fn begin(&self, value: T) -> Option<HeaderValue> {
        let id = SessionId(rand::rng().random());
        let now = Instant::now();
        let mut held = self.held();
        if held.len() >= SESSIONS_MAX {
            held.retain(|_, session| session.is_alive(now));
        }
        if held.len() >= SESSIONS_MAX
            && let Some(oldest) = held
                .iter()
                .min_by_key(|(_, session)| session.begun)
                .map(|(id, _)| *id)
        {
            held.remove(&oldest);
        }
        held.insert(id, Held { begun: now, value });
        self.header(&encode_base64url(id.0), LIFETIME)
    }

    /// Ends one; gives what ends its cookie.
    pub(super) fn end(&self, id: SessionId) -> Option<HeaderValue> {
        self.held().remove(&id);
        self.header("", Duration::ZERO)
    }

    fn named(&self, headers: &HeaderMap) -> Option<SessionId> {
        let cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|header| header.to_str().ok());
        let mut named = cookies
            .flat_map(Cookie::split_parse)
            .filter_map(Result::ok)
            .filter(|cookie| cookie.name() == self.cookie);
        let id = decode_base64url(named.next()?.value())?;
        // Of two with one name, one is not ours.
        match named.next() {
            None => id.try_into().ok().map(SessionId),
            Some(_) => None,
        }
    }

    fn header(&self, value: &str, age: Duration) -> Option<HeaderValue> {
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let cookie = Cookie::build((self.cookie, value))
            .path("/")
            .http_only(true)
            .secure(self.is_secure)
            .same_site(self.same_site)
            .max_age(cookie::time::Duration::seconds(seconds));
        let mut header = HeaderValue::from_str(&cookie.to_string()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SessionId, Held<T>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Held<T> {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) < LIFETIME
    }
}

/// Sessions at once.
const SESSIONS_MAX: usize = 1024;
/// How long one lasts.
const LIFETIME: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn browser_with(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().expect("text").split(';').next().expect("a pair");
        HeaderMap::from_iter([(
            COOKIE,
            HeaderValue::from_str(&format!("other=1; {pair}")).expect("a header"),
        )])
    }

    #[test]
    fn a_session_is_its_browsers_until_it_ends() {
        let sessions = Sessions::new("s", false);
        let ada = browser_with(&sessions.begin("ada").expect("a cookie"));
        let eve = browser_with(&sessions.begin("eve").expect("a cookie"));
        let (id, who) = sessions.find(&ada).expect("hers");
        assert_eq!(who, "ada");
        assert_eq!(sessions.find(&eve).expect("hers").1, "eve");
        assert!(sessions.find(&HeaderMap::new()).is_none());
        sessions.end(id);
        assert!(sessions.find(&ada).is_none());
        assert!(sessions.find(&eve).is_some());
    }

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let sessions = Sessions::new("s", false);
        let mut ada = browser_with(&sessions.begin("ada").expect("a cookie"));
        ada.append(COOKIE, HeaderValue::from_static("s=AAAA"));
        assert!(sessions.find(&ada).is_none());
    }

    #[test]
    fn the_oldest_makes_room() {
        let sessions = Sessions::new("s", false);
        let first = browser_with(&sessions.begin(0).expect("a cookie"));
        for number in 1..=SESSIONS_MAX {
            sessions.begin(number);
        }
        assert!(sessions.find(&first).is_none());
        assert_eq!(sessions.held().len(), SESSIONS_MAX);
    }
}
