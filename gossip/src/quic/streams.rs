//! Streams and frames: how messages and transactions lie on a QUIC connection.
//!
//! A stream's first byte is its class. Each side opens one `control` and one `push` stream, both one-way, and a
//! two-way stream per pull, reconciliation or snapshot. Behind the class come frames: a length (u32, little-endian), then that many bytes:
//! a message, a transaction as its writer made it, or a piece of a pull.
//!
//! Promise: no more than a frame and one chunk is held per stream that is read, whatever length a peer claims;
//! no more than the named budgets per stream that is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;

use super::traffic::Counters;
use crate::core::wire::frame_length;
use crate::{StreamClass, WireError};

/// Acks and vectors are small and everybody waits for them; a pull is the opposite; and what goes on in the background
/// takes what the others leave.
fn priority(class: StreamClass) -> i32 {
    match class {
        StreamClass::Control => 2,
        StreamClass::Push => 1,
        StreamClass::Pull => 0,
        StreamClass::Repair => -1,
        StreamClass::Snapshot => -2,
    }
}

/// Why a connection or a stream was closed, on the wire.
pub(super) mod code {
    use quinn::VarInt;

    /// The process ends, or has no more use for the connection.
    pub(in crate::quic) const DONE: VarInt = VarInt::from_u32(0);
    /// The peer sent what no correct peer sends.
    pub(in crate::quic) const MALFORMED: VarInt = VarInt::from_u32(1);
    /// This version does not know streams of that class.
    pub(in crate::quic) const UNSUPPORTED: VarInt = VarInt::from_u32(2);
    /// The core asked for it; the reason is in the words.
    pub(in crate::quic) const CLOSED: VarInt = VarInt::from_u32(3);
    /// The peer's key is not, or no more, listed.
    pub(in crate::quic) const UNLISTED: VarInt = VarInt::from_u32(4);
    /// The peer reads too slowly for its control stream.
    pub(in crate::quic) const SLOW: VarInt = VarInt::from_u32(5);
    /// So many of these are answered already; ask again later, or another.
    pub(in crate::quic) const BUSY: VarInt = VarInt::from_u32(6);
    /// A conversation or a transfer failed at the far end.
    pub(in crate::quic) const FAILED: VarInt = VarInt::from_u32(7);
}

/// What is read at once from a stream.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Bytes before a frame: its length.
pub(super) const HEADER_BYTES: usize = 4;
/// How long a last word may take to arrive before the connection closes all the same.
const LINGER: Duration = Duration::from_millis(500);

/// Why reading a frame failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error(transparent)]
    TooLong(#[from] WireError),
    #[error("the stream ended inside a frame")]
    Truncated,
    #[error("the stream was reset")]
    Reset,
    #[error("the connection is lost")]
    Lost,
}

impl From<quinn::ReadError> for FrameError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(_) => Self::Reset,
            _ => Self::Lost,
        }
    }
}

