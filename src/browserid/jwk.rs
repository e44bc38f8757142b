//! Public keys: read from a JWK, or from a support document's older form, and written as a JWK.
//!
//! A key says by itself which algorithm it is for: P-256 is ES256, RSA is RS256, and nothing else is either. `p256`
//! reads points and judges whether they lie on the curve; `aws-lc-rs` verifies, being six times faster.
//!
//! Promise: a [`PublicKey`] is a point of P-256 other than infinity, or an odd RSA modulus of 2048 to 8192 bits with
//! an odd exponent from 65537 to 32 bits. It came from one encoding only: what has another is refused.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use p256::{ecdsa::Signature, elliptic_curve::sec1::ToSec1Point};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    json::{JsonError, Object, encode_base64url},
    rsa::RsaKey,
};

/// Signature algorithms of RFC 7518 §3.1 that are known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256; the signature is r and s, 32 bytes each (RFC 7518 §3.4).
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3). Accepted from primaries, never made.
    Rs256,
}

impl Algorithm {
    /// As a header or a key names it.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
        }
    }

    /// The one with this name, letter by letter.
    pub fn named(name: &str) -> Option<Algorithm> {
        [Algorithm::Es256, Algorithm::Rs256]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// A public key that verifies signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublicKey {
    /// Of a browser, of a site of ours, or of a primary.
    P256(P256Key),
    /// Of a primary.
    Rsa(RsaKey),
}

/// Why a key is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not JSON as it should be.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A kind of key that is not known here; among several it is passed over (RFC 7517 §5).
    #[error("a key of this kind is not supported: P-256 or RSA is")]
    Unsupported,
    /// DSA keys were the original's; FIPS 186-5 no longer has them.
    #[error("DSA keys are no longer supported: publish a P-256 key as a JWK")]
    Dsa,
    /// The coordinates are no point of the curve.
    #[error("not a point of P-256")]
    NotAPoint,
    /// The modulus is even, or too short or long.
    #[error("an RSA modulus must be odd and have 2048 to 8192 bits")]
    Modulus,
    /// The exponent is even, or out of bounds.
    #[error("an RSA exponent must be odd, at least 65537 and at most 32 bits long")]
    Exponent,
    /// The private half is in it: whoever published it has no secret any more.
    #[error("a private key was given where a public one belongs")]
    Private,
    /// It says that it is for something else: another algorithm, or encryption.
    #[error("the key says that it is not for signatures of its kind")]
    NotForThis,
    /// More than are looked at.
    #[error("too many keys")]
    TooMany,
}

impl PublicKey {
    /// Reads a JWK (RFC 7517 §4, RFC 7518 §6).
    pub fn from_jwk(jwk: &Object) -> Result<PublicKey, KeyError> {
        // RFC 7518 §6.2.2 and §6.3.2: `d` is the private half of either kind, the others help RSA's.
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
            .iter()
            .any(|name| jwk.has(name))
        {
            return Err(KeyError::Private);
        }
        let key = match jwk.text("kty")? {
            "EC" if jwk.text("crv")? == "P-256" => {
                PublicKey::P256(P256Key::from_coordinates(&jwk.array("x")?, &jwk.array("y")?)?)
            }
            "RSA" => PublicKey::Rsa(RsaKey::new(jwk.bytes("n")?, &jwk.bytes("e")?)?),
            _ => return Err(KeyError::Unsupported),
        };
        let algorithm = jwk.optional_text("alg")?;
        if algorithm.is_some_and(|name| name != key.algorithm().name())
            || jwk.optional_text("use")?.is_some_and(|name| name != "sig")
        {
            return Err(KeyError::NotForThis);
        }
        Ok(key)
    }

    /// Reads what a support document has under `public-key`: a JWK, or the original's own form, in which RSA numbers
    /// are decimal strings.
    pub fn from_support_document(key: &Object) -> Result<PublicKey, KeyError> {
        match key.optional_text("algorithm")? {
            None => PublicKey::from_jwk(key),
            Some("RS") if key.has("d") => Err(KeyError::Private),
            Some("RS") => Ok(PublicKey::Rsa(RsaKey::from_decimal(
                key.text("n")?,
                key.text("e")?,
            )?)),
            Some("DS") => Err(KeyError::Dsa),
            Some(_) => Err(KeyError::Unsupported),
        }
    }

