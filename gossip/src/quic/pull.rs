//! Pulls: "send me everything beyond this vector", asked and answered on a stream of its own.
//!
//! The asker sends one frame, a [`PullRequest`], and finishes. The answer is a frame per transaction, in the
//! server's commit order, hence causal; then an empty frame and one byte that says how it ended ([`PullEnd`]).
//!
//! The server reads the log a chunk at a time and the next only when the last is on its way, so a slow asker
//! holds one chunk of memory; where it is in the log is a position, no cursor held open.

use std::convert::Infallible;
use std::sync::Arc;

use quinn::{Connection, SendStream};
use tokio::sync::{Semaphore, mpsc};

use super::ground::Blocking;
use super::streams::{self, FrameError, FrameReader, HEADER_BYTES};
use super::traffic::Counters;
use super::{LogChunk, Replica};
use crate::core::wire::PullRequest;
use crate::{FRAME_BYTES_MAX, PullEnd, StreamClass, TRANSACTION_BYTES_MAX, Vector, WireError};

/// Bytes of transactions read from the log at once, and given to the core at once.
const CHUNK_BYTES_MAX: usize = 128 * 1024;
/// Pulls answered at once, over all peers: each holds a chunk, and a thread while it reads.
pub(super) const SERVED_MAX: usize = 8;

/// A piece of an answer, as the asker sees it.
pub(super) struct Piece {
    pub(super) transactions: Vec<Arc<[u8]>>,
    pub(super) end: Option<PullEnd>,
}

/// Why a pull went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("not a pull's request")]
    Request(#[source] WireError),
}

impl PullError {
    /// Whether a correct peer could never have caused this.
    pub(super) fn is_misbehaviour(&self) -> bool {
        !matches!(self, Self::Frame(FrameError::Reset | FrameError::Lost))
    }
}

/// Reads the answer to a pull, piece by piece.
pub(super) struct Asking {
    frames: FrameReader,
    ended: bool,
}

/// Opens a pull's stream and sends the request. `None`: the connection is gone.
pub(super) async fn ask(connection: &Connection, vector: Vector) -> Option<Asking> {
    let (mut send, receive) = connection.open_bi().await.ok()?;
    streams::prioritise(&send, StreamClass::Pull);
    let mut request = vec![StreamClass::Pull.to_byte()];
    request.extend(PullRequest { vector }.to_frame());
    send.write_all(&request).await.ok()?;
    send.finish().ok()?;
    Some(Asking {
        frames: FrameReader::new(receive),
        ended: false,
    })
}

impl Asking {
    /// The next piece: what is there, up to a chunk. `None` after the one with the end.
    pub(super) async fn next(&mut self, counters: &Counters) -> Result<Option<Piece>, PullError> {
        if self.ended {
            return Ok(None);
        }
        let mut piece = Piece {
            transactions: Vec::new(),
            end: None,
        };
        let mut bytes = 0;
        let mut frame = self
            .frames
            .next(TRANSACTION_BYTES_MAX)
            .await?
            .ok_or(FrameError::Truncated)?;
        loop {
            bytes += frame.len() + HEADER_BYTES;
            if frame.is_empty() {
                let byte = self.frames.byte().await?.ok_or(FrameError::Truncated)?;
                piece.end = Some(PullEnd::from_byte(byte));
                self.ended = true;
                break;
            }
            piece.transactions.push(Arc::from(&frame[..]));
            if bytes >= CHUNK_BYTES_MAX {
                break;
            }
            match self.frames.buffered(TRANSACTION_BYTES_MAX)? {
                Some(next) => frame = next,
                None => break,
            }
        }
        counters.pull_bytes_received.add(bytes);
        Ok(Some(piece))
    }
}

/// What a serving task needs.
pub(super) struct Serving {
    pub(super) replica: Arc<dyn Replica>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) blocking: Blocking,
    pub(super) counters: Arc<Counters>,
    /// Goes along with each read, which outlives a task that is cancelled.
    pub(super) alive: mpsc::Sender<Infallible>,
}

impl Serving {
    /// Answers one pull, whose class byte has been read.
    pub(super) async fn serve(self, mut frames: FrameReader, mut send: SendStream) -> Result<(), PullError> {
        streams::prioritise(&send, StreamClass::Pull);
        let frame = frames.next(FRAME_BYTES_MAX).await?.ok_or(FrameError::Truncated)?;
        let PullRequest { vector } = PullRequest::decode(&frame).map_err(PullError::Request)?;
        let vector = Arc::new(vector);
        self.counters.pulls_served.increase();
        let mut position = None;
        loop {
            let mut framed = Vec::new();
            let end = match self.read(Arc::clone(&vector), position).await {
                Some(LogChunk::Transactions { transactions, next }) => {
                    for transaction in &transactions {
                        streams::put_frame(&mut framed, transaction);
                    }
                    position = next;
                    if next.is_none() { Some(PullEnd::Done) } else { None }
                }
                Some(LogChunk::Trimmed) => Some(PullEnd::Trimmed),
                None => Some(PullEnd::Failed),
            };
            if let Some(end) = end {
                streams::put_frame(&mut framed, &[]);
                framed.push(end.to_byte());
            }
            let bytes = framed.len();
            // An asker that cancels stops the stream: an ordinary end.
            if send.write_chunk(framed.into()).await.is_err() {
                return Ok(());
            }
            self.counters.pull_bytes_sent.add(bytes);
            if end.is_some() {
                // An error means that the asker has stopped listening.
                let _ = send.finish();
                return Ok(());
            }
        }
    }

    /// One chunk of the log, read on a thread that may block; `None` when the store refused.
    async fn read(&self, vector: Arc<Vector>, position: Option<u64>) -> Option<LogChunk> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let (replica, alive) = (Arc::clone(&self.replica), self.alive.clone());
        let read = self.blocking.run(move || {
            let chunk = replica.read_log(&vector, position, CHUNK_BYTES_MAX);
            drop((replica, alive, slot));
            chunk
        });
        match read.await? {
            Ok(chunk) => Some(chunk),
            Err(error) => {
                tracing::warn!(%error, "the log could not be read for a peer");
                None
            }
        }
    }
}
