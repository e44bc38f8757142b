//! Verdicts: assertions backed by our own certificates, from a good one to each way of being wrong.

use crdt::{Epoch, Hlc};
use proptest::prelude::*;

use super::*;
use crate::browserid::{
    assertion::{LIFETIME_MS as ASSERTION_MS, NONCE_BYTES_MAX},
    audience::AudienceMismatch,
    certificate::{BACKDATED_MS, LEEWAY_MS, LIFETIME_MS, SHORT_LIFETIME_MS},
    jws,
};

/// Our site, a person's browser, and what the replica says of their address.
struct Case {
    site: SigningKey,
    browser: SigningKey,
    issuer: Domain,
    standing: Standing,
    signatures: SignatureCache,
}

impl Case {
    fn new() -> Case {
        Case {
            site: key(1),
            browser: key(2),
            issuer: domain("persona.example"),
            standing: Standing::Held {
                verified: true,
                done: Hlc::new(NOW_MS - LIFETIME_MS, 0),
                session_epoch: Epoch::default(),
            },
            signatures: SignatureCache::new(16),
        }
    }

    fn certificate(&self) -> String {
        self.new_certificate(|_| {}).expect("a certificate")
    }

    fn new_certificate(&self, change: impl FnOnce(&mut NewCertificate<'_>)) -> Result<String, IssueError> {
        let email = address("Ada@Example.org");
        let mut certificate = NewCertificate {
            issuer: &self.issuer,
            email: &email,
            public_key: self.browser.public(),
            now_ms: NOW_MS,
            rests_on_ms: 0,
            resets: 0,
            short: false,
            session_ends_ms: u64::MAX,
        };
        change(&mut certificate);
        certificate.issue(&self.site)
    }

    /// A certificate with these claims changed.
    fn certificate_with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": "persona.example",
            "iat": NOW_MS,
            "exp": NOW_MS + LIFETIME_MS,
            "public-key": self.browser.public().to_jwk(),
            "principal": { "email": "ada@example.org" },
        });
        change(&mut claims);
        jws::sign(Kind::Certificate, &claims, &self.site).expect("a token")
    }

    fn assertion_with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({ "aud": RP, "exp": NOW_MS + ASSERTION_MS });
        change(&mut claims);
        jws::sign(Kind::Assertion, &claims, &self.browser).expect("a token")
    }

    fn assertion(&self) -> String {
        self.assertion_with(|_| {})
    }

    fn verify(&self, backed: &str, audience: &str, now_ms: u64) -> Result<Verified, Reason> {
        let keys = ours(Usage::Certificate, &[&self.site]);
        let authority = Authority::Ourselves {
            domain: &self.issuer,
            keys: &keys,
            signatures: &self.signatures,
            standing: &self.standing,
        };
        let parsed = BackedAssertion::parse(backed)?;
        let verdict = parsed.verify(audience, authority, now_ms);
        // Whether its certificate was seen before changes nothing.
        assert_eq!(parsed.verify(audience, authority, now_ms), verdict);
        verdict
    }

    #[track_caller]
    fn check(&self, backed: &str, expected: Result<(), Reason>) {
        let outcome = self.verify(backed, RP, NOW_MS).map(|_| ());
        assert_eq!(outcome, expected, "{backed}");
    }
}

#[test]
fn the_answer_is_the_originals() {
    let case = Case::new();
    let backed = NewAssertion {
        audience: RP,
        expires_ms: NOW_MS + ASSERTION_MS,
        nonce: None,
    };
    let backed = backed
        .back(&case.certificate(), &case.browser)
        .expect("an assertion");
    let verified = case
        .verify(&backed, "https://RP.example:443", NOW_MS)
        .expect("okay");
    let answer = serde_json::to_value(&verified).expect("JSON");
    let expected = json!({
        "status": "okay",
        "email": "Ada@Example.org",
        "audience": "https://RP.example:443",
        "expires": NOW_MS + ASSERTION_MS,
        "issuer": "persona.example",
    });
    assert_eq!(answer, expected);
    let shown = format!("{verified:?}");
    assert!(!shown.contains("Ada") && !shown.contains("rp.example"), "{shown}");

    let backed = format!(
        "{}~{}",
        case.certificate(),
        case.assertion_with(|claims| claims["nonce"] = "n-0S6".into())
    );
    let verified = case.verify(&backed, RP, NOW_MS).expect("okay");
    assert_eq!(serde_json::to_value(&verified).expect("JSON")["nonce"], "n-0S6");
}

