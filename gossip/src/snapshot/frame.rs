//! Frames of a transfer: a length of the head (u16, little-endian), the head (CBOR), then raw bytes if there are any.

use serde::{Deserialize, Serialize};

use super::transfer::TransferError;
use crate::core::wire::from_cbor;

/// Bytes of a file in one frame: large enough that heads and checksums cost nothing, small enough to be forgotten.
pub const PIECE_BYTES_MAX: usize = 128 * 1024;

/// What a frame says, beside its raw bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Head {
    /// Taker: what have you?
    Ask,
    /// Giver: the next bytes of its manifest, which has so many.
    Manifest {
        #[serde(rename = "n")]
        bytes: u64,
    },
    /// Taker: go on from here, up to the end.
    From {
        #[serde(rename = "f")]
        file: u64,
        #[serde(rename = "o")]
        offset: u64,
    },
    /// Giver: a piece of a file.
    Piece {
        #[serde(rename = "f")]
        file: u64,
        #[serde(rename = "o")]
        offset: u64,
    },
    /// Giver: that was all of a file, and this is its BLAKE3.
    Hash {
        #[serde(rename = "f")]
        file: u64,
        #[serde(rename = "h", with = "serde_bytes")]
        hash: [u8; 32],
    },
    /// Giver: that was the last file.
    End,
    /// Taker: all is here, and every file is what it should be.
    Done,
    /// Either: it goes no further, because of this.
    Failed {
        #[serde(rename = "w")]
        words: String,
    },
}

/// What a head takes, but for a failure's.
const HEAD_BYTES_ROUGHLY: usize = 64;
/// What a failure's words may take.
const WORDS_BYTES_MAX: usize = 300;

impl Head {
    pub(super) fn failed(words: &str) -> Head {
        let mut words = words.to_owned();
        words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
        Head::Failed { words }
    }

    pub(super) fn frame(&self, raw: &[u8]) -> Vec<u8> {
        let mut bytes = self.begin_frame(raw.len());
        bytes.extend_from_slice(raw);
        bytes
    }

    /// A frame with so many raw bytes, which `fill` writes where they are to be.
    pub(super) fn frame_with<E>(
        &self,
        raw_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        let mut bytes = self.begin_frame(raw_bytes);
        let head_bytes = bytes.len();
        bytes.resize(head_bytes + raw_bytes, 0);
        fill(&mut bytes[head_bytes..])?;
        Ok(bytes)
    }

    fn begin_frame(&self, raw_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(raw_bytes + HEAD_BYTES_ROUGHLY);
        bytes.extend_from_slice(&[0; 2]);
        // Writing to memory cannot fail, and every field is representable.
        let _ = ciborium::into_writer(self, &mut bytes);
        let length = u16::try_from(bytes.len() - 2).unwrap_or(u16::MAX);
        bytes[..2].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    pub(super) fn parse(frame: &[u8]) -> Result<(Head, &[u8]), TransferError> {
        let malformed = |what: &str| TransferError::Malformed(what.to_owned());
        let (length, rest) = frame
            .split_first_chunk::<2>()
            .ok_or_else(|| malformed("a frame is too short"))?;
        let (head, raw) = rest
            .split_at_checked(usize::from(u16::from_le_bytes(*length)))
            .ok_or_else(|| malformed("a head is longer than its frame"))?;
        let head = from_cbor(head).map_err(|error| TransferError::Malformed(error.to_string()))?;
        Ok((head, raw))
    }
}
