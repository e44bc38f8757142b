//! Who may speak for an address, and what a primary's certificates may look like.

use super::*;
use crate::browserid::{jwk::Algorithm, jws};

const EXPIRES_MS: u64 = NOW_MS + 60_000;

fn claims(issuer: &str, browser: &SigningKey) -> Value {
    json!({
        "iss": issuer,
        "iat": NOW_MS,
        "exp": EXPIRES_MS,
        "public-key": browser.public().to_jwk(),
        "principal": { "email": "ada@example.org" },
    })
}

fn back(certificate: &str, browser: &SigningKey) -> String {
    let assertion = NewAssertion {
        audience: RP,
        expires_ms: EXPIRES_MS,
        nonce: None,
    };
    assertion.back(certificate, browser).expect("an assertion")
}

/// Who looking up `example.org` found to speak for it.
#[derive(Clone, Copy)]
enum Found {
    Itself,
    Delegate,
    Nobody,
}

#[test]
fn only_who_speaks_for_the_domain_is_believed() {
    #[track_caller]
    fn check(found: Found, issuer: &str, expected: Result<(), &str>) {
        let (site, browser) = (key(1), key(2));
        // Every issuer has the same key here, so that only the rule decides.
        let certificate = jws::sign(Kind::Certificate, &claims(issuer, &browser), &site).expect("a token");
        let backed = back(&certificate, &browser);
        let document = object(&json!({ "keys": [with_kid(site.public(), site.kid())] }));
        let primary = KeySet::primary(&document).expect("keys");
        let ourselves = ours(Usage::Certificate, &[&site]);
        let standing = Standing::Held {
            verified: true,
            done: crdt::Hlc::ZERO,
            session_epoch: crdt::Epoch::default(),
        };
        let name = domain(match found {
            Found::Itself => "example.org",
            Found::Delegate => "idp.example",
            Found::Nobody => "persona.example",
        });
        let authority = match found {
            Found::Itself | Found::Delegate => Authority::Primary {
                domain: &name,
                keys: &primary,
            },
            Found::Nobody => Authority::Ourselves {
                domain: &name,
                keys: &ourselves,
                signatures: &SignatureCache::new(0),
                standing: &standing,
            },
        };
        let parsed = BackedAssertion::parse(&backed).expect("readable");
        assert_eq!(parsed.certificate().issuer().as_str(), issuer);
        assert_eq!(Domain::of(parsed.certificate().email()).as_str(), "example.org");
        let outcome = parsed.verify(RP, authority, NOW_MS);
        let outcome = outcome.map(|_| ()).map_err(|reason| reason.to_string());
        assert_eq!(outcome, expected.map_err(str::to_owned), "{issuer}");
    }
    check(Found::Itself, "example.org", Ok(()));
    check(
        Found::Itself,
        "persona.example",
        Err("untrusted issuer, expected 'example.org', got 'persona.example'"),
    );
    check(
        Found::Itself,
        "idp.example",
        Err("untrusted issuer, expected 'example.org', got 'idp.example'"),
    );
    check(Found::Delegate, "idp.example", Ok(()));
    check(
        Found::Delegate,
        "example.org",
        Err("untrusted issuer, expected 'idp.example', got 'example.org'"),
    );
    check(
        Found::Delegate,
        "persona.example",
        Err("untrusted issuer, expected 'idp.example', got 'persona.example'"),
    );
    check(Found::Nobody, "persona.example", Ok(()));
    check(
        Found::Nobody,
        "example.org",
        Err("untrusted issuer, expected 'persona.example', got 'example.org'"),
    );
    check(
        Found::Nobody,
        "sub.persona.example",
        Err("untrusted issuer, expected 'persona.example', got 'sub.persona.example'"),
    );
}

fn with_kid(key: &PublicKey, kid: &str) -> Value {
    let mut jwk = key.to_jwk();
    jwk["kid"] = kid.into();
    jwk
}

#[track_caller]
fn primary(document: &Value, certificate: &str, browser: &SigningKey, expected: Result<(), Reason>) {
    let keys = KeySet::primary(&object(document)).expect("keys");
    let name = domain("example.org");
    let authority = Authority::Primary {
        domain: &name,
        keys: &keys,
    };
    let backed = back(certificate, browser);
    let outcome = BackedAssertion::parse(&backed)
        .map_err(Reason::from)
        .and_then(|backed| backed.verify(RP, authority, NOW_MS))
        .map(|_| ());
    assert_eq!(outcome, expected, "{certificate}");
}

