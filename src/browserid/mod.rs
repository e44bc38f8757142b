//! The BrowserID protocol: tokens, keys, certificates, assertions, and the verifier.
//!
//! An issuer certifies that a browser's key speaks for an address; the key signs an assertion for one relying party;
//! anyone verifies the two. Everything here is pure: no clock, network, HTTP or store; time and what was looked up
//! come in as arguments.
//!
//! | module | subject |
//! | --- | --- |
//! | [`json`] | a JSON object read strictly, and base64url |
//! | [`jwk`], `rsa` | public keys, and the forms they come in |
//! | [`signing_key`] | a private key |
//! | [`keys`] | the keys of one issuer for one use |
//! | [`jws`] | signed tokens: their kinds, and how one is read and verified |
//! | [`signature_cache`] | which of our own need not be verified again |
//! | [`domain`] | who issues |
//! | [`certificate`], [`assertion`] | the two halves of what a relying party gets |
//! | [`audience`] | was it made for the one who asks? |
//! | [`standing`] | does a certificate of our own still stand? |
//! | [`verifier`], `reason` | the verdict |
//!
//! Promise: whatever a text says, reading it ends in an error at worst, in time proportional to its length.

pub mod assertion;
pub mod audience;
pub mod certificate;
pub mod domain;
pub mod json;
pub mod jwk;
pub mod jws;
pub mod keys;
mod reason;
mod rsa;
pub mod signature_cache;
pub mod signing_key;
pub mod standing;
pub mod verifier;

#[cfg(test)]
mod tests;

pub use self::{
    assertion::{Assertion, BackedAssertion, BackedError, NewAssertion},
    certificate::{Certificate, CertificateError, IssueError, NewCertificate},
    domain::Domain,
    jwk::{Algorithm, KeyError, P256Key, PublicKey},
    jws::{JwsError, Kind, Unverified},
    keys::{KeySet, Usage},
    reason::Reason,
    rsa::RsaKey,
    signature_cache::SignatureCache,
    signing_key::{SigningKey, SigningKeyError},
    standing::Standing,
    verifier::{Authority, Verified},
};
