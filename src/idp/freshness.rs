//! How long a support document may be used, by what HTTP says of it (RFC 9111).
//!
//! We are a cache that many share. Of the rules those few are followed that matter for one URL and nobody's cookies:
//! `Cache-Control: s-maxage, max-age, no-store, no-cache, private`, and `Age`. `Expires` is not read: who cares about
//! these documents says `max-age`. Whatever is said, the time stays between [`SHORTEST`] and [`LONGEST`]: less would let
//! a stranger's sign-ins become a load for the domain, and more would hide a lost key.

use std::time::Duration;

use hyper::{
    HeaderMap,
    header::{AGE, CACHE_CONTROL},
};

/// How long an answer with these headers may be used from now on.
pub(super) fn freshness(headers: &HeaderMap) -> Duration {
    let stated = stated(headers).unwrap_or(UNSTATED);
    let age = age(headers).unwrap_or_default();
    stated.saturating_sub(age).clamp(SHORTEST, LONGEST)
}

fn stated(headers: &HeaderMap) -> Option<Duration> {
    let mut max_age = None;
    let mut shared_max_age = None;
    for value in headers.get_all(CACHE_CONTROL) {
        // What is not text is no directive that we know; it does not make the others unknown.
        let Ok(text) = value.to_str() else { continue };
        for directive in text.split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim();
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            if is("no-store") || is("no-cache") || is("private") {
                return Some(Duration::ZERO);
            }
            // Said twice, the smaller counts (RFC 9111 §4.2.1: either that, or stale).
            if is("max-age") {
                max_age = Some(smaller(max_age, argument));
            } else if is("s-maxage") {
                shared_max_age = Some(smaller(shared_max_age, argument));
            }
        }
    }
    shared_max_age.or(max_age)
}

fn smaller(before: Option<Duration>, argument: &str) -> Duration {
    let seconds = seconds(argument.trim().trim_matches('"')).unwrap_or_default();
    before.map_or(seconds, |before| before.min(seconds))
}

fn age(headers: &HeaderMap) -> Option<Duration> {
    seconds(headers.get(AGE)?.to_str().ok()?.trim())
}

/// Digits; more than fit are very many (RFC 9111 §1.2.2).
fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

/// Also of what is not to be stored: who asks in the same moment gets the same answer.
pub(super) const SHORTEST: Duration = Duration::from_secs(10);
/// What IdPs are asked to allow.
pub(super) const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// Where nothing is said.
const UNSTATED: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    #[track_caller]
    fn check(lines: &[(HeaderName, &'static str)], expected_secs: u64) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(freshness(&headers).as_secs(), expected_secs, "{lines:?}");
    }

    #[test]
    fn http_says_how_long_within_our_limits() {
        check(&[], 300);
        check(&[(AGE, "100")], 200);
        check(&[(CACHE_CONTROL, "public")], 300);
        check(&[(CACHE_CONTROL, "public, max-age=3600")], 3600);
        check(&[(CACHE_CONTROL, "Max-Age = 3600")], 3600);
        check(&[(CACHE_CONTROL, "max-age=\"3600\"")], 3600);
        check(&[(CACHE_CONTROL, "max-age=3600"), (AGE, "600")], 3000);
        check(&[(CACHE_CONTROL, "max-age=3600"), (AGE, "3595")], 10);
        check(&[(CACHE_CONTROL, "max-age=3600"), (AGE, "-1")], 3600);
        check(&[(CACHE_CONTROL, "max-age=86400")], 21_600);
        check(&[(CACHE_CONTROL, "max-age=99999999999999999999999")], 21_600);
        check(
            &[(CACHE_CONTROL, "max-age=3600"), (AGE, "99999999999999999999999")],
            10,
        );
        check(&[(CACHE_CONTROL, "max-age=0")], 10);
        check(&[(CACHE_CONTROL, "max-age=-5")], 10);
        check(&[(CACHE_CONTROL, "max-age=soon")], 10);
        check(&[(CACHE_CONTROL, "max-age")], 10);
        check(&[(CACHE_CONTROL, "max-age=3600, max-age=60")], 60);
        check(
            &[(CACHE_CONTROL, "max-age=60"), (CACHE_CONTROL, "max-age=3600")],
            60,
        );
        check(&[(CACHE_CONTROL, "max-age=3600, s-maxage=60")], 60);
        check(&[(CACHE_CONTROL, "s-maxage=3600, max-age=60")], 3600);
        check(&[(CACHE_CONTROL, "no-store")], 10);
        check(&[(CACHE_CONTROL, "no-store, max-age=3600")], 10);
        check(&[(CACHE_CONTROL, "max-age=3600, No-Cache")], 10);
        check(&[(CACHE_CONTROL, "private, max-age=3600")], 10);
        check(&[(CACHE_CONTROL, "private=\"set-cookie\"")], 10);
    }
}
