//! A sign-up, an addition or a reset that waits for the proof of its address.

use serde::{Deserialize, Serialize};

use super::CELL_VALUE_BYTES_MAX;
use crate::format::DecodeError;
use crate::hlc::Hlc;
use crate::id::{AccountId, EmailId};

/// What waits for a proof, under the hash of its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Staging {
    /// What the token is good for; nothing else.
    pub purpose: Purpose,
    /// The address that was mailed to.
    pub address: String,
    /// The address's record; every staging of today has it.
    pub email: Option<EmailId>,
    /// The password chosen at the start, hashed.
    pub password_hash: Option<String>,
    /// The account that it is for, and its resets then.
    pub account: Option<(AccountId, u32)>,
    /// When that account's session epoch was of, then; zero without an account. Whoever began this in a session began
    /// it in one that this epoch had not ended.
    pub epoch_at: Hlc,
    /// The site where the person was signing in.
    pub rp_origin: Option<String>,
    /// When it was begun: what it will prove, it proves as of then.
    pub at: Hlc,
    /// SHA-256 of the random value that the browser which began holds.
    pub nonce_hash: [u8; 32],
    /// SHA-256 of that same value and the mailed code; every staging of today has it.
    pub code_hash: Option<[u8; 32]>,
    /// Completed, or ended by the completion of another. Sticky.
    pub ended: bool,
    /// Completed, and so ended.
    pub completed: bool,
}

/// What a staging is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// A new account.
    NewAccount,
    /// One more address for an account.
    AddEmail,
    /// A new password.
    Reset,
    /// An address that a reset left unverified.
    Reverify,
    /// An address whose domain no longer certifies it, or now does.
    Transition,
}

impl Purpose {
    fn number(self) -> u8 {
        match self {
            Purpose::NewAccount => 1,
            Purpose::AddEmail => 2,
            Purpose::Reset => 3,
            Purpose::Reverify => 4,
            Purpose::Transition => 5,
        }
    }

    fn from_number(number: u8) -> Result<Purpose, DecodeError> {
        use Purpose::{AddEmail, NewAccount, Reset, Reverify, Transition};
        let all = [NewAccount, AddEmail, Reset, Reverify, Transition];
        let known = all.into_iter().find(|purpose| purpose.number() == number);
        known.ok_or(DecodeError::UnknownFormat {
            what: "purpose",
            format: number,
        })
    }
}

impl Staging {
    /// A cell's value: a CBOR map with short keys.
    pub fn encode(&self) -> Vec<u8> {
        let stored = StoredStaging {
            format: FORMAT,
            purpose: self.purpose.number(),
            address: self.address.clone(),
            email: self.email.map(|email| *email.as_bytes()),
            password_hash: self.password_hash.clone(),
            account: self.account.map(|(account, _)| *account.as_bytes()),
            resets: self.account.map(|(_, resets)| resets),
            epoch_at: self.epoch_at.to_u64(),
            rp_origin: self.rp_origin.clone(),
            at: self.at.to_u64(),
            nonce_hash: self.nonce_hash,
            code_hash: self.code_hash.map(serde_bytes::ByteArray::new),
            ended: self.ended,
            completed: self.completed,
        };
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail, and every field has a CBOR form; were it otherwise, what is
        // written is cut short and refused when read.
        let _ = ciborium::into_writer(&stored, &mut bytes);
        bytes
    }

    /// The other way; fields that a newer version added are passed over.
    pub fn decode(bytes: &[u8]) -> Result<Staging, DecodeError> {
        const WHAT: &str = "staging";
        DecodeError::limit(WHAT, bytes.len(), CELL_VALUE_BYTES_MAX)?;
        let stored: StoredStaging = crate::format::from_cbor(WHAT, bytes)?;
        if stored.format != FORMAT {
            return Err(DecodeError::UnknownFormat {
                what: WHAT,
                format: stored.format,
            });
        }
        let account = match (stored.account, stored.resets) {
            (None, None) => None,
            (Some(account), Some(resets)) => Some((AccountId::from_bytes(account), resets)),
            _ => {
                return Err(DecodeError::malformed(
                    WHAT,
                    &"account without its resets, or the reverse",
                ));
            }
        };
        Ok(Staging {
            purpose: Purpose::from_number(stored.purpose)?,
            address: stored.address,
            email: stored.email.map(EmailId::from_bytes),
            password_hash: stored.password_hash,
            account,
            epoch_at: Hlc::from_u64(stored.epoch_at),
            rp_origin: stored.rp_origin,
            at: Hlc::from_u64(stored.at),
            nonce_hash: stored.nonce_hash,
            code_hash: stored.code_hash.map(serde_bytes::ByteArray::into_array),
            ended: stored.ended,
            completed: stored.completed,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredStaging {
    #[serde(rename = "f")]
    format: u8,
    #[serde(rename = "p")]
    purpose: u8,
    #[serde(rename = "a")]
    address: String,
    #[serde(
        rename = "i",
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_bytes"
    )]
    email: Option<[u8; 15]>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    password_hash: Option<String>,
    #[serde(
        rename = "c",
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_bytes"
    )]
    account: Option<[u8; 15]>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    resets: Option<u32>,
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    epoch_at: u64,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    rp_origin: Option<String>,
    #[serde(rename = "t")]
    at: u64,
    #[serde(rename = "n", with = "serde_bytes")]
    nonce_hash: [u8; 32],
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    code_hash: Option<serde_bytes::ByteArray<32>>,
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    completed: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The field `f`.
const FORMAT: u8 = 1;