    /// What it verifies.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            PublicKey::P256(_) => Algorithm::Es256,
            PublicKey::Rsa(_) => Algorithm::Rs256,
        }
    }

    /// Whether this signature of this message was made with its private half.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            PublicKey::P256(key) => key.verifies(message, signature),
            PublicKey::Rsa(key) => key.verifies(message, signature),
        }
    }

    /// The JWK with the members that it must have, and no other.
    pub fn to_jwk(&self) -> Value {
        let members = self.required().into_iter();
        Value::Object(
            members
                .map(|(name, text)| (name.to_owned(), text.into()))
                .collect(),
        )
    }

    /// The SHA-256 thumbprint of RFC 7638, in base64url: the `kid` of our own keys.
    pub fn thumbprint(&self) -> String {
        // RFC 7638 §3: the required members, sorted by name, without white space. None has a sign to escape.
        let members: Vec<_> = self
            .required()
            .into_iter()
            .map(|(name, text)| format!("\"{name}\":\"{text}\""))
            .collect();
        encode_base64url(Sha256::digest(format!("{{{}}}", members.join(","))))
    }

    /// The members that RFC 7638 §3.2 calls required, sorted by name.
    fn required(&self) -> Vec<(&'static str, String)> {
        match self {
            PublicKey::P256(key) => {
                let (x, y) = key.coordinates();
                vec![("crv", "P-256".into()), ("kty", "EC".into()), ("x", x), ("y", y)]
            }
            PublicKey::Rsa(key) => vec![
                ("e", encode_base64url(key.exponent())),
                ("kty", "RSA".into()),
                ("n", encode_base64url(key.modulus())),
            ],
        }
    }
}

/// A point of P-256 that verifies ES256.
#[derive(Clone)]
pub struct P256Key {
    point: p256::PublicKey,
    verifier: ParsedPublicKey,
}

impl P256Key {
    /// The point with these coordinates, big-endian.
    pub fn from_coordinates(x: &[u8; 32], y: &[u8; 32]) -> Result<P256Key, KeyError> {
        // SEC 1 §2.3.3: an uncompressed point is 4, x, y; infinity cannot be said so.
        P256Key::from_sec1(&[&[4], x.as_slice(), y.as_slice()].concat())
    }

    /// The point in the uncompressed form of SEC 1 §2.3.3: how the cluster record keeps it.
    pub fn from_sec1(bytes: &[u8]) -> Result<P256Key, KeyError> {
        if bytes.len() != SEC1_BYTES {
            return Err(KeyError::NotAPoint);
        }
        let point = p256::PublicKey::from_sec1_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        P256Key::of(point)
    }

    pub(super) fn of(point: p256::PublicKey) -> Result<P256Key, KeyError> {
        let verifier = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, uncompressed(&point))
            .map_err(|_| KeyError::NotAPoint)?;
        Ok(P256Key { point, verifier })
    }

    /// The uncompressed form of SEC 1 §2.3.3.
    pub fn to_sec1(&self) -> [u8; SEC1_BYTES] {
        uncompressed(&self.point)
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        // 64 bytes, r and s from 1 to n - 1: judged here, so that the one who verifies need not be trusted with it.
        Signature::from_slice(signature).is_ok() && self.verifier.verify_sig(message, signature).is_ok()
    }

    fn coordinates(&self) -> (String, String) {
        let bytes = self.to_sec1();
        let (x, y) = bytes.split_at(1).1.split_at(32);
        (encode_base64url(x), encode_base64url(y))
    }
}

/// Bytes of an uncompressed point.
pub const SEC1_BYTES: usize = 65;

fn uncompressed(point: &p256::PublicKey) -> [u8; SEC1_BYTES] {
    let mut bytes = [0; SEC1_BYTES];
    // A public key is never infinity, so this has the length that it always has.
    let point = point.to_sec1_point(false);
    for (to, from) in bytes.iter_mut().zip(point.as_bytes()) {
        *to = *from;
    }
    bytes
}

impl PartialEq for P256Key {
    fn eq(&self, other: &P256Key) -> bool {
        self.point == other.point
    }
}

impl Eq for P256Key {}

impl fmt::Debug for P256Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P256Key({})", self.coordinates().0)
    }
}
