//! Sessions and device cookies: what they carry, and what is refused.

use crdt::{AccountId, Epoch, Hlc};
use gossip::{Dot, ReplicaId, Writer};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::*;
use crate::browserid::{Usage, json::TIME_MS_MAX, json::decode_base64url};

const NOW_MS: u64 = 1_800_000_000_000;

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut StdRng::seed_from_u64(seed)).expect("a key")
}

fn keys(of: &[&SigningKey], usage: Usage) -> KeySet {
    let mut keys = KeySet::ours(usage);
    for key in of {
        keys.add(key.public().clone()).expect("few keys");
    }
    keys
}

fn session() -> Session {
    Session {
        id: [1; 16],
        account: AccountId::from_bytes([2; 15]),
        methods: Methods {
            assertion_ms: None,
            password_ms: Some(NOW_MS),
        },
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + LIFETIME_MS,
        csrf: [3; 16],
        last_dot: Some(Dot {
            writer: Writer {
                replica: ReplicaId([4; 8]),
                epoch: 5,
                nonce: [6; 8],
            },
            number: 7,
        }),
        epoch: Epoch {
            resets: 8,
            at: Hlc::new(NOW_MS, 9),
        },
    }
}

fn verify(cookie: &str, keys: &KeySet, now_ms: u64) -> Result<Session, SessionError> {
    Session::verify(cookie, keys, &SignatureCache::new(0), now_ms)
}

#[test]
fn a_session_comes_back_as_it_was_signed_until_its_time_is_up() {
    let key = key(1);
    let keys = keys(&[&key], Usage::Session);
    let cookie = session().sign(&key).expect("a cookie");
    assert_eq!(verify(&cookie, &keys, NOW_MS), Ok(session()));
    assert_eq!(verify(&cookie, &keys, NOW_MS + LIFETIME_MS - 1), Ok(session()));
    assert_eq!(
        verify(&cookie, &keys, NOW_MS + LIFETIME_MS),
        Err(SessionError::Over)
    );
    // Made at a site whose clock is ahead: what counts is what it has seen.
    assert_eq!(verify(&cookie, &keys, NOW_MS - 3_600_000), Ok(session()));
    assert_eq!(session().lifetime_ms(), LIFETIME_MS);
}

#[test]
fn the_greatest_session_fits_a_cookie() {
    let session = Session {
        methods: Methods {
            assertion_ms: Some(TIME_MS_MAX),
            password_ms: Some(TIME_MS_MAX),
        },
        issued_ms: TIME_MS_MAX - 1,
        expires_ms: TIME_MS_MAX,
        last_dot: Some(Dot {
            writer: Writer::from_bytes([255; 20]),
            number: u64::MAX,
        }),
        epoch: Epoch {
            resets: u32::MAX,
            at: Hlc::from_u64(u64::MAX),
        },
        ..session()
    };
    let key = key(1);
    let cookie = session.sign(&key).expect("a cookie");
    assert!(cookie.len() <= COOKIE_BYTES_MAX / 2, "{} bytes", cookie.len());
    assert_eq!(
        verify(&cookie, &keys(&[&key], Usage::Session), NOW_MS),
        Ok(session)
    );
}

#[test]
fn a_session_without_a_dot_or_a_method_is_one() {
    let session = Session {
        last_dot: None,
        methods: Methods::default(),
        ..session()
    };
    let key = key(1);
    let cookie = session.sign(&key).expect("a cookie");
    assert_eq!(
        verify(&cookie, &keys(&[&key], Usage::Session), NOW_MS),
        Ok(session)
    );
}

#[test]
fn a_method_and_a_claim_of_a_later_version_are_passed_over() {
    let key = key(1);
    let mut claims = session().claims();
    claims["amr"]["passkey"] = json!(NOW_MS);
    claims["later"] = json!([1, 2, 3]);
    let cookie = jws::sign(Kind::Session, &claims, &key).expect("a cookie");
    assert_eq!(
        verify(&cookie, &keys(&[&key], Usage::Session), NOW_MS),
        Ok(session())
    );
}

