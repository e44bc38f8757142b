//! A private key of ours, or of a browser that a test or a load generator plays.
//!
//! `p256` makes and reads it; `aws-lc-rs` signs, being five times faster, and draws the nonce of each signature
//! itself. Both wipe it from memory when it is dropped. It is neither shown, nor compared, nor copied.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use p256::{
    SecretKey,
    elliptic_curve::Generate,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding},
};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::jwk::{P256Key, PublicKey};

/// A P-256 private key that signs ES256.
pub struct SigningKey {
    secret: SecretKey,
    signer: EcdsaKeyPair,
    public: PublicKey,
    kid: String,
}

/// Why there is no key, or no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The text is not a P-256 private key as PKCS#8 in PEM. The text is not repeated here.
    #[error("not a P-256 private key in PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`)")]
    Unreadable,
    /// The cryptographic library failed, which it does only when it has no memory or entropy.
    #[error("the cryptographic library failed")]
    Library,
}

impl SigningKey {
    /// A new key from these random bytes.
    pub fn generate(rng: &mut impl CryptoRng) -> Result<SigningKey, SigningKeyError> {
        SigningKey::of(SecretKey::generate_from_rng(rng))
    }

    /// Reads PKCS#8 (RFC 5958) in PEM.
    pub fn from_pem(pem: &str) -> Result<SigningKey, SigningKeyError> {
        SigningKey::of(SecretKey::from_pkcs8_pem(pem).map_err(|_| SigningKeyError::Unreadable)?)
    }

    /// Writes PKCS#8 (RFC 5958) in PEM, for a file that only its owner may read.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, SigningKeyError> {
        self.secret
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| SigningKeyError::Library)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What tokens name it by: its public half's thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The signature of a message: r and s, 32 bytes each.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningKeyError> {
        let signature = self
            .signer
            .sign(&SystemRandom::new(), message)
            .map_err(|_| SigningKeyError::Library)?;
        signature
            .as_ref()
            .try_into()
            .map_err(|_| SigningKeyError::Library)
    }

    fn of(secret: SecretKey) -> Result<SigningKey, SigningKeyError> {
        let point = P256Key::of(secret.public_key()).map_err(|_| SigningKeyError::Library)?;
        let scalar = Zeroizing::new(<[u8; 32]>::from(secret.to_bytes()));
        let signer = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar.as_slice(),
            &point.to_sec1(),
        )
        .map_err(|_| SigningKeyError::Library)?;
        let public = PublicKey::P256(point);
        let kid = public.thumbprint();
        Ok(SigningKey {
            secret,
            signer,
            public,
            kid,
        })
    }
}

/// Only what everybody may know.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}
