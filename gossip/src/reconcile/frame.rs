//! What the two ends of a conversation say, and how it becomes bytes (`WIRE.md`, "Reconciliation").
//!
//! A frame is a CBOR map with one entry, name to body. Unknown fields of a body are skipped; an unknown name is an
//! error, since a conversation that is not understood must not be concluded from.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use super::iblt::{ITEM_BYTES, Symbol};
use super::{Action, CutError, Key, Purpose, ReconcileError, Verdict};
use crate::core::wire::{from_cbor, to_cbor};
use crate::{FRAME_BYTES_MAX, Vector};

/// The format of conversations. A greater one is an error: it is asked for once every member reads it.
pub(super) const VERSION: u16 = 1;

/// A frame of symbols, keys, states or cells is filled up to about here.
pub(super) const CHUNK_BYTES: usize = 128 * 1024;

/// What a frame's length costs on the stream.
const LENGTH_BYTES: u64 = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Frame {
    #[serde(rename = "ask")]
    Ask(Ask),
    #[serde(rename = "equal")]
    Equal(Nothing),
    #[serde(rename = "differ")]
    Differ(Differ),
    #[serde(rename = "groups")]
    Groups(GroupHashes),
    #[serde(rename = "symbols")]
    Symbols(Symbols),
    #[serde(rename = "got")]
    Got(Got),
    #[serde(rename = "next")]
    Next(Nothing),
    #[serde(rename = "candidates")]
    Candidates(Candidates),
    #[serde(rename = "divergent")]
    Divergent(Divergent),
    #[serde(rename = "states")]
    States(States),
    #[serde(rename = "cells")]
    Cells(Cells),
    #[serde(rename = "complete")]
    Complete(Complete),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Nothing {}

/// "Are we equal?"
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    #[serde(rename = "v")]
    pub(super) version: u16,
    #[serde(rename = "p")]
    pub(super) purpose: Purpose,
    #[serde(rename = "n")]
    pub(super) nonce: ByteArray<16>,
    /// Of the asker's vector.
    #[serde(rename = "h")]
    pub(super) vector_hash: ByteArray<16>,
    /// Of all elements, big-endian.
    #[serde(rename = "s")]
    pub(super) sum: ByteArray<16>,
}

/// "No: these are my groups."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Differ {
    #[serde(rename = "g")]
    pub(super) groups: ByteBuf,
    /// Absent if it is the asker's.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(super) vector: Option<Vector>,
}

/// "In these groups; this is what I have there."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupHashes {
    /// Which groups: a bit each, little-endian.
    #[serde(rename = "d")]
    pub(super) differ: ByteArray<8>,
    /// Hashes of the partitions of each.
    #[serde(rename = "p")]
    pub(super) partitions: ByteBuf,
    /// A sample, when all groups differ.
    #[serde(rename = "f", default, skip_serializing_if = "no_bytes")]
    pub(super) sample: ByteBuf,
    /// Absent if it is the answerer's.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(super) vector: Option<Vector>,
}

/// "In these partitions; this is what I have there, coded."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(super) struct Symbols {
    /// Begins a slice: 8 bytes of partitions for each group that differs.
    #[serde(rename = "p", default, skip_serializing_if = "no_bytes")]
    pub(super) partitions: ByteBuf,
    #[serde(rename = "s")]
    pub(super) symbols: ByteBuf,
    /// Another slice follows this one.
    #[serde(rename = "r", default, skip_serializing_if = "is_false")]
    pub(super) more_slices: bool,
    /// No more of them until the asker has said how many it took.
    #[serde(rename = "w", default, skip_serializing_if = "is_false")]
    pub(super) waits: bool,
}

/// "I took so many symbols of this slice, and need more."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Got {
    #[serde(rename = "n")]
    pub(super) symbols: u64,
}

/// "These keys differ, and by what I know it is not lag." In a catch-up: "of these I need the state".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(super) struct Candidates {
    /// Ascending.
    #[serde(rename = "k")]
    pub(super) keys: ByteBuf,
    /// More of them in the next frame.
    #[serde(rename = "m", default, skip_serializing_if = "is_false")]
    pub(super) more: bool,
    /// How many the asker struck out.
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub(super) lagging: u64,
    /// The asker's log does not tell.
    #[serde(rename = "i", default, skip_serializing_if = "is_false")]
    pub(super) inconclusive: bool,
}

