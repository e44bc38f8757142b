//! Sessions: who is signed in to Persona in this browser. No server keeps anything about one.
//!
//! A session is a cookie signed by a secure webhead, and verified by anybody with the cluster record. It is signed,
//! not secret to its bearer: nothing in it completes anything. Signing out is a cell that names its id; a reset, a
//! change of password and "sign out everywhere" raise the account's session epoch, and a session that has not seen
//! that is over. This module is pure: what to compare with comes in as arguments.
//!
//! | module | subject |
//! | --- | --- |
//! | this one | the session |
//! | [`device`] | the cookie of a browser that signed in before |
//!
//! Promise: a [`Session`] from [`Session::verify`] was signed by one of the keys given and is not past its time. Whether
//! it is over for another reason is for the records to say: [`Session::against`].

pub mod device;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use crdt::{AccountId, Epoch, Hlc};
use gossip::{Dot, Writer};
use serde_json::{Value, json};

pub use self::device::{Device, Known};
use crate::browserid::{
    JwsError, KeySet, Kind, SignatureCache, SigningKey, SigningKeyError, Unverified,
    json::{JsonError, Object, encode_base64url},
    jws,
};

/// How long a session lasts in a browser of one's own: four weeks.
pub const LIFETIME_MS: u64 = 28 * 24 * 3600 * 1000;
/// How long one lasts on a shared computer, or if made at an isolated site.
pub const SHORT_LIFETIME_MS: u64 = 3600 * 1000;
/// Bytes of a cookie's value at most: half of what RFC 6265 §6.1 asks browsers to keep, names and all.
pub const COOKIE_BYTES_MAX: usize = 2048;

/// Somebody signed in, in one browser.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// Random, the same however often the cookie is signed anew; what "end this one" names.
    pub id: [u8; 16],
    /// Who.
    pub account: AccountId,
    /// How they showed it.
    pub methods: Methods,
    /// When it began, in milliseconds since 1970.
    pub issued_ms: u64,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Random; every POST repeats it.
    pub csrf: [u8; 16],
    /// The last transaction that was written for it: a site that lacks it may know less than this person does.
    pub last_dot: Option<Dot>,
    /// What its signer saw of the account.
    pub epoch: Epoch,
}

/// The ways in which somebody showed who they are, and when they last did, in milliseconds since 1970. A method that
/// this version does not know yet is passed over, and so is worth nothing here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Methods {
    /// By an assertion of an address.
    pub assertion_ms: Option<u64>,
    /// By the account's password.
    pub password_ms: Option<u64>,
}

/// How far the account's record and a session agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// The session has not seen the account's epoch: it is over.
    Over,
    /// They say the same.
    Current,
    /// The session has seen an epoch that is not here yet. It is honoured, and the record is raised to it.
    Ahead,
}

