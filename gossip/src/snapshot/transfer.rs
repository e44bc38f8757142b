//! The two ends of a transfer.
//!
//! The taker asks; the giver shows its manifest; the taker says from where it lacks anything; the giver sends piece
//! after piece, and behind each file its hash; the taker checks all of it and says so. What is kept survives both ends'
//! processes. Pieces have no checksum of their own: the connection has, and a file is checked before it counts.

use std::sync::Arc;

use super::frame::{Head, PIECE_BYTES_MAX};
use super::manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestError};
use super::reading::{Reading, bounded};
use super::{Sink, SnapshotError, Source};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A frame for the far end.
    Send(Vec<u8>),
    /// The transfer is over at this end: the taker has it all, checked and durable.
    Done,
}

/// Why a transfer failed. What the sink keeps is still right, and the next transfer goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Our own source or sink.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The far end said that it goes no further, and why.
    #[error("the other end gave up: {0}")]
    GaveUp(String),
    /// The far end sent what no correct peer sends.
    #[error("not a frame of a snapshot: {0}")]
    Malformed(String),
}

impl From<ManifestError> for TransferError {
    fn from(error: ManifestError) -> TransferError {
        TransferError::Malformed(error.to_string())
    }
}

impl TransferError {
    /// The frame that tells the far end; none if there is nobody to tell.
    #[must_use]
    pub fn to_frame(&self) -> Option<Vec<u8>> {
        match self {
            TransferError::Snapshot(SnapshotError(words)) => Some(Head::failed(words).frame(&[])),
            TransferError::Malformed(_) => Some(Head::failed(&self.to_string()).frame(&[])),
            TransferError::GaveUp(_) => None,
        }
    }
}

/// The end that has a checkpoint. It says nothing before it is asked.
pub struct Giver {
    source: Arc<dyn Source>,
    stage: Giving,
}

enum Giving {
    /// Waits for the question.
    Silent,
    /// Shows its manifest: these bytes, from here on.
    Manifest {
        bytes: Vec<u8>,
        offset: usize,
    },
    /// Waits to hear where to go on.
    Shown,
    /// Is to go on from here.
    From {
        file: usize,
        offset: u64,
    },
    /// Sends a file.
    Pieces(Reading),
    /// All is sent; the far end checks it.
    Sent,
    Over,
}

impl Giver {
    /// Gives this.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Giver {
        Giver {
            source,
            stage: Giving::Silent,
        }
    }

    /// Takes a frame in; [`Giver::more`] then has something to send, or says that it is over.
    ///
    /// # Errors
    /// When the far end gave up, or sent what no correct taker sends; this end is then of no more use.
    pub fn handle(&mut self, frame: &[u8]) -> Result<Vec<Action>, TransferError> {
        let (head, raw) = Head::parse(frame)?;
        if !raw.is_empty() {
            return Err(TransferError::Malformed("bytes behind a head".to_owned()));
        }
        match (head, &self.stage) {
            (Head::Failed { words }, _) => Err(TransferError::GaveUp(words)),
            (Head::Ask, Giving::Silent) => {
                let bytes = self.source.manifest().encode();
                self.stage = Giving::Manifest { bytes, offset: 0 };
                Ok(Vec::new())
            }
            (Head::From { file, offset }, Giving::Shown) => {
                let manifest = self.source.manifest();
                let file = usize::try_from(file).unwrap_or(usize::MAX);
                let known = manifest.files.get(file);
                let end = file == manifest.files.len() && offset == 0;
                if !end && known.is_none_or(|known| offset > known.bytes) {
                    return Err(TransferError::Malformed("a place that no file has".to_owned()));
                }
                self.stage = Giving::From { file, offset };
                Ok(Vec::new())
            }
            (Head::Done, Giving::Sent) => {
                self.source.done();
                self.stage = Giving::Over;
                Ok(vec![Action::Done])
            }
            _ => Err(TransferError::Malformed("a frame out of turn".to_owned())),
        }
    }

    /// What to send next; `None` until the far end says something. Blocks on the source.
    ///
    /// # Errors
    /// When the source could not be read.
    pub fn more(&mut self) -> Result<Option<Action>, TransferError> {
        match &mut self.stage {
            Giving::Manifest { bytes, offset } => {
                let piece = &bytes[*offset..bytes.len().min(*offset + PIECE_BYTES_MAX)];
                let head = Head::Manifest {
                    bytes: bytes.len() as u64,
                };
                let frame = head.frame(piece);
                *offset += piece.len();
                if *offset == bytes.len() {
                    self.stage = Giving::Shown;
                }
                Ok(Some(Action::Send(frame)))
            }
            Giving::From { file, offset } => {
                if *file == self.source.manifest().files.len() {
                    self.stage = Giving::Sent;
                    return Ok(Some(Action::Send(Head::End.frame(&[]))));
                }
                self.stage = Giving::Pieces(Reading::at(&*self.source, *file, *offset)?);
                self.more()
            }
            Giving::Pieces(reading) => {
                let (file, offset) = (reading.file(), reading.offset());
                let bytes = self
                    .source
                    .manifest()
                    .files
                    .get(file)
                    .map_or(0, |file| file.bytes);
                let length = bounded(bytes.saturating_sub(offset), PIECE_BYTES_MAX);
                if length > 0 {
                    let head = Head::Piece {
                        file: file as u64,
                        offset,
                    };
                    let frame = head.frame_with(length, |raw| reading.next(&*self.source, raw))?;
                    return Ok(Some(Action::Send(frame)));
                }
                let head = Head::Hash {
                    file: file as u64,
                    hash: reading.hash(),
                };
                self.stage = Giving::From {
                    file: file + 1,
                    offset: 0,
                };
                Ok(Some(Action::Send(head.frame(&[]))))
            }
            Giving::Silent | Giving::Shown | Giving::Sent | Giving::Over => Ok(None),
        }
    }
}