#[test]
fn a_session_is_over_when_it_has_not_seen_the_epoch() {
    #[track_caller]
    fn check(resets: u32, ms: u64, expected: Agreement) {
        let epoch = Epoch {
            resets,
            at: Hlc::new(ms, 9),
        };
        assert_eq!(session().against(epoch), expected);
    }
    check(8, NOW_MS, Agreement::Current);
    check(8, NOW_MS + 1, Agreement::Over);
    check(8, NOW_MS - 1, Agreement::Ahead);
    // Resets count before any clock.
    check(9, 0, Agreement::Over);
    check(7, NOW_MS + 1, Agreement::Ahead);
}

#[test]
fn the_csrf_value_is_compared_whole() {
    let text = session().csrf_text();
    assert!(session().is_csrf(&text));
    for wrong in ["", "AwMD", &text[1..], &format!("{text}A"), &text.to_lowercase()] {
        assert!(!session().is_csrf(wrong), "{wrong}");
    }
    assert!(!format!("{:?}", session()).contains(&text));
}

#[test]
fn each_malformed_claim_is_refused() {
    let key = key(1);
    let keys = keys(&[&key], Usage::Session);
    for (name, wrong) in [
        ("jti", json!("AAAA")),
        ("jti", json!(null)),
        ("sub", json!("AgICAgICAgICAgICAgI=")),
        ("sub", json!(2)),
        ("iat", json!(-1)),
        ("iat", json!(1.5)),
        ("exp", json!(u64::MAX)),
        ("exp", json!("1")),
        ("csrf", json!("")),
        ("amr", json!(["pwd"])),
        ("amr", json!({ "pwd": "yes" })),
        ("dot", json!({ "w": "AAAA", "n": 1 })),
        ("dot", json!({ "w": encode_base64url([0; 20]) })),
        ("epoch", json!({ "r": 4_294_967_296_u64, "at": 0 })),
        ("epoch", json!({ "r": 1 })),
    ] {
        let mut claims = session().claims();
        claims[name] = wrong.clone();
        let cookie = jws::sign(Kind::Session, &claims, &key).expect("a cookie");
        let outcome = verify(&cookie, &keys, NOW_MS);
        assert!(
            matches!(outcome, Err(SessionError::Claim(_))),
            "{name} {wrong}: {outcome:?}"
        );
    }
}

#[test]
fn whose_key_it_is_decides_what_to_do_next() {
    let (ours, other) = (key(1), key(2));
    let cookie = session().sign(&ours).expect("a cookie");
    let unknown = verify(&cookie, &keys(&[&other], Usage::Session), NOW_MS);
    assert_eq!(unknown, Err(SessionError::UnknownKey), "perhaps not here yet");
    let mut revoked = keys(&[&ours, &other], Usage::Session);
    revoked.revoke(ours.kid()).expect("few keys");
    let outcome = verify(&cookie, &revoked, NOW_MS);
    assert_eq!(outcome, Err(SessionError::Invalid(JwsError::RevokedKey)));
    let certificates = keys(&[&ours], Usage::Certificate);
    assert_eq!(
        verify(&cookie, &certificates, NOW_MS),
        Err(SessionError::Invalid(JwsError::Usage))
    );
    let long = "a".repeat(COOKIE_BYTES_MAX + 1);
    assert_eq!(
        verify(&long, &certificates, NOW_MS),
        Err(SessionError::Invalid(JwsError::TooLong))
    );
}

#[test]
fn a_known_signature_still_needs_its_key() {
    let key = key(1);
    let mut keys = keys(&[&key], Usage::Session);
    let cache = SignatureCache::new(4);
    let cookie = session().sign(&key).expect("a cookie");
    for _ in 0..2 {
        assert_eq!(Session::verify(&cookie, &keys, &cache, NOW_MS), Ok(session()));
        assert_eq!(cache.len(), 1);
    }
    let outcome = Session::verify(&cookie, &keys, &cache, NOW_MS + LIFETIME_MS);
    assert_eq!(outcome, Err(SessionError::Over));
    keys.revoke(key.kid()).expect("few keys");
    let outcome = Session::verify(&cookie, &keys, &cache, NOW_MS);
    assert_eq!(outcome, Err(SessionError::Invalid(JwsError::RevokedKey)));
    let none = KeySet::ours(Usage::Session);
    assert_eq!(
        Session::verify(&cookie, &none, &cache, NOW_MS),
        Err(SessionError::UnknownKey)
    );
}

