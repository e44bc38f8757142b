//! The cookies of one browser, for one service: all for the whole host, as the service sets them.

use axum::http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
use cookie::Cookie;

/// Cookies kept at most: four times as many as the service has.
const COOKIES_MAX: usize = 16;

/// What a browser sends back.
#[derive(Default)]
pub(crate) struct Jar(Vec<(String, String)>);

impl Jar {
    /// Takes over what an answer sets and ends.
    pub(crate) fn take(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            let Some(cookie) = header.to_str().ok().and_then(|text| Cookie::parse(text).ok()) else {
                continue;
            };
            self.0.retain(|(name, _)| name != cookie.name());
            let is_over = cookie.max_age().is_some_and(|age| !age.is_positive());
            if !is_over && self.0.len() < COOKIES_MAX {
                self.0.push((cookie.name().to_owned(), cookie.value().to_owned()));
            }
        }
    }

    /// Puts them into a request.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if let Ok(mut header) = HeaderValue::from_str(&pairs.join("; ")) {
            header.set_sensitive(true);
            headers.insert(COOKIE, header);
        }
    }
}

/// Cookies are secrets.
impl std::fmt::Debug for Jar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jar({} cookies)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(jar: &mut Jar, set: &[&'static str]) {
        let mut headers = HeaderMap::new();
        for cookie in set {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        jar.take(&headers);
    }

    #[track_caller]
    fn check(jar: &Jar, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        jar.put(&mut headers);
        let sent = headers.get(COOKIE).map(|header| header.to_str().expect("text"));
        assert_eq!(sent, expected);
    }

    #[test]
    fn what_was_set_last_is_sent_until_it_is_ended() {
        let mut jar = Jar::default();
        check(&jar, None);
        answer(&mut jar, &["visit=a; HttpOnly; SameSite=Lax; Path=/"]);
        answer(&mut jar, &["session=b; Path=/; Max-Age=60", "device=c"]);
        check(&jar, Some("visit=a; session=b; device=c"));
        answer(&mut jar, &["session=d=; Path=/; Max-Age=60"]);
        check(&jar, Some("visit=a; device=c; session=d="));
        answer(&mut jar, &["visit=; Max-Age=0", "no cookie at all"]);
        check(&jar, Some("device=c; session=d="));
        assert_eq!(format!("{jar:?}"), "Jar(2 cookies)");
    }

    #[test]
    fn it_is_bounded() {
        let mut jar = Jar::default();
        for number in 0..2 * COOKIES_MAX {
            let mut headers = HeaderMap::new();
            let cookie = format!("c{number}=v").parse().expect("a header");
            headers.append(SET_COOKIE, cookie);
            jar.take(&headers);
        }
        assert_eq!(jar.0.len(), COOKIES_MAX);
    }
}
