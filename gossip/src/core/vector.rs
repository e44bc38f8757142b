//! Names of transactions, and what is known of them: writers, dots, and version vectors.
//!
//! A *writer* is one start of a replica; it numbers its transactions 1, 2, 3…; (writer, number) is a *dot*.
//! A *version vector* says for each writer the last number that was applied without a gap.
//! Promise: equal vectors have equal hashes, whatever way they came about.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a version vector says of the transactions: a start's numbers, and folded starts.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Vector {
    entries: BTreeMap<Writer, Tip>,
    floors: BTreeMap<ReplicaId, Floor>,
}

/// One start of a replica.
///
/// Only `nonce`, drawn and synced at the start, is its identity: a restored backup or a copied data
/// directory may repeat a replica id and an epoch. Those two order writers and fold them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    pub replica: ReplicaId,
    pub epoch: u32,
    pub nonce: [u8; 8],
}

/// One transaction. Numbers start at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Dot {
    pub writer: Writer,
    pub number: u64,
}

/// The last transaction of a writer that was applied without a gap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tip {
    pub number: u64,
    /// First 8 bytes of the BLAKE3 of that transaction's bytes; they chain back to number 1.
    pub hash: [u8; 8],
}

/// Writers of a replica up to an epoch that every active member knows whole, folded into one entry. Ordered by epoch,
/// then by what is folded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Floor {
    /// Every writer of the replica with at most this epoch is folded.
    pub epoch: u32,
    /// How many transactions those writers made.
    pub transactions: u64,
    /// Chain over the folded entries in order, so that one who has not folded yet can compare.
    pub digest: [u8; 8],
}

impl Vector {
    #[must_use]
    pub fn new() -> Vector {
        Vector::default()
    }

    /// The last number of `writer`; nothing if unknown or folded.
    #[must_use]
    pub fn get(&self, writer: &Writer) -> Option<Tip> {
        self.entries.get(writer).copied()
    }

    /// Is `writer` folded, that is, known whole to every active member?
    #[must_use]
    pub fn folded(&self, writer: &Writer) -> bool {
        self.floors
            .get(&writer.replica)
            .is_some_and(|floor| writer.epoch <= floor.epoch)
    }

    #[must_use]
    pub fn covers(&self, dot: &Dot) -> bool {
        self.entries
            .get(&dot.writer)
            .is_some_and(|tip| tip.number >= dot.number)
            || self.folded(&dot.writer)
    }

    /// Does this vector know all that `other` knows?
    #[must_use]
    pub fn covers_vector(&self, other: &Vector) -> bool {
        other.entries.iter().all(|(writer, tip)| {
            self.covers(&Dot {
                writer: *writer,
                number: tip.number,
            })
        }) && self.covers_floors(other)
    }

    /// Does this vector know all that `other` has folded?
    #[must_use]
    pub fn covers_floors(&self, other: &Vector) -> bool {
        other
            .floors()
            .all(|(replica, floor)| self.covers_floor(replica, floor))
    }

    /// Does this vector know all that is folded here? One who has not folded yet folds on trial and compares
    /// digests; one who has folded further needed what every active member had.
    #[must_use]
    pub fn covers_floor(&self, replica: ReplicaId, floor: Floor) -> bool {
        match self.floors.get(&replica) {
            Some(ours) if ours.epoch > floor.epoch => true,
            Some(ours) if ours.epoch == floor.epoch => ours.digest == floor.digest,
            _ => self.folded_to(replica, floor.epoch).digest == floor.digest,
        }
    }

    /// Raises the entry of `writer`; says whether it moved.
    pub fn advance(&mut self, writer: Writer, tip: Tip) -> bool {
        if tip.number == 0
            || self.covers(&Dot {
                writer,
                number: tip.number,
            })
        {
            return false;
        }
        self.entries.insert(writer, tip);
        true
    }

    /// Sets the entry of `writer`, also downwards; number 0 removes it. A folded writer stays folded.
    pub fn set(&mut self, writer: Writer, tip: Tip) {
        if tip.number == 0 {
            self.entries.remove(&writer);
        } else if !self.folded(&writer) {
            self.entries.insert(writer, tip);
        }
    }

    pub fn merge_max(&mut self, other: &Vector) {
        for (replica, floor) in &other.floors {
            self.adopt_floor(*replica, *floor);
        }
        for (writer, tip) in &other.entries {
            self.advance(*writer, *tip);
        }
    }

