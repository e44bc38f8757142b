//! What peers say to each other on the control stream, and how it becomes bytes (`WIRE.md`).
//!
//! A frame is a length (u32, little-endian) and a CBOR map {`t`: name, `b`: body}. Unknown fields are skipped;
//! an unknown name decodes to [`Message::Unknown`], which is answered, and never ends a connection.
//! Promise: no input makes the decoder panic, or hold more than a frame's length times a small constant.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::vector::{Floor, MemberId, ReplicaId, Tip, Vector, Writer};

/// One message on the control stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The first in either direction; again when the sender's start changed, or it was asked to.
    Hello(Box<Hello>),
    /// The sender does not talk to us, and closes.
    Refuse { code: RefuseCode, words: String },
    /// What is on the sender's disk now: its ack, as heard from itself.
    State(State),
    /// Acks of others, relayed.
    Acks(Vec<Ack>),
    /// "I lost count: say hello again."
    Restate,
    /// "Somebody waits here: state what you have now." The sender's version is one that knows it; others answer
    /// [`Message::Unsupported`], and state as they always do.
    Ask,
    /// The answer to a message whose name the sender does not know.
    Unsupported { name: String },
    /// A message whose name we do not know. Never sent.
    Unknown { name: String },
}

/// Who speaks, and what it has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    #[serde(with = "serde_bytes")]
    pub cluster: [u8; 16],
    pub member: MemberId,
    pub site: String,
    pub start: Writer,
    /// Protocol versions spoken: least, greatest.
    pub versions: (u16, u16),
    #[serde(default)]
    pub features: BTreeSet<String>,
    /// What must be equal at all members where both name it: index key, digest key, normalisation.
    #[serde(default, with = "fingerprint_bytes")]
    pub fingerprints: BTreeMap<String, [u8; 8]>,
    /// The latest start of the *receiver* that the sender knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_start: Option<Writer>,
    /// A process that runs in that start speaks to the sender just now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known_start_runs: bool,
    /// Counts the sender's statements in this start, as [`State::counter`].
    pub counter: u64,
    pub vector: Vector,
    /// What the sender's log no longer holds.
    #[serde(default)]
    pub trimmed: Vector,
    pub ready: bool,
    /// The sender takes over what others have beside the log; its acks count for nothing meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holding: bool,
    pub wall_ms: u64,
}

/// An ack as heard from its member: on its disk, in its present start, counted, relative to what it last said
/// on this connection.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    #[serde(rename = "c")]
    pub counter: u64,
    #[serde(rename = "m", default, skip_serializing_if = "Moved::is_empty")]
    pub moved: Moved,
    /// Hash of the whole vector, said when nothing moved, so that both sides notice if they lost count.
    #[serde(
        rename = "h",
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_bytes"
    )]
    pub hash: Option<[u8; 16]>,
    #[serde(rename = "t", default, skip_serializing_if = "Moved::is_empty")]
    pub trimmed: Moved,
    #[serde(rename = "r")]
    pub ready: bool,
    /// As [`Hello::holding`].
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    pub holding: bool,
    #[serde(rename = "w")]
    pub wall_ms: u64,
}

/// An ack of a third member, relayed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ack {
    #[serde(rename = "m")]
    pub member: MemberId,
    #[serde(rename = "s")]
    pub start: Writer,
    #[serde(rename = "c")]
    pub counter: u64,
    /// The counter that `vector` is relative to; 0 when it is the whole vector.
    #[serde(rename = "b", default)]
    pub base: u64,
    #[serde(rename = "v")]
    pub vector: Moved,
}

/// A vector, or those of its entries that moved.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<(Writer, Tip)>,
    #[serde(rename = "f", default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<(ReplicaId, Floor)>,
}

/// Why a peer was refused. Numbers are retired, not reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefuseCode(pub u16);

impl RefuseCode {
    /// Another cluster.
    pub const CLUSTER: RefuseCode = RefuseCode(1);
    /// No protocol version in common.
    pub const VERSIONS: RefuseCode = RefuseCode(2);
    /// Another index key, digest key or normalisation.
    pub const FINGERPRINT: RefuseCode = RefuseCode(3);
    /// No member, or one that left or was evicted, or not the member whose key this is.
    pub const MEMBER: RefuseCode = RefuseCode(4);
}

/// How a pull ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PullEnd {
    /// All beyond the vector was sent.
    Done,
    /// The log no longer begins where the vector ends.
    Trimmed,
    Failed,
}

impl PullEnd {
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            PullEnd::Done => 0,
            PullEnd::Trimmed => 1,
            PullEnd::Failed => 2,
        }
    }

    /// An unknown byte is a failure that we have no word for.
    #[must_use]
    pub fn from_byte(byte: u8) -> PullEnd {
        match byte {
            0 => PullEnd::Done,
            1 => PullEnd::Trimmed,
            _ => PullEnd::Failed,
        }
    }
}

