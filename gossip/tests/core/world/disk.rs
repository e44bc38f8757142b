//! A model of a disk that checks causal order, gaps and chains itself.

use std::sync::Arc;

use gossip::{Dot, Envelope, Received, ReplicaId, Tip, Vector, Writer, transaction_hash};

/// What survives a crash.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) vector: Vector,
    pub(crate) trimmed: Vector,
    /// In commit order.
    pub(crate) log: Vec<(Dot, Arc<[u8]>)>,
    pub(crate) starts: Vec<Writer>,
    pub(crate) replica: Option<ReplicaId>,
}

impl Disk {
    /// Takes over what a catch-up by states brought: no log of ours holds what lies between.
    pub(super) fn jump(&mut self, cut: &Vector) {
        for (writer, tip) in cut.iter() {
            if self.vector.advance(writer, tip) {
                self.trimmed.advance(writer, tip);
            }
        }
        self.vector.merge_max(cut);
        for (replica, floor) in cut.floors() {
            self.trimmed.adopt_floor(replica, floor);
        }
    }

    pub(super) fn apply(&mut self, received: &Received) -> bool {
        let Envelope {
            dot,
            predecessor,
            follows,
            ..
        } = &received.envelope;
        if self.vector.covers(dot) {
            return false;
        }
        let tip = self.vector.get(&dot.writer).unwrap_or(Tip {
            number: 0,
            hash: [0; 8],
        });
        assert_eq!(dot.number, tip.number + 1, "a gap was delivered at {dot}");
        assert_eq!(*predecessor, tip.hash, "a broken chain was delivered at {dot}");
        for (writer, tip) in follows {
            let followed = Dot {
                writer: *writer,
                number: tip.number,
            };
            assert!(
                self.vector.covers(&followed),
                "{dot} was delivered before {followed}"
            );
        }
        assert_eq!(received.hash, transaction_hash(&received.bytes));
        self.vector.advance(
            dot.writer,
            Tip {
                number: dot.number,
                hash: received.hash,
            },
        );
        self.log.push((*dot, Arc::clone(&received.bytes)));
        true
    }
}