    /// What of this vector `bound` covers too.
    #[must_use]
    pub fn up_to(&self, bound: &Vector) -> Vector {
        let mut least = Vector::new();
        for (replica, floor) in self.floors() {
            if bound.covers_floor(replica, floor) {
                least.adopt_floor(replica, floor);
            }
        }
        for (writer, tip) in self.iter() {
            if bound.folded(&writer) {
                least.set(writer, tip);
            } else if let Some(theirs) = bound.get(&writer) {
                least.set(writer, if theirs.number < tip.number { theirs } else { tip });
            }
        }
        least
    }

    /// The entries that differ from those of `older`.
    #[must_use]
    pub fn moved_since(&self, older: &Vector) -> Vec<(Writer, Tip)> {
        self.iter()
            .filter(|(writer, tip)| older.entries.get(writer) != Some(tip))
            .collect()
    }

    /// First 16 bytes of BLAKE3 over all entries and floors, in order.
    #[must_use]
    pub fn hash(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"persona vector 1");
        hasher.update(&(self.floors.len() as u64).to_be_bytes());
        for (replica, floor) in &self.floors {
            hasher.update(&replica.0);
            hasher.update(&floor.epoch.to_be_bytes());
            hasher.update(&floor.transactions.to_be_bytes());
            hasher.update(&floor.digest);
        }
        for (writer, tip) in &self.entries {
            absorb(&mut hasher, writer, tip);
        }
        first_bytes(&hasher.finalize())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Writer, Tip)> + '_ {
        self.entries.iter().map(|(writer, tip)| (*writer, *tip))
    }

    /// The entries of one replica, oldest epoch first.
    pub fn of_replica(&self, replica: ReplicaId) -> impl DoubleEndedIterator<Item = (Writer, Tip)> + '_ {
        let first = Writer {
            replica,
            epoch: 0,
            nonce: [0; 8],
        };
        let last = Writer {
            replica,
            epoch: u32::MAX,
            nonce: [0xff; 8],
        };
        self.entries
            .range((Bound::Included(first), Bound::Included(last)))
            .map(|(writer, tip)| (*writer, *tip))
    }

    pub fn floors(&self) -> impl Iterator<Item = (ReplicaId, Floor)> + '_ {
        self.floors.iter().map(|(replica, floor)| (*replica, *floor))
    }

    #[must_use]
    pub fn floor(&self, replica: &ReplicaId) -> Option<Floor> {
        self.floors.get(replica).copied()
    }

    /// How many entries, floors included: what a vector costs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() + self.floors.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.floors.is_empty()
    }

    /// Folds every writer of `replica` with at most `epoch` into one floor. The caller knows that each is
    /// ended and known whole to every active member.
    pub fn fold(&mut self, replica: ReplicaId, epoch: u32) {
        if self
            .floors
            .get(&replica)
            .is_some_and(|floor| floor.epoch >= epoch)
        {
            return;
        }
        let floor = self.folded_to(replica, epoch);
        self.adopt_floor(replica, floor);
    }

    /// Takes over a floor that somebody stated, unless ours is as high.
    ///
    /// Two may have folded one epoch differently, each without something that only a clone's disk held then. Of those
    /// the greater one stays with everybody: were each to keep its own, all would lack what the others fold for good.
    pub fn adopt_floor(&mut self, replica: ReplicaId, floor: Floor) {
        if self.floors.get(&replica).is_some_and(|ours| *ours >= floor) {
            return;
        }
        self.floors.insert(replica, floor);
        let last = Writer {
            replica,
            epoch: floor.epoch,
            nonce: [0xff; 8],
        };
        let first = Writer {
            replica,
            epoch: 0,
            nonce: [0; 8],
        };
        while let Some(writer) = self.entries.range(first..=last).next().map(|(writer, _)| *writer) {
            self.entries.remove(&writer);
        }
    }

    /// How many transactions this vector covers, folded ones included.
    #[must_use]
    pub fn total(&self) -> u64 {
        let entries = self.entries.values().map(|tip| tip.number);
        let folded = self.floors.values().map(|floor| floor.transactions);
        entries.chain(folded).fold(0, u64::saturating_add)
    }

    /// How many transactions that this vector covers are missing from `other`. Folded ones do not count.
    #[must_use]
    pub fn missing_from(&self, other: &Vector) -> u64 {
        self.entries
            .iter()
            .filter(|(writer, _)| !other.folded(writer))
            .map(|(writer, tip)| {
                tip.number
                    .saturating_sub(other.entries.get(writer).map_or(0, |their| their.number))
            })
            .fold(0, u64::saturating_add)
    }

    /// What the floor of `replica` would be after folding up to `epoch`. Chained entry by entry, so that one
    /// fold and several in a row come to the same.
    fn folded_to(&self, replica: ReplicaId, epoch: u32) -> Floor {
        let mut floor = Floor {
            epoch,
            transactions: 0,
            digest: [0; 8],
        };
        if let Some(below) = self.floors.get(&replica) {
            floor.transactions = below.transactions;
            floor.digest = below.digest;
        }
        for (writer, tip) in self
            .of_replica(replica)
            .take_while(|(writer, _)| writer.epoch <= epoch)
        {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&floor.digest);
            absorb(&mut hasher, &writer, &tip);
            floor.digest = first_bytes(&hasher.finalize());
            floor.transactions = floor.transactions.saturating_add(tip.number);
        }
        floor
    }
}