#[test]
fn a_certificate_says_what_it_rests_on_and_how_long_it_lasts() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut NewCertificate<'_>), issued_ms: u64, expires_ms: u64) {
        let token = Case::new().new_certificate(change).expect("a certificate");
        let certificate = Certificate::parse(&token).expect("a certificate");
        assert_eq!(
            (certificate.issued_ms(), certificate.expires_ms()),
            (issued_ms, expires_ms)
        );
    }
    let dated = NOW_MS - BACKDATED_MS;
    check(|_| {}, dated, NOW_MS + LIFETIME_MS);
    check(|new| new.short = true, dated, NOW_MS + SHORT_LIFETIME_MS);
    check(|new| new.session_ends_ms = NOW_MS + 5, dated, NOW_MS + 5);
    check(
        |new| {
            new.short = true;
            new.session_ends_ms = NOW_MS + LIFETIME_MS;
        },
        dated,
        NOW_MS + SHORT_LIFETIME_MS,
    );
    // Not before the claim or the epoch, or it would count as revoked; up to the leeway, whatever this clock says.
    check(|new| new.rests_on_ms = dated - 1, dated, NOW_MS + LIFETIME_MS);
    check(
        |new| new.rests_on_ms = NOW_MS - 1,
        NOW_MS - 1,
        NOW_MS + LIFETIME_MS,
    );
    check(
        |new| new.rests_on_ms = NOW_MS + LEEWAY_MS,
        NOW_MS + LEEWAY_MS,
        NOW_MS + LIFETIME_MS,
    );
}

#[test]
fn a_certificate_is_not_made_when_no_verifier_would_take_it() {
    let case = Case::new();
    let refused = case.new_certificate(|new| new.rests_on_ms = NOW_MS + LEEWAY_MS + 7);
    assert_eq!(refused, Err(IssueError::Ahead { retry_after_ms: 7 }));
    let refused = case.new_certificate(|new| new.session_ends_ms = NOW_MS);
    assert_eq!(refused, Err(IssueError::SessionOver));
    let rsa = object(&json!({ "kty": "RSA", "n": vectors::A2_MODULUS, "e": "AQAB" }));
    let rsa = PublicKey::from_jwk(&rsa).expect("a key");
    let site = key(1);
    let new = NewCertificate {
        issuer: &case.issuer,
        email: &address("ada@example.org"),
        public_key: &rsa,
        now_ms: NOW_MS,
        rests_on_ms: 0,
        resets: 0,
        short: false,
        session_ends_ms: u64::MAX,
    };
    assert_eq!(new.issue(&site), Err(IssueError::Key));
}

#[test]
fn a_certificate_made_after_a_change_stands_and_one_from_before_does_not() {
    let mut case = Case::new();
    let before = case.certificate();
    let epoch = Epoch {
        resets: 1,
        // The record's clock is half a minute ahead of this one.
        at: Hlc::new(NOW_MS + 30_000, 3),
    };
    case.standing = Standing::Held {
        verified: true,
        done: Hlc::new(NOW_MS - 1000, 0),
        session_epoch: epoch,
    };
    let rests_on_ms = Standing::rests_on_ms(Hlc::new(NOW_MS - 1000, 0), epoch);
    let after = case
        .new_certificate(|new| {
            new.rests_on_ms = rests_on_ms;
            new.resets = 1;
        })
        .expect("a certificate");
    let unheard = case
        .new_certificate(|new| new.rests_on_ms = rests_on_ms)
        .expect("a certificate");
    let assertion = case.assertion();
    case.check(&format!("{before}~{assertion}"), Err(Reason::Superseded));
    case.check(&format!("{unheard}~{assertion}"), Err(Reason::Superseded));
    case.check(&format!("{after}~{assertion}"), Ok(()));
    case.standing = Standing::Free;
    case.check(&format!("{after}~{assertion}"), Err(Reason::NobodysAddress));
}

