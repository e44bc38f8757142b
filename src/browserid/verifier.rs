//! The verifier: does this assertion prove to this relying party that its bearer controls an address?
//!
//! In two steps, so that a caller can look things up in between: [`BackedAssertion::parse`] says whose address it is
//! and who is said to have certified it; then [`BackedAssertion::verify`] judges by what was found.
//!
//! *Who speaks for a domain* is the newer verifier's rule. It is the end of the domain's delegation, if the domain has
//! a support document; only if it has none, or says that it is disabled, is it the fallback. So the fallback cannot
//! speak for a domain that has an IdP, nor an IdP for another domain. The issuer is compared before any signature, and
//! keys are only ever asked of who ought to have issued the certificate: a forged issuer makes nobody fetch anything.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    Certificate, Domain, JwsError, Reason, SignatureCache, assertion::BackedAssertion, audience,
    certificate::LEEWAY_MS, keys::KeySet, standing::Standing,
};
use crate::identity::Address;

/// Who speaks for the domain of the address, as looking it up ended.
#[derive(Clone, Copy, Debug)]
pub enum Authority<'a> {
    /// The domain itself, or the end of its delegation.
    Primary {
        /// Which.
        domain: &'a Domain,
        /// The keys in its document.
        keys: &'a KeySet,
    },
    /// We: the domain has no document, is disabled, or delegates to us.
    Ourselves {
        /// Our domain.
        domain: &'a Domain,
        /// Our certificate keys.
        keys: &'a KeySet,
        /// Those of their signatures that are known to be good.
        signatures: &'a SignatureCache,
        /// What the replica says of the address.
        standing: &'a Standing,
    },
}

impl<'a> Authority<'a> {
    fn domain(&self) -> &'a Domain {
        match *self {
            Authority::Primary { domain, .. } | Authority::Ourselves { domain, .. } => domain,
        }
    }

    fn verify(&self, certificate: &Certificate<'_>) -> Result<(), JwsError> {
        match *self {
            Authority::Primary { keys, .. } => certificate.verify(keys),
            Authority::Ourselves { keys, signatures, .. } => certificate.verify_ours(keys, signatures),
        }
    }
}

impl BackedAssertion<'_> {
    /// Judges it for the relying party whose audience this is. `now_ms` is in milliseconds since 1970.
    ///
    /// If the authority is ourselves and [`KeySet::knows`] not the certificate's `kid`, the cluster record here may be
    /// behind: ask for it first, and if that fails answer nothing about the assertion.
    pub fn verify(&self, expected: &str, authority: Authority<'_>, now_ms: u64) -> Result<Verified, Reason> {
        let (certificate, assertion) = (&self.certificate, &self.assertion);
        if certificate.issuer() != authority.domain() {
            return Err(Reason::UntrustedIssuer {
                expected: authority.domain().clone(),
                got: certificate.issuer().clone(),
            });
        }
        // Times and audience before signatures: they cost nothing, and the outcome is a refusal either way.
        is_current(Some(certificate.issued_ms()), certificate.expires_ms(), now_ms)?;
        is_current(assertion.issued_ms(), assertion.expires_ms(), now_ms)?;
        audience::compare(assertion.audience(), expected)?;
        authority
            .verify(certificate)
            .map_err(|error| Reason::of_certificate(&error))?;
        assertion
            .verify(&KeySet::browser(certificate.public_key().clone()))
            .map_err(|_| Reason::InvalidSignature)?;
        if let Authority::Ourselves { standing, .. } = authority {
            standing.judge(certificate.issued_ms(), certificate.resets())?;
        }
        Ok(Verified {
            email: certificate.email().clone(),
            audience: expected.to_owned(),
            expires_ms: assertion.expires_ms(),
            issuer: certificate.issuer().clone(),
            nonce: assertion.nonce().map(str::to_owned),
        })
    }
}

fn is_current(issued_ms: Option<u64>, expires_ms: u64, now_ms: u64) -> Result<(), Reason> {
    if issued_ms.is_some_and(|issued_ms| issued_ms > now_ms.saturating_add(LEEWAY_MS)) {
        return Err(Reason::IssuedLater);
    }
    // RFC 7519 §4.1.4: not on or after it.
    if now_ms >= expires_ms {
        return Err(Reason::Expired);
    }
    Ok(())
}

/// An assertion that proved what it says. It serialises as the verifier's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    email: Address,
    audience: String,
    expires_ms: u64,
    issuer: Domain,
    nonce: Option<String>,
}

impl Verified {
    /// Whose address.
    pub fn email(&self) -> &Address {
        &self.email
    }

    /// As the relying party sent it.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// When the assertion ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Who certified it.
    pub fn issuer(&self) -> &Domain {
        &self.issuer
    }

    /// What the relying party gave.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

impl Serialize for Verified {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut answer = serializer.serialize_map(None)?;
        answer.serialize_entry("status", "okay")?;
        answer.serialize_entry("email", self.email.typed())?;
        answer.serialize_entry("audience", &self.audience)?;
        answer.serialize_entry("expires", &self.expires_ms)?;
        answer.serialize_entry("issuer", self.issuer.as_str())?;
        if let Some(nonce) = &self.nonce {
            answer.serialize_entry("nonce", nonce)?;
        }
        answer.end()
    }
}

/// Logs carry neither address nor relying party.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verified {
            expires_ms, issuer, ..
        } = self;
        f.debug_struct("Verified")
            .field("expires_ms", expires_ms)
            .field("issuer", issuer)
            .finish_non_exhaustive()
    }
}
