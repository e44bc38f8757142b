//! The body of a transaction: what one write changes, atomically, in every replica.
//!
//! Who wrote it and what it follows is the business of the envelope around it. On the wire it is a CBOR map
//! with short keys; fields that a newer version added are passed over, and stay in the bytes that are kept
//! and relayed.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::cell::{Cell, CellKind};
use crate::format::{DecodeError, from_cbor};
use crate::hlc::Hlc;
use crate::id::RecordKey;
use crate::vault::{VAULT_BYTES_MAX, VaultValue};

/// The largest body: what is left of 64 KiB once the envelope has its 2 KiB. [`Transaction::encode`] does not
/// check it, since the bytes must be made to be counted; the caller does.
pub const TRANSACTION_BYTES_MAX: usize = 62 * 1024;
/// The most records that one transaction changes.
pub const RECORDS_MAX: usize = 256;
/// The most changes to one record in one transaction.
pub const CHANGES_MAX: usize = 256;
/// The most vault values that one transaction puts.
pub const VALUES_MAX: usize = 256;
/// The most cells that one transaction puts.
pub const CELLS_MAX: usize = 512;

/// What one write changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// The greatest HLC that its writer had given out.
    pub hlc: Hlc,
    /// Changes to records.
    pub records: Vec<RecordChange>,
    /// Values that those changes name.
    pub vault: Vec<VaultValue>,
    /// What expires.
    pub cells: Vec<Cell>,
}

/// The changes to one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordChange {
    /// Which record.
    pub key: RecordKey,
    /// Automerge changes, each after those that it follows.
    pub changes: Vec<Vec<u8>>,
}

impl Transaction {
    /// The form that is sent and kept.
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireOut {
            format: FORMAT,
            hlc: self.hlc.to_u64(),
            records: self
                .records
                .iter()
                .map(|record| RecordOut {
                    key: record.key.as_bytes(),
                    changes: record
                        .changes
                        .iter()
                        .map(|change| serde_bytes::Bytes::new(change))
                        .collect(),
                })
                .collect(),
            vault: self
                .vault
                .iter()
                .map(|value| VaultOut {
                    salt: &value.salt,
                    data: &value.data,
                })
                .collect(),
            cells: self
                .cells
                .iter()
                .map(|cell| CellOut {
                    kind: cell.kind.0,
                    key: &cell.key,
                    slot: &cell.slot,
                    stamp: cell.stamp.to_u64(),
                    value: &cell.value,
                    expires_ms: cell.expires_ms,
                })
                .collect(),
        };
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail, and every field has a CBOR form; were it otherwise, what is
        // written is cut short and refused when read.
        let _ = ciborium::into_writer(&wire, &mut bytes);
        bytes
    }

    /// The other way. Nothing in it has been looked into yet: changes are decoded when they are applied.
    pub fn decode(bytes: &[u8]) -> Result<Transaction, DecodeError> {
        DecodeError::limit(WHAT, bytes.len(), TRANSACTION_BYTES_MAX)?;
        let wire: WireIn = from_cbor(WHAT, bytes)?;
        if wire.format != FORMAT {
            return Err(DecodeError::UnknownFormat {
                what: WHAT,
                format: wire.format,
            });
        }
        DecodeError::limit("records", wire.records.len(), RECORDS_MAX)?;
        DecodeError::limit("vault values", wire.vault.len(), VALUES_MAX)?;
        DecodeError::limit("cells", wire.cells.len(), CELLS_MAX)?;
        Ok(Transaction {
            hlc: Hlc::from_u64(wire.hlc),
            records: wire
                .records
                .into_iter()
                .map(RecordChange::try_from)
                .collect::<Result<_, _>>()?,
            vault: wire
                .vault
                .into_iter()
                .map(VaultValue::try_from)
                .collect::<Result<_, _>>()?,
            cells: wire
                .cells
                .into_iter()
                .map(Cell::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize)]
struct WireOut<'a> {
    #[serde(rename = "f")]
    format: u8,
    #[serde(rename = "h")]
    hlc: u64,
    #[serde(rename = "r", skip_serializing_if = "Vec::is_empty")]
    records: Vec<RecordOut<'a>>,
    #[serde(rename = "v", skip_serializing_if = "Vec::is_empty")]
    vault: Vec<VaultOut<'a>>,
    #[serde(rename = "c", skip_serializing_if = "Vec::is_empty")]
    cells: Vec<CellOut<'a>>,
}

#[derive(Serialize)]
struct RecordOut<'a> {
    #[serde(rename = "k", with = "serde_bytes")]
    key: &'a [u8; 16],
    #[serde(rename = "c")]
    changes: Vec<&'a serde_bytes::Bytes>,
}