#[test]
fn a_backed_assertion_is_one_certificate_and_one_assertion() {
    let case = Case::new();
    let (c, a) = (case.certificate(), case.assertion());
    case.check(&format!("{c}~{a}"), Ok(()));
    for (backed, reason) in [
        (String::new(), Reason::Malformed),
        ("a~b".into(), Reason::Malformed),
        ("~".repeat(60), Reason::Malformed),
        ("a".repeat(10_241), Reason::Malformed),
        (a.clone(), Reason::NoCertificates),
        (format!("~{a}"), Reason::Malformed),
        (format!("{c}~"), Reason::Malformed),
        (format!("{c}~~{a}"), Reason::Malformed),
        (format!("~{c}~{a}"), Reason::Malformed),
        (format!("{c}~{a}~"), Reason::Malformed),
        (format!("{c}~{c}~{a}"), Reason::Chain),
        (format!("{c}~{c}~{c}~{a}"), Reason::Chain),
        (format!("{a}~{c}"), Reason::MalformedSignature),
        (format!("{c}~{c}"), Reason::MalformedSignature),
        (format!("{a}~{a}"), Reason::MalformedSignature),
        (format!("{c}.~{a}"), Reason::MalformedSignature),
        (format!("{c}~{a}."), Reason::MalformedSignature),
        (format!("{c}={}{a}", '~'), Reason::MalformedSignature),
        (format!("{c} ~{a}"), Reason::MalformedSignature),
        ("\u{1f600}".repeat(40) + "~" + &a, Reason::MalformedSignature),
    ] {
        case.check(&backed, Err(reason));
    }
}

#[test]
fn each_claim_of_a_certificate_is_needed_as_it_is() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), expected: Result<(), Reason>) {
        let case = Case::new();
        case.check(
            &format!("{}~{}", case.certificate_with(change), case.assertion()),
            expected,
        );
    }
    fn set(name: &'static str, value: impl Into<Value>) -> impl FnOnce(&mut Value) {
        let value = value.into();
        move |claims| claims[name] = value
    }
    fn remove(name: &'static str) -> impl FnOnce(&mut Value) {
        move |claims| {
            claims.as_object_mut().expect("an object").remove(name);
        }
    }
    let malformed = || Err(Reason::MalformedSignature);
    check(|_| {}, Ok(()));
    check(set("remark", json!({ "any": [1] })), Ok(()));
    check(set("iss", "Persona.EXAMPLE"), Ok(()));
    for name in ["iss", "iat", "exp", "public-key"] {
        check(remove(name), malformed());
        check(set(name, Value::Null), malformed());
        check(set(name, ""), malformed());
        check(set(name, -1), malformed());
        check(set(name, 1.5), malformed());
        check(set(name, 1e300), malformed());
        check(set(name, u64::MAX), malformed());
        check(set(name, json!([])), malformed());
    }
    check(set("iss", "persona.example:443"), malformed());
    check(set("iss", "https://persona.example"), malformed());
    check(set("iss", "a".repeat(5000)), malformed());
    check(
        set(
            "public-key",
            json!({ "kty": "RSA", "n": vectors::A2_MODULUS, "e": "AQAB" }),
        ),
        malformed(),
    );
    check(
        set("public-key", json!({ "algorithm": "DS", "y": "1" })),
        malformed(),
    );
    check(
        set(
            "public-key",
            json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
        ),
        malformed(),
    );

    check(remove("principal"), Err(Reason::MissingEmail));
    check(set("principal", json!({})), Err(Reason::MissingEmail));
    check(set("principal", "ada@example.org"), malformed());
    check(set("principal", json!(["ada@example.org"])), malformed());
    check(
        set("principal", json!({ "email": ["ada@example.org"] })),
        malformed(),
    );
    check(
        set("principal", json!({ "email": "ada" })),
        Err(Reason::InvalidEmail),
    );
    check(
        set("principal", json!({ "email": "ada@example.org\r\nBcc: a@b.c" })),
        Err(Reason::InvalidEmail),
    );
    check(
        set("principal", json!({ "email": "a".repeat(400) + "@example.org" })),
        Err(Reason::InvalidEmail),
    );
    check(
        set("principal", json!({ "unverified-email": "ada@example.org" })),
        Err(Reason::UnverifiedEmail),
    );

    // Seconds where milliseconds belong are a time long past.
    check(set("exp", (NOW_MS + LIFETIME_MS) / 1000), Err(Reason::Expired));
}

