//! Keys: their forms, and each of the two libraries checked by the other.

use p256::ecdsa::{
    Signature,
    signature::{Signer, Verifier},
};
use proptest::prelude::*;

use super::*;

#[test]
fn a_p256_key_comes_back_from_its_jwk_and_from_its_point() {
    let key = key(1);
    let jwk = key.public().to_jwk();
    assert_eq!(PublicKey::from_jwk(&object(&jwk)).as_ref(), Ok(key.public()));
    let PublicKey::P256(point) = key.public() else {
        panic!("a P-256 key");
    };
    assert_eq!(P256Key::from_sec1(&point.to_sec1()).as_ref(), Ok(point));
    assert_eq!(
        P256Key::from_sec1(&point.to_sec1()[..64]),
        Err(KeyError::NotAPoint)
    );
    assert_eq!(P256Key::from_sec1(&[0]), Err(KeyError::NotAPoint), "infinity");
    let compressed = p256::PublicKey::from_sec1_bytes(&point.to_sec1()).map(|point| {
        let compressed: p256::CompressedPoint = point.into();
        compressed
    });
    let compressed = compressed.expect("a point");
    assert_eq!(
        P256Key::from_sec1(&compressed),
        Err(KeyError::NotAPoint),
        "has one form"
    );
}

#[test]
fn a_jwk_that_is_not_exactly_a_key_is_refused() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), expected: &KeyError) {
        let mut jwk = key(1).public().to_jwk();
        change(&mut jwk);
        assert_eq!(
            PublicKey::from_jwk(&object(&jwk)).as_ref(),
            Err(expected),
            "{jwk}"
        );
    }
    let malformed = |name| KeyError::Json(json::JsonError::Malformed(name));
    let missing = |name| KeyError::Json(json::JsonError::Missing(name));
    let remove = |name: &'static str| {
        move |jwk: &mut Value| {
            jwk.as_object_mut().expect("an object").remove(name);
        }
    };
    let zero = encode_base64url([0; 32]);
    // The field's prime itself, and more: a coordinate has one form only.
    let prime = "_____wAAAAEAAAAAAAAAAAAAAAD_______________8";

    check(remove("kty"), &missing("kty"));
    check(remove("crv"), &missing("crv"));
    check(remove("x"), &missing("x"));
    check(remove("y"), &missing("y"));
    check(|jwk| jwk["kty"] = "OKP".into(), &KeyError::Unsupported);
    check(|jwk| jwk["kty"] = "oct".into(), &KeyError::Unsupported);
    check(|jwk| jwk["kty"] = "ec".into(), &KeyError::Unsupported);
    check(|jwk| jwk["kty"] = json!(["EC"]), &malformed("kty"));
    check(|jwk| jwk["crv"] = "P-384".into(), &KeyError::Unsupported);
    check(|jwk| jwk["crv"] = "secp256k1".into(), &KeyError::Unsupported);
    check(|jwk| jwk["x"] = "".into(), &malformed("x"));
    check(|jwk| jwk["x"] = encode_base64url([1; 31]).into(), &malformed("x"));
    check(|jwk| jwk["x"] = encode_base64url([0; 33]).into(), &malformed("x"));
    check(
        |jwk| jwk["x"] = format!("{}=", jwk["x"].as_str().expect("text")).into(),
        &malformed("x"),
    );
    check(|jwk| jwk["x"] = json!(5), &malformed("x"));
    check(|jwk| jwk["x"] = prime.into(), &KeyError::NotAPoint);
    check(|jwk| jwk["y"] = prime.into(), &KeyError::NotAPoint);
    check(
        |jwk| jwk["y"] = encode_base64url([255; 32]).into(),
        &KeyError::NotAPoint,
    );
    check(|jwk| jwk["y"] = zero.clone().into(), &KeyError::NotAPoint);
    check(|jwk| jwk["x"] = zero.clone().into(), &KeyError::NotAPoint);
    check(|jwk| jwk["y"] = jwk["x"].clone(), &KeyError::NotAPoint);
    check(
        |jwk| {
            jwk["x"] = zero.clone().into();
            jwk["y"] = zero.clone().into();
        },
        &KeyError::NotAPoint,
    );
    check(
        |jwk| jwk["d"] = encode_base64url([1; 32]).into(),
        &KeyError::Private,
    );
    check(|jwk| jwk["alg"] = "ES384".into(), &KeyError::NotForThis);
    check(|jwk| jwk["alg"] = "RS256".into(), &KeyError::NotForThis);
    check(|jwk| jwk["alg"] = "none".into(), &KeyError::NotForThis);
    check(|jwk| jwk["use"] = "enc".into(), &KeyError::NotForThis);
    let mut jwk = key(1).public().to_jwk();
    jwk["alg"] = "ES256".into();
    jwk["use"] = "sig".into();
    jwk["kid"] = "any".into();
    assert_eq!(PublicKey::from_jwk(&object(&jwk)).as_ref(), Ok(key(1).public()));
}

