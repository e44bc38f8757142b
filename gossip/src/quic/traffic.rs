//! What the driver counted since it started: bytes by class, and all that went wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live counters, shared by all tasks of a driver.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: Count,)* }

        /// A reading of the driver's counters. All count up from the start of the process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        pub struct Traffic { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(super) fn read(&self) -> Traffic {
                Traffic { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Bytes of frames of the control class, headers included; QUIC's own overhead is not in any of these.
    control_bytes_sent,
    /// The same, received.
    control_bytes_received,
    /// Bytes of transactions pushed to peers.
    push_bytes_sent,
    /// Bytes of transactions pushed by peers.
    push_bytes_received,
    /// Bytes of answers to peers' pulls.
    pull_bytes_sent,
    /// Bytes of peers' answers to our pulls.
    pull_bytes_received,
    /// Bytes of frames of reconciliations, led and answered.
    repair_bytes_sent,
    /// The same, received.
    repair_bytes_received,
    /// Bytes of frames of snapshots, given and taken.
    snapshot_bytes_sent,
    /// The same, received.
    snapshot_bytes_received,
    /// Reconciliations that this replica answered.
    repairs_answered,
    /// Snapshots that it began to give.
    snapshots_given,
    /// Reconciliations and snapshots, ours and theirs, that came to nothing.
    talks_failed,
    /// Newcomers that were answered.
    enrolments_answered,
    /// Transactions not pushed because a peer's queue was full; it pulls them.
    pushes_dropped,
    /// Pulls that this replica answered.
    pulls_served,
    /// Frames that were too long, truncated or not decodable; each closed its connection.
    frames_refused,
    /// Streams of a class unknown to this version; each was declined, the connection kept.
    streams_declined,
    /// Handshakes that failed, by an unlisted key or otherwise.
    handshakes_refused,
    /// Connections established, both ways.
    connections,
    /// Connections that the driver closed: malformed frames, a full control queue, an unlisted key, too many of
    /// one member. What the core closed is counted there.
    closes,
    /// Commits whose news did not fit the queue to the driver; the whole vector was read instead.
    resyncs,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn increase(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }
}