#[test]
fn each_claim_of_an_assertion_is_needed_as_it_is() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), expected: Result<(), Reason>) {
        let case = Case::new();
        case.check(
            &format!("{}~{}", case.certificate(), case.assertion_with(change)),
            expected,
        );
    }
    let malformed = || Err(Reason::MalformedSignature);
    check(|claims| claims["iss"] = "anybody".into(), Ok(()));
    for name in ["aud", "exp"] {
        check(
            |claims| {
                claims.as_object_mut().expect("an object").remove(name);
            },
            malformed(),
        );
        check(|claims| claims[name] = json!([RP]), malformed());
        check(|claims| claims[name] = json!(-1.5), malformed());
    }
    check(|claims| claims["iat"] = "now".into(), malformed());
    check(|claims| claims["nonce"] = 1.into(), malformed());
    check(
        |claims| claims["nonce"] = "n".repeat(NONCE_BYTES_MAX).into(),
        Ok(()),
    );
    check(
        |claims| claims["nonce"] = "n".repeat(NONCE_BYTES_MAX + 1).into(),
        malformed(),
    );
    check(
        |claims| claims["aud"] = "".into(),
        Err(AudienceMismatch::MalformedDomain.into()),
    );
    check(
        |claims| claims["aud"] = "https://evil.example".into(),
        Err(AudienceMismatch::Domain.into()),
    );
    check(
        |claims| claims["aud"] = "http://rp.example".into(),
        Err(AudienceMismatch::Scheme.into()),
    );
    check(
        |claims| claims["aud"] = "https://rp.example:8443".into(),
        Err(AudienceMismatch::Port.into()),
    );
    check(
        |claims| claims["aud"] = "https://rp.example/".into(),
        Err(AudienceMismatch::MalformedDomain.into()),
    );
}

#[test]
fn times_have_leeway_at_the_beginning_and_none_at_the_end() {
    #[track_caller]
    fn check(certificate: (u64, u64), assertion: (Option<u64>, u64), expected: Result<(), Reason>) {
        let case = Case::new();
        let certificate = case.certificate_with(|claims| {
            claims["iat"] = certificate.0.into();
            claims["exp"] = certificate.1.into();
        });
        let assertion = case.assertion_with(|claims| {
            if let Some(issued_ms) = assertion.0 {
                claims["iat"] = issued_ms.into();
            }
            claims["exp"] = assertion.1.into();
        });
        case.check(&format!("{certificate}~{assertion}"), expected);
    }
    let (soon, limit) = (NOW_MS + 1, NOW_MS + LEEWAY_MS);
    check((NOW_MS, soon), (None, soon), Ok(()));
    check((limit, soon), (Some(limit), soon), Ok(()));
    check((limit + 1, soon), (None, soon), Err(Reason::IssuedLater));
    check((NOW_MS, soon), (Some(limit + 1), soon), Err(Reason::IssuedLater));
    check((NOW_MS, NOW_MS), (None, soon), Err(Reason::Expired));
    check((NOW_MS, soon), (None, NOW_MS), Err(Reason::Expired));
    check((NOW_MS, soon), (None, 0), Err(Reason::Expired));
    let last = json::TIME_MS_MAX;
    check((NOW_MS, last), (None, last), Ok(()));
    check((NOW_MS, last), (None, last + 1), Err(Reason::MalformedSignature));
}

