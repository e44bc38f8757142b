//! Tokens: each way in which one may be wrong.

use proptest::prelude::*;

use super::*;
use crate::browserid::jws::{self, TOKEN_BYTES_MAX};

const HEADER: &str = r#"{"alg":"ES256","typ":"persona-session+jwt","kid":"KID"}"#;

fn header(key: &SigningKey) -> String {
    HEADER.replace("KID", key.kid())
}

fn verify(kind: Kind, token: &str, keys: &KeySet) -> Result<json::Object, JwsError> {
    let jws = Unverified::parse(kind, token)?;
    jws.verify(keys)?;
    Ok(jws.claims().clone())
}

/// A session's token with this header and payload, signed by the key that the site verifies with.
#[track_caller]
fn check(header: &str, payload: &str, expected: Result<(), JwsError>) {
    let key = key(1);
    let token = signed(&header.replace("KID", key.kid()), payload, &key);
    let outcome = verify(Kind::Session, &token, &ours(Usage::Session, &[&key])).map(|_| ());
    assert_eq!(outcome, expected, "{header} {payload}");
}

#[track_caller]
fn refuses_json(header: &str, payload: &str) {
    let key = key(1);
    let token = signed(&header.replace("KID", key.kid()), payload, &key);
    let outcome = verify(Kind::Session, &token, &ours(Usage::Session, &[&key]));
    assert!(
        matches!(outcome, Err(JwsError::Json(_))),
        "{header} {payload}: {outcome:?}"
    );
}

#[test]
fn a_token_comes_back_as_it_was_signed() {
    let key = key(1);
    let claims = json!({ "a": "\u{fc}\u{1f600}", "n": { "m": [1, 2] } });
    for kind in Kind::ALL {
        let keys = match kind {
            Kind::Assertion => KeySet::browser(key.public().clone()),
            _ => ours(kind.usage(), &[&key]),
        };
        let token = jws::sign(kind, &claims, &key).expect("a token");
        assert_eq!(verify(kind, &token, &keys), Ok(object(&claims)));
    }
}

#[test]
fn the_key_decides_the_algorithm_and_the_header_must_agree() {
    let with = |alg: &str| HEADER.replace("ES256", alg);
    check(HEADER, "{}", Ok(()));
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES384", "ES512", "ES256K", "es256", "ES256 ",
        "PS256", "EdDSA", "RS512", "RS1", "dir", "DS128",
    ] {
        check(&with(alg), "{}", Err(JwsError::Algorithm));
    }
    // Known, but not what this key does.
    check(&with("RS256"), "{}", Err(JwsError::Algorithm));
    refuses_json(r#"{"typ":"persona-session+jwt","kid":"KID"}"#, "{}");
    refuses_json(&HEADER.replace("\"ES256\"", "null"), "{}");
    refuses_json(&HEADER.replace("\"ES256\"", "[\"ES256\"]"), "{}");
}

#[test]
fn an_hmac_with_our_public_key_is_no_signature() {
    use aws_lc_rs::hmac;
    let key = key(1);
    let PublicKey::P256(point) = key.public() else {
        panic!("a P-256 key");
    };
    let keys = ours(Usage::Session, &[&key]);
    let header = header(&key).replace("ES256", "HS256");
    let message = format!("{}.{}", encode_base64url(header), encode_base64url("{}"));
    let jwk = key.public().to_jwk().to_string();
    for secret in [point.to_sec1().as_slice(), jwk.as_bytes(), key.kid().as_bytes()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        let token = format!("{message}.{}", encode_base64url(tag));
        assert_eq!(verify(Kind::Session, &token, &keys), Err(JwsError::Algorithm));
    }
}

#[test]
fn a_header_brings_no_key_and_nothing_that_must_be_understood() {
    let with = |member: &str| HEADER.replace("\"alg\"", &format!("{member},\"alg\""));
    let jwk = key(2).public().to_jwk();
    for member in [
        &format!("\"jwk\":{jwk}"),
        "\"jwk\":null",
        "\"jku\":\"https://evil.example/keys\"",
        "\"x5u\":\"https://evil.example/chain\"",
        "\"x5c\":[]",
        "\"x5t\":\"AAAA\"",
        "\"x5t#S256\":\"AAAA\"",
        "\"x5anything\":1",
        "\"crit\":[\"exp\"]",
        "\"crit\":[]",
        "\"b64\":false",
    ] {
        check(&with(member), "{}", Err(JwsError::Header));
    }
    // What is only a remark is passed over (RFC 7515 §4).
    check(&with("\"remark\":[1]"), "{}", Ok(()));
    // A key that the header brings along does not help a token that it signed.
    let brought = HEADER.replace("\"alg\"", &format!("\"jwk\":{jwk},\"alg\""));
    let token = signed(&brought.replace("KID", key(1).kid()), "{}", &key(2));
    let outcome = verify(Kind::Session, &token, &ours(Usage::Session, &[&key(1)]));
    assert_eq!(outcome, Err(JwsError::Header));
}

