//! What an assertion proves, with all that has to be looked up for the verdict.
//!
//! [`browserid::verifier`](crate::browserid::verifier) judges; this finds out who speaks for the address, by which keys, and
//! whether a certificate of ours still stands by this site's replica.

use std::time::Duration;

use crate::{
    browserid::{Authority, BackedAssertion, Domain, Reason, SignatureCache, Verified},
    identity::Directory,
    idp::{Discovery, discovery::Outcome},
    public_url::PublicUrl,
    tiers::keys::PublishedKeys,
    wsapi::Problem,
};

/// Certificates of ours whose signatures are remembered: about 8 MB. One is shown to every site that its owner signs in to within a
/// day.
const SIGNATURES_MAX: usize = 200_000;

/// Says what assertions prove.
pub struct Verifier {
    own: Domain,
    keys: PublishedKeys,
    directory: Directory,
    discovery: Discovery,
    signatures: SignatureCache,
}

/// The public URL's host is an address or a name that nobody can certify for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `public_url`: its host should be a domain name: certificates are issued in that name")]
pub struct NoDomain;

impl Verifier {
    /// The verifier of a service at this address.
    pub fn new(
        public_url: &PublicUrl,
        keys: PublishedKeys,
        directory: Directory,
        discovery: Discovery,
    ) -> Result<Verifier, NoDomain> {
        Ok(Verifier {
            own: Domain::parse(public_url.host()).ok_or(NoDomain)?,
            keys,
            directory,
            discovery,
            signatures: SignatureCache::new(SIGNATURES_MAX),
        })
    }

    /// Our own domain: who issues the fallback's certificates.
    pub fn own(&self) -> &Domain {
        &self.own
    }

    /// Whether nobody has to be asked for who speaks for a domain.
    pub fn remembers(&self, domain: &Domain) -> bool {
        self.discovery.remembers(domain)
    }

    /// Judges an assertion for a relying party. An error is no verdict: this site cannot tell now.
    pub async fn verify(
        &self,
        backed: &BackedAssertion<'_>,
        audience: &str,
        now_ms: u64,
    ) -> Result<Result<Verified, Reason>, Problem> {
        let Some(domain) = Domain::parse(backed.certificate().email().domain()) else {
            return Ok(Err(Reason::InvalidEmail));
        };
        match self.discovery.look_up(&domain).await {
            Outcome::Primary(primary) => {
                let by = |primary: &crate::idp::discovery::Primary| {
                    let authority = Authority::Primary {
                        domain: &primary.authority,
                        keys: &primary.keys,
                    };
                    backed.verify(audience, authority, now_ms)
                };
                let verdict = by(&primary);
                // It may have changed its key since its document was read.
                if verdict == Err(Reason::BadSignatureInChain)
                    && let Some(Outcome::Primary(renewed)) = self.discovery.refresh(&domain).await
                {
                    return Ok(by(&renewed));
                }
                Ok(verdict)
            }
            // Nobody asked the domain. Of our own certificate the records say enough; of another's nothing is known.
            outcome if outcome.live().is_none() && backed.certificate().issuer() != &self.own => {
                Err(Problem::unavailable(
                    "domain-unasked",
                    "this site cannot find out now who speaks for the domain; try again",
                    Duration::from_secs(1),
                ))
            }
            Outcome::Ourselves | Outcome::Disabled | Outcome::None(_) => {
                self.verify_own(backed, audience, now_ms).await
            }
        }
    }

    /// The same, if it is a primary that speaks for the address.
    pub async fn verify_primary(
        &self,
        backed: &BackedAssertion<'_>,
        audience: &str,
        now_ms: u64,
    ) -> Result<Result<Verified, Reason>, Problem> {
        if backed.certificate().issuer() == &self.own {
            let domain = Domain::parse(backed.certificate().email().domain())
                .ok_or_else(|| Problem::bad_request("bad-assertion", Reason::InvalidEmail.to_string()))?;
            return Ok(Err(Reason::UntrustedIssuer {
                expected: domain,
                got: self.own.clone(),
            }));
        }
        self.verify(backed, audience, now_ms).await
    }

    async fn verify_own(
        &self,
        backed: &BackedAssertion<'_>,
        audience: &str,
        now_ms: u64,
    ) -> Result<Result<Verified, Reason>, Problem> {
        let certificate = backed.certificate();
        let is_ours = certificate.issuer() == &self.own;
        if is_ours
            && let Some(kid) = certificate.kid()
            && !self.keys.certificates().knows(kid)
        {
            self.keys.ask_for(kid).await;
            if !self.keys.certificates().knows(kid) {
                return Err(Problem::unavailable(
                    "unknown-key",
                    "this site does not know yet who signed the certificate; try again",
                    Duration::from_secs(1),
                ));
            }
        }
        let standing = self.directory.standing(certificate.email()).await?;
        let authority = Authority::Ourselves {
            domain: &self.own,
            keys: &self.keys.certificates(),
            signatures: &self.signatures,
            standing: &standing,
        };
        Ok(backed.verify(audience, authority, now_ms))
    }
}