#[test]
fn a_signature_is_the_certified_keys_and_the_certificate_our_own() {
    let case = Case::new();
    let (c, a) = (case.certificate(), case.assertion());
    let stranger = Case {
        site: key(8),
        browser: key(9),
        ..Case::new()
    };
    case.check(
        &format!("{c}~{}", stranger.assertion()),
        Err(Reason::InvalidSignature),
    );
    case.check(
        &format!("{}~{a}", stranger.certificate()),
        Err(Reason::BadSignatureInChain),
    );
    let (signed, _) = c.rsplit_once('.').expect("three parts");
    let (_, other) = stranger
        .certificate()
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("three parts");
    case.check(&format!("{signed}.{other}~{a}"), Err(Reason::BadSignatureInChain));

    let mut keys = ours(Usage::Certificate, &[&case.site]);
    keys.revoke(case.site.kid()).expect("few keys");
    let authority = Authority::Ourselves {
        domain: &case.issuer,
        keys: &keys,
        signatures: &case.signatures,
        standing: &case.standing,
    };
    let backed = format!("{c}~{a}");
    let backed = BackedAssertion::parse(&backed).expect("readable");
    assert_eq!(
        backed.verify(RP, authority, NOW_MS).map(|_| ()),
        Err(Reason::RevokedKey)
    );
    assert!(keys.knows(backed.certificate().kid().expect("a name")));

    // Signed by a key of ours that is for sessions.
    let sessions = ours(Usage::Session, &[&case.site]);
    let authority = Authority::Ourselves {
        domain: &case.issuer,
        keys: &sessions,
        signatures: &case.signatures,
        standing: &case.standing,
    };
    assert_eq!(
        backed.verify(RP, authority, NOW_MS).map(|_| ()),
        Err(Reason::BadSignatureInChain)
    );
}

#[test]
fn the_reasons_are_the_originals() {
    for (reason, text) in [
        (Reason::Malformed, "malformed backed assertion"),
        (Reason::NoCertificates, "no certificates provided"),
        (Reason::Chain, "certificate chaining is not yet allowed"),
        (Reason::MalformedSignature, "malformed signature"),
        (Reason::InvalidSignature, "invalid signature"),
        (Reason::BadSignatureInChain, "bad signature in chain"),
        (Reason::Expired, "assertion has expired"),
        (
            Reason::IssuedLater,
            "assertion issued later than verification date",
        ),
        (
            AudienceMismatch::Scheme.into(),
            "audience mismatch: scheme mismatch",
        ),
        (AudienceMismatch::Port.into(), "audience mismatch: port mismatch"),
        (
            AudienceMismatch::Domain.into(),
            "audience mismatch: domain mismatch",
        ),
        (
            AudienceMismatch::DomainMissing.into(),
            "audience mismatch: domain missing",
        ),
        (
            AudienceMismatch::MalformedDomain.into(),
            "audience mismatch: malformed domain",
        ),
        (Reason::UnverifiedEmail, "unverified email"),
        (Reason::MissingEmail, "missing email"),
        (Reason::InvalidEmail, "invalid email"),
        (
            Reason::UntrustedIssuer {
                expected: domain("a.example"),
                got: domain("b.example"),
            },
            "untrusted issuer, expected 'a.example', got 'b.example'",
        ),
    ] {
        assert_eq!(reason.to_string(), text);
    }
    let no_key = Reason::NoPublicKey {
        domain: domain("a.example"),
        why: KeyError::Dsa,
    };
    assert!(
        no_key
            .to_string()
            .starts_with("can't get public key for a.example: ")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_flipped_bit_is_verified(at: prop::sample::Index, bit in 0..8_u8) {
        let case = Case::new();
        let mut backed = format!("{}~{}", case.certificate(), case.assertion()).into_bytes();
        let at = at.index(backed.len());
        backed[at] ^= 1 << bit;
        if let Ok(backed) = String::from_utf8(backed) {
            prop_assert!(case.verify(&backed, RP, NOW_MS).is_err());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ -~\u{80}-\u{ffff}]{40,200}", audience: String) {
        let case = Case::new();
        prop_assert!(case.verify(&text, &audience, NOW_MS).is_err());
        let backed = format!("{}~{}", case.certificate(), case.assertion());
        prop_assert!(case.verify(&backed, &audience, NOW_MS).is_err());
    }

    #[test]
    fn no_claim_makes_it_panic(aud: String, email: String, iss: String, time: u64) {
        let case = Case::new();
        let certificate = case.certificate_with(|claims| {
            claims["iss"] = iss.into();
            claims["exp"] = time.into();
            claims["principal"] = json!({ "email": email });
        });
        let assertion = case.assertion_with(|claims| claims["aud"] = aud.into());
        let _ = case.verify(&format!("{certificate}~{assertion}"), RP, NOW_MS);
    }
}