#[test]
fn a_token_of_one_kind_is_never_taken_for_another() {
    let key = key(1);
    for signed_as in Kind::ALL {
        let token = jws::sign(signed_as, &json!({}), &key).expect("a token");
        for read_as in Kind::ALL.into_iter().filter(|kind| *kind != signed_as) {
            for keys in [
                ours(read_as.usage(), &[&key]),
                ours(signed_as.usage(), &[&key]),
                KeySet::browser(key.public().clone()),
            ] {
                let outcome = verify(read_as, &token, &keys);
                assert_eq!(outcome, Err(JwsError::Kind), "{signed_as:?} as {read_as:?}");
            }
        }
        // Of the right kind, but by a key that is for another.
        for usage in [Usage::Session, Usage::Certificate, Usage::Assertion] {
            if usage != signed_as.usage() {
                let outcome = verify(signed_as, &token, &ours(usage, &[&key]));
                assert_eq!(
                    outcome,
                    Err(JwsError::Usage),
                    "{signed_as:?} by a key for {usage:?}"
                );
            }
        }
    }
    let with = |typ: &str| HEADER.replace("persona-session+jwt", typ);
    for typ in [
        "",
        "JWT",
        "jwt",
        "persona-session",
        "PERSONA-SESSION+JWT",
        "application/persona-session+jwt",
    ] {
        check(&with(typ), "{}", Err(JwsError::Kind));
    }
    check(r#"{"alg":"ES256","kid":"KID"}"#, "{}", Err(JwsError::Kind));
    refuses_json(&HEADER.replace("\"persona-session+jwt\"", "1"), "{}");
}

#[test]
fn a_key_is_known_by_its_issuers_name_for_it() {
    let with = |kid: &str| HEADER.replace("KID", kid);
    check(&with(key(2).kid()), "{}", Err(JwsError::UnknownKey));
    check(&with("../../etc/passwd"), "{}", Err(JwsError::UnknownKey));
    check(
        r#"{"alg":"ES256","typ":"persona-session+jwt"}"#,
        "{}",
        Err(JwsError::UnknownKey),
    );
    refuses_json(&with(""), "{}");
    refuses_json(&with(&"k".repeat(129)), "{}");
    refuses_json(&HEADER.replace("\"KID\"", "7"), "{}");

    // Another of ours, named where the first one signed.
    let (first, second) = (key(1), key(2));
    let keys = ours(Usage::Session, &[&first, &second]);
    let token = signed(&header(&second), "{}", &first);
    assert_eq!(verify(Kind::Session, &token, &keys), Err(JwsError::Signature));
    let token = signed(&header(&second), "{}", &second);
    assert_eq!(verify(Kind::Session, &token, &keys).map(|_| ()), Ok(()));

    // Revoked, whether it is added before or after.
    let mut keys = ours(Usage::Session, &[&first, &second]);
    keys.revoke(second.kid()).expect("few keys");
    keys.add(second.public().clone()).expect("few keys");
    assert_eq!(verify(Kind::Session, &token, &keys), Err(JwsError::RevokedKey));
    assert!(keys.knows(second.kid()) && !keys.knows(key(3).kid()));
}

#[test]
fn json_has_one_meaning() {
    let twice = r#"{"alg":"ES256","alg":"ES256","typ":"persona-session+jwt","kid":"KID"}"#;
    refuses_json(twice, "{}");
    refuses_json(
        &HEADER.replace("\"alg\"", "\"a\":{\"b\":1,\"b\":2},\"alg\""),
        "{}",
    );
    refuses_json(HEADER, r#"{"exp":1,"exp":2}"#);
    refuses_json(HEADER, r#"{"principal":{"email":"a@b.c","email":"d@e.f"}}"#);
    refuses_json(HEADER, r#"{"a":[{"b":1,"\u0062":2}]}"#);
    for payload in [
        "",
        "null",
        "[]",
        "1",
        "\"{}\"",
        "{}{}",
        "{} x",
        "{\"a\":NaN}",
        "{\"a\":1e999}",
    ] {
        if payload.is_empty() {
            check(HEADER, payload, Err(JwsError::Parts));
        } else {
            refuses_json(HEADER, payload);
        }
    }
}

#[test]
fn a_token_is_three_canonical_parts() {
    #[track_caller]
    fn check(change: impl FnOnce(&str, &str, &str) -> String, expected: JwsError) {
        let key = key(1);
        let token = signed(&header(&key), "{}", &key);
        let parts: Vec<&str> = token.split('.').collect();
        let changed = change(parts[0], parts[1], parts[2]);
        let outcome = verify(Kind::Session, &changed, &ours(Usage::Session, &[&key]));
        assert_eq!(outcome, Err(expected), "{changed}");
    }
    /// Sets bits that no byte has a place for.
    fn loose(part: &str) -> String {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = *part.as_bytes().last().expect("a digit");
        let at = digits.iter().position(|digit| *digit == last).expect("base64url");
        format!("{}{}", &part[..part.len() - 1], char::from(digits[at + 1]))
    }
    check(|_, _, _| String::new(), JwsError::Parts);
    check(|h, _, _| h.into(), JwsError::Parts);
    check(|h, p, _| format!("{h}.{p}"), JwsError::Parts);
    check(|h, p, _| format!("{h}.{p}."), JwsError::Parts);
    check(|h, _, s| format!("{h}..{s}"), JwsError::Parts);
    check(|_, p, s| format!(".{p}.{s}"), JwsError::Parts);
    check(|h, p, s| format!("{h}.{p}.{s}."), JwsError::Parts);
    check(|h, p, s| format!(".{h}.{p}.{s}"), JwsError::Parts);
    check(|h, p, s| format!("{h}.{p}.{s}.{s}"), JwsError::Parts);
    check(|h, p, s| format!("{h}.{p}.{s}.{s}.{s}"), JwsError::Parts);
    check(|_, _, _| "...".into(), JwsError::Parts);
    check(|h, p, s| format!("{h}=.{p}.{s}"), JwsError::Base64);
    check(|h, p, s| format!("{h}.{p}=.{s}"), JwsError::Base64);
    check(|h, p, s| format!("{h}.{p}.{s}=="), JwsError::Base64);
    check(|h, p, s| format!("{h}.{p}.{s} "), JwsError::Base64);
    check(|h, p, s| format!("{h}.{p}\n.{s}"), JwsError::Base64);
    check(|h, p, s| format!("\u{feff}{h}.{p}.{s}"), JwsError::Base64);
    check(|h, p, s| format!("{h}.{p}.{}", loose(s)), JwsError::Base64);
    check(|h, p, s| format!("{h}.{}.{s}", loose(p)), JwsError::Base64);
    check(
        |h, p, s| format!("{h}.{p}.{}", &s[..s.len() - 2]),
        JwsError::Signature,
    );
    check(|h, p, s| format!("{h}.{p}.AAAA{s}"), JwsError::Signature);
    check(
        |h, p, s| format!("{h}.{p}.{}", "a".repeat(TOKEN_BYTES_MAX) + s),
        JwsError::TooLong,
    );
    check(
        |h, p, _| format!("{h}.{p}.{}", encode_base64url([0; 64])),
        JwsError::Signature,
    );
    // The standard alphabet's signs are other bytes' here.
    check(|h, p, s| format!("{h}.{p}.+{}", &s[1..]), JwsError::Base64);
}

#[test]
fn a_token_of_the_greatest_length_is_taken_and_no_longer_one() {
    let key = key(1);
    let keys = ours(Usage::Session, &[&key]);
    let with = |padding: usize| {
        let payload = json!({ "p": "p".repeat(padding) }).to_string();
        signed(&header(&key), &payload, &key)
    };
    let padding = (TOKEN_BYTES_MAX - with(0).len()) / 4 * 3;
    let longest = with(padding);
    assert!(
        (TOKEN_BYTES_MAX - 4..=TOKEN_BYTES_MAX).contains(&longest.len()),
        "{}",
        longest.len()
    );
    assert!(verify(Kind::Session, &longest, &keys).is_ok());
    assert_eq!(
        verify(Kind::Session, &with(padding + 6), &keys),
        Err(JwsError::TooLong)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_signed_is_read(seed: u64, text: String, number: u64) {
        let key = key(seed);
        let claims = json!({ "text": text, "number": number });
        let token = jws::sign(Kind::Certificate, &claims, &key).expect("a token");
        prop_assert_eq!(verify(Kind::Certificate, &token, &ours(Usage::Certificate, &[&key])), Ok(object(&claims)));
    }

    #[test]
    fn no_flipped_bit_is_taken(at: prop::sample::Index, bit in 0..8_u8) {
        let key = key(1);
        let mut token = signed(&header(&key), r#"{"exp":1800000000000}"#, &key).into_bytes();
        let at = at.index(token.len());
        token[at] ^= 1 << bit;
        if let Ok(token) = String::from_utf8(token) {
            prop_assert!(verify(Kind::Session, &token, &ours(Usage::Session, &[&key])).is_err());
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text: String, parts in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}") {
        for kind in Kind::ALL {
            prop_assert!(Unverified::parse(kind, &text).is_err());
            let _ = Unverified::parse(kind, &parts);
        }
    }

    #[test]
    fn no_json_makes_reading_panic(header: String, payload: String) {
        let token = signed(&header, &payload, &key(1));
        for kind in Kind::ALL {
            let _ = Unverified::parse(kind, &token);
        }
    }
}
