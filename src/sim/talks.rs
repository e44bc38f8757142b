//! Conversations about what both ends hold, and whole copies.

use gossip::{ConnectionId, Input, reconcile::Purpose};

use super::world::World;

impl World {
    pub(crate) fn begin_talk(&mut self, at: usize, connection: ConnectionId, purpose: Purpose) {
        if let Some((other, _)) = self.network.far_end(connection) {
            let member = self.processes[other].member;
            let verdict = None;
            self.input(
                at,
                Input::Reconciled {
                    member,
                    purpose,
                    verdict,
                },
            );
        }
    }

    pub(crate) fn begin_copy(&mut self, at: usize, connection: ConnectionId) {
        if let Some((other, _)) = self.network.far_end(connection) {
            let member = self.processes[other].member;
            let installed = false;
            self.input(at, Input::SnapshotEnded { member, installed });
        }
    }
}
