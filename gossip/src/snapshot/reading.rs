//! Reading a checkpoint once: what a file hashes to is known when its last byte has gone by.

use super::{Sink, SnapshotError, Source};

/// Bytes of a file that are moved at once where there are no frames.
const COPIED_AT_ONCE: usize = 1 << 20;

/// A place in a file, from which on it is read.
pub(super) struct Reading {
    file: usize,
    offset: u64,
    hash: Hash,
}

enum Hash {
    Known([u8; 32]),
    /// Has taken in all before that place.
    Made(Box<blake3::Hasher>),
}

impl Reading {
    /// Reads on from here. What lies before in the file is read as well, if its hash is not known.
    pub(super) fn at(source: &dyn Source, file: usize, offset: u64) -> Result<Reading, SnapshotError> {
        if let Some(hash) = source.hash(file) {
            let hash = Hash::Known(hash);
            return Ok(Reading { file, offset, hash });
        }
        let mut reading = Reading {
            file,
            offset: 0,
            hash: Hash::Made(Box::default()),
        };
        let mut before = Vec::new();
        while reading.offset < offset {
            before.resize(bounded(offset - reading.offset, COPIED_AT_ONCE), 0);
            reading.next(source, &mut before)?;
        }
        Ok(reading)
    }

    pub(super) fn file(&self) -> usize {
        self.file
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills all of `bytes`: the file has as many left.
    pub(super) fn next(&mut self, source: &dyn Source, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        source.read(self.file, self.offset, bytes)?;
        if let Hash::Made(hasher) = &mut self.hash {
            hasher.update(bytes);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// What the file hashes to; to be asked once all of it has been read.
    pub(super) fn hash(&self) -> [u8; 32] {
        match &self.hash {
            Hash::Known(hash) => *hash,
            Hash::Made(hasher) => *hasher.finalize().as_bytes(),
        }
    }
}

/// What is left, or as much as is moved at once.
pub(super) fn bounded(left: u64, bytes_max: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max)
}

/// Copies all of it without a far end, going on where the sink was left.
///
/// # Errors
/// When one of the two fails. What the sink keeps is still right, and it can go on from there.
pub fn copy(from: &dyn Source, to: &mut dyn Sink) -> Result<(), SnapshotError> {
    let manifest = from.manifest();
    let (first, mut offset) = to.begin(manifest)?;
    let mut piece = Vec::new();
    for (place, file) in manifest.files.iter().enumerate().skip(first) {
        let mut reading = Reading::at(from, place, std::mem::take(&mut offset))?;
        while reading.offset < file.bytes {
            let at = reading.offset;
            piece.resize(bounded(file.bytes - at, COPIED_AT_ONCE), 0);
            reading.next(from, &mut piece)?;
            to.write(place, at, &piece)?;
        }
        to.complete(place, &reading.hash())?;
    }
    to.finish()
}