/// Why a cookie is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Not a session's cookie: as if there were none.
    #[error("the session cookie is not one: {0}")]
    Invalid(#[source] JwsError),
    /// A claim is missing or malformed: as if there were none.
    #[error("the session cookie is not one: {0}")]
    Claim(#[from] JsonError),
    /// The key is not known here. The cluster record may be behind: ask for it, and if that fails answer 503. It is
    /// no reason to sign anybody out.
    #[error("the session cookie's key is not known here")]
    UnknownKey,
    /// Its time is up.
    #[error("the session is over")]
    Over,
}

impl From<JwsError> for SessionError {
    fn from(error: JwsError) -> SessionError {
        match error {
            JwsError::UnknownKey => SessionError::UnknownKey,
            error => SessionError::Invalid(error),
        }
    }
}

impl Session {
    /// The cookie's value.
    pub fn sign(&self, key: &SigningKey) -> Result<String, SigningKeyError> {
        jws::sign(Kind::Session, &self.claims(), key)
    }

    /// Reads a cookie's value. `now_ms` is in milliseconds since 1970.
    ///
    /// A session from the future is taken: sites' clocks differ, and what counts is what it has seen.
    pub fn verify(
        cookie: &str,
        keys: &KeySet,
        cache: &SignatureCache,
        now_ms: u64,
    ) -> Result<Session, SessionError> {
        if cookie.len() > COOKIE_BYTES_MAX {
            return Err(SessionError::Invalid(JwsError::TooLong));
        }
        let jws = Unverified::parse(Kind::Session, cookie)?;
        cache.verify(&jws, keys)?;
        let session = Session::from_claims(jws.claims())?;
        if now_ms >= session.expires_ms {
            return Err(SessionError::Over);
        }
        Ok(session)
    }

    /// Compares what it has seen with what the account's record says. Values are compared, never times.
    pub fn against(&self, epoch: Epoch) -> Agreement {
        match self.epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => Agreement::Over,
            std::cmp::Ordering::Equal => Agreement::Current,
            std::cmp::Ordering::Greater => Agreement::Ahead,
        }
    }

    /// Whether a form or script repeated the CSRF value, in time that does not tell how far it was right.
    #[must_use]
    pub fn is_csrf(&self, given: &str) -> bool {
        verify_slices_are_equal(self.csrf_text().as_bytes(), given.as_bytes()).is_ok()
    }

    /// The CSRF value as `session_context` gives it.
    pub fn csrf_text(&self) -> String {
        encode_base64url(self.csrf)
    }

    /// How long it lasts in all, in milliseconds.
    pub fn lifetime_ms(&self) -> u64 {
        self.expires_ms.saturating_sub(self.issued_ms)
    }

    fn claims(&self) -> Value {
        let mut claims = json!({
            "jti": encode_base64url(self.id),
            "sub": encode_base64url(self.account.as_bytes()),
            "iat": self.issued_ms,
            "exp": self.expires_ms,
            "csrf": encode_base64url(self.csrf),
            "epoch": epoch_claim(self.epoch),
        });
        let Methods {
            assertion_ms,
            password_ms,
        } = self.methods;
        let mut methods = json!({});
        for (name, shown_ms) in [(ASSERTION, assertion_ms), (PASSWORD, password_ms)] {
            if let Some(shown_ms) = shown_ms {
                methods[name] = shown_ms.into();
            }
        }
        claims["amr"] = methods;
        if let Some(dot) = self.last_dot {
            claims["dot"] = json!({ "w": encode_base64url(dot.writer.to_bytes()), "n": dot.number });
        }
        claims
    }

    fn from_claims(claims: &Object) -> Result<Session, JsonError> {
        let methods = claims.object("amr")?;
        let dot = claims.optional_object("dot")?;
        let dot = dot.map(|dot| -> Result<Dot, JsonError> {
            Ok(Dot {
                writer: Writer::from_bytes(dot.array("w")?),
                number: dot.number("n")?,
            })
        });
        Ok(Session {
            id: claims.array("jti")?,
            account: AccountId::from_bytes(claims.array("sub")?),
            methods: Methods {
                assertion_ms: methods.optional_time_ms(ASSERTION)?,
                password_ms: methods.optional_time_ms(PASSWORD)?,
            },
            issued_ms: claims.time_ms("iat")?,
            expires_ms: claims.time_ms("exp")?,
            csrf: claims.array("csrf")?,
            last_dot: dot.transpose()?,
            epoch: read_epoch(claims)?,
        })
    }
}

/// Names of methods in a cookie. The password's is RFC 8176's.
const ASSERTION: &str = "bid";
const PASSWORD: &str = "pwd";

fn epoch_claim(epoch: Epoch) -> Value {
    json!({ "r": epoch.resets, "at": epoch.at.to_u64() })
}

fn read_epoch(claims: &Object) -> Result<Epoch, JsonError> {
    let epoch = claims.object("epoch")?;
    Ok(Epoch {
        resets: epoch
            .number("r")?
            .try_into()
            .map_err(|_| JsonError::Malformed("r"))?,
        at: Hlc::from_u64(epoch.number("at")?),
    })
}

/// The CSRF value is nobody's business but the browser's; the id is enough to tell two sessions apart.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &encode_base64url(self.id))
            .field("account", &self.account)
            .field("methods", &self.methods)
            .field("expires_ms", &self.expires_ms)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
