//! Compact JWS (RFC 7515 §7.1), narrowed to what is used here (RFC 8725).
//!
//! | kind | `typ` | signed by a key for | `kid` |
//! | --- | --- | --- | --- |
//! | session cookie | `persona-session+jwt` | sessions, of a secure webhead | yes |
//! | device cookie | `persona-device+jwt` | sessions, of a secure webhead | yes |
//! | certificate | `browserid-certificate+jwt`; a primary's may have `JWT` or none | certificates, of a keysigner or a primary | yes; a primary's may have none |
//! | assertion | `browserid-assertion+jwt` | assertions: the browser's, in the certificate | no |
//!
//! What a token is, and how it is verified, never comes from the token: the caller says which kind it expects, the
//! [`KeySet`] says whose keys these are and what they sign, and the key says its algorithm. The header only has to
//! agree. So neither `none` nor an HMAC keyed with our public key can be asked for, a key cannot be brought along, and
//! a session is never taken for a certificate.
//!
//! Promise: [`Unverified::verify`] says `Ok` only for three canonical parts, a header of the expected kind, strict
//! JSON, and a signature by one of the keys given. No text makes it panic.

use serde_json::{Value, json};

use super::{
    json::{JsonError, Object, decode_base64url, encode_base64url},
    jwk::Algorithm,
    keys::{Candidates, KeySet, Usage},
    signing_key::{SigningKey, SigningKeyError},
};

/// Bytes of a token at most: as the original's limit for a whole assertion with its certificate.
pub const TOKEN_BYTES_MAX: usize = 10_240;
/// Bytes of a `kid` at most. Ours have 43; a primary may call its own otherwise.
const KID_BYTES_MAX: usize = 128;

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Who is signed in.
    Session,
    /// Which accounts a browser has signed in to before.
    Device,
    /// An issuer says whose address a browser's key speaks for.
    Certificate,
    /// A browser's key speaks to a relying party.
    Assertion,
}

impl Kind {
    /// Every one.
    pub const ALL: [Kind; 4] = [Kind::Session, Kind::Device, Kind::Certificate, Kind::Assertion];

    /// The `typ` of its header (RFC 8725 §3.11).
    pub const fn typ(self) -> &'static str {
        match self {
            Kind::Session => "persona-session+jwt",
            Kind::Device => "persona-device+jwt",
            Kind::Certificate => "browserid-certificate+jwt",
            Kind::Assertion => "browserid-assertion+jwt",
        }
    }

    /// What its keys are for.
    pub const fn usage(self) -> Usage {
        match self {
            Kind::Session | Kind::Device => Usage::Session,
            Kind::Certificate => Usage::Certificate,
            Kind::Assertion => Usage::Assertion,
        }
    }
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than any token of ours or a primary's.
    #[error("the token is too long")]
    TooLong,
    /// Not three parts, none of them empty.
    #[error("a token has three parts")]
    Parts,
    /// A part is no base64url, or is padded, or is not the one encoding of its bytes.
    #[error("a part of the token is not canonical base64url")]
    Base64,
    /// The header or the payload is not strict JSON, or the header lacks something.
    #[error("the token's JSON is malformed: {0}")]
    Json(#[from] JsonError),
    /// The header brings a key, or something that must be understood and is not.
    #[error("the token's header has a member that is refused")]
    Header,
    /// The header's algorithm is not the key's, or none that is known.
    #[error("the token's algorithm is not its key's")]
    Algorithm,
    /// The token is of another kind.
    #[error("the token is of another kind")]
    Kind,
    /// The keys are for something else.
    #[error("the keys are not for tokens of this kind")]
    Usage,
    /// The issuer has no such key for this use, as far as is known here.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The key was revoked.
    #[error("the token's key was revoked")]
    RevokedKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
}

/// Signs claims as a token of a kind.
pub fn sign(kind: Kind, claims: &Value, key: &SigningKey) -> Result<String, SigningKeyError> {
    let mut header = json!({ "alg": Algorithm::Es256.name(), "typ": kind.typ() });
    // A browser's key has no name: the certificate beside the assertion has the key itself.
    if kind.usage() != Usage::Assertion {
        header["kid"] = key.kid().into();
    }
    let mut token = encode_base64url(header.to_string());
    token.push('.');
    token.push_str(&encode_base64url(claims.to_string()));
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&encode_base64url(signature));
    Ok(token)
}