#[test]
fn an_rsa_key_has_2048_to_8192_bits_and_a_sane_exponent() {
    #[track_caller]
    fn check(modulus: &[u8], exponent: &[u8], expected: Result<(), KeyError>) {
        let key = RsaKey::new(modulus.to_vec(), exponent).map(|_| ());
        assert_eq!(key, expected, "{} bytes, {exponent:?}", modulus.len());
    }
    let f4 = [1, 0, 1];
    let modulus = |bytes: usize, first: u8, last: u8| {
        let mut modulus = vec![0x55; bytes];
        modulus[0] = first;
        modulus[bytes - 1] = last;
        modulus
    };
    check(&modulus(256, 0x80, 1), &f4, Ok(()));
    check(&modulus(1024, 0xff, 1), &f4, Ok(()));
    check(&modulus(256, 0x7f, 1), &f4, Err(KeyError::Modulus));
    check(&modulus(128, 0x80, 1), &f4, Err(KeyError::Modulus));
    check(&modulus(1025, 0x01, 1), &f4, Err(KeyError::Modulus));
    check(&modulus(256, 0x80, 2), &f4, Err(KeyError::Modulus));
    check(&modulus(257, 0, 1), &f4, Err(KeyError::Modulus));
    check(&[], &f4, Err(KeyError::Modulus));
    let modulus = modulus(256, 0x80, 1);
    check(&modulus, &[255, 255, 255, 255], Ok(()));
    check(&modulus, &[], Err(KeyError::Exponent));
    check(&modulus, &[0], Err(KeyError::Exponent));
    check(&modulus, &[1], Err(KeyError::Exponent));
    check(&modulus, &[3], Err(KeyError::Exponent));
    check(&modulus, &[1, 0, 0], Err(KeyError::Exponent));
    check(&modulus, &[0, 1, 0, 1], Err(KeyError::Exponent));
    check(&modulus, &[1, 0, 0, 0, 1], Err(KeyError::Exponent));
    check(&modulus, &modulus, Err(KeyError::Exponent));
}

#[test]
fn an_rsa_number_in_decimal_is_the_same_number() {
    let jwk = object(&json!({ "kty": "RSA", "n": vectors::A2_MODULUS, "e": "AQAB" }));
    let key = PublicKey::from_jwk(&jwk).expect("a key");
    let legacy = |n: &str, e: &str| {
        PublicKey::from_support_document(&object(&json!({ "algorithm": "RS", "n": n, "e": e })))
    };
    assert_eq!(legacy(vectors::A2_MODULUS_DECIMAL, "65537"), Ok(key));
    for wrong in [
        "", "0", "-1", "+1", "0x10001", "1e9", " 65537", "065537", "65537.0", "\u{661}", "3",
    ] {
        assert_eq!(
            legacy(vectors::A2_MODULUS_DECIMAL, wrong),
            Err(KeyError::Exponent),
            "{wrong:?}"
        );
    }
    let digits = "9".repeat(2468);
    for wrong in ["", "0", "17", "a", &digits, &digits[..2467]] {
        assert_eq!(legacy(wrong, "65537"), Err(KeyError::Modulus), "{wrong:?}");
    }
}

#[test]
fn an_old_support_document_says_what_to_do() {
    let dsa = object(&json!({ "algorithm": "DS", "y": "1", "p": "2", "q": "3", "g": "4" }));
    let refused = PublicKey::from_support_document(&dsa).expect_err("DSA");
    assert_eq!(refused, KeyError::Dsa);
    assert!(refused.to_string().contains("P-256"));
    let private = object(&json!({ "algorithm": "RS", "n": "1", "e": "1", "d": "1" }));
    assert_eq!(PublicKey::from_support_document(&private), Err(KeyError::Private));
    let unknown = object(&json!({ "algorithm": "XX" }));
    assert_eq!(
        PublicKey::from_support_document(&unknown),
        Err(KeyError::Unsupported)
    );
}

