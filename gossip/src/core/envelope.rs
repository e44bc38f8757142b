//! A transaction as peers see it: its dot, what it causally follows, and an opaque body.
//!
//! Promise: the bytes that its writer made are the bytes that everyone keeps and relays; its hash is over those.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::vector::{Dot, Tip, Writer, first_bytes};
use super::wire::WireError;

/// A transaction, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    pub dot: Dot,
    /// Hash of the same writer's transaction before this one; zeros for number 1.
    pub predecessor: [u8; 8],
    /// The vector entries that moved at the writer since its previous transaction; never its own.
    pub follows: Vec<(Writer, Tip)>,
    pub body: Vec<u8>,
}

/// A transaction as it came, taken apart, and its hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    pub envelope: Envelope,
    /// The very bytes that its writer made.
    pub bytes: Arc<[u8]>,
    pub hash: [u8; 8],
}

/// An encoded transaction is at most this long.
pub const TRANSACTION_BYTES_MAX: usize = 64 * 1024;

/// A transaction follows at most so many entries: vectors have tens.
pub const FOLLOWS_COUNT_MAX: usize = 1024;

/// The format written. A reader knows every format that was ever written; numbers are not reused.
const FORMAT: u16 = 1;

impl Envelope {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let form = FormRef {
            format: FORMAT,
            writer: self.dot.writer,
            number: self.dot.number,
            predecessor: serde_bytes::Bytes::new(&self.predecessor),
            follows: &self.follows,
            body: serde_bytes::Bytes::new(&self.body),
            to_come: crate::planted::of_a_version_to_come(),
        };
        let mut bytes = Vec::with_capacity(96 + self.body.len() + 48 * self.follows.len());
        match ciborium::into_writer(&form, &mut bytes) {
            Ok(()) => bytes,
            Err(error) => unreachable!("a Vec takes every byte: {error}"),
        }
    }

    /// # Errors
    /// If the bytes are too many, or no transaction of a known format. Nothing of them is to be kept.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, WireError> {
        if bytes.len() > TRANSACTION_BYTES_MAX {
            return Err(WireError::TooLong {
                bytes: bytes.len(),
                bytes_max: TRANSACTION_BYTES_MAX,
            });
        }
        let form: Form = super::wire::from_cbor(bytes)?;
        if form.format != FORMAT {
            return Err(WireError::Format(form.format));
        }
        if form.follows.len() > FOLLOWS_COUNT_MAX {
            return Err(WireError::Malformed(
                "a transaction follows too many entries".to_owned(),
            ));
        }
        // Its predecessor's hash says so already, and says it of one transaction only.
        if form.follows.iter().any(|(writer, _)| *writer == form.writer) {
            return Err(WireError::Malformed(
                "a transaction follows its own writer".to_owned(),
            ));
        }
        let predecessor = form.predecessor.into_array();
        if form.number == 0 || (form.number == 1) != (predecessor == [0; 8]) {
            return Err(WireError::Malformed(
                "a transaction's number and predecessor disagree".to_owned(),
            ));
        }
        Ok(Envelope {
            dot: Dot {
                writer: form.writer,
                number: form.number,
            },
            predecessor,
            follows: form.follows,
            body: form.body.into_vec(),
        })
    }

    /// The vector entry that this transaction makes.
    #[must_use]
    pub fn tip(&self, hash: [u8; 8]) -> (Writer, Tip) {
        (
            self.dot.writer,
            Tip {
                number: self.dot.number,
                hash,
            },
        )
    }
}

impl Received {
    /// # Errors
    /// As [`Envelope::decode`].
    pub fn decode(bytes: Arc<[u8]>) -> Result<Received, WireError> {
        let envelope = Envelope::decode(&bytes)?;
        let hash = transaction_hash(&bytes);
        Ok(Received {
            envelope,
            bytes,
            hash,
        })
    }
}

/// First 8 bytes of the BLAKE3 of a transaction's bytes. Not a secret and no proof against forgery by a
/// member: it tells apart what one writer made twice.
#[must_use]
pub fn transaction_hash(bytes: &[u8]) -> [u8; 8] {
    first_bytes(&blake3::hash(bytes))
}

#[derive(Serialize)]
struct FormRef<'a> {
    #[serde(rename = "v")]
    format: u16,
    #[serde(rename = "w")]
    writer: Writer,
    #[serde(rename = "n")]
    number: u64,
    #[serde(rename = "p")]
    predecessor: &'a serde_bytes::Bytes,
    #[serde(rename = "f")]
    follows: &'a [(Writer, Tip)],
    #[serde(rename = "b")]
    body: &'a serde_bytes::Bytes,
    /// For simulations of mixed versions only.
    #[serde(rename = "to-come", skip_serializing_if = "Option::is_none")]
    to_come: Option<u8>,
}

#[derive(Deserialize)]
struct Form {
    #[serde(rename = "v")]
    format: u16,
    #[serde(rename = "w")]
    writer: Writer,
    #[serde(rename = "n")]
    number: u64,
    #[serde(rename = "p")]
    predecessor: serde_bytes::ByteArray<8>,
    #[serde(rename = "f", default)]
    follows: Vec<(Writer, Tip)>,
    #[serde(rename = "b")]
    body: serde_bytes::ByteBuf,
}