/// Cuts a stream into frames.
pub(super) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// A byte between frames: what the stream is for, or how it ended. `None` when there is no more.
    pub(super) async fn byte(&mut self) -> Result<Option<u8>, FrameError> {
        while self.buffer.is_empty() {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer.get_u8()))
    }

    /// The next frame's content, or `None` when the stream ended between two frames.
    pub(super) async fn next(&mut self, length_max: usize) -> Result<Option<BytesMut>, FrameError> {
        loop {
            if let Some(frame) = self.buffered(length_max)? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Truncated)
                };
            }
        }
    }

    /// The next frame's content, if all of it is here already.
    pub(super) fn buffered(&mut self, length_max: usize) -> Result<Option<BytesMut>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = frame_length(*header, length_max)?;
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(length)))
    }

    /// Says that nothing more is wanted from this stream.
    pub(super) fn decline(&mut self, code: VarInt) {
        // An error means that the stream is over already.
        let _ = self.stream.stop(code);
    }

    async fn fill(&mut self) -> Result<bool, FrameError> {
        match self.stream.read_chunk(CHUNK_BYTES_MAX, true).await? {
            Some(chunk) => {
                self.buffer.extend_from_slice(&chunk.bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Appends one frame.
pub(super) fn put_frame(buffer: &mut impl BufMut, content: &[u8]) {
    // Contents are capped far below 4 GiB by the makers of frames.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    buffer.put_u32_le(length);
    buffer.put_slice(content);
}

/// What a control stream's writer is given.
pub(super) enum Control {
    /// A message, framed.
    Frame(Vec<u8>),
    /// The last word: what was queued before it is delivered, then the connection closes.
    Close { code: VarInt, reason: String },
}

/// A queue with a budget in bytes, towards the task that owns a stream.
pub(super) struct Sending<T> {
    queue: mpsc::UnboundedSender<T>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The other end of a [`Sending`].
pub(super) struct Queued<T> {
    queue: mpsc::UnboundedReceiver<T>,
    bytes: Arc<AtomicUsize>,
}

/// A queue that holds at most so many bytes.
pub(super) fn budgeted<T>(bytes_max: usize) -> (Sending<T>, Queued<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    (
        Sending {
            queue: sender,
            bytes: Arc::clone(&bytes),
            bytes_max,
        },
        Queued {
            queue: receiver,
            bytes,
        },
    )
}

impl<T> Sending<T> {
    /// False, and nothing is queued, when the budget does not allow it.
    pub(super) fn offer(&self, item: T, bytes: usize) -> bool {
        let cost = bytes + ITEM_BYTES;
        if self.bytes.fetch_add(cost, Ordering::Relaxed) + cost > self.bytes_max {
            self.bytes.fetch_sub(cost, Ordering::Relaxed);
            return false;
        }
        // A closed queue means a closing connection: its end is reported by another way.
        let _ = self.queue.send(item);
        true
    }

    /// Queues what costs nothing and must arrive.
    pub(super) fn insist(&self, item: T) {
        let _ = self.queue.send(item);
    }
}

impl<T> Queued<T> {
    /// All that waits now, at least one; false when the sender is gone.
    async fn take(&mut self, items: &mut Vec<T>) -> bool {
        self.queue.recv_many(items, ITEMS_AT_ONCE).await > 0
    }

    fn taken(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes + ITEM_BYTES, Ordering::Relaxed);
    }
}

/// What a queued item costs beside its content, so that a budget also bounds the count.
const ITEM_BYTES: usize = 64;
/// Items that go into one write.
const ITEMS_AT_ONCE: usize = 128;

/// Opens this side's one-way stream of a class.
async fn open(connection: &Connection, class: StreamClass) -> Option<SendStream> {
    let mut stream = connection.open_uni().await.ok()?;
    stream.set_priority(priority(class)).ok()?;
    stream.write_all(&[class.to_byte()]).await.ok()?;
    Some(stream)
}

/// Gives a two-way stream the priority of its class.
pub(super) fn prioritise(stream: &SendStream, class: StreamClass) {
    // An error means that the stream is over already, which the next write tells.
    let _ = stream.set_priority(priority(class));
}

/// Writes the control stream until the connection or the queue ends.
pub(super) async fn write_control(
    connection: Connection,
    mut queued: Queued<Control>,
    counters: Arc<Counters>,
) {
    let Some(mut stream) = open(&connection, StreamClass::Control).await else {
        return;
    };
    let (mut items, mut buffer) = (Vec::new(), Vec::new());
    while queued.take(&mut items).await {
        let mut close = None;
        for item in items.drain(..) {
            match item {
                Control::Frame(frame) => {
                    queued.taken(frame.len());
                    buffer.extend_from_slice(&frame);
                }
                Control::Close { code, reason } => {
                    close = Some((code, reason));
                    break;
                }
            }
        }
        counters.control_bytes_sent.add(buffer.len());
        let written = stream.write_all(&buffer).await;
        empty(&mut buffer);
        if let Some((code, reason)) = close {
            if written.is_ok() && stream.finish().is_ok() {
                let _ = tokio::time::timeout(LINGER, stream.stopped()).await;
            }
            connection.close(code, reason.as_bytes());
            return;
        }
        if written.is_err() {
            return;
        }
    }
}

/// Writes the push stream until the connection or the queue ends.
pub(super) async fn write_pushes(
    connection: Connection,
    mut queued: Queued<Arc<[u8]>>,
    counters: Arc<Counters>,
) {
    let Some(mut stream) = open(&connection, StreamClass::Push).await else {
        return;
    };
    let (mut items, mut buffer) = (Vec::new(), Vec::new());
    while queued.take(&mut items).await {
        for transaction in &items {
            put_frame(&mut buffer, transaction);
        }
        if stream.write_all(&buffer).await.is_err() {
            return;
        }
        counters.push_bytes_sent.add(buffer.len());
        empty(&mut buffer);
        // Only now: what a slow peer has not taken counts against its budget.
        for transaction in items.drain(..) {
            queued.taken(transaction.len());
        }
    }
}

/// Empties a write buffer, and gives back what only a burst needed.
fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(CHUNK_BYTES_MAX);
}