/// "These of them are divergent."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(super) struct Divergent {
    /// A bit for each candidate, in order.
    #[serde(rename = "b")]
    pub(super) bits: ByteBuf,
    /// More of them in the next frame.
    #[serde(rename = "m", default, skip_serializing_if = "is_false")]
    pub(super) more: bool,
    /// The answerer's log does not tell.
    #[serde(rename = "i", default, skip_serializing_if = "is_false")]
    pub(super) inconclusive: bool,
}

/// States of records, ascending by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(super) struct States {
    #[serde(rename = "s")]
    pub(super) states: Vec<(ByteArray<16>, ByteBuf)>,
    /// The last one goes on in the next frame, under its key again.
    #[serde(rename = "m", default, skip_serializing_if = "is_false")]
    pub(super) more: bool,
    /// These were the last.
    #[serde(rename = "e", default, skip_serializing_if = "is_false")]
    pub(super) end: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(super) struct Cells {
    #[serde(rename = "c")]
    pub(super) cells: Vec<ByteBuf>,
}

/// "That was all that this covers."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Complete {
    #[serde(rename = "v")]
    pub(super) vector: Vector,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn no_bytes(bytes: &ByteBuf) -> bool {
    bytes.is_empty()
}

pub(super) fn malformed<T>(what: &str) -> Result<T, ReconcileError> {
    Err(ReconcileError::Malformed(what.to_owned()))
}

impl Frame {
    fn name(&self) -> &'static str {
        match self {
            Frame::Ask(_) => "ask",
            Frame::Equal(_) => "equal",
            Frame::Differ(_) => "differ",
            Frame::Groups(_) => "groups",
            Frame::Symbols(_) => "symbols",
            Frame::Got(_) => "got",
            Frame::Next(_) => "next",
            Frame::Candidates(_) => "candidates",
            Frame::Divergent(_) => "divergent",
            Frame::States(_) => "states",
            Frame::Cells(_) => "cells",
            Frame::Complete(_) => "complete",
        }
    }

    /// The error of whoever gets this frame when it should not come.
    pub(super) fn out_of_place<T>(&self) -> Result<T, ReconcileError> {
        malformed(&format!("{} out of place", self.name()))
    }

    fn encode(&self) -> Result<Vec<u8>, CutError> {
        let mut bytes = Vec::new();
        to_cbor(&mut bytes, self);
        if bytes.len() > FRAME_BYTES_MAX {
            // Only a cell or a vector of our own can be so long.
            return Err(CutError(format!("a {} of {} bytes", self.name(), bytes.len())));
        }
        Ok(bytes)
    }
}

/// Counts what goes over the stream, and how often the asker waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    pub(super) bytes: u64,
    pub(super) round_trips: u32,
}

impl Meter {
    pub(super) fn send(&mut self, frame: &Frame) -> Result<Action, ReconcileError> {
        let bytes = frame.encode()?;
        self.count(&bytes);
        Ok(Action::Send(bytes))
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Frame, ReconcileError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return malformed("too long");
        }
        self.count(bytes);
        from_cbor(bytes).map_err(|error| ReconcileError::Malformed(error.to_string()))
    }

    pub(super) fn verdict(&self, divergent: BTreeSet<Key>, lagging: u64, conclusive: bool) -> Verdict {
        Verdict {
            divergent,
            lagging,
            conclusive,
            bytes: self.bytes,
            round_trips: self.round_trips,
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += LENGTH_BYTES + bytes.len() as u64;
    }
}

/// All symbols of a frame.
pub(super) fn decode_symbols(mut bytes: &[u8]) -> Result<Vec<Symbol>, ReconcileError> {
    let mut symbols = Vec::with_capacity(bytes.len() / (ITEM_BYTES + 9));
    while !bytes.is_empty() {
        match Symbol::decode_from(&mut bytes) {
            Some(symbol) => symbols.push(symbol),
            None => return malformed("half a symbol"),
        }
    }
    Ok(symbols)
}

/// Adds the keys of a frame to `keys`, at most up to `keys_max` in all, and only if they ascend.
pub(super) fn decode_keys(bytes: &[u8], keys: &mut Vec<Key>, keys_max: usize) -> Result<(), ReconcileError> {
    let (more, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return malformed("half a key");
    }
    if keys.len() + more.len() > keys_max {
        return malformed("too many keys");
    }
    for key in more {
        if keys.last().is_some_and(|last| last >= key) {
            return malformed("keys that do not ascend");
        }
        keys.push(*key);
    }
    Ok(())
}
