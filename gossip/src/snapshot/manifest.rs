//! What a checkpoint consists of, and which it is.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::core::wire::from_cbor;
use crate::{VECTOR_ENTRIES_MAX, Vector};

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Names this checkpoint: a transfer is resumed from the same one, or starts over. It is the hash of all the rest,
    /// so one id has one vector and one set of files.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// Drawn for this checkpoint: files of two checkpoints may have the same names and lengths.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// What it covers.
    pub vector: Vector,
    /// What its log no longer holds.
    pub trimmed: Vector,
    /// What its owner notes for whoever installs it; opaque here.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
    /// In this order.
    pub files: Vec<File>,
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// A plain name, without directories.
    pub name: String,
    /// Its length; never 0.
    pub bytes: u64,
}

/// A manifest has at most so many bytes: room for the longest vectors and [`FILES_MAX`] files.
pub const MANIFEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// RocksDB splits a store into files of some 64 MB.
const FILES_MAX: usize = 16_384;
const NAME_BYTES_MAX: usize = 64;
const NOTE_BYTES_MAX: usize = 256 * 1024;
/// All files together: far beyond any disk, and far from overflowing.
const BYTES_MAX: u64 = 1 << 50;

/// What was read is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a manifest: {0}")]
pub struct ManifestError(pub String);

impl Manifest {
    /// Names a checkpoint of these files. No other checkpoint has the nonce.
    #[must_use]
    pub fn new(
        nonce: [u8; 16],
        vector: Vector,
        trimmed: Vector,
        note: Vec<u8>,
        files: Vec<File>,
    ) -> Manifest {
        let mut manifest = Manifest {
            id: [0; 16],
            nonce,
            vector,
            trimmed,
            note,
            files,
        };
        manifest.id = manifest.hash();
        manifest
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// For the wire and for a file beside the others.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory cannot fail, and every field is representable.
        let _ = ciborium::into_writer(self, &mut bytes);
        bytes
    }

    /// Reads and checks one: whoever has a `Manifest` from here may use its names as file names, and its numbers.
    ///
    /// # Errors
    /// When it is not what [`Manifest::encode`] makes of a manifest within the limits.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError("too long".to_owned()));
        }
        let manifest: Manifest = from_cbor(bytes).map_err(|error| ManifestError(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |what: &str| Err(ManifestError(what.to_owned()));
        if self.vector.len().max(self.trimmed.len()) > VECTOR_ENTRIES_MAX {
            return wrong("a vector has too many entries");
        }
        if self.note.len() > NOTE_BYTES_MAX {
            return wrong("its note is too long");
        }
        if self.files.len() > FILES_MAX {
            return wrong("too many files");
        }
        let mut names = BTreeSet::new();
        let mut bytes = 0_u64;
        for file in &self.files {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if !file.name.bytes().all(plain)
                || file.name.starts_with('.')
                || !(1..=NAME_BYTES_MAX).contains(&file.name.len())
            {
                return wrong("a file's name is not a plain one");
            }
            if !names.insert(&file.name) {
                return wrong("a file stands twice");
            }
            bytes = bytes.saturating_add(file.bytes);
            if file.bytes == 0 || bytes > BYTES_MAX {
                return wrong("a file's length is out of range");
            }
        }
        if self.id != self.hash() {
            return wrong("its id is not its hash");
        }
        Ok(())
    }

    /// Over everything but the id, each part with its length.
    fn hash(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"persona snapshot 1");
        hasher.update(&self.nonce);
        hasher.update(&self.vector.hash());
        hasher.update(&self.trimmed.hash());
        let number = |hasher: &mut blake3::Hasher, number: u64| {
            hasher.update(&number.to_be_bytes());
        };
        number(&mut hasher, self.note.len() as u64);
        hasher.update(&self.note);
        number(&mut hasher, self.files.len() as u64);
        for file in &self.files {
            number(&mut hasher, file.name.len() as u64);
            hasher.update(file.name.as_bytes());
            number(&mut hasher, file.bytes);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        id
    }
}