#[test]
fn a_primary_publishes_one_key_or_several() {
    #[track_caller]
    fn check(document: &Value, expected: Option<&KeyError>) {
        let keys = KeySet::primary(&object(document));
        assert_eq!(keys.as_ref().err(), expected, "{document}");
    }
    let jwk = key(1).public().to_jwk();
    let named = |kid: &str| {
        let mut jwk = key(2).public().to_jwk();
        jwk["kid"] = kid.into();
        jwk
    };
    let other = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" });
    let encryption = json!({ "kty": "EC", "crv": "P-256", "x": jwk["x"], "y": jwk["y"], "use": "enc" });
    check(&json!({ "public-key": jwk }), None);
    check(&json!({ "keys": [named("a"), named("b")] }), None);
    check(&json!({ "public-key": jwk, "keys": [named("a")] }), None);
    check(&json!({ "keys": [other, encryption, named("a")] }), None);
    check(&json!({ "keys": [other] }), Some(&KeyError::Unsupported));
    check(&json!({ "keys": [encryption] }), Some(&KeyError::NotForThis));
    check(&json!({ "keys": vec![jwk.clone(); 9] }), Some(&KeyError::TooMany));
    let missing = KeyError::Json(json::JsonError::Missing("public-key"));
    check(&json!({}), Some(&missing));
    check(&json!({ "keys": [] }), Some(&missing));
    let malformed = |name| KeyError::Json(json::JsonError::Malformed(name));
    check(&json!({ "public-key": "AQAB" }), Some(&malformed("public-key")));
    check(&json!({ "keys": jwk }), Some(&malformed("keys")));
    check(&json!({ "keys": [jwk, 5] }), Some(&malformed("keys")));
    check(
        &json!({ "keys": [jwk, { "kty": "EC", "crv": "P-256", "x": "A", "y": "A" }] }),
        Some(&malformed("x")),
    );
}

#[test]
fn a_private_key_is_kept_in_pem_and_never_shown() {
    let key = key(1);
    let pem = key.to_pem().expect("a text");
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let read = SigningKey::from_pem(&pem).expect("a key");
    assert_eq!((read.public(), read.kid()), (key.public(), key.kid()));
    let signature = read.sign(b"message").expect("a signature");
    assert!(key.public().verifies(b"message", &signature));
    assert_eq!(
        format!("{key:?}"),
        format!("SigningKey {{ kid: {:?}, .. }}", key.kid())
    );
    for wrong in [
        "",
        "-----BEGIN PRIVATE KEY-----",
        &pem[..pem.len() / 2],
        &pem.replace("PRIVATE", "PUBLIC"),
    ] {
        assert_eq!(
            SigningKey::from_pem(wrong).err(),
            Some(SigningKeyError::Unreadable)
        );
    }
    // Made by somebody else: as the members' TLS keys are.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    assert!(SigningKey::from_pem(&other.serialize_pem()).is_ok());
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    assert_eq!(
        SigningKey::from_pem(&other.serialize_pem()).err(),
        Some(SigningKeyError::Unreadable)
    );
}

#[test]
fn a_signature_out_of_range_is_refused() {
    let public = key(1).public().clone();
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    let good = key(1).sign(b"message").expect("a signature");
    let (r, s) = good.split_at(32);
    assert!(public.verifies(b"message", &good));
    let both = |r: &[u8], s: &[u8]| [r, s].concat();
    for wrong in [
        vec![],
        vec![0; 64],
        both(&[0; 32], s),
        both(r, &[0; 32]),
        both(&order, s),
        both(r, &order),
        both(&[255; 32], s),
        both(r, &[255; 32]),
        both(s, r),
        both(&[0], &good),
        both(&good, &[0]),
        good[..63].to_vec(),
        both(&good, &good),
        Signature::from_slice(&good)
            .expect("a signature")
            .to_der()
            .as_bytes()
            .to_vec(),
    ] {
        assert!(!public.verifies(b"message", &wrong), "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_library_takes_what_the_other_signed(seed: u64, message: Vec<u8>) {
        let key = key(seed);
        let pem = key.to_pem().expect("a text");
        let other: p256::ecdsa::SigningKey = p256::SecretKey::from_pem(&pem).expect("a key").into();
        let signature = Signature::from_slice(&key.sign(&message).expect("a signature")).expect("in range");
        prop_assert!(other.verifying_key().verify(&message, &signature).is_ok());
        let signature: Signature = other.sign(&message);
        prop_assert!(key.public().verifies(&message, &signature.to_bytes()));
        let mut longer = message.clone();
        longer.push(0);
        prop_assert!(!key.public().verifies(&longer, &signature.to_bytes()));
    }

    #[test]
    fn no_bytes_make_a_key_panic(bytes: Vec<u8>, exponent: Vec<u8>, text: String) {
        let _ = P256Key::from_sec1(&bytes);
        let _ = RsaKey::new(bytes.clone(), &exponent);
        let _ = RsaKey::from_decimal(&text, &text);
        let _ = SigningKey::from_pem(&text);
        prop_assert!(!key(1).public().verifies(b"message", &bytes));
    }
}
