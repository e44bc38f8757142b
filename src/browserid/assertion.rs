//! Assertions: a browser's key speaks to one relying party, for two minutes.
//!
//! Claims: `aud` is the relying party's origin, `exp` is in milliseconds since 1970 as in certificates, and `nonce`
//! is there if the relying party gave one. What a relying party gets is a *backed* assertion: the certificate, a
//! tilde, the assertion.

use serde_json::json;

use super::{
    certificate::{Certificate, CertificateError},
    json::JsonError,
    jws::{self, JwsError, Kind, TOKEN_BYTES_MAX, Unverified},
    keys::KeySet,
    signing_key::{SigningKey, SigningKeyError},
};

/// How long the dialog makes an assertion good for.
pub const LIFETIME_MS: u64 = 2 * 60 * 1000;
/// Bytes of a relying party's nonce at most.
pub const NONCE_BYTES_MAX: usize = 256;
/// Bytes of a backed assertion: the original's rule for the argument.
pub const BACKED_BYTES: std::ops::RangeInclusive<usize> = 50..=TOKEN_BYTES_MAX;

/// An assertion to be made, as the dialog's script does it: for tests, and to play browsers under load.
#[derive(Clone, Copy, Debug)]
pub struct NewAssertion<'a> {
    /// The relying party's origin.
    pub audience: &'a str,
    /// Until when, in milliseconds since 1970.
    pub expires_ms: u64,
    /// What the relying party gave.
    pub nonce: Option<&'a str>,
}

impl NewAssertion<'_> {
    /// Signs it with the browser's key, and puts the certificate before it.
    pub fn back(&self, certificate: &str, key: &SigningKey) -> Result<String, SigningKeyError> {
        let mut claims = json!({ "aud": self.audience, "exp": self.expires_ms });
        if let Some(nonce) = self.nonce {
            claims["nonce"] = nonce.into();
        }
        let assertion = jws::sign(Kind::Assertion, &claims, key)?;
        Ok(format!("{certificate}~{assertion}"))
    }
}

/// An assertion that could be read. Nobody has vouched for it yet.
#[derive(Clone, Debug)]
pub struct Assertion<'a> {
    jws: Unverified<'a>,
    audience: String,
    issued_ms: Option<u64>,
    expires_ms: u64,
    nonce: Option<String>,
}

/// Why an assertion cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a token of this kind.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A claim is missing or malformed.
    #[error(transparent)]
    Claim(#[from] JsonError),
}

impl<'a> Assertion<'a> {
    /// Reads an assertion without its certificate.
    pub fn parse(token: &'a str) -> Result<Assertion<'a>, AssertionError> {
        let jws = Unverified::parse(Kind::Assertion, token)?;
        let claims = jws.claims();
        let nonce = claims.optional_text("nonce")?;
        if nonce.is_some_and(|nonce| nonce.len() > NONCE_BYTES_MAX) {
            return Err(JsonError::Malformed("nonce").into());
        }
        Ok(Assertion {
            audience: claims.text("aud")?.to_owned(),
            issued_ms: claims.optional_time_ms("iat")?,
            expires_ms: claims.time_ms("exp")?,
            nonce: nonce.map(str::to_owned),
            jws,
        })
    }

    /// The origin that it was made for.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// When, if it says so, in milliseconds since 1970.
    pub fn issued_ms(&self) -> Option<u64> {
        self.issued_ms
    }

    /// Until when, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// What the relying party gave.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// Whether this key signed it.
    pub fn verify(&self, keys: &KeySet) -> Result<(), JwsError> {
        self.jws.verify(keys)
    }
}

/// A certificate and an assertion that could be read. Nobody has vouched for either yet.
#[derive(Clone, Debug)]
pub struct BackedAssertion<'a> {
    pub(super) certificate: Certificate<'a>,
    pub(super) assertion: Assertion<'a>,
}

/// Why a backed assertion cannot be read. The first three texts are the original's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackedError {
    /// Too short, too long, or a part is empty.
    #[error("malformed backed assertion")]
    Malformed,
    /// Nothing but an assertion.
    #[error("no certificates provided")]
    NoCertificates,
    /// More than one certificate.
    #[error("certificate chaining is not yet allowed")]
    Chain,
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The assertion.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
}

impl<'a> BackedAssertion<'a> {
    /// Reads `certificate~assertion`.
    pub fn parse(text: &'a str) -> Result<BackedAssertion<'a>, BackedError> {
        if !BACKED_BYTES.contains(&text.len()) {
            return Err(BackedError::Malformed);
        }
        let (certificates, assertion) = text.rsplit_once('~').ok_or(BackedError::NoCertificates)?;
        if certificates.split('~').any(str::is_empty) || assertion.is_empty() {
            return Err(BackedError::Malformed);
        }
        if certificates.contains('~') {
            return Err(BackedError::Chain);
        }
        Ok(BackedAssertion {
            certificate: Certificate::parse(certificates)?,
            assertion: Assertion::parse(assertion)?,
        })
    }

    /// Says whose address, and by whom: what to look up before it can be verified.
    pub fn certificate(&self) -> &Certificate<'a> {
        &self.certificate
    }

    /// Says to whom, and until when.
    pub fn assertion(&self) -> &Assertion<'a> {
        &self.assertion
    }
}
