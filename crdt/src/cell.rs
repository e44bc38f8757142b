//! Cells: small, hot values that expire.
//!
//! A cell is under (kind, key, slot); a slot belongs to one replica, and two versions of one slot merge by
//! their kind's rule. Promise: merging is commutative, associative and idempotent, for kinds known here or
//! not, whatever bytes are in them. A cell ends at its expiry by the data alone.

mod mailed;
mod staging;

pub use self::{
    mailed::{MAILED_MAX, Mailed, MailedOnce},
    staging::{Purpose, Staging},
};
use crate::format::{DecodeError, Put, Reader};
use crate::hlc::Hlc;
use crate::id::MemberId;

/// What a cell is about. Numbers that are not known here are kept and merged all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CellKind(pub u8);

impl CellKind {
    /// Failed tries per account: [`Tries`].
    pub const TRIES: CellKind = CellKind(1);
    /// How much mail an address was sent, under its record's id: [`Mailed`].
    pub const MAIL_THROTTLE: CellKind = CellKind(2);
    /// A sign-up, addition or reset that waits for its proof: [`Staging`].
    pub const STAGING: CellKind = CellKind(3);
    /// Where an account is signed in: [`Places`](crate::Places), under its id.
    pub const SIGNED_IN: CellKind = CellKind(4);
    /// When a domain was last seen certifying its own users: [`IdpSeen`](crate::IdpSeen).
    pub const IDP_SEEN: CellKind = CellKind(5);
    /// A session that was signed out, under its account's id and its own. That it is there is all that it says.
    pub const ENDED: CellKind = CellKind(6);
    /// What a request with an idempotency key was answered.
    pub const OUTCOME: CellKind = CellKind(7);
    /// A replica holds nothing of a cancelled account any more: [`Erased`], under the account's id.
    pub const ERASED: CellKind = CellKind(8);
}

/// One version of one slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    /// What it is about.
    pub kind: CellKind,
    /// Whom or what it is about: at most [`CELL_KEY_BYTES_MAX`] bytes.
    pub key: Vec<u8>,
    /// The replica that it belongs to.
    pub slot: [u8; 8],
    /// When it was written.
    pub stamp: Hlc,
    /// At most [`CELL_VALUE_BYTES_MAX`] bytes.
    pub value: Vec<u8>,
    /// Milliseconds since the Unix epoch; it is gone from then on.
    pub expires_ms: u64,
}

/// The longest key of a cell.
pub const CELL_KEY_BYTES_MAX: usize = 32;
/// The longest value of a cell.
pub const CELL_VALUE_BYTES_MAX: usize = 4096;

impl Cell {
    /// The two versions of one slot as one. Of two that are not of one kind, key and slot, it is the greater:
    /// such a pair is never merged, but the law holds.
    #[must_use]
    pub fn merge(self, other: Cell) -> Cell {
        let same = self.place() == other.place();
        let expires_ms = self.expires_ms.max(other.expires_ms);
        let winner = if self.rank() >= other.rank() { self } else { other };
        if same {
            Cell { expires_ms, ..winner }
        } else {
            winner
        }
    }

    /// Whether it still counts at `now_ms`, milliseconds since the Unix epoch.
    pub fn is_live(&self, now_ms: u64) -> bool {
        now_ms < self.expires_ms
    }

    /// Whether it keeps to the limits.
    pub fn validate(&self) -> Result<(), DecodeError> {
        DecodeError::limit("cell key", self.key.len(), CELL_KEY_BYTES_MAX)?;
        DecodeError::limit("cell value", self.value.len(), CELL_VALUE_BYTES_MAX)
    }

    /// The form that is stored. The cell must be valid.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.key.len() + self.value.len());
        bytes.extend_from_slice(&[FORMAT, self.kind.0]);
        bytes.put_short(&self.key);
        bytes.extend_from_slice(&self.slot);
        bytes.put_hlc(self.stamp);
        bytes.extend_from_slice(&self.expires_ms.to_le_bytes());
        bytes.extend_from_slice(&self.value);
        bytes
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<Cell, DecodeError> {
        let mut reader = Reader::with_format("cell", FORMAT, bytes)?;
        let cell = Cell {
            kind: CellKind(reader.u8()?),
            key: reader.short_bytes()?.to_vec(),
            slot: reader.array()?,
            stamp: reader.hlc()?,
            expires_ms: reader.u64()?,
            value: reader.rest().to_vec(),
        };
        cell.validate()?;
        Ok(cell)
    }

    fn place(&self) -> (CellKind, &[u8], [u8; 8]) {
        (self.kind, &self.key, self.slot)
    }

    /// Greater counts. What the kind says comes first; what it cannot read is least; ties end in bytes.
    fn rank(&self) -> impl Ord + '_ {
        let said = match self.kind {
            CellKind::TRIES => Tries::decode(&self.value)
                .ok()
                .map(|tries| (tries.since, tries.count)),
            CellKind::STAGING => Staging::decode(&self.value)
                .ok()
                .map(|staging| (Hlc::ZERO, u32::from(staging.ended))),
            _ => None,
        };
        (self.place(), said, self.stamp, &self.value, self.expires_ms)
    }
}

/// Failed tries, as one replica counted them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Tries {
    /// The last success or reset seen: what came before it no longer counts.
    pub since: Hlc,
    /// How many since.
    pub count: u32,
}

impl Tries {
    /// A cell's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.put_hlc(self.since);
        bytes.put_u32(self.count);
        bytes
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<Tries, DecodeError> {
        let mut reader = Reader::with_format("tries", FORMAT, bytes)?;
        let tries = Tries {
            since: reader.hlc()?,
            count: reader.u32()?,
        };
        reader.end().map(|()| tries)
    }

    /// Of all replicas' slots: only those that have seen the latest success or reset add up.
    pub fn total(slots: impl Iterator<Item = Tries>) -> u32 {
        let greatest = slots.fold(Tries::default(), |total, slot| {
            match slot.since.cmp(&total.since) {
                std::cmp::Ordering::Less => total,
                std::cmp::Ordering::Equal => Tries {
                    count: total.count.saturating_add(slot.count),
                    ..total
                },
                std::cmp::Ordering::Greater => slot,
            }
        });
        greatest.count
    }
}

/// One replica's receipt: of a cancelled account, it holds nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Erased {
    /// Whose disk.
    pub member: MemberId,
    /// When the last of it was gone, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where it was looked for: [`ERASED_SCOPE`] of the version that wrote this, or [`RETRACTED_SCOPE`].
    pub scope: u8,
}

/// Documents, vault, log, write-ahead log, tables, quarantine, and copies in the data directory. A version that
/// keeps data in another place as well, and erases it there, takes the next number.
pub const ERASED_SCOPE: u8 = 1;
/// Nowhere: the member has another disk now than the one that this receipt was for.
pub const RETRACTED_SCOPE: u8 = 0;

impl Erased {
    /// A cell's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(self.member.as_bytes());
        bytes.extend_from_slice(&self.at_ms.to_le_bytes());
        bytes.push(self.scope);
        bytes
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<Erased, DecodeError> {
        let mut reader = Reader::with_format("receipt", FORMAT, bytes)?;
        let erased = Erased {
            member: MemberId::from_bytes(reader.array()?),
            at_ms: reader.u64()?,
            scope: reader.u8()?,
        };
        reader.end().map(|()| erased)
    }
}

/// The first byte of a cell, of a count of tries and of a receipt.
const FORMAT: u8 = 1;
