//! The mails that an address was sent to prove itself, as one replica sent them.

use serde::{Deserialize, Serialize};

use super::CELL_VALUE_BYTES_MAX;
use crate::format::DecodeError;

/// A cell's value: the mails of the last day that this replica let go to one address, the latest last.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Mailed(pub Vec<MailedOnce>);

/// One mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MailedOnce {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The staging whose token is in it: SHA-256 of the token.
    pub staging: [u8; 32],
}

/// Mails in one value at most.
pub const MAILED_MAX: usize = 64;

impl Mailed {
    /// A cell's value: a CBOR map with short keys. Beyond [`MAILED_MAX`] the earliest are left out.
    pub fn encode(&self) -> Vec<u8> {
        let stored = StoredMailed {
            format: FORMAT,
            mails: self
                .0
                .iter()
                .skip(self.0.len().saturating_sub(MAILED_MAX))
                .map(|mail| StoredMail {
                    at_ms: mail.at_ms,
                    staging: mail.staging,
                })
                .collect(),
        };
        let mut bytes = Vec::new();
        // As with a staging: this cannot fail, and if it did, it would be refused when read.
        let _ = ciborium::into_writer(&stored, &mut bytes);
        bytes
    }

    /// The other way; fields that a newer version added are passed over.
    pub fn decode(bytes: &[u8]) -> Result<Mailed, DecodeError> {
        DecodeError::limit(WHAT, bytes.len(), CELL_VALUE_BYTES_MAX)?;
        let stored: StoredMailed = crate::format::from_cbor(WHAT, bytes)?;
        if stored.format != FORMAT {
            return Err(DecodeError::UnknownFormat {
                what: WHAT,
                format: stored.format,
            });
        }
        DecodeError::limit(WHAT, stored.mails.len(), MAILED_MAX)?;
        let mails = stored.mails.into_iter().map(|mail| MailedOnce {
            at_ms: mail.at_ms,
            staging: mail.staging,
        });
        Ok(Mailed(mails.collect()))
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMailed {
    #[serde(rename = "f")]
    format: u8,
    #[serde(rename = "m")]
    mails: Vec<StoredMail>,
}

#[derive(Serialize, Deserialize)]
struct StoredMail {
    #[serde(rename = "t")]
    at_ms: u64,
    #[serde(rename = "s", with = "serde_bytes")]
    staging: [u8; 32],
}

const WHAT: &str = "mails sent";
/// The field `f`.
const FORMAT: u8 = 1;