#[test]
fn a_primarys_certificate_may_be_as_the_original_made_it() {
    let browser = key(2);
    let payload = claims("example.org", &browser).to_string();
    let rsa = Rsa::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
    let document = json!({ "public-key": rsa.jwk() });
    primary(
        &document,
        &rsa.signed(r#"{"alg":"RS256"}"#, &payload),
        &browser,
        Ok(()),
    );
    primary(
        &document,
        &rsa.signed(r#"{"alg":"RS256","typ":"JWT"}"#, &payload),
        &browser,
        Ok(()),
    );
    let ours = r#"{"alg":"RS256","typ":"browserid-certificate+jwt"}"#;
    primary(&document, &rsa.signed(ours, &payload), &browser, Ok(()));

    let malformed = || Err(Reason::MalformedSignature);
    for header in [
        r#"{"alg":"RS512"}"#,
        r#"{"alg":"RS128"}"#,
        r#"{"alg":"DS128"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"RS256","typ":"persona-session+jwt"}"#,
        r#"{"alg":"RS256","typ":"jwt"}"#,
        r#"{"alg":"RS256","jku":"https://evil.example"}"#,
        r#"{"alg":"RS256","alg":"RS256"}"#,
        "{}",
    ] {
        primary(&document, &rsa.signed(header, &payload), &browser, malformed());
    }
    let bad = || Err(Reason::BadSignatureInChain);
    primary(
        &document,
        &rsa.signed(r#"{"alg":"ES256"}"#, &payload),
        &browser,
        bad(),
    );
    primary(
        &document,
        &rsa.signed(r#"{"alg":"RS256","kid":"other"}"#, &payload),
        &browser,
        bad(),
    );
    let other = Rsa::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
    primary(
        &document,
        &other.signed(r#"{"alg":"RS256"}"#, &payload),
        &browser,
        bad(),
    );
    let short = "AAAA".repeat(4);
    let (message, _) = rsa
        .signed(r#"{"alg":"RS256"}"#, &payload)
        .rsplit_once('.')
        .map(|(m, s)| (m.to_owned(), s.len()))
        .expect("three parts");
    primary(&document, &format!("{message}.{short}"), &browser, bad());
}

#[test]
fn a_primary_with_several_keys_may_name_one_or_none() {
    let (browser, first, second, stranger) = (key(2), key(3), key(4), key(5));
    let payload = claims("example.org", &browser).to_string();
    let rsa = Rsa::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
    let document = json!({
        "public-key": rsa.jwk(),
        "keys": [with_kid(first.public(), "one"), with_kid(second.public(), "two")],
    });
    let es256 = |kid: Option<&str>, by: &SigningKey| {
        let header = match kid {
            None => json!({ "alg": "ES256" }),
            Some(kid) => json!({ "alg": "ES256", "kid": kid }),
        };
        signed(&header.to_string(), &payload, by)
    };
    let bad = || Err(Reason::BadSignatureInChain);
    primary(&document, &es256(None, &first), &browser, Ok(()));
    primary(&document, &es256(None, &second), &browser, Ok(()));
    primary(&document, &es256(Some("one"), &first), &browser, Ok(()));
    primary(&document, &es256(Some("two"), &second), &browser, Ok(()));
    primary(&document, &es256(Some("two"), &first), &browser, bad());
    primary(&document, &es256(Some("three"), &first), &browser, bad());
    primary(&document, &es256(None, &stranger), &browser, bad());
    primary(
        &document,
        &rsa.signed(r#"{"alg":"RS256"}"#, &payload),
        &browser,
        Ok(()),
    );
    primary(
        &document,
        &rsa.signed(r#"{"alg":"ES256"}"#, &payload),
        &browser,
        bad(),
    );
    primary(
        &document,
        &rsa.signed(r#"{"alg":"RS256","kid":"one"}"#, &payload),
        &browser,
        bad(),
    );
}

#[test]
fn our_own_certificates_are_es256_with_kind_and_name() {
    let (site, browser) = (key(1), key(2));
    let rsa = Rsa::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
    let public = PublicKey::from_jwk(&object(&rsa.jwk())).expect("a key");
    assert_eq!(public.algorithm(), Algorithm::Rs256);
    let mut keys = ours(Usage::Certificate, &[&site]);
    assert_eq!(
        keys.add(public),
        Err(KeyError::Unsupported),
        "we never sign with RSA"
    );
    let payload = claims("persona.example", &browser).to_string();
    let verify = |header: &str, by: &SigningKey| {
        let token = signed(header, &payload, by);
        let jws = Unverified::parse(Kind::Certificate, &token)?;
        jws.verify(&keys)
    };
    let kid = site.kid();
    let full = format!(r#"{{"alg":"ES256","typ":"browserid-certificate+jwt","kid":"{kid}"}}"#);
    assert_eq!(verify(&full, &site), Ok(()));
    assert_eq!(
        verify(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#), &site),
        Err(JwsError::Kind)
    );
    assert_eq!(
        verify(&full.replace("browserid-certificate+jwt", "JWT"), &site),
        Err(JwsError::Kind)
    );
    let unnamed = r#"{"alg":"ES256","typ":"browserid-certificate+jwt"}"#;
    assert_eq!(verify(unnamed, &site), Err(JwsError::UnknownKey));
}

#[test]
fn an_rsa_key_that_is_too_short_or_of_two_forms_is_no_key() {
    let payload = Rsa::generate(aws_lc_rs::rsa::KeySize::Rsa3072).jwk();
    assert!(PublicKey::from_jwk(&object(&payload)).is_ok());
    let mut zeros = payload.clone();
    let modulus = json::decode_base64url(payload["n"].as_str().expect("text")).expect("base64url");
    zeros["n"] = encode_base64url([&[0], modulus.as_slice()].concat()).into();
    assert_eq!(PublicKey::from_jwk(&object(&zeros)), Err(KeyError::Modulus));
}
