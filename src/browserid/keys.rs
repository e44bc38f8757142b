//! The public keys of one issuer for one use, and which of them a token is verified with.
//!
//! A token's header may name a key; it can never bring one, and the name is looked up only here: among the keys that
//! this issuer has for this use. What a key of another use signs is worth nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    json::Object,
    jwk::{Algorithm, KeyError, PublicKey},
};

/// What a key signs. A key has one use (RFC 8725 §3.12).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// Session and device cookies, by a secure webhead.
    Session,
    /// Certificates, by a keysigner or a primary.
    Certificate,
    /// Assertions, by a browser.
    Assertion,
}

impl Usage {
    /// As the cluster record names it.
    pub const fn name(self) -> &'static str {
        match self {
            Usage::Session => "session",
            Usage::Certificate => "certificate",
            Usage::Assertion => "assertion",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Usage> {
        [Usage::Session, Usage::Certificate, Usage::Assertion]
            .into_iter()
            .find(|usage| usage.name() == name)
    }
}

/// Keys of one issuer for one use.
#[derive(Clone, Debug)]
pub struct KeySet {
    usage: Usage,
    owner: Owner,
    keys: Vec<Entry>,
}

/// Whose keys they are decides how strict a token's header must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// All tokens are of this code: they name kind and key, and are ES256.
    Ours,
    /// The owner of a browser's one key, which nothing else names.
    Browser,
    /// Certificates may be made by what was written for the original: RS256, without `typ` and `kid`.
    Primary,
}

#[derive(Clone, Debug)]
struct Entry {
    kid: Option<String>,
    /// `None` is a key that was revoked.
    key: Option<PublicKey>,
}

/// Which keys may have signed a token.
#[derive(Debug)]
pub(super) enum Candidates<'a> {
    These(Vec<&'a PublicKey>),
    Revoked,
    OtherAlgorithm,
    Unknown,
}

impl KeySet {
    /// Our own keys for a use, none yet.
    pub fn ours(usage: Usage) -> KeySet {
        KeySet::new(usage, Owner::Ours)
    }

    /// The key that a certificate certifies.
    pub fn browser(key: PublicKey) -> KeySet {
        let mut keys = KeySet::new(Usage::Assertion, Owner::Browser);
        keys.keys.push(Entry {
            kid: None,
            key: Some(key),
        });
        keys
    }

    /// The keys of a primary's support document: its `public-key`, its `keys`, or both. In `keys`, what is of an
    /// unknown kind or not for signatures is passed over; what is malformed spoils the document.
    pub fn primary(document: &Object) -> Result<KeySet, KeyError> {
        let mut keys = KeySet::new(Usage::Certificate, Owner::Primary);
        let mut passed_over = None;
        if let Some(key) = document.optional_object("public-key")? {
            let kid = key.optional_text("kid")?.map(str::to_owned);
            keys.add_entry(kid, Some(PublicKey::from_support_document(&key)?))?;
        }
        for key in document.optional_objects("keys")?.unwrap_or_default() {
            let kid = key.optional_text("kid")?.map(str::to_owned);
            match PublicKey::from_support_document(&key) {
                Ok(key) => keys.add_entry(kid, Some(key))?,
                Err(why @ (KeyError::Unsupported | KeyError::Dsa | KeyError::NotForThis)) => {
                    passed_over.get_or_insert(why);
                }
                Err(why) => return Err(why),
            }
        }
        if keys.keys.is_empty() {
            let missing = KeyError::Json(super::json::JsonError::Missing("public-key"));
            return Err(passed_over.unwrap_or(missing));
        }
        Ok(keys)
    }

    /// Adds a key of ours, named by its thumbprint.
    pub fn add(&mut self, key: PublicKey) -> Result<(), KeyError> {
        if self.owner == Owner::Ours && key.algorithm() != Algorithm::Es256 {
            return Err(KeyError::Unsupported);
        }
        self.add_entry(Some(key.thumbprint()), Some(key))
    }

    /// Notes that a key of ours was revoked. It verifies nothing, also if it was or will be added.
    pub fn revoke(&mut self, kid: &str) -> Result<(), KeyError> {
        self.keys.retain(|entry| entry.kid.as_deref() != Some(kid));
        self.add_entry(Some(kid.to_owned()), None)
    }

    /// Whether a key of this name is known, revoked or not. If one of ours is not, the cluster record here may be
    /// behind: that is a reason to ask for it, and no verdict on the token.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|entry| entry.kid.as_deref() == Some(kid))
    }

    /// The keys of a primary as a support document has them: [`KeySet::primary`] reads them back.
    pub fn to_document(&self) -> Value {
        let keys = self.keys.iter().filter_map(|entry| {
            let mut jwk = entry.key.as_ref()?.to_jwk();
            if let (Some(kid), Some(members)) = (&entry.kid, jwk.as_object_mut()) {
                members.insert("kid".to_owned(), kid.clone().into());
            }
            Some(jwk)
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    /// What they sign.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn new(usage: Usage, owner: Owner) -> KeySet {
        KeySet {
            usage,
            owner,
            keys: Vec::new(),
        }
    }

    fn add_entry(&mut self, kid: Option<String>, key: Option<PublicKey>) -> Result<(), KeyError> {
        let revoked = |entry: &Entry| entry.key.is_none() && entry.kid == kid;
        if self.keys.iter().any(revoked) {
            return Ok(());
        }
        if self.keys.len() >= self.keys_max() {
            return Err(KeyError::TooMany);
        }
        self.keys.push(Entry { kid, key });
        Ok(())
    }

    fn keys_max(&self) -> usize {
        match self.owner {
            Owner::Ours => OUR_KEYS_MAX,
            Owner::Browser => 1,
            Owner::Primary => PRIMARY_KEYS_MAX,
        }
    }

    /// Whether a token may leave out its `typ`.
    pub(super) fn takes_untyped(&self) -> bool {
        self.owner == Owner::Primary
    }

    /// The keys that a token which names `kid`, or none, may have been signed with. The algorithm is the keys'; the
    /// header's only has to agree.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Candidates<'_> {
        let named = |entry: &&Entry| match (self.owner, kid) {
            (Owner::Ours, kid) => kid.is_some() && entry.kid.as_deref() == kid,
            (Owner::Browser, kid) => kid.is_none(),
            (Owner::Primary, kid) => kid.is_none() || entry.kid.as_deref() == kid,
        };
        let mut candidates = Vec::new();
        let mut found = false;
        for entry in self.keys.iter().filter(named) {
            found = true;
            match &entry.key {
                None => return Candidates::Revoked,
                Some(key) if key.algorithm() == algorithm => candidates.push(key),
                Some(_) => {}
            }
        }
        match candidates.is_empty() {
            false => Candidates::These(candidates),
            true if found => Candidates::OtherAlgorithm,
            true => Candidates::Unknown,
        }
    }
}

/// Keys of ours for one use at most: those of ten sites, and all that they had within the life of a token.
const OUR_KEYS_MAX: usize = 1024;
/// Keys of a primary at most. A certificate that names none costs a verification for each.
const PRIMARY_KEYS_MAX: usize = 8;
