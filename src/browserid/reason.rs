//! Why an assertion is not taken, in the original's words.

use super::{
    Domain, JwsError,
    assertion::{AssertionError, BackedError},
    audience::AudienceMismatch,
    certificate::CertificateError,
    jwk::KeyError,
};

/// Why an assertion is not taken. The text goes to the relying party as `reason`; where the original had one it is
/// that, because some relying parties compare it. None holds an address or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not a certificate and an assertion.
    #[error("malformed backed assertion")]
    Malformed,
    /// Only an assertion.
    #[error("no certificates provided")]
    NoCertificates,
    /// Several certificates.
    #[error("certificate chaining is not yet allowed")]
    Chain,
    /// The certificate or the assertion cannot be read.
    #[error("malformed signature")]
    MalformedSignature,
    /// The assertion is not signed by the key in the certificate.
    #[error("invalid signature")]
    InvalidSignature,
    /// The certificate is not signed by a key of its issuer. A primary may have changed its key since its document
    /// was read: read it anew, once.
    #[error("bad signature in chain")]
    BadSignatureInChain,
    /// The certificate's signing key was revoked.
    #[error("the certificate's signing key was revoked")]
    RevokedKey,
    /// The certificate or the assertion is over.
    #[error("assertion has expired")]
    Expired,
    /// The certificate or the assertion is from the future, beyond the leeway.
    #[error("assertion issued later than verification date")]
    IssuedLater,
    /// Made for another site.
    #[error("audience mismatch: {0}")]
    Audience(#[from] AudienceMismatch),
    /// The domain's support document has no key that can be used.
    #[error("can't get public key for {domain}: {why}")]
    NoPublicKey {
        /// Of the document.
        domain: Domain,
        /// What is wrong with its keys.
        why: KeyError,
    },
    /// The issuer does not speak for the address's domain.
    #[error("untrusted issuer, expected '{expected}', got '{got}'")]
    UntrustedIssuer {
        /// Who speaks for it.
        expected: Domain,
        /// Who issued the certificate.
        got: Domain,
    },
    /// The address is not verified, by the certificate's own word or by the owner's record.
    #[error("unverified email")]
    UnverifiedEmail,
    /// The certificate has no address.
    #[error("missing email")]
    MissingEmail,
    /// The certificate's address is none.
    #[error("invalid email")]
    InvalidEmail,
    /// Nobody here has the address any more.
    #[error("the certificate was revoked: nobody has this email")]
    NobodysAddress,
    /// The address changed hands, or its owner reset the password or signed out everywhere, after it was issued.
    #[error("the certificate was revoked: it is older than the account's last change")]
    Superseded,
}

impl From<BackedError> for Reason {
    fn from(error: BackedError) -> Reason {
        match error {
            BackedError::Malformed => Reason::Malformed,
            BackedError::NoCertificates => Reason::NoCertificates,
            BackedError::Chain => Reason::Chain,
            BackedError::Certificate(error) => match error {
                CertificateError::MissingEmail => Reason::MissingEmail,
                CertificateError::UnverifiedEmail => Reason::UnverifiedEmail,
                CertificateError::InvalidEmail => Reason::InvalidEmail,
                CertificateError::Jws(_)
                | CertificateError::Claim(_)
                | CertificateError::Issuer
                | CertificateError::Key(_) => Reason::MalformedSignature,
            },
            BackedError::Assertion(AssertionError::Jws(_) | AssertionError::Claim(_)) => {
                Reason::MalformedSignature
            }
        }
    }
}

impl Reason {
    pub(super) fn of_certificate(error: &JwsError) -> Reason {
        match error {
            JwsError::RevokedKey => Reason::RevokedKey,
            _ => Reason::BadSignatureInChain,
        }
    }
}