/// "Send me everything beyond this vector": the first frame on a pull stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PullRequest {
    pub vector: Vector,
}

/// The first byte of every stream says what it carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StreamClass {
    Control,
    Push,
    Pull,
    /// A conversation about what both hold.
    Repair,
    /// A whole copy of one's data.
    Snapshot,
}

impl StreamClass {
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            StreamClass::Control => 1,
            StreamClass::Push => 2,
            StreamClass::Pull => 3,
            StreamClass::Repair => 4,
            StreamClass::Snapshot => 5,
        }
    }

    #[must_use]
    pub fn from_byte(byte: u8) -> Option<StreamClass> {
        [
            StreamClass::Control,
            StreamClass::Push,
            StreamClass::Pull,
            StreamClass::Repair,
            StreamClass::Snapshot,
        ]
        .into_iter()
        .find(|class| class.to_byte() == byte)
    }
}

/// The payload of a frame is at most this long.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// A vector has at most so many entries and floors; tens are usual. A frame holds two of them at 41 bytes each.
pub const VECTOR_ENTRIES_MAX: usize = 2048;

/// A relayed message carries at most so many acks.
pub const ACKS_COUNT_MAX: usize = 256;

/// A name or a sentence from a peer is at most this long.
const TEXT_BYTES_MAX: usize = 512;

/// CBOR may nest this deep; our messages need 6.
const DEPTH_MAX: usize = 16;

/// Bytes from a peer or a disk that are not what they should be. None of them was used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{bytes} bytes where at most {bytes_max} are taken")]
    TooLong { bytes: usize, bytes_max: usize },
    /// A newer one is only written once every member reads it, so this is a fault at its writer.
    #[error("format {0} is not known here")]
    Format(u16),
    #[error("malformed: {0}")]
    Malformed(String),
}

impl Message {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Message::Hello(_) => "hello",
            Message::Refuse { .. } => "refuse",
            Message::State(_) => "state",
            Message::Acks(_) => "acks",
            Message::Restate => "restate",
            Message::Ask => "ask",
            Message::Unsupported { .. } => "unsupported",
            Message::Unknown { name } => name,
        }
    }

    /// The payload of a frame, without its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_onto(&mut bytes);
        bytes
    }

    /// A whole frame: length and payload.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 4];
        self.encode_onto(&mut frame);
        let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame
    }

    fn encode_onto(&self, bytes: &mut Vec<u8>) {
        let t = self.name();
        match self {
            Message::Hello(hello) => to_cbor(bytes, &Outer { t, b: hello }),
            Message::Refuse { code, words } => {
                to_cbor(
                    bytes,
                    &Outer {
                        t,
                        b: Refuse {
                            code: *code,
                            words: words.clone(),
                        },
                    },
                );
            }
            Message::State(state) => to_cbor(bytes, &Outer { t, b: state }),
            Message::Acks(acks) => to_cbor(bytes, &Outer { t, b: acks }),
            Message::Restate | Message::Ask | Message::Unknown { .. } => {
                to_cbor(bytes, &Outer { t, b: Nothing {} });
            }
            Message::Unsupported { name } => {
                to_cbor(
                    bytes,
                    &Outer {
                        t,
                        b: Unsupported { name: name.clone() },
                    },
                );
            }
        }
    }

    /// # Errors
    /// If the payload is too long, or no message.
    pub fn decode(payload: &[u8]) -> Result<Message, WireError> {
        if payload.len() > FRAME_BYTES_MAX {
            return Err(WireError::TooLong {
                bytes: payload.len(),
                bytes_max: FRAME_BYTES_MAX,
            });
        }
        let Head { t } = from_cbor(payload)?;
        let message = match t.as_str() {
            "hello" => Message::Hello(body(payload)?),
            "refuse" => {
                let Refuse { code, mut words } = body(payload)?;
                shorten(&mut words);
                Message::Refuse { code, words }
            }
            "state" => Message::State(body(payload)?),
            "acks" => Message::Acks(body(payload)?),
            "restate" => Message::Restate,
            "ask" => Message::Ask,
            "unsupported" => {
                let Unsupported { mut name } = body(payload)?;
                shorten(&mut name);
                Message::Unsupported { name }
            }
            _ => {
                let mut name = t;
                shorten(&mut name);
                Message::Unknown { name }
            }
        };
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), WireError> {
        let too_many = |what: &str| Err(WireError::Malformed(format!("too many {what}")));
        match self {
            Message::Hello(hello) => {
                let texts = hello
                    .features
                    .iter()
                    .chain(hello.fingerprints.keys())
                    .chain([&hello.site]);
                if texts.map(String::len).any(|bytes| bytes > TEXT_BYTES_MAX)
                    || hello.features.len() + hello.fingerprints.len() > 256
                {
                    return too_many("or too long features");
                }
                if hello.versions.0 > hello.versions.1 {
                    return Err(WireError::Malformed("versions are upside down".to_owned()));
                }
                Ok(())
            }
            Message::State(state) => {
                state.moved.check()?;
                state.trimmed.check()
            }
            Message::Acks(acks) if acks.len() > ACKS_COUNT_MAX => too_many("acks"),
            Message::Acks(acks) => acks.iter().try_for_each(|ack| ack.vector.check()),
            _ => Ok(()),
        }
    }
}

