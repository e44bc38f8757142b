//! What one browser of one person keeps: cookies, keys, certificates.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use rand::CryptoRng;
use serde::Deserialize;
use tokio::time::Instant;

use super::jar::Jar;
use crate::browserid::{Certificate, NewAssertion, SigningKey, SigningKeyError, assertion::LIFETIME_MS};

/// One browser.
#[derive(Default)]
pub(crate) struct Browser {
    pub(crate) jar: Jar,
    /// What its POSTs repeat.
    pub(crate) csrf: String,
    /// Whether it believes that somebody is signed in.
    pub(crate) is_signed_in: bool,
    /// When the password was given last.
    pub(crate) password_at: Option<Instant>,
    /// By how much the site's clock is ahead of this machine's, in milliseconds.
    ahead_ms: i64,
    /// By address.
    certified: HashMap<String, Certified>,
}

/// A key of this browser, and what the service says of it.
struct Certified {
    key: SigningKey,
    certificate: String,
    /// When it came here, by the site's clock: what it says itself is a little before it was made.
    since_ms: u64,
    expires_ms: u64,
}

/// The answer of `session_context`, as far as a browser needs it.
#[derive(Debug, Deserialize)]
pub(crate) struct Context {
    csrf_token: String,
    server_time: u64,
    pub(crate) authenticated: bool,
    domain_key_creation_time: u64,
}

impl Browser {
    /// Keeps what the dialog's script keeps of it.
    pub(crate) fn learn(&mut self, context: &Context) {
        self.csrf.clone_from(&context.csrf_token);
        self.ahead_ms = context
            .server_time
            .cast_signed()
            .saturating_sub(now_ms().cast_signed());
        // Those of a key that was revoked.
        self.certified
            .retain(|_, certified| certified.since_ms >= context.domain_key_creation_time);
    }

    /// The session is over, and with it what rested on it.
    pub(crate) fn sign_out(&mut self) {
        self.is_signed_in = false;
        self.password_at = None;
        self.certified.clear();
    }

    /// The password was changed here: this session goes on, certificates of before prove nothing any more.
    pub(crate) fn drop_certificates(&mut self) {
        self.certified.clear();
    }

    /// Whether it has a certificate for this address that is good for a while.
    pub(crate) fn is_certified(&self, address: &str) -> bool {
        let soon_ms = self.now_ms().saturating_add(LIFETIME_MS);
        let certified = self.certified.get(address);
        certified.is_some_and(|certified| certified.expires_ms > soon_ms)
    }

    /// A new key for this address, and its public half as the argument `pubkey`.
    pub(crate) fn new_key(rng: &mut impl CryptoRng) -> Result<(SigningKey, String), SigningKeyError> {
        let key = SigningKey::generate(rng)?;
        let jwk = key.public().to_jwk().to_string();
        Ok((key, jwk))
    }

    /// Keeps a certificate with its key. `false`: it is none, or of another address.
    #[must_use]
    pub(crate) fn keep(&mut self, address: &str, key: SigningKey, certificate: String) -> bool {
        let expires_ms = Certificate::parse(&certificate)
            .ok()
            .filter(|parsed| parsed.email().typed() == address)
            .map(|parsed| parsed.expires_ms());
        let Some(expires_ms) = expires_ms else {
            return false;
        };
        let certified = Certified {
            key,
            certificate,
            since_ms: self.now_ms(),
            expires_ms,
        };
        self.certified.insert(address.to_owned(), certified);
        true
    }

    /// Says to a web site whose browser this is.
    pub(crate) fn assert(&self, address: &str, audience: &str) -> Option<String> {
        let certified = self.certified.get(address)?;
        let new = NewAssertion {
            audience,
            expires_ms: self.now_ms().saturating_add(LIFETIME_MS),
            nonce: None,
        };
        new.back(&certified.certificate, &certified.key).ok()
    }

    /// By the site's clock: a browser's own may be wrong by hours.
    fn now_ms(&self) -> u64 {
        now_ms().saturating_add_signed(self.ahead_ms)
    }
}

/// By this machine's clock, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        browserid::{BackedAssertion, Domain, NewCertificate},
        identity::Address,
    };

    const ADA: &str = "ada@example.org";

    fn context(server_time: u64, domain_key_creation_time: u64) -> Context {
        Context {
            csrf_token: "csrf".to_owned(),
            server_time,
            authenticated: true,
            domain_key_creation_time,
        }
    }

    fn certify(browser: &mut Browser, address: &str, at_ms: u64) -> bool {
        let mut rng = StdRng::seed_from_u64(1);
        let (key, _) = Browser::new_key(&mut rng).expect("a key");
        let issuer = SigningKey::generate(&mut rng).expect("a key");
        let new = NewCertificate {
            issuer: &Domain::parse("persona.example").expect("a domain"),
            email: &Address::parse(ADA).expect("an address"),
            public_key: key.public(),
            now_ms: at_ms,
            rests_on_ms: at_ms,
            resets: 0,
            short: false,
            session_ends_ms: u64::MAX,
        };
        let certificate = new.issue(&issuer).expect("a certificate");
        browser.keep(address, key, certificate)
    }

    #[test]
    fn a_certificate_is_kept_until_it_ends_by_the_sites_clock() {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let mut browser = Browser::default();
        assert!(!browser.is_certified(ADA));
        assert!(certify(&mut browser, ADA, now_ms()));
        assert!(browser.is_certified(ADA));
        browser.learn(&context(now_ms() + DAY_MS, 0));
        assert!(!browser.is_certified(ADA));
        browser.learn(&context(now_ms(), 0));
        assert!(browser.is_certified(ADA));
    }

    #[test]
    fn a_certificate_goes_with_the_key_that_signed_it_and_with_the_session() {
        let mut browser = Browser::default();
        assert!(certify(&mut browser, ADA, now_ms()));
        browser.learn(&context(now_ms(), now_ms() + 1));
        assert!(!browser.is_certified(ADA));
        assert!(certify(&mut browser, ADA, now_ms()));
        browser.sign_out();
        assert!(!browser.is_certified(ADA));
        assert!(
            !certify(&mut browser, "eve@example.org", now_ms()),
            "of another address"
        );
    }

    #[test]
    fn an_assertion_is_for_the_web_site_that_asked() {
        let mut browser = Browser::default();
        assert_eq!(browser.assert(ADA, "https://shop.example"), None);
        assert!(certify(&mut browser, ADA, now_ms()));
        let assertion = browser.assert(ADA, "https://shop.example").expect("an assertion");
        let backed = BackedAssertion::parse(&assertion).expect("well made");
        assert_eq!(backed.assertion().audience(), "https://shop.example");
        assert!(backed.assertion().expires_ms() > now_ms());
    }
}