/// The end that lacks everything.
pub struct Taker {
    sink: Box<dyn Sink>,
    stage: Taking,
}

enum Taking {
    /// Has not asked yet.
    Silent,
    /// What came of the manifest.
    Manifest(Vec<u8>),
    /// Takes pieces; this one is next.
    Pieces {
        manifest: Manifest,
        file: usize,
        offset: u64,
    },
    Over,
}

impl Taker {
    /// Keeps what comes here, which may hold the beginning of it already.
    #[must_use]
    pub fn new(sink: Box<dyn Sink>) -> Taker {
        Taker {
            sink,
            stage: Taking::Silent,
        }
    }

    /// What it is about to receive, once that is known.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.stage {
            Taking::Pieces { manifest, .. } => Some(manifest),
            _ => None,
        }
    }

    /// The question, once; afterwards `None`: a taker speaks only when spoken to.
    ///
    /// # Errors
    /// Never; as [`Giver::more`].
    pub fn more(&mut self) -> Result<Option<Action>, TransferError> {
        Ok(matches!(self.stage, Taking::Silent).then(|| {
            self.stage = Taking::Manifest(Vec::new());
            Action::Send(Head::Ask.frame(&[]))
        }))
    }

    /// Takes a frame in. Blocks on the sink.
    ///
    /// # Errors
    /// When the far end gave up or sent what no correct giver sends, or the sink failed; this end is then of no more
    /// use.
    pub fn handle(&mut self, frame: &[u8]) -> Result<Vec<Action>, TransferError> {
        let (head, raw) = Head::parse(frame)?;
        if !raw.is_empty() && !matches!(head, Head::Manifest { .. } | Head::Piece { .. }) {
            return Err(TransferError::Malformed("bytes behind a head".to_owned()));
        }
        match (head, &mut self.stage) {
            (Head::Failed { words }, _) => Err(TransferError::GaveUp(words)),
            (Head::Manifest { bytes }, Taking::Manifest(come)) => {
                let left = usize::try_from(bytes)
                    .ok()
                    .filter(|bytes| *bytes <= MANIFEST_BYTES_MAX)
                    .and_then(|bytes| bytes.checked_sub(come.len()))
                    .ok_or_else(|| TransferError::Malformed("a manifest is too long".to_owned()))?;
                if raw.is_empty() || raw.len() > left {
                    return Err(TransferError::Malformed(
                        "a manifest's piece does not fit".to_owned(),
                    ));
                }
                come.extend_from_slice(raw);
                if raw.len() < left {
                    return Ok(Vec::new());
                }
                let manifest = Manifest::decode(come)?;
                let (file, offset) = self.sink.begin(&manifest)?;
                self.stage = Taking::Pieces {
                    manifest,
                    file,
                    offset,
                };
                let head = Head::From {
                    file: file as u64,
                    offset,
                };
                Ok(vec![Action::Send(head.frame(&[]))])
            }
            (
                Head::Piece {
                    file: at,
                    offset: from,
                },
                Taking::Pieces {
                    manifest,
                    file,
                    offset,
                },
            ) => {
                if (at, from) != (*file as u64, *offset) {
                    return Err(TransferError::Malformed(
                        "a piece that is not the next".to_owned(),
                    ));
                }
                let known = manifest
                    .files
                    .get(*file)
                    .ok_or_else(|| TransferError::Malformed("a piece behind the end".to_owned()))?;
                let end = *offset + raw.len() as u64;
                if raw.is_empty() || raw.len() > PIECE_BYTES_MAX || end > known.bytes {
                    return Err(TransferError::Malformed(
                        "a piece does not fit its file".to_owned(),
                    ));
                }
                self.sink.write(*file, *offset, raw)?;
                *offset = end;
                Ok(Vec::new())
            }
            (
                Head::Hash { file: at, hash },
                Taking::Pieces {
                    manifest,
                    file,
                    offset,
                },
            ) => {
                let known = manifest.files.get(*file);
                if at != *file as u64 || known.is_none_or(|known| known.bytes != *offset) {
                    return Err(TransferError::Malformed(
                        "a hash of a file that is not whole".to_owned(),
                    ));
                }
                self.sink.complete(*file, &hash)?;
                (*file, *offset) = (*file + 1, 0);
                Ok(Vec::new())
            }
            (Head::End, Taking::Pieces { manifest, file, .. }) if *file == manifest.files.len() => {
                self.sink.finish()?;
                self.stage = Taking::Over;
                Ok(vec![Action::Send(Head::Done.frame(&[])), Action::Done])
            }
            _ => Err(TransferError::Malformed("a frame out of turn".to_owned())),
        }
    }
}