impl Moved {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.floors.is_empty()
    }

    /// Sets these entries in `vector`.
    ///
    /// # Errors
    /// If the vector would have more than [`VECTOR_ENTRIES_MAX`].
    pub fn apply(&self, vector: &mut Vector) -> Result<(), WireError> {
        self.check()?;
        for (replica, floor) in &self.floors {
            vector.adopt_floor(*replica, *floor);
        }
        for (writer, tip) in &self.entries {
            vector.set(*writer, *tip);
        }
        if vector.len() > VECTOR_ENTRIES_MAX {
            return Err(WireError::Malformed("a vector has too many entries".to_owned()));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), WireError> {
        if self.entries.len() + self.floors.len() > VECTOR_ENTRIES_MAX {
            return Err(WireError::Malformed("a vector has too many entries".to_owned()));
        }
        if self.entries.iter().any(|(_, tip)| tip.number == 0) {
            return Err(WireError::Malformed(
                "a vector has an entry without transactions".to_owned(),
            ));
        }
        Ok(())
    }
}

impl From<&Vector> for Moved {
    fn from(vector: &Vector) -> Moved {
        Moved {
            entries: vector.iter().collect(),
            floors: vector.floors().collect(),
        }
    }
}

impl PullRequest {
    /// A whole frame: length and payload.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 4];
        to_cbor(&mut frame, self);
        let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame
    }

    /// # Errors
    /// If the payload of the frame is no request.
    pub fn decode(payload: &[u8]) -> Result<PullRequest, WireError> {
        if payload.len() > FRAME_BYTES_MAX {
            return Err(WireError::TooLong {
                bytes: payload.len(),
                bytes_max: FRAME_BYTES_MAX,
            });
        }
        from_cbor(payload)
    }
}

/// Takes frames out of a stream of bytes, however it was cut.
#[derive(Default, Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl FrameDecoder {
    #[must_use]
    pub fn new() -> FrameDecoder {
        FrameDecoder::default()
    }

    /// Adds what arrived. The caller takes all frames out between two calls.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; none until more bytes come.
    ///
    /// # Errors
    /// If a frame is too long or no message. The stream is of no use after that.
    pub fn next_message(&mut self) -> Result<Option<Message>, WireError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = frame_length(*header, FRAME_BYTES_MAX)?;
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let message = Message::decode(payload)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }
}

/// The length that a frame's first four bytes state.
///
/// # Errors
/// If it is over `bytes_max`.
pub fn frame_length(header: [u8; 4], bytes_max: usize) -> Result<usize, WireError> {
    let bytes = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if bytes > bytes_max {
        Err(WireError::TooLong { bytes, bytes_max })
    } else {
        Ok(bytes)
    }
}

/// One CBOR item and nothing after it.
pub(crate) fn from_cbor<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, WireError> {
    let item = ciborium::de::from_reader_with_recursion_limit(&mut bytes, DEPTH_MAX)
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    if bytes.is_empty() {
        Ok(item)
    } else {
        Err(WireError::Malformed("bytes after the end".to_owned()))
    }
}

pub(crate) fn to_cbor<T: Serialize>(bytes: &mut Vec<u8>, item: &T) {
    if let Err(error) = ciborium::into_writer(item, bytes) {
        unreachable!("a Vec takes every byte: {error}");
    }
}

fn body<T: DeserializeOwned>(payload: &[u8]) -> Result<T, WireError> {
    from_cbor::<Body<T>>(payload).map(|body| body.b)
}

fn shorten(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
}

#[derive(Serialize)]
struct Outer<'a, T> {
    t: &'a str,
    b: T,
}

#[derive(Deserialize)]
struct Head {
    t: String,
}

#[derive(Deserialize)]
struct Body<T> {
    b: T,
}

#[derive(Serialize, Deserialize)]
struct Refuse {
    code: RefuseCode,
    words: String,
}

#[derive(Serialize, Deserialize)]
struct Unsupported {
    name: String,
}

#[derive(Serialize)]
struct Nothing {}

/// Fingerprints as CBOR byte strings.
mod fingerprint_bytes {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};
    use serde_bytes::{ByteArray, Bytes};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<String, [u8; 8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(name, bytes)| (name, Bytes::new(bytes))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, [u8; 8]>, D::Error> {
        let map = BTreeMap::<String, ByteArray<8>>::deserialize(deserializer)?;
        Ok(map
            .into_iter()
            .map(|(name, bytes)| (name, bytes.into_array()))
            .collect())
    }
}
