//! Who has which transactions, and how peers come to agree.
//!
//! This crate knows nothing of what a transaction says: it moves opaque bytes in causal order. Its two halves:
//!
//! - [`core`]: a state machine without I/O, clock, entropy or tasks. It takes what happened
//!   ([`Input`]) and gives what to do ([`Output`]). Everything that can be decided is decided there, so a test
//!   lives through hours of it in a moment.
//! - `quic` (feature `quic`): the driver, which owns the sockets, the timers and the tasks, and decides nothing.
//!
//! [`regions`] holds distances between real data centers, for laboratories and simulations.
//! The bytes on the wire are described in `WIRE.md`, which changes together with this code.

pub mod core;
pub mod planted;
#[cfg(feature = "quic")]
pub mod quic;
pub mod reconcile;
pub mod regions;
pub mod snapshot;

pub use crate::core::ask::{ASK_INTERVAL, ASK_LASTS, STATE_INTERVAL_ASKED};
pub use crate::core::envelope::{
    Envelope, FOLLOWS_COUNT_MAX, Received, TRANSACTION_BYTES_MAX, transaction_hash,
};
pub use crate::core::status::{Counters, PeerStatus, Status};
pub use crate::core::vector::{Dot, Floor, MemberId, ParseIdError, ReplicaId, Tip, Vector, Writer};
pub use crate::core::wire::{
    Ack, FRAME_BYTES_MAX, FrameDecoder, Hello, Message, Moved, PullEnd, RefuseCode, State, StreamClass,
    VECTOR_ENTRIES_MAX, WireError,
};
pub use crate::core::{Config, ConnectionId, Event, Gossip, Input, Limits, Now, Output, Peer, PeerState};