impl FromIterator<(Writer, Tip)> for Vector {
    fn from_iter<I: IntoIterator<Item = (Writer, Tip)>>(entries: I) -> Vector {
        Vector {
            entries: entries.into_iter().collect(),
            floors: BTreeMap::new(),
        }
    }
}

fn absorb(hasher: &mut blake3::Hasher, writer: &Writer, tip: &Tip) {
    hasher.update(&writer.to_bytes());
    hasher.update(&tip.number.to_be_bytes());
    hasher.update(&tip.hash);
}

/// The first `N` (at most 32) bytes of a BLAKE3 hash.
pub(crate) fn first_bytes<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    let mut short = [0; N];
    for (to, from) in short.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    short
}

impl Writer {
    /// Replica id, epoch (big-endian), nonce: these bytes sort as writers do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.replica.0);
        bytes[8..12].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[12..].copy_from_slice(&self.nonce);
        bytes
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; 20]) -> Writer {
        let [r0, r1, r2, r3, r4, r5, r6, r7, e0, e1, e2, e3, nonce @ ..] = bytes;
        Writer {
            replica: ReplicaId([r0, r1, r2, r3, r4, r5, r6, r7]),
            epoch: u32::from_be_bytes([e0, e1, e2, e3]),
            nonce,
        }
    }
}

/// The text is not as many bytes of lower-case hexadecimal as this id has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of {bytes} bytes in lower-case hexadecimal")]
pub struct ParseIdError {
    bytes: usize,
}

/// An id's forms: hexadecimal for people and JSON, bytes for CBOR.
macro_rules! id_forms {
    ($name:ident, $bytes:literal, |$id:ident| $to:expr, |$raw:ident| $from:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $id = *self;
                let bytes: [u8; $bytes] = $to;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                let $raw: [u8; $bytes] = from_hex(text).ok_or(ParseIdError { bytes: $bytes })?;
                Ok($from)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.collect_str(self);
                }
                let $id = *self;
                let bytes: [u8; $bytes] = $to;
                serializer.serialize_bytes(&bytes)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                if deserializer.is_human_readable() {
                    return String::deserialize(deserializer)?
                        .parse()
                        .map_err(de::Error::custom);
                }
                let $raw: [u8; $bytes] = serde_bytes::ByteArray::deserialize(deserializer)?.into_array();
                Ok($from)
            }
        }
    };
}

/// One data directory: drawn when it was made, drawn again when it proves to be a copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub [u8; 8]);

/// One seat in the cluster: new at every joining, whatever replica fills it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 8]);

id_forms!(ReplicaId, 8, |id| id.0, |raw| ReplicaId(raw));
id_forms!(MemberId, 8, |id| id.0, |raw| MemberId(raw));
id_forms!(Writer, 20, |id| id.to_bytes(), |raw| Writer::from_bytes(raw));

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

impl fmt::Debug for Tip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.number)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.writer, self.number)
    }
}

// On the wire and on disk an entry is a short array, not a map: a vector is mostly these.

impl Serialize for Tip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.number, serde_bytes::ByteArray::new(self.hash)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tip, D::Error> {
        let (number, hash) = <(u64, serde_bytes::ByteArray<8>)>::deserialize(deserializer)?;
        Ok(Tip {
            number,
            hash: hash.into_array(),
        })
    }
}

impl Serialize for Floor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (
            self.epoch,
            self.transactions,
            serde_bytes::ByteArray::new(self.digest),
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Floor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Floor, D::Error> {
        let (epoch, transactions, digest) =
            <(u32, u64, serde_bytes::ByteArray<8>)>::deserialize(deserializer)?;
        Ok(Floor {
            epoch,
            transactions,
            digest: digest.into_array(),
        })
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::wire::Moved::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Vector, D::Error> {
        let parts = super::wire::Moved::deserialize(deserializer)?;
        let mut vector = Vector::new();
        parts.apply(&mut vector).map_err(de::Error::custom)?;
        Ok(vector)
    }
}
