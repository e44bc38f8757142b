//! The device cookie: which accounts this browser has signed in to before.
//!
//! When an account has had ten wrong passwords, only a browser that signed in to it before may still try one; others
//! get a mail. So an attacker cannot lock anybody out of their own browser. The cookie proves that and grants nothing
//! else. What it remembers of an account ends with the account's next reset: a browser that knew the account before
//! may be the one that the reset was meant to put out.

use std::fmt;

use crdt::AccountId;
use serde_json::{Value, json};

use super::{COOKIE_BYTES_MAX, SessionError};
use crate::browserid::{
    JwsError, KeySet, Kind, SignatureCache, SigningKey, SigningKeyError, Unverified,
    json::{JsonError, Object, encode_base64url},
    jws,
};

/// Accounts at most; beyond it the one that was used longest ago is forgotten.
pub const ACCOUNTS_MAX: usize = 8;
/// How long an account is remembered after signing in to it: a year.
pub const REMEMBERED_MS: u64 = 365 * 24 * 3600 * 1000;

/// A browser, by the accounts that it signed in to.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Random: what limits tries from this browser go by.
    pub id: [u8; 16],
    accounts: Vec<Known>,
}

/// An account that the browser signed in to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Which.
    pub account: AccountId,
    /// The account's resets then.
    pub resets: u32,
    /// When last, in milliseconds since 1970.
    pub signed_in_ms: u64,
}

impl Device {
    /// A browser that is not known yet.
    pub fn new(id: [u8; 16]) -> Device {
        Device {
            id,
            accounts: Vec::new(),
        }
    }

    /// The browser has just signed in to an account.
    pub fn signed_in(&mut self, known: Known) {
        self.accounts.retain(|other| other.account != known.account);
        if self.accounts.len() >= ACCOUNTS_MAX
            && let Some(oldest) = self.accounts.iter().map(|known| known.signed_in_ms).min()
            && let Some(at) = self
                .accounts
                .iter()
                .position(|known| known.signed_in_ms == oldest)
        {
            self.accounts.remove(at);
        }
        self.accounts.push(known);
    }

    /// Whether it signed in to this account since the account's last reset, and within the last year.
    #[must_use]
    pub fn knows(&self, account: AccountId, resets: u32, now_ms: u64) -> bool {
        self.accounts.iter().any(|known| {
            known.account == account
                && known.resets >= resets
                && now_ms < known.signed_in_ms.saturating_add(REMEMBERED_MS)
        })
    }

    /// The cookie's value.
    pub fn sign(&self, key: &SigningKey) -> Result<String, SigningKeyError> {
        jws::sign(Kind::Device, &self.claims(), key)
    }

    /// Reads a cookie's value.
    pub fn verify(cookie: &str, keys: &KeySet, cache: &SignatureCache) -> Result<Device, SessionError> {
        if cookie.len() > COOKIE_BYTES_MAX {
            return Err(SessionError::Invalid(JwsError::TooLong));
        }
        let jws = Unverified::parse(Kind::Device, cookie)?;
        cache.verify(&jws, keys)?;
        Ok(Device::from_claims(jws.claims())?)
    }

    fn claims(&self) -> Value {
        let accounts = self.accounts.iter().map(|known| {
            json!({
                "sub": encode_base64url(known.account.as_bytes()),
                "r": known.resets,
                "at": known.signed_in_ms,
            })
        });
        json!({ "jti": encode_base64url(self.id), "accounts": accounts.collect::<Vec<_>>() })
    }

    fn from_claims(claims: &Object) -> Result<Device, JsonError> {
        let mut device = Device::new(claims.array("jti")?);
        for known in claims.optional_objects("accounts")?.unwrap_or_default() {
            device.signed_in(Known {
                account: AccountId::from_bytes(known.array("sub")?),
                resets: known
                    .number("r")?
                    .try_into()
                    .map_err(|_| JsonError::Malformed("r"))?,
                signed_in_ms: known.time_ms("at")?,
            });
        }
        Ok(device)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({} accounts)", self.accounts.len())
    }
}