#[derive(Serialize)]
struct VaultOut<'a> {
    #[serde(rename = "s", with = "serde_bytes")]
    salt: &'a [u8; 16],
    #[serde(rename = "d", with = "serde_bytes")]
    data: &'a [u8],
}

#[derive(Serialize)]
struct CellOut<'a> {
    #[serde(rename = "n")]
    kind: u8,
    #[serde(rename = "k", with = "serde_bytes")]
    key: &'a [u8],
    #[serde(rename = "s", with = "serde_bytes")]
    slot: &'a [u8; 8],
    #[serde(rename = "t")]
    stamp: u64,
    #[serde(rename = "v", with = "serde_bytes")]
    value: &'a [u8],
    #[serde(rename = "x")]
    expires_ms: u64,
}

#[derive(Deserialize)]
struct WireIn {
    #[serde(rename = "f")]
    format: u8,
    #[serde(rename = "h")]
    hlc: u64,
    #[serde(rename = "r", default)]
    records: Vec<RecordIn>,
    #[serde(rename = "v", default)]
    vault: Vec<VaultIn>,
    #[serde(rename = "c", default)]
    cells: Vec<CellIn>,
}

#[derive(Deserialize)]
struct RecordIn {
    #[serde(rename = "k")]
    key: ByteArray<16>,
    #[serde(rename = "c")]
    changes: Vec<ByteBuf>,
}

#[derive(Deserialize)]
struct VaultIn {
    #[serde(rename = "s")]
    salt: ByteArray<16>,
    #[serde(rename = "d")]
    data: ByteBuf,
}

#[derive(Deserialize)]
struct CellIn {
    #[serde(rename = "n")]
    kind: u8,
    #[serde(rename = "k")]
    key: ByteBuf,
    #[serde(rename = "s")]
    slot: ByteArray<8>,
    #[serde(rename = "t")]
    stamp: u64,
    #[serde(rename = "v")]
    value: ByteBuf,
    #[serde(rename = "x")]
    expires_ms: u64,
}

impl TryFrom<RecordIn> for RecordChange {
    type Error = DecodeError;

    fn try_from(wire: RecordIn) -> Result<RecordChange, DecodeError> {
        DecodeError::limit("changes", wire.changes.len(), CHANGES_MAX)?;
        let changes = wire.changes.into_iter().map(ByteBuf::into_vec).collect();
        Ok(RecordChange {
            key: RecordKey::from_bytes(wire.key.into_array()),
            changes,
        })
    }
}

impl TryFrom<VaultIn> for VaultValue {
    type Error = DecodeError;

    fn try_from(wire: VaultIn) -> Result<VaultValue, DecodeError> {
        DecodeError::limit("vault value", wire.data.len(), VAULT_BYTES_MAX)?;
        Ok(VaultValue::new(wire.salt.into_array(), wire.data.into_vec()))
    }
}

impl TryFrom<CellIn> for Cell {
    type Error = DecodeError;

    fn try_from(wire: CellIn) -> Result<Cell, DecodeError> {
        let cell = Cell {
            kind: CellKind(wire.kind),
            key: wire.key.into_vec(),
            slot: wire.slot.into_array(),
            stamp: Hlc::from_u64(wire.stamp),
            value: wire.value.into_vec(),
            expires_ms: wire.expires_ms,
        };
        cell.validate()?;
        Ok(cell)
    }
}

const WHAT: &str = "transaction";
const FORMAT: u8 = 1;