#[test]
fn the_cache_is_bounded_and_remembers_only_what_is_good() {
    let key = key(1);
    let keys = keys(&[&key], Usage::Session);
    let cache = SignatureCache::new(4);
    let cookies: Vec<_> = (0..20)
        .map(|id| {
            Session {
                id: [id; 16],
                ..session()
            }
            .sign(&key)
            .expect("a cookie")
        })
        .collect();
    for cookie in &cookies {
        Session::verify(cookie, &keys, &cache, NOW_MS).expect("a session");
        assert!(cache.len() <= 4);
        // One that is asked for again and again is not forgotten.
        Session::verify(&cookies[0], &keys, &cache, NOW_MS).expect("a session");
    }
    // The first character after the last dot is all signature; the last one would be half padding.
    let (signed, signature) = cookies[0].rsplit_once('.').expect("a signature");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let bad = format!("{signed}.{other}{}", &signature[1..]);
    let empty = SignatureCache::new(4);
    assert!(Session::verify(&bad, &keys, &empty, NOW_MS).is_err());
    assert!(empty.is_empty());
}

#[test]
fn a_browser_knows_the_accounts_that_it_signed_in_to() {
    let key = key(1);
    let keys = keys(&[&key], Usage::Session);
    let account = |byte| AccountId::from_bytes([byte; 15]);
    let mut device = Device::new([1; 16]);
    for byte in 0..20 {
        device.signed_in(Known {
            account: account(byte),
            resets: 3,
            signed_in_ms: NOW_MS + u64::from(byte),
        });
    }
    let cookie = device.sign(&key).expect("a cookie");
    assert!(cookie.len() <= COOKIE_BYTES_MAX, "{} bytes", cookie.len());
    assert_eq!(
        Device::verify(&cookie, &keys, &SignatureCache::new(8)),
        Ok(device.clone())
    );
    assert!(device.knows(account(19), 3, NOW_MS));
    assert!(device.knows(account(12), 3, NOW_MS));
    assert!(!device.knows(account(11), 3, NOW_MS), "forgotten for newer ones");
    assert!(!device.knows(account(19), 4, NOW_MS), "reset since");
    assert!(!device.knows(account(19), 3, NOW_MS + 19 + REMEMBERED_MS));
    // One is never taken for the other, though the same key signs both.
    assert_eq!(
        verify(&cookie, &keys, NOW_MS),
        Err(SessionError::Invalid(JwsError::Kind))
    );
    let session = session().sign(&key).expect("a cookie");
    assert_eq!(
        Device::verify(&session, &keys, &SignatureCache::new(8)),
        Err(SessionError::Invalid(JwsError::Kind))
    );
}

use super::device::REMEMBERED_MS;

#[test]
fn what_is_signed_is_what_the_table_says() {
    let cookie = session().sign(&key(1)).expect("a cookie");
    let payload = decode_base64url(cookie.split('.').nth(1).expect("a payload")).expect("base64url");
    let claims: Value = serde_json::from_slice(&payload).expect("JSON");
    let expected = json!({
        "jti": "AQEBAQEBAQEBAQEBAQEBAQ",
        "sub": "AgICAgICAgICAgICAgIC",
        "iat": NOW_MS,
        "exp": NOW_MS + LIFETIME_MS,
        "csrf": "AwMDAwMDAwMDAwMDAwMDAw",
        "amr": { "pwd": NOW_MS },
        "dot": { "w": encode_base64url(session().last_dot.expect("a dot").writer.to_bytes()), "n": 7 },
        "epoch": { "r": 8, "at": Hlc::new(NOW_MS, 9).to_u64() },
    });
    assert_eq!(claims, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_flipped_bit_leaves_a_session(at: prop::sample::Index, bit in 0..8_u8) {
        let key = key(1);
        let mut cookie = session().sign(&key).expect("a cookie").into_bytes();
        let at = at.index(cookie.len());
        cookie[at] ^= 1 << bit;
        if let Ok(cookie) = String::from_utf8(cookie) {
            prop_assert!(verify(&cookie, &keys(&[&key], Usage::Session), NOW_MS).is_err());
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text: String) {
        let keys = KeySet::ours(Usage::Session);
        prop_assert!(verify(&text, &keys, NOW_MS).is_err());
        prop_assert!(Device::verify(&text, &keys, &SignatureCache::new(8)).is_err());
    }
}
