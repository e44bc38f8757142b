//! The protocol, tried as a whole: what is taken, and each thing that is refused.
#![allow(
    clippy::needless_pass_by_value,
    reason = "a table's lines read better without references"
)]

mod issuers;
mod keys;
mod tokens;
mod vectors;
mod verdicts;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{json::encode_base64url, *};
use crate::identity::Address;

/// Some time in 2027, in milliseconds since 1970.
const NOW_MS: u64 = 1_800_000_000_000;
const RP: &str = "https://rp.example";

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut StdRng::seed_from_u64(seed)).expect("a key")
}

fn ours(usage: Usage, of: &[&SigningKey]) -> KeySet {
    let mut keys = KeySet::ours(usage);
    for key in of {
        keys.add(key.public().clone()).expect("few keys");
    }
    keys
}

fn object(value: &Value) -> json::Object {
    json::Object::parse(value.to_string().as_bytes()).expect("an object")
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

/// Signs a header and a payload as they are, whatever they are.
fn signed(header: &str, payload: &str, key: &SigningKey) -> String {
    let message = format!("{}.{}", encode_base64url(header), encode_base64url(payload));
    let signature = key.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", encode_base64url(signature))
}

/// An RSA key of a primary: only tests have a private one.
struct Rsa(RsaKeyPair);

impl Rsa {
    fn generate(size: KeySize) -> Rsa {
        Rsa(RsaKeyPair::generate(size).expect("an RSA key"))
    }

    fn jwk(&self) -> Value {
        // RFC 8017 §A.1.1: a sequence of two integers; the exponent that is generated is 65537, five bytes in all.
        let der = self.0.public_key().as_ref();
        let end = der.len() - 5;
        json!({
            "kty": "RSA",
            "n": encode_base64url(&der[end - self.0.public_modulus_len()..end]),
            "e": encode_base64url(&der[end + 2..]),
        })
    }

    fn signed(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode_base64url(header), encode_base64url(payload));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{message}.{}", encode_base64url(signature))
    }
}
