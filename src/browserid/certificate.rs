//! Certificates: an issuer says that a browser's key speaks for an address, for a while.
//!
//! The claims are the original's, so that what reads its certificates reads these: `iss`, `iat`, `exp`, `public-key`,
//! `principal: {email}`. Two things are to be known of the times. They are **milliseconds** since 1970, as in all
//! that was ever deployed and as in the verifier's `expires`; RFC 7519 §2 would have seconds. And `iat` is dated back
//! by [`BACKDATED_MS`], as the original's certifiers did, for its verifiers took no `iat` from the future; but never to
//! before what the certificate rests on, because a certificate from before the owner's claim or session epoch counts
//! as revoked.

use serde_json::json;

use super::{
    domain::Domain,
    json::JsonError,
    jwk::{KeyError, PublicKey},
    jws::{self, JwsError, Kind, Unverified},
    keys::KeySet,
    signature_cache::SignatureCache,
    signing_key::{SigningKey, SigningKeyError},
};
use crate::identity::Address;

/// How long a certificate is good for in a browser of one's own.
pub const LIFETIME_MS: u64 = 24 * 3600 * 1000;
/// The same on a shared computer, or from a site that has heard no other for a while.
pub const SHORT_LIFETIME_MS: u64 = 3600 * 1000;
/// How far `iat` is dated back.
pub const BACKDATED_MS: u64 = 10_000;
/// How far `iat` may lie ahead of a verifier's clock. For `exp` there is no leeway.
pub const LEEWAY_MS: u64 = 60_000;

/// How often the owner's password had been reset: what our own verifiers compare, because a time does not tell who had not heard
/// of a reset. Nobody else needs it; where it is nought, as it mostly is, it is left out.
const RESETS: &str = "resets";

/// A certificate to be made. That it may be made has been judged before.
#[derive(Clone, Debug)]
pub struct NewCertificate<'a> {
    /// Our own domain.
    pub issuer: &'a Domain,
    /// Whose address.
    pub email: &'a Address,
    /// The browser's key.
    pub public_key: &'a PublicKey,
    /// Now.
    pub now_ms: u64,
    /// The later of the claim's `done` and the owner's `session_epoch`, in milliseconds.
    pub rests_on_ms: u64,
    /// How often the owner's password had been reset, as far as is known where it is made.
    pub resets: u32,
    /// On a shared computer, or at an isolated site.
    pub short: bool,
    /// When the session that asks ends: nothing that comes of it outlives it.
    pub session_ends_ms: u64,
}

/// Why a certificate was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Certificates are for P-256 keys.
    #[error("the key to certify is not a P-256 key")]
    Key,
    /// The session is over.
    #[error("the session is over")]
    SessionOver,
    /// What it rests on was written by a clock so far ahead that no verifier would take it. It passes.
    #[error("the account's record is ahead of this clock; try again in {retry_after_ms} ms")]
    Ahead {
        /// When it will have passed.
        retry_after_ms: u64,
    },
    /// The key could not sign.
    #[error(transparent)]
    Sign(#[from] SigningKeyError),
}

impl NewCertificate<'_> {
    /// Signs it.
    pub fn issue(&self, key: &SigningKey) -> Result<String, IssueError> {
        if !matches!(self.public_key, PublicKey::P256(_)) {
            return Err(IssueError::Key);
        }
        if self.session_ends_ms <= self.now_ms {
            return Err(IssueError::SessionOver);
        }
        let ahead_ms = self.rests_on_ms.saturating_sub(self.now_ms);
        if ahead_ms > LEEWAY_MS {
            return Err(IssueError::Ahead {
                retry_after_ms: ahead_ms - LEEWAY_MS,
            });
        }
        let lifetime_ms = if self.short {
            SHORT_LIFETIME_MS
        } else {
            LIFETIME_MS
        };
        let issued_ms = self.now_ms.saturating_sub(BACKDATED_MS).max(self.rests_on_ms);
        let expires_ms = self.now_ms.saturating_add(lifetime_ms).min(self.session_ends_ms);
        let mut claims = json!({
            "iss": self.issuer.as_str(),
            "iat": issued_ms,
            "exp": expires_ms,
            "public-key": self.public_key.to_jwk(),
            "principal": { "email": self.email.typed() },
        });
        if self.resets > 0 {
            claims[RESETS] = self.resets.into();
        }
        Ok(jws::sign(Kind::Certificate, &claims, key)?)
    }
}

/// A certificate that could be read. Nobody has vouched for it yet.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    jws: Unverified<'a>,
    issuer: Domain,
    issued_ms: u64,
    expires_ms: u64,
    public_key: PublicKey,
    email: Address,
    resets: u32,
}

/// Why a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a token of this kind.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A claim is missing or malformed.
    #[error(transparent)]
    Claim(#[from] JsonError),
    /// The issuer is no domain.
    #[error("the issuer is not a domain name")]
    Issuer,
    /// The key is none, or not a browser's.
    #[error("the certified key: {0}")]
    Key(#[from] KeyError),
    /// The principal has no address.
    #[error("missing email")]
    MissingEmail,
    /// The principal's address was never verified: not certified here, and not taken.
    #[error("unverified email")]
    UnverifiedEmail,
    /// The principal's address is none.
    #[error("invalid email")]
    InvalidEmail,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate, ours or a primary's.
    pub fn parse(token: &'a str) -> Result<Certificate<'a>, CertificateError> {
        let jws = Unverified::parse(Kind::Certificate, token)?;
        let claims = jws.claims();
        let issuer = Domain::parse(claims.text("iss")?).ok_or(CertificateError::Issuer)?;
        let issued_ms = claims.time_ms("iat")?;
        let expires_ms = claims.time_ms("exp")?;
        let public_key = PublicKey::from_jwk(&claims.object("public-key")?)?;
        if !matches!(public_key, PublicKey::P256(_)) {
            return Err(KeyError::Unsupported.into());
        }
        let resets = if claims.has(RESETS) {
            u32::try_from(claims.number(RESETS)?).map_err(|_| JsonError::Malformed(RESETS))?
        } else {
            0
        };
        let principal = claims.optional_object("principal")?.unwrap_or_default();
        let email = match principal.optional_text("email")? {
            Some(email) => Address::parse(email).map_err(|_| CertificateError::InvalidEmail)?,
            None if principal.has("unverified-email") => return Err(CertificateError::UnverifiedEmail),
            None => return Err(CertificateError::MissingEmail),
        };
        Ok(Certificate {
            issuer,
            issued_ms,
            expires_ms,
            public_key,
            email,
            resets,
            jws,
        })
    }

    /// Who says that they issued it.
    pub fn issuer(&self) -> &Domain {
        &self.issuer
    }

    /// Whose address it is about.
    pub fn email(&self) -> &Address {
        &self.email
    }

    /// The browser's key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// When, in milliseconds since 1970.
    pub fn issued_ms(&self) -> u64 {
        self.issued_ms
    }

    /// Until when, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// How often the owner's password had been reset, as far as its issuer knew; of ours alone.
    pub fn resets(&self) -> u32 {
        self.resets
    }

    /// The name of the issuer's key that it says it was signed with.
    pub fn kid(&self) -> Option<&str> {
        self.jws.kid()
    }

    /// Whether one of these keys signed it.
    pub fn verify(&self, keys: &KeySet) -> Result<(), JwsError> {
        self.jws.verify(keys)
    }

    /// The same, for keys of ours: a signature that is known to be good is not looked at again.
    pub fn verify_ours(&self, keys: &KeySet, signatures: &SignatureCache) -> Result<(), JwsError> {
        signatures.verify(&self.jws, keys)
    }
}