/// A token that could be read. Nobody has vouched for it: its claims say whose keys to ask for, and no more.
#[derive(Clone, Debug)]
pub struct Unverified<'a> {
    kind: Kind,
    /// RFC 7515 §5.2 step 8: what was signed is the text of the first two parts, dot included.
    signed: &'a str,
    algorithm: Algorithm,
    kid: Option<String>,
    typed: bool,
    claims: Object,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Reads a token that is expected to be of this kind.
    pub fn parse(kind: Kind, token: &'a str) -> Result<Unverified<'a>, JwsError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwsError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwsError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Parts)?;
        if [header, payload, signature].iter().any(|part| part.is_empty()) || payload.contains('.') {
            return Err(JwsError::Parts);
        }
        let decode = |part| decode_base64url(part).ok_or(JwsError::Base64);
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header = Object::parse(&header)?;
        if header.names().any(is_refused) {
            return Err(JwsError::Header);
        }
        let algorithm = Algorithm::named(header.text("alg")?).ok_or(JwsError::Algorithm)?;
        let typed = match (kind, header.optional_text("typ")?) {
            (_, Some(typ)) if typ == kind.typ() => true,
            // What was written for the original has no `typ`, and common libraries write `JWT`.
            (Kind::Certificate, None | Some("JWT")) => false,
            _ => return Err(JwsError::Kind),
        };
        let kid = header.optional_text("kid")?;
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
            return Err(JsonError::Malformed("kid").into());
        }
        Ok(Unverified {
            kind,
            signed,
            algorithm,
            kid: kid.map(str::to_owned),
            typed,
            claims: Object::parse(&payload)?,
            signature,
        })
    }

    /// What it says, verified or not.
    pub fn claims(&self) -> &Object {
        &self.claims
    }

    /// The name of the key that it says it was signed with.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Of the whole token.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        // The second dot ends what was signed, whatever bytes the signature has.
        hasher.update(self.signed.as_bytes());
        hasher.update(b".");
        hasher.update(&self.signature);
        *hasher.finalize().as_bytes()
    }

    /// Whether one of these keys signed it.
    pub fn verify(&self, keys: &KeySet) -> Result<(), JwsError> {
        let candidates = self.candidates(keys)?;
        let message = self.signed.as_bytes();
        if !candidates
            .iter()
            .any(|key| key.verifies(message, &self.signature))
        {
            return Err(JwsError::Signature);
        }
        Ok(())
    }

    /// The same, for a caller who remembers that the signature of this very token is good: only that is not looked
    /// at again. The key must still be known, for this use, and not revoked.
    pub fn verify_known_signature(&self, keys: &KeySet) -> Result<(), JwsError> {
        self.candidates(keys).map(|_| ())
    }

    fn candidates<'k>(&self, keys: &'k KeySet) -> Result<Vec<&'k super::PublicKey>, JwsError> {
        if keys.usage() != self.kind.usage() {
            return Err(JwsError::Usage);
        }
        if !self.typed && !keys.takes_untyped() {
            return Err(JwsError::Kind);
        }
        match keys.candidates(self.kid(), self.algorithm) {
            Candidates::These(candidates) => Ok(candidates),
            Candidates::Revoked => Err(JwsError::RevokedKey),
            Candidates::OtherAlgorithm => Err(JwsError::Algorithm),
            Candidates::Unknown => Err(JwsError::UnknownKey),
        }
    }
}

/// Header members that would bring a key along (RFC 7515 §4.1.2 to §4.1.8), or must be understood and are not: `crit`
/// (§4.1.11) and `b64` (RFC 7797). Others that are not known are passed over, as RFC 7515 §4 asks.
fn is_refused(name: &str) -> bool {
    matches!(name, "jwk" | "jku" | "crit" | "b64") || name.starts_with("x5")
}
